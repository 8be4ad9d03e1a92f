namespace MeshProxy.Http.Http2;

/// <summary>
/// Stream numbers that the peer passed over. Opening a stream closes every idle one below it (RFC 9113 section 5.1.1), so a later use of such a number is an
/// unexpected identifier, PROTOCOL_ERROR, while the use of one that was open once is STREAM_CLOSED. Remembers the newest gaps alone: a client that counts
/// makes none, and one that makes many gets the other code. Owned by the connection's lock.
/// </summary>
internal struct SkippedStreams
{
    private const int Kept = 8;

    private (int After, int Before)[]? _gaps;
    private int _count;

    /// <summary>Notes that <paramref name="opened"/> followed <paramref name="last"/>.</summary>
    public void Note(int last, int opened)
    {
        // The first stream of a client has the number 1, and 0 stands for none.
        if (opened - last > 2 || (last == 0 && opened > 1))
        {
            _gaps ??= new (int, int)[Kept];
            _gaps[_count++ % Kept] = (last, opened);
        }
    }

    /// <summary>Whether the number lies in a gap.</summary>
    public readonly bool Contains(int id)
    {
        foreach (var (after, before) in _gaps ?? [])
        {
            if (id > after && id < before)
            {
                return true;
            }
        }

        return false;
    }
}
