namespace MeshProxy.Http.Http2;

/// <summary>
/// What is remembered of streams that are gone, for what a late frame means: one of a stream that we reset was on its way and is ignored; a stream that the
/// peer passed over was never open. Opening a stream closes every idle one below it (RFC 9113 section 5.1.1), so a later use of such a number is an unexpected
/// identifier, PROTOCOL_ERROR, while the use of one that was open once is STREAM_CLOSED. Remembers the newest alone. Owned by the connection's lock.
/// </summary>
internal struct PastStreams
{
    private const int KeptResets = 1024;
    private const int KeptGaps = 8;

    private int[]? _resets;
    private int _resetCount;
    private (int After, int Before)[]? _gaps;
    private int _gapCount;

    /// <summary>We reset the stream.</summary>
    public void NoteReset(int id)
    {
        _resets ??= new int[KeptResets];
        _resets[_resetCount++ % KeptResets] = id;
    }

    /// <summary>Whether we reset the stream.</summary>
    public readonly bool WasReset(int id) => _resets is not null && _resets.AsSpan().Contains(id);

    /// <summary>The stream <paramref name="opened"/> followed <paramref name="last"/>; 0 stands for none.</summary>
    public void NoteOpened(int last, int opened)
    {
        if (opened - last > 2 || (last == 0 && opened > 1))
        {
            _gaps ??= new (int, int)[KeptGaps];
            _gaps[_gapCount++ % KeptGaps] = (last, opened);
        }
    }

    /// <summary>Whether the number was passed over.</summary>
    public readonly bool WasSkipped(int id)
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
