namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// What time an exchange has left, and when something last moved in it. Written by the forwarder's loop and by whoever sends the request's last byte; judged by
/// the tick, on any thread. In milliseconds of the monotonic clock. Part of its forwarder, never copied.
/// </summary>
internal struct ExchangeTimes()
{
    private const long Never = long.MaxValue;

    // What the caller and the route allow for the whole exchange; in finer units, because it goes on to the endpoint.
    public RequestDeadline Deadline;

    private long _exchangeEnd = Never;
    private long _attemptTimeout = Never;
    private long _attemptEnd = Never;
    private long _headTimeout = Never;
    private long _headEnd = Never;
    private bool _hasHead;
    private long _idleTimeout;
    private long _lastActivity;
    private long _movedBytes;

    /// <summary>Which bound has passed.</summary>
    public enum Passed
    {
        None,
        Exchange,
        Attempt,
        Head,
        Idle,
    }

    /// <summary>When the attempt is given up, for the endpoint to know.</summary>
    public readonly long AttemptEndMicroseconds => _attemptEnd == Never ? Never : _attemptEnd * 1000;

    public void Begin(long now, TimeSpan idle)
    {
        _lastActivity = now;
        _idleTimeout = (long)idle.TotalMilliseconds;
        _movedBytes = 0;
    }

    /// <summary>The listener that takes the request has its own idea of idle.</summary>
    public void SetIdle(TimeSpan timeout) => Volatile.Write(ref _idleTimeout, (long)timeout.TotalMilliseconds);

    /// <summary>The bounds of the rule, and of <see cref="Deadline"/>, which is complete now.</summary>
    /// <param name="attempt">For each attempt.</param>
    /// <param name="head">From the request's last byte to the response head.</param>
    public void SetBounds(TimeSpan? attempt, TimeSpan? head)
    {
        Volatile.Write(ref _exchangeEnd, Deadline.Milliseconds);
        _attemptTimeout = attempt is { } each && each > TimeSpan.Zero ? (long)each.TotalMilliseconds : Never;
        _headTimeout = head is { } wait ? (long)wait.TotalMilliseconds : Never;
    }

    public void BeginAttempt(long now)
    {
        Volatile.Write(ref _hasHead, false);
        if (_attemptTimeout != Never)
        {
            Volatile.Write(ref _attemptEnd, now + _attemptTimeout);
        }
    }

    public void EndAttempt() => Volatile.Write(ref _attemptEnd, Never);

    /// <summary>The request's last byte is out.</summary>
    public void OnRequestSent(long now)
    {
        _lastActivity = now;
        if (_headTimeout != Never)
        {
            // A full fence: the head may come while the last of the request is sent, or long before that.
            Interlocked.Exchange(ref _headEnd, now + _headTimeout);
            if (Volatile.Read(ref _hasHead))
            {
                Volatile.Write(ref _headEnd, Never);
            }
        }
    }

    /// <summary>The response's head has come, or none will.</summary>
    public void OnHead(long now, bool answered)
    {
        Volatile.Write(ref _hasHead, answered);
        Volatile.Write(ref _headEnd, Never);
        _lastActivity = now;
    }

    public void OnActivity(long now) => _lastActivity = now;

    /// <summary>What only counters tell: how many bytes have gone by at this tick.</summary>
    public void OnMoved(long bytes, long now)
    {
        if (bytes != _movedBytes)
        {
            _movedBytes = bytes;
            Volatile.Write(ref _lastActivity, now);
        }
    }

    public void End()
    {
        EndAttempt();
        Volatile.Write(ref _headEnd, Never);
        Volatile.Write(ref _exchangeEnd, Never);
    }

    /// <summary>The first bound that has passed.</summary>
    public Passed Judge(long now) =>
        now >= Volatile.Read(ref _exchangeEnd) ? Passed.Exchange
        : now >= Volatile.Read(ref _attemptEnd) ? Passed.Attempt
        : now >= Volatile.Read(ref _headEnd) ? Passed.Head
        : now - Volatile.Read(ref _lastActivity) >= Volatile.Read(ref _idleTimeout) ? Passed.Idle
        : Passed.None;
}
