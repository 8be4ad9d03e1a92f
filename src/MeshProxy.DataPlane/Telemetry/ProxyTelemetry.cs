namespace MeshProxy.DataPlane.Telemetry;

/// <summary>Where finished exchanges and connections are counted and logged. Thread-safe; never blocks its callers.</summary>
public sealed class ProxyTelemetry
{
    private readonly TimeProvider _time;
    private readonly AccessLog? _log;

    /// <summary>Counts always; logs where there is a log. The log stays its maker's to dispose.</summary>
    public ProxyTelemetry(TimeProvider time, AccessLog? accessLog)
    {
        _time = time;
        _log = accessLog;
        Meters = new Meters(time);
        if (accessLog is not null)
        {
            Meters.WatchLogs(() => accessLog.Dropped, null);
        }
    }

    /// <summary>The counters.</summary>
    public Meters Meters { get; }

    /// <summary>Counts and logs an exchange, and lets the record go. A second call for one exchange does nothing.</summary>
    internal void Complete(RequestRecord record)
    {
        if (!record.TryClose())
        {
            return;
        }

        var elapsed = _time.GetElapsedTime(record.StartTimestamp);
        (record.Meters ?? Meters.Unrouted(record.Direction)).Record(record.Status, record.Flag, elapsed.Ticks);
        _log?.Write(record, _time.GetUtcNow() - elapsed, elapsed);
        record.Release();
    }

    /// <summary>Counts and logs an opaque connection. A second call for one connection does nothing.</summary>
    internal void Complete(TcpRecord record)
    {
        if (record.IsClosed)
        {
            return;
        }

        record.IsClosed = true;
        Meters.OnTcp(record.Direction, record.Service, record.Flag, record.BytesReceived, record.BytesSent);
        if (_log is not null)
        {
            var elapsed = _time.GetElapsedTime(record.StartTimestamp);
            _log.Write(record, _time.GetUtcNow() - elapsed, elapsed);
        }
    }
}
