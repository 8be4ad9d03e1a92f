namespace MeshProxy.Http.Http2.FlowControl;

/// <summary>
/// What the peer may still send us, on one stream or on the connection (RFC 9113 section 5.2). Credit is given back in portions of at least half
/// the window, so that one WINDOW_UPDATE serves many frames. Invariant: available + not yet given back + unread = size.
/// Owned by the connection's lock.
/// </summary>
internal struct ReceiveWindow(int size)
{
    private int _available = size;
    private int _toGiveBack;

    /// <summary>The window's size, in bytes.</summary>
    public int Size { get; private set; } = size;

    /// <summary>Takes bytes (payload with padding) that arrived.</summary>
    /// <returns>False when the peer had no credit for them.</returns>
    public bool OnReceived(int count)
    {
        if (count > _available)
        {
            return false;
        }

        _available -= count;
        return true;
    }

    /// <summary>Notes bytes that need no more room.</summary>
    /// <param name="count">How many.</param>
    /// <param name="target">The size that the window should have; it grows to it now, and never shrinks.</param>
    /// <returns>The increment to send, or 0 while it is too little to be worth a frame.</returns>
    public int OnConsumed(int count, int target)
    {
        _toGiveBack += count;
        if (_toGiveBack < Size / 2)
        {
            return 0;
        }

        var increment = _toGiveBack;
        if (target > Size)
        {
            increment += target - Size;
            Size = target;
        }

        _available += increment;
        _toGiveBack = 0;
        return increment;
    }
}
