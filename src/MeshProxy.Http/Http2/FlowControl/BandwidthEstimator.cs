namespace MeshProxy.Http.Http2.FlowControl;

/// <summary>
/// Grows the window of new credit to the bandwidth-delay product: bytes that arrive between a PING and its answer are what one round trip carries.
/// When they fill two thirds of the window, the window was the bottleneck, and it doubles (the method of gRPC). A PING goes out only when a stream
/// has used half its window, so connections with small messages never send one. Owned by the connection's lock.
/// </summary>
internal struct BandwidthEstimator(int initial, int max)
{
    private long _bytes;
    private long _startedAt;
    private double _best;

    /// <summary>The size that stream windows should have, in bytes.</summary>
    public int Target { get; private set; } = initial;

    public bool IsMeasuring { get; private set; }

    /// <summary>Begins a measurement; the caller sends the PING.</summary>
    public bool TryBegin(long timestamp)
    {
        if (IsMeasuring || Target >= max)
        {
            return false;
        }

        IsMeasuring = true;
        _bytes = 0;
        _startedAt = timestamp;
        return true;
    }

    public void OnReceived(int count) => _bytes += count;

    /// <summary>Takes the PING's answer.</summary>
    public void OnAnswer(long timestamp, bool mayGrow)
    {
        if (!IsMeasuring)
        {
            return;
        }

        IsMeasuring = false;
        var rate = _bytes / (double)Math.Max(1, timestamp - _startedAt);
        if (mayGrow && rate > _best && _bytes * 3 >= Target * 2L)
        {
            _best = rate;
            Target = (int)Math.Min(max, Math.Max(Target * 2L, _bytes * 2));
        }
    }
}
