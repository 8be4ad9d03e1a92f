namespace MeshProxy.Http.Http2;

/// <summary>A field block that is being assembled from HEADERS and CONTINUATION frames (RFC 9113 section 4.3): the rare case, most come in one frame. Bounded
/// before it is decoded, in bytes and in frames. Owned by the connection's read loop.</summary>
internal sealed class FieldBlock(Http2Limits limits)
{
    private byte[] _bytes = [];
    private int _length;
    private int _continuations;
    private bool _endsStream;

    /// <summary>The stream that it is for; 0 while none is being assembled.</summary>
    public int StreamId { get; private set; }

    public bool IsOpen => StreamId != 0;

    /// <summary>The number of the frame that it began with: for the timeout that bounds it.</summary>
    public long BeganAt { get; private set; }

    /// <summary>Begins with the fragment of HEADERS.</summary>
    /// <returns>False when it is too large.</returns>
    public bool TryBegin(int streamId, bool endsStream, ReadOnlySpan<byte> fragment, long frame)
    {
        StreamId = streamId;
        BeganAt = frame;
        _endsStream = endsStream;
        _continuations = 0;
        _length = 0;
        return TryAppend(fragment);
    }

    /// <summary>Appends the fragment of a CONTINUATION.</summary>
    /// <returns>False when it is too large, or of too many frames: what the peer did too much of.</returns>
    public bool TryContinue(ReadOnlySpan<byte> fragment, out AbuseKind kind)
    {
        kind = ++_continuations > limits.MaxContinuationFrames ? AbuseKind.Continuation : AbuseKind.FieldBlock;
        return kind == AbuseKind.FieldBlock && TryAppend(fragment);
    }

    /// <summary>Ends the block; its bytes are not kept.</summary>
    public ReadOnlySpan<byte> Take(out bool endsStream)
    {
        var block = _bytes.AsSpan(0, _length);
        endsStream = _endsStream;
        StreamId = 0;
        _bytes = [];
        return block;
    }

    private bool TryAppend(ReadOnlySpan<byte> fragment)
    {
        if (_length + fragment.Length > limits.MaxFieldListBytes * MessageFields.HardLimitFactor)
        {
            return false;
        }

        if (_bytes.Length < _length + fragment.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_length + fragment.Length, _bytes.Length * 2));
        }

        fragment.CopyTo(_bytes.AsSpan(_length));
        _length += fragment.Length;
        return true;
    }
}
