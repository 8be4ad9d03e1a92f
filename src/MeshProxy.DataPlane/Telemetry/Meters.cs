using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;
using MeshProxy.Http.Http2;
using Prometheus;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// Everything that is counted, in a registry of our own. What is counted for each request goes to our own striped cells and is carried over into
/// prometheus-net at each scrape: its own counters are shared cache lines, and its histogram costs more than the rest of the record.
/// Label values come from configuration or closed sets, never from a peer; the number of series is bounded all the same.
/// </summary>
public sealed class Meters
{
    /// <summary>Routes, clusters and TCP services that have series of their own; further ones share the overflow series.</summary>
    public const int MaxSeries = 4096;

    /// <summary>What the overflow series are labelled with.</summary>
    public const string Overflow = "_overflow";

    /// <summary>A series that nothing was counted in for this long is no longer exported.</summary>
    public static readonly TimeSpan IdleExpiry = TimeSpan.FromMinutes(10);

    /// <summary>Upper bounds of the duration buckets in seconds: from an in-memory answer to beyond the default timeout of 15 s.</summary>
    private static readonly double[] DurationBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60];

    private const string Downstream = "downstream";
    private const string Upstream = "upstream";

    private static readonly string[] RequestLabels = ["direction", "service", "route", "code", "flag"];
    private static readonly string[] DurationLabels = ["direction", "service", "route"];

    private readonly TimeProvider _time;
    private readonly CollectorRegistry _registry = Prometheus.Metrics.NewCustomRegistry();
    private readonly Lock _sync = new();
    private readonly Dictionary<(Direction, string, string), RouteMeters> _routes = [];
    private readonly Dictionary<string, ClusterSeries> _clusters = new(StringComparer.Ordinal);
    private readonly Dictionary<(Direction, string, string), TcpSeries> _tcp = [];
    private readonly HashSet<string> _refusalReasons = new(StringComparer.Ordinal);
    private readonly RouteMeters?[] _unrouted = new RouteMeters?[Directions.Count];
    private readonly DirectionConnections[] _directions;
    private readonly Dictionary<string, DateTimeOffset> _certificates = new(StringComparer.Ordinal);

    private readonly Counter _requests;
    private readonly Histogram _durations;
    private readonly Counter _grpcMessages;
    private readonly Counter _tunnelBytes;
    private readonly Counter _attempts;
    private readonly Counter _mirrors;
    private readonly Gauge _upstreamOpen;
    private readonly Counter _closes;
    private readonly Counter.Child?[,] _closeSeries = new Counter.Child?[Directions.Count, CloseReasonNames.Count];
    private readonly Counter _refusals;
    private readonly Counter _http2Abuse;
    private readonly Counter _tcpConnections;
    private readonly Counter _tcpBytes;
    private readonly Gauge _configRevision;
    private readonly Counter _configApplied;
    private readonly Counter _configRejected;
    private readonly Gauge _certificateExpiry;
    private readonly Counter _renewals;
    private readonly Counter _logDropped;
    private readonly Gauge _controlConnected;
    private readonly Gauge _seriesOverflow;
    private readonly Gauge _bufferedBytes;
    private readonly Gauge _memoryBudget;
    private readonly Gauge _residentBytes;
    private readonly Counter _cpuSeconds;
    private readonly Counter _allocatedBytes;

    private string? _revision;
    private Func<long>? _accessLogDropped;
    private Func<long>? _ownLogDropped;
    private Func<long>? _buffered;
    private bool _overflowed;

    /// <summary>Makes the registry.</summary>
    public Meters(TimeProvider time)
    {
        _time = time;
        var factory = Prometheus.Metrics.WithCustomRegistry(_registry);
        factory.ExemplarBehavior = ExemplarBehavior.NoExemplars();
        _requests = factory.CreateCounter("meshproxy_requests_total", "Requests by the status and flag sent downstream.", RequestLabels);
        _durations = factory.CreateHistogram(
            "meshproxy_request_duration_seconds",
            "From the request's head to the response's last byte.",
            DurationLabels,
            new HistogramConfiguration { Buckets = DurationBounds });
        _grpcMessages = factory.CreateCounter("meshproxy_grpc_messages_total", "Messages of gRPC calls.", "direction", "service", "route", "way");
        _tunnelBytes = factory.CreateCounter("meshproxy_tunnel_bytes_total", "Bytes of tunnels over HTTP.", "direction", "service", "route", "way");
        _attempts = factory.CreateCounter("meshproxy_upstream_attempts_total", "Attempts by result: ok, or the flag of what went wrong.", "cluster", "result");
        _mirrors = factory.CreateCounter("meshproxy_mirror_total", "Requests that a cluster was to get a copy of, by what became of the copy.", "cluster", "result");
        _upstreamOpen = factory.CreateGauge("meshproxy_upstream_connections_open", "Connections to endpoints that are open now.", "cluster");
        var open = factory.CreateGauge("meshproxy_connections_open", "Downstream connections that are open now.", "direction");
        var total = factory.CreateCounter("meshproxy_connections_total", "Downstream connections by how they are secured.", "direction", "tls");
        _closes = factory.CreateCounter("meshproxy_connection_closes_total", "Downstream HTTP connections that have ended, by why.", "direction", "reason");
        _http2Abuse = factory.CreateCounter("meshproxy_http2_abuse_total", "Streams and connections that a guard of the HTTP/2 codec refused or ended.", "side", "kind");
        foreach (var kind in Http2AbuseKinds.All)
        {
            // From the start, so that an alert on their rise sees the first one.
            _http2Abuse.WithLabels(Downstream, kind);
            _http2Abuse.WithLabels(Upstream, kind);
        }

        _refusals = factory.CreateCounter("meshproxy_connection_refusals_total", "Downstream connections that were refused.", "direction", "reason");
        _tcpConnections = factory.CreateCounter("meshproxy_tcp_connections_total", "Opaque connections that have ended.", "direction", "service", "flag");
        _tcpBytes = factory.CreateCounter("meshproxy_tcp_bytes_total", "Bytes of opaque connections.", "direction", "service", "way");
        _configRevision = factory.CreateGauge("meshproxy_config_revision", "1 for the revision in force.", "revision");
        _configApplied = factory.CreateCounter("meshproxy_config_applied_total", "Configurations that were put in force.");
        _configRejected = factory.CreateCounter("meshproxy_config_rejected_total", "Units, or files, that were refused.", "kind");
        _certificateExpiry = factory.CreateGauge("meshproxy_certificate_expiry_seconds", "Time until a certificate expires; negative after.", "certificate");
        _renewals = factory.CreateCounter("meshproxy_certificate_renewals_total", "Tries to renew the workload's certificate.", "result");
        _logDropped = factory.CreateCounter("meshproxy_log_dropped_total", "Log records that a slow or failing sink cost.", "log");
        _controlConnected = factory.CreateGauge("meshproxy_control_connected", "1 while the control plane's stream is up.");
        _seriesOverflow = factory.CreateGauge("meshproxy_series_overflow", "1 when series share the overflow label because there are too many.");
        _bufferedBytes = factory.CreateGauge("meshproxy_buffered_bytes", "Memory that holds peers' data now.");
        _memoryBudget = factory.CreateGauge("meshproxy_memory_budget_bytes", "Memory that may hold peers' data.");
        _residentBytes = factory.CreateGauge("process_resident_memory_bytes", "Resident memory of the process.");
        _cpuSeconds = factory.CreateCounter("process_cpu_seconds_total", "User and system time of the process.");
        _allocatedBytes = factory.CreateCounter("meshproxy_allocated_bytes_total", "Managed memory ever allocated.");
        _directions = [.. Enumerable.Range(0, Directions.Count).Select(index => new DirectionConnections(
            total.WithLabels(Directions.Label((Direction)index), "mutual"),
            total.WithLabels(Directions.Label((Direction)index), "tls"),
            total.WithLabels(Directions.Label((Direction)index), "none"),
            open.WithLabels(Directions.Label((Direction)index))))];
        _registry.AddBeforeCollectCallback(CarryOver);
    }

    internal static long[] DurationBoundTicks { get; } = [.. DurationBounds.Select(seconds => (long)(seconds * TimeSpan.TicksPerSecond))];

    /// <summary>Writes every series in Prometheus' text format.</summary>
    public async Task<byte[]> ExportAsync(CancellationToken cancellationToken = default)
    {
        using var stream = new MemoryStream(64 * 1024);
        await _registry.CollectAndExportAsTextAsync(stream, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        return stream.ToArray();
    }

    /// <summary>Where log drops are read from at each scrape.</summary>
    public void WatchLogs(Func<long>? accessLogDropped, Func<long>? ownLogDropped)
    {
        _accessLogDropped = accessLogDropped ?? _accessLogDropped;
        _ownLogDropped = ownLogDropped ?? _ownLogDropped;
    }

    /// <summary>Where the memory that holds peers' data is read from at each scrape.</summary>
    /// <param name="buffered">Reads what is held, in bytes.</param>
    /// <param name="budget">What may be held, in bytes.</param>
    public void WatchMemory(Func<long> buffered, long budget)
    {
        _buffered = buffered;
        _memoryBudget.Set(budget);
    }

    /// <summary>A configuration was put in force.</summary>
    public void OnConfigApplied(string revision)
    {
        lock (_sync)
        {
            if (_revision is not null && _revision != revision)
            {
                _configRevision.RemoveLabelled(_revision);
            }

            _revision = revision;
            _configRevision.WithLabels(revision).Set(1);
            _configApplied.Inc();
        }
    }

    /// <summary>A unit of configuration ("service", "inbound", "gateway"), or a file ("file"), was refused.</summary>
    public void OnConfigRejected(string kind) => _configRejected.WithLabels(kind).Inc();

    /// <summary>A certificate is in use until then; the name is from a closed set ("workload").</summary>
    public void OnCertificate(string name, DateTimeOffset notAfter)
    {
        lock (_sync)
        {
            _certificates[name] = notAfter;
        }
    }

    /// <summary>A renewal was tried.</summary>
    public void OnRenewal(bool succeeded) => _renewals.WithLabels(succeeded ? "ok" : "failed").Inc();

    /// <summary>The control plane's stream came up or went down.</summary>
    public void OnControlConnected(bool connected) => _controlConnected.Set(connected ? 1 : 0);

    /// <summary>A downstream connection is open and its security is known.</summary>
    internal void OnConnectionOpened(Direction direction, ConnectionInfo connection)
    {
        var meters = _directions[(int)direction];
        (connection.IsMutualTls ? meters.Mutual : connection.IsTls ? meters.Tls : meters.Plain).Inc();
        meters.Open.Inc();
    }

    /// <summary>A connection that <see cref="OnConnectionOpened"/> was told has ended; an HTTP connection says why.</summary>
    internal void OnConnectionClosed(Direction direction, ConnectionCloseReason reason = ConnectionCloseReason.None)
    {
        _directions[(int)direction].Open.Dec();
        if (reason != ConnectionCloseReason.None)
        {
            (_closeSeries[(int)direction, (int)reason] ??= _closes.WithLabels(Directions.Label(direction), CloseReasonNames.Of(reason))).Inc();
        }
    }

    /// <summary>A guard of the HTTP/2 codec acted on a connection from a downstream.</summary>
    internal void OnDownstreamAbuse(string kind) => _http2Abuse.WithLabels(Downstream, kind).Inc();

    /// <summary>A guard of the HTTP/2 codec acted on a connection to an endpoint.</summary>
    internal void OnUpstreamAbuse(string kind) => _http2Abuse.WithLabels(Upstream, kind).Inc();

    /// <summary>A downstream connection was refused. The reason is a constant such as "plaintext_refused", never peer data.</summary>
    internal void OnConnectionRefused(Direction direction, string reason)
    {
        const int MaxReasons = 64;
        lock (_sync)
        {
            if (!_refusalReasons.Contains(reason) && _refusalReasons.Count >= MaxReasons)
            {
                reason = Overflow;
            }

            _refusalReasons.Add(reason);
        }

        _refusals.WithLabels(Directions.Label(direction), reason).Inc();
    }

    /// <summary>Where a route counts. Called when a snapshot is compiled, never for a request; the same arguments give the same object.</summary>
    internal RouteMeters ForRoute(Direction direction, string service, string route)
    {
        lock (_sync)
        {
            var key = (direction, service, route);
            if (_routes.TryGetValue(key, out var meters))
            {
                return meters;
            }

            if (_routes.Count + _clusters.Count + _tcp.Count >= MaxSeries)
            {
                _overflowed = true;
                key = (direction, Overflow, Overflow);
                if (_routes.TryGetValue(key, out meters))
                {
                    return meters;
                }
            }

            meters = new RouteMeters(this, direction, key.Item2, key.Item3);
            _routes.Add(key, meters);
            return meters;
        }
    }

    /// <summary>Where requests count that found no service or no route.</summary>
    internal RouteMeters Unrouted(Direction direction) => _unrouted[(int)direction] ??= ForRoute(direction, "", "");

    /// <summary>Where a cluster counts. Called when a live cluster is made.</summary>
    internal ClusterMeters ForCluster(string cluster)
    {
        lock (_sync)
        {
            if (_clusters.TryGetValue(cluster, out var series))
            {
                return series.Meters;
            }

            if (_routes.Count + _clusters.Count + _tcp.Count >= MaxSeries)
            {
                _overflowed = true;
                cluster = Overflow;
                if (_clusters.TryGetValue(cluster, out series))
                {
                    return series.Meters;
                }
            }

            series = new ClusterSeries(new ClusterMeters(cluster, OnUpstreamAbuse));
            _clusters.Add(cluster, series);
            return series.Meters;
        }
    }

    /// <summary>Counts an opaque connection that ended.</summary>
    internal void OnTcp(Direction direction, string service, ResponseFlag flag, long received, long sent)
    {
        var label = Directions.Label(direction);
        var flagName = FlagNames.Of(flag);
        lock (_sync)
        {
            var key = (direction, service, flagName);
            if (!_tcp.TryGetValue(key, out var series))
            {
                if (_routes.Count + _clusters.Count + _tcp.Count >= MaxSeries)
                {
                    _overflowed = true;
                    service = Overflow;
                    key = (direction, service, flagName);
                }

                if (!_tcp.TryGetValue(key, out series))
                {
                    series = new TcpSeries(
                        _tcpConnections.WithLabels(label, service, flagName),
                        _tcpBytes.WithLabels(label, service, "received"),
                        _tcpBytes.WithLabels(label, service, "sent"));
                    _tcp.Add(key, series);
                }
            }

            series.LastUsed = _time.GetTimestamp();
            series.Connections.Inc();
            series.Received.Inc(received);
            series.Sent.Inc(sent);
        }
    }

    /// <summary>A route that had left the registry counts again.</summary>
    internal void List(RouteMeters meters)
    {
        lock (_sync)
        {
            // A newer snapshot may have made another object for the same labels meanwhile: then this old one is in its last seconds and stays unlisted.
            _routes.TryAdd((meters.Direction, meters.Service, meters.Route), meters);
        }
    }

    private void CarryOver()
    {
        lock (_sync)
        {
            var now = _time.GetTimestamp();
            foreach (var (key, meters) in _routes)
            {
                CarryOver(key, meters, now);
            }

            foreach (var (key, series) in _clusters)
            {
                CarryOver(key, series, now);
            }

            foreach (var (key, series) in _tcp)
            {
                if (_time.GetElapsedTime(series.LastUsed, now) > IdleExpiry)
                {
                    // The byte counters are shared by the flags of a service: removed with the last of them, re-made when counted again.
                    series.Connections.Remove();
                    _tcp.Remove(key);
                    if (!_tcp.Keys.Any(other => other.Item1 == key.Item1 && other.Item2 == key.Item2))
                    {
                        series.Received.Remove();
                        series.Sent.Remove();
                    }
                }
            }

            var wall = _time.GetUtcNow();
            foreach (var (name, notAfter) in _certificates)
            {
                _certificateExpiry.WithLabels(name).Set(Math.Round((notAfter - wall).TotalSeconds, 3));
            }

            if (_accessLogDropped is not null)
            {
                _logDropped.WithLabels("access").IncTo(_accessLogDropped());
            }

            if (_ownLogDropped is not null)
            {
                _logDropped.WithLabels("own").IncTo(_ownLogDropped());
            }

            _seriesOverflow.Set(_overflowed ? 1 : 0);
            _allocatedBytes.IncTo(GC.GetTotalAllocatedBytes(precise: false));
            _bufferedBytes.Set(_buffered?.Invoke() ?? 0);
            _residentBytes.Set(Environment.WorkingSet);
            _cpuSeconds.IncTo(Environment.CpuUsage.TotalTime.TotalSeconds);
        }
    }

    private void CarryOver((Direction, string, string) key, RouteMeters meters, long now)
    {
        var activity = meters.Activity;
        var series = meters.Series;
        if (series is null || activity != series.Activity)
        {
            if (series is null)
            {
                meters.Series = series = new RouteSeries();
            }

            series.LastUsed = now;
        }
        else if (_time.GetElapsedTime(series.LastUsed, now) > IdleExpiry)
        {
            foreach (var child in series.Requests)
            {
                child.Remove();
            }

            series.Duration?.Remove();
            series.Grpc?.Remove();
            series.Tunnels?.Remove();
            meters.Series = null;
            _routes.Remove(key);
            meters.OnUnlisted();
            if (meters.Activity != activity)
            {
                // Counted between the two reads, before it could see that it is unlisted.
                _routes.TryAdd(key, meters);
            }

            return;
        }
        else
        {
            return;
        }

        series.Activity = activity;
        var direction = Directions.Label(meters.Direction);
        var codes = meters.Codes;
        for (var i = 0; i < codes.Length; i++)
        {
            if (i == series.Requests.Count)
            {
                series.Requests.Add(_requests.WithLabels(direction, meters.Service, meters.Route, codes[i].CodeLabel, codes[i].FlagLabel));
            }

            series.Requests[i].IncTo(codes[i].Requests.Value);
        }

        if (meters.GrpcMessages is { } messages)
        {
            (series.Grpc ??= new WaySeries(_grpcMessages, meters)).IncTo(messages);
        }

        if (meters.TunnelBytes is { } bytes)
        {
            (series.Tunnels ??= new WaySeries(_tunnelBytes, meters)).IncTo(bytes);
        }

        if (meters.Total == 0)
        {
            return;
        }

        var duration = series.Duration ??= _durations.WithLabels(direction, meters.Service, meters.Route);
        for (var bucket = 0; bucket < meters.Durations.Buckets; bucket++)
        {
            var (count, sum) = meters.Durations.Read(bucket);
            var newCount = count - series.Counts[bucket];
            if (newCount <= 0)
            {
                continue;
            }

            // The mean of values of one bucket lies in that bucket, so that handing it on `newCount` times keeps buckets and sum exact. A value
            // that is only half written may move it over the edge: clamped, and made good at the next scrape by what was not handed on.
            var lower = bucket == 0 ? 0 : DurationBoundTicks[bucket - 1] + 1;
            var upper = bucket < DurationBoundTicks.Length ? DurationBoundTicks[bucket] : long.MaxValue;
            var mean = Math.Clamp((double)(sum - series.Sums[bucket]) / newCount, lower, upper);
            duration.Observe(mean / TimeSpan.TicksPerSecond, newCount);
            series.Counts[bucket] = count;
            series.Sums[bucket] += (long)(mean * newCount);
        }
    }

    private void CarryOver(string key, ClusterSeries series, long now)
    {
        var meters = series.Meters;
        var total = meters.Total;
        var open = meters.ConnectionsOpen;
        if (total != series.Total || open != 0 || series.LastUsed == 0)
        {
            series.LastUsed = now;
            series.Total = total;
            series.IsExported = true;
        }
        else if (_time.GetElapsedTime(series.LastUsed, now) > IdleExpiry)
        {
            // The live cluster keeps its meters and may count again: hidden, not forgotten. A cluster that is gone costs one entry of the cap.
            if (series.IsExported)
            {
                series.IsExported = false;
                _upstreamOpen.RemoveLabelled(key);
                for (var flag = 0; flag < FlagNames.Count; flag++)
                {
                    _attempts.RemoveLabelled(key, ResultLabel((ResponseFlag)flag));
                }

                foreach (var result in Enum.GetValues<MirrorResult>())
                {
                    _mirrors.RemoveLabelled(key, ResultLabel(result));
                }
            }

            return;
        }

        _upstreamOpen.WithLabels(key).Set(open);
        for (var flag = 0; flag < FlagNames.Count; flag++)
        {
            var attempts = meters.Attempts((ResponseFlag)flag);
            if (attempts >= 0)
            {
                _attempts.WithLabels(key, ResultLabel((ResponseFlag)flag)).IncTo(attempts);
            }
        }

        foreach (var result in Enum.GetValues<MirrorResult>())
        {
            if (meters.Mirrors(result) is >= 0 and var copies)
            {
                _mirrors.WithLabels(key, ResultLabel(result)).IncTo(copies);
            }
        }
    }

    private static string ResultLabel(MirrorResult result) => result.ToString().ToLowerInvariant();

    private static string ResultLabel(ResponseFlag result) => result == ResponseFlag.None ? "ok" : FlagNames.Of(result);

    private sealed record DirectionConnections(ICounter Mutual, ICounter Tls, ICounter Plain, IGauge Open);

    private sealed class ClusterSeries(ClusterMeters meters)
    {
        public ClusterMeters Meters { get; } = meters;

        public long Total { get; set; }

        public long LastUsed { get; set; }

        public bool IsExported { get; set; }
    }

    private sealed class TcpSeries(Counter.Child connections, Counter.Child received, Counter.Child sent)
    {
        public Counter.Child Connections { get; } = connections;

        public Counter.Child Received { get; } = received;

        public Counter.Child Sent { get; } = sent;

        public long LastUsed { get; set; }
    }
}

/// <summary>The two series of what a route counts both ways.</summary>
internal sealed class WaySeries(Counter counter, RouteMeters meters)
{
    private readonly Counter.Child _received = counter.WithLabels(Directions.Label(meters.Direction), meters.Service, meters.Route, "received");
    private readonly Counter.Child _sent = counter.WithLabels(Directions.Label(meters.Direction), meters.Service, meters.Route, "sent");

    public void IncTo(RouteMeters.WayCounter ways)
    {
        _received.IncTo(ways.Received.Value);
        _sent.IncTo(ways.Sent.Value);
    }

    public void Remove()
    {
        _received.Remove();
        _sent.Remove();
    }
}

/// <summary>What a scrape has already carried over of one route.</summary>
internal sealed class RouteSeries
{
    public List<Counter.Child> Requests { get; } = [];

    public Histogram.Child? Duration { get; set; }

    public WaySeries? Grpc { get; set; }

    public WaySeries? Tunnels { get; set; }

    public long[] Counts { get; } = new long[Meters.DurationBoundTicks.Length + 1];

    public long[] Sums { get; } = new long[Meters.DurationBoundTicks.Length + 1];

    public long Activity { get; set; }

    public long LastUsed { get; set; }
}
