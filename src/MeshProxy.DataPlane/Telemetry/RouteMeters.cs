using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Failures;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// What is counted for one route: requests by status and flag, and their durations. Resolved when a snapshot is compiled and kept by the compiled
/// route; counting is one lookup in a short array and three atomic additions to this thread's cache lines.
/// </summary>
/// <remarks>
/// A series that was idle for ten minutes leaves the registry while a compiled route may still hold this object: <see cref="_isListed"/> is then false,
/// and the next request lists it again with its totals, which to Prometheus is a counter that paused.
/// </remarks>
internal sealed class RouteMeters
{
    // Statuses are peers' data: a service that invents codes can not grow the registry beyond this.
    private const int MaxCodes = 48;
    private const int OverflowKey = -1;

    private readonly Meters _owner;
    private readonly Lock _growing = new();
    private CodeCounter[] _codes = [];
    private WayCounter? _grpc;
    private WayCounter? _tunnels;
    private volatile bool _isListed = true;

    public RouteMeters(Meters owner, Direction direction, string service, string route)
    {
        _owner = owner;
        Direction = direction;
        Service = service;
        Route = route;
        Durations = new StripedHistogram(Meters.DurationBoundTicks);
    }

    public Direction Direction { get; }

    public string Service { get; }

    public string Route { get; }

    /// <summary>From the request's head to the response's last byte.</summary>
    public StripedHistogram Durations { get; }

    /// <summary>Requests so far, over all codes.</summary>
    public long Total
    {
        get
        {
            var total = 0L;
            foreach (var code in Volatile.Read(ref _codes))
            {
                total += code.Requests.Value;
            }

            return total;
        }
    }

    /// <summary>Messages of gRPC calls so far; null while there was none.</summary>
    public WayCounter? GrpcMessages => Volatile.Read(ref _grpc);

    /// <summary>Bytes of tunnels so far; null while there was none.</summary>
    public WayCounter? TunnelBytes => Volatile.Read(ref _tunnels);

    /// <summary>Grows with whatever is counted here: tells an idle series from one in use.</summary>
    public long Activity => Total + (GrpcMessages?.Total ?? 0) + (TunnelBytes?.Total ?? 0);

    /// <summary>What each status and flag was counted under; never shrinks.</summary>
    internal ReadOnlySpan<CodeCounter> Codes => Volatile.Read(ref _codes);

    /// <summary>State of the scrape's bridge; touched only by <see cref="Meters"/> under its lock.</summary>
    internal RouteSeries? Series { get; set; }

    /// <summary>Counts one exchange.</summary>
    /// <param name="status">The status sent downstream, 0 when none was.</param>
    /// <param name="flag">The response flag.</param>
    /// <param name="durationTicks">Its duration in ticks of 100 ns.</param>
    public void Record(int status, ResponseFlag flag, long durationTicks)
    {
        var key = (status << 8) | (int)flag;
        Find(key).Requests.Add(1);
        Durations.Observe(durationTicks);
        List();
    }

    /// <summary>Counts messages of a gRPC call that is under way: a stream may live for days.</summary>
    public void OnGrpcMessages(int received, int sent) => Add(ref _grpc, received, sent);

    /// <summary>Counts bytes of a tunnel that is under way.</summary>
    public void OnTunnelBytes(long received, long sent) => Add(ref _tunnels, received, sent);

    /// <summary>Called by the owner when the series has left the registry.</summary>
    internal void OnUnlisted() => _isListed = false;

    private void Add(ref WayCounter? counter, long received, long sent)
    {
        var ways = Volatile.Read(ref counter) ?? Interlocked.CompareExchange(ref counter, new WayCounter(), null) ?? counter;
        if (received > 0)
        {
            ways.Received.Add(received);
        }

        if (sent > 0)
        {
            ways.Sent.Add(sent);
        }

        List();
    }

    private void List()
    {
        if (!_isListed)
        {
            _isListed = true;
            _owner.List(this);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private CodeCounter Find(int key)
    {
        foreach (var code in Volatile.Read(ref _codes))
        {
            if (code.Key == key)
            {
                return code;
            }
        }

        return Add(key);
    }

    private CodeCounter Add(int key)
    {
        lock (_growing)
        {
            var codes = _codes;
            if (codes.Length >= MaxCodes)
            {
                key = OverflowKey;
            }

            foreach (var code in codes)
            {
                if (code.Key == key)
                {
                    return code;
                }
            }

            var added = new CodeCounter(key);
            Volatile.Write(ref _codes, [.. codes, added]);
            return added;
        }
    }

    /// <summary>Something that goes both ways.</summary>
    internal sealed class WayCounter
    {
        /// <summary>From the downstream.</summary>
        public StripedCounter Received { get; } = new();

        /// <summary>To the downstream.</summary>
        public StripedCounter Sent { get; } = new();

        public long Total => Received.Value + Sent.Value;
    }

    /// <summary>Requests with one status and flag.</summary>
    internal sealed class CodeCounter(int key)
    {
        public int Key { get; } = key;

        public StripedCounter Requests { get; } = new();

        public string CodeLabel => Key == OverflowKey ? "other" : Key >> 8 == 0 ? "none" : (Key >> 8).ToString(System.Globalization.CultureInfo.InvariantCulture);

        public string FlagLabel => Key == OverflowKey ? "other" : FlagNames.Of((ResponseFlag)(Key & 0xFF));
    }
}
