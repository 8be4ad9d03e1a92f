namespace MeshProxy.Http.Http1;

/// <summary>How long something that is counted has stood still, measured by a coarse tick.</summary>
internal struct StallClock
{
    private int _seen;
    private long _since;
    private bool _isRunning;

    /// <summary>True when <paramref name="stamp"/> has been the same for at least <paramref name="limit"/>.</summary>
    public bool IsOver(int stamp, long nowMilliseconds, TimeSpan limit)
    {
        if (!_isRunning || stamp != _seen)
        {
            _isRunning = true;
            _seen = stamp;
            _since = nowMilliseconds;
            return false;
        }

        return nowMilliseconds - _since >= (long)limit.TotalMilliseconds;
    }

    /// <summary>Nothing is waited for.</summary>
    public void Stop() => _isRunning = false;
}
