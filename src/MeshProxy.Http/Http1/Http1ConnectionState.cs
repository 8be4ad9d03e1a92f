namespace MeshProxy.Http.Http1;

/// <summary>
/// Where a server connection stands. Moved by its head loop alone; read by the tick.
/// <code>
/// Idle -first byte-> Head -complete-> Exchange -both messages complete-> Idle
/// Head -refused-> Closing    Exchange -close asked, response incomplete-> Closing    Idle -end, timeout, drain-> Closing
/// Exchange -response complete, request not-> Draining -request read-> Idle
/// Closing -output sent-> Draining -peer closed, enough thrown away, time over-> Closed
/// </code>
/// </summary>
internal enum Http1ConnectionState : byte
{
    /// <summary>Between messages.</summary>
    Idle,

    /// <summary>In a head.</summary>
    Head,

    /// <summary>A handler is at work.</summary>
    Exchange,

    /// <summary>No further request is read; the last output is on its way.</summary>
    Closing,

    /// <summary>What the peer still sends of a request that is answered is thrown away, within bounds.</summary>
    Draining,

    /// <summary>Over.</summary>
    Closed,
}

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
