using System.Net;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane;

/// <summary>A listener that is bound.</summary>
public sealed record BoundListener(string Name, IPEndPoint EndPoint);

/// <summary>
/// The data plane: binds listeners, puts configurations in force, drains, stops. Configuration comes in on one thread at a time (<see cref="_applying"/>);
/// everything else runs on the event loops.
/// </summary>
public sealed class ProxyServer : IAsyncDisposable
{
    private const int Looks = 4;
    private const int LooksAtUnheard = 20;

    private static readonly TimeSpan TickInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan DrainPoll = TimeSpan.FromMilliseconds(50);

    private readonly Lock _applying = new();
    private readonly ProxyServerOptions _options;
    private readonly IConnectionListenerFactory _listenerFactory;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly SnapshotCell _cell = new();
    private readonly ClusterStore _clusters;
    private readonly SnapshotCompiler _compiler;
    private readonly ProxyServices _services;
    private readonly MemoryBudget _memory;
    private readonly TlsServerStep? _inboundTls;
    private readonly ITrustView? _trust;
    private readonly List<Listener> _listeners = [];
    private readonly Dictionary<(string Address, int Port), Listener> _gatewayListeners = [];
    private TrustBundle? _lastBundle;
    private ITimer? _tick;
    private int _ticking;

    /// <summary>Makes a data plane that is not started yet.</summary>
    /// <param name="options">How it runs.</param>
    /// <param name="identity">Certificate and roots in the mesh; null outside.</param>
    /// <param name="telemetry">Metrics and access log.</param>
    /// <param name="demand">Where unknown destinations are asked for; null in file mode.</param>
    /// <param name="loggers">For the proxy's own log.</param>
    /// <param name="time">The clock.</param>
    /// <param name="listenerFactory">Binds.</param>
    /// <param name="dialer">Dials.</param>
    public ProxyServer(
        ProxyServerOptions options,
        SvidStore? identity,
        ProxyTelemetry telemetry,
        IDestinationDemand? demand,
        ILoggerFactory loggers,
        TimeProvider time,
        IConnectionListenerFactory listenerFactory,
        IConnectionFactory dialer)
    {
        OpenSslBuffers.ReleaseWhenIdle();
        _options = options;
        _time = time;
        _listenerFactory = listenerFactory;
        _trust = identity;
        _log = loggers.CreateLogger("meshproxy");
        var connector = new UpstreamConnector(dialer, new TlsClientStep(identity, identity, time));
        _inboundTls = identity is null ? null : TlsServerStep.ForMesh(identity, identity, time);
        var random = new Random(System.Security.Cryptography.RandomNumberGenerator.GetInt32(int.MaxValue));
        _memory = new MemoryBudget(options.MemoryBudgetBytes);
        telemetry.Meters.WatchMemory(() => _memory.HeldBytes, _memory.Bytes);
        var clusterServices = new ClusterServices(connector, identity, options.TrustDomain, telemetry.Meters, time, random, () => _memory.IsExhausted);
        _clusters = new ClusterStore(clusterServices, options.ApplicationAddress);
        var traffic = new ClientTrafficCompiler(
            time, (reason, code, detail) => ProxyLog.BrokenConnection(_log, reason, code, detail), telemetry.Meters.OnDownstreamAbuse, () => _memory.IsExhausted);
        _compiler = new SnapshotCompiler(_clusters, telemetry.Meters, traffic, options.Namespace);
        var forwarding = new ForwardingServices(telemetry, time, clusterServices.Clock, new RequestIdSource(), new ForwardingLimits(), _memory, _log);
        _services = new ProxyServices(options, _cell, forwarding, connector, clusterServices, new ConnectionRegistry(), demand, traffic, _log);
        if (identity is not null)
        {
            _lastBundle = identity.Bundle;
            identity.BundleChanged += OnTrustChanged;
        }
    }

    /// <summary>The configuration in force.</summary>
    public ProxyConfig Current => _cell.Current.Config;

    /// <summary>What is bound.</summary>
    public IReadOnlyList<BoundListener> Listeners
    {
        get
        {
            lock (_applying)
            {
                return [.. _listeners.Concat(_gatewayListeners.Values).Select(listener => new BoundListener(listener.Name, listener.EndPoint))];
            }
        }
    }

    /// <summary>Connections from downstreams now.</summary>
    public int ConnectionCount => _services.Registry.Count;

    /// <summary>Binds the listeners that no configuration brings.</summary>
    /// <exception cref="IOException">A port is taken or may not be bound; the message says what to check.</exception>
    public async Task StartAsync(CancellationToken cancellation)
    {
        if (_options.Outbound is { } outboundEndPoint)
        {
            var outbound = new Outbound(_services);
            await BindAsync("outbound", outboundEndPoint, outbound.ServeAsync, cancellation);
            if (outboundEndPoint.Address.Equals(IPAddress.Loopback))
            {
                await BindIPv6LoopbackAsync(outbound, isPortFixed: outboundEndPoint.Port != 0, cancellation);
            }
        }

        if (_options.Inbound is { } inboundEndPoint)
        {
            var inbound = new Inbound(_services, _inboundTls ?? throw new InvalidOperationException("An inbound listener needs an identity."));
            await BindAsync("inbound", inboundEndPoint, inbound.ServeAsync, cancellation);
        }

        foreach (var upstream in _options.Upstreams)
        {
            var outbound = new Outbound(_services);
            await BindAsync($"upstream/{upstream.Service}", new IPEndPoint(IPAddress.Loopback, upstream.LocalPort),
                connection => outbound.ServeUpstreamAsync(connection, upstream), cancellation);
        }

        _tick = _time.CreateTimer(static state => ((ProxyServer)state!).OnTick(), this, TickInterval, TickInterval);
    }

    /// <summary>Puts a configuration in force: what compiles is swapped in at once, what does not is refused and keeps its last good state.</summary>
    /// <returns>What was refused; empty: everything is in force.</returns>
    public IReadOnlyList<UnitRejection> Apply(ProxyConfig config)
    {
        lock (_applying)
        {
            var (snapshot, rejections) = _compiler.Compile(config, _cell.Current);
            _cell.Current = snapshot;
            _clusters.Keep(snapshot.Clusters.ToHashSet(), _services.Forwarding.NowMilliseconds);
            return [.. rejections, .. BindGatewayPorts(snapshot)];
        }
    }

    /// <summary>Takes endpoint updates, which stand alone: in force when this returns.</summary>
    public void ApplyEndpoints(IEnumerable<EndpointSetConfig> sets)
    {
        lock (_applying)
        {
            foreach (var set in sets)
            {
                _clusters.Update(set);
            }
        }
    }

    /// <summary>Serves on while asking every connection to finish, until none is left or the deadline passes; then ends what remains.</summary>
    public async Task DrainAsync(TimeSpan deadline)
    {
        _services.IsDraining = true;
        var end = _time.GetTimestamp() + (long)(deadline.TotalSeconds * _time.TimestampFrequency);

        // Spread over the first tenth of the deadline (at most one second), so that reconnecting peers do not all arrive somewhere else at once.
        var entries = _services.Registry.Snapshot();
        var spread = TimeSpan.FromTicks(Math.Min(deadline.Ticks / 10, TimeSpan.TicksPerSecond));
        for (var i = 0; i < entries.Count; i++)
        {
            entries[i].Drain(ConnectionCloseReason.Drain);
            if (entries.Count > 100 && i % (entries.Count / 20) == 0)
            {
                await Task.Delay(spread / 20, _time);
            }
        }

        // Callers that come back again and again are served for the first four fifths of the time; then nobody new is let in, and who is in gets to finish.
        var lastAccept = end - (long)(deadline.TotalSeconds / 5 * _time.TimestampFrequency);
        await WaitQuietAsync(lastAccept, []);
        var listeners = await StopAcceptingAsync();
        foreach (var entry in _services.Registry.Snapshot())
        {
            entry.Drain(ConnectionCloseReason.Drain);
        }

        await WaitQuietAsync(end, listeners);
        foreach (var entry in _services.Registry.Snapshot())
        {
            entry.Abort(ConnectionCloseReason.Drain);
        }
    }

    /// <summary>Stops at once.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_tick is not null)
        {
            await _tick.DisposeAsync();
        }

        await StopAcceptingAsync();
        foreach (var entry in _services.Registry.Snapshot())
        {
            entry.Abort(ConnectionCloseReason.Drain);
        }

        if (_trust is not null)
        {
            _trust.BundleChanged -= OnTrustChanged;
        }

        _clusters.Stop();
    }

    /// <summary>Clusters and their endpoints, for the admin page.</summary>
    public IReadOnlyList<ClusterView> DescribeClusters() => [.. _clusters.Clusters.Concat(_clusters.LocalClusters).Select(ClusterView.Of)];

    /// <summary>Live connections from downstreams, for the admin page.</summary>
    public IReadOnlyList<ConnectionView> DescribeConnections() => [.. _services.Registry.Snapshot().OfType<DownstreamEntry>().Select(ConnectionView.Of)];

    // Several looks in a row: a connection is counted only from its first bytes, or its handshake, on. Those that were accepted and are not counted yet get a second:
    // their requests may be here, and the machine has not got to them.
    private async Task WaitQuietAsync(long until, Listener[] listeners)
    {
        for (var quiet = 0; quiet < (Array.Exists(listeners, listener => listener.Open > 0) ? LooksAtUnheard : Looks) && _time.GetTimestamp() < until;)
        {
            await Task.Delay(DrainPoll, _time);
            quiet = _services.Registry.Count == 0 ? quiet + 1 : 0;
        }
    }

    /// <summary>REDIRECT sends an application's IPv6 to [::1], so that loopback means both. A machine without IPv6 has nothing to send there.</summary>
    private async Task BindIPv6LoopbackAsync(Outbound outbound, bool isPortFixed, CancellationToken cancellation)
    {
        var port = Listeners[^1].EndPoint.Port;
        try
        {
            await BindAsync("outbound-ipv6", new IPEndPoint(IPAddress.IPv6Loopback, port), outbound.ServeAsync, cancellation);
        }
        catch (IOException failure) when (!isPortFixed || failure.InnerException is not AddressInUseException)
        {
            // No IPv6 here; or the port that the kernel chose for IPv4 is somebody else's there, and nobody was told of it.
        }
    }

    private async Task BindAsync(string name, IPEndPoint endPoint, Func<ConnectionContext, Task> serve, CancellationToken cancellation)
    {
        var listener = await Listener.BindAsync(_listenerFactory, endPoint, name, serve, _log, cancellation);
        lock (_applying)
        {
            _listeners.Add(listener);
        }
    }

    private List<UnitRejection> BindGatewayPorts(ProxySnapshot snapshot)
    {
        var rejections = new List<UnitRejection>();
        var wanted = snapshot.GatewayPorts.Select(port => (port.Address, port.Port)).ToHashSet();
        foreach (var (key, listener) in _gatewayListeners.Where(bound => !wanted.Contains(bound.Key)).ToArray())
        {
            _gatewayListeners.Remove(key);
            _ = listener.StopAcceptingAsync().AsTask();
        }

        foreach (var (address, port) in wanted.Where(key => !_gatewayListeners.ContainsKey(key)))
        {
            var gateway = new Gateway(_services, address, port);
            var endPoint = new IPEndPoint(address.Length == 0 ? IPAddress.IPv6Any : IPAddress.Parse(address), port);
            try
            {
                // Binding a socket does not wait for anything; only its interface is asynchronous.
                _gatewayListeners[(address, port)] = Listener.BindAsync(_listenerFactory, endPoint, $"gateway/{port}", gateway.ServeAsync, _log, CancellationToken.None)
                    .AsTask().GetAwaiter().GetResult();
            }
            catch (IOException error)
            {
                rejections.Add(new UnitRejection("gateway", $"spec.listeners[port={port}]", error.Message));
            }
        }

        return rejections;
    }

    private async Task<Listener[]> StopAcceptingAsync()
    {
        Listener[] listeners;
        lock (_applying)
        {
            listeners = [.. _listeners, .. _gatewayListeners.Values];
            _listeners.Clear();
            _gatewayListeners.Clear();
        }

        foreach (var listener in listeners)
        {
            await listener.StopAcceptingAsync();
        }

        return listeners;
    }

    private void OnTick()
    {
        // A tick that takes longer than its interval is not run a second time beside itself. What it throws would end the process.
        if (Interlocked.Exchange(ref _ticking, 1) != 0)
        {
            return;
        }

        try
        {
            var now = _services.Forwarding.NowMilliseconds;
            JudgeMemory();
            _services.Registry.ForEach(now, static (entry, at) => entry.OnTick(at));
            _clusters.OnTick(now);
        }
        catch (Exception bug)
        {
            ProxyLog.TickFailed(_log, bug);
        }
        finally
        {
            Volatile.Write(ref _ticking, 0);
        }
    }

    private void JudgeMemory()
    {
        if (!_memory.Judge(out var held))
        {
            return;
        }

        if (_memory.IsExhausted)
        {
            ProxyLog.MemoryBudgetExceeded(_log, held, _memory.Bytes);
        }
        else
        {
            ProxyLog.MemoryBudgetRestored(_log, held, _memory.Bytes);
        }
    }

    private void OnTrustChanged(TrustBundle bundle)
    {
        var before = Interlocked.Exchange(ref _lastBundle, bundle);
        var removed = before is not null && before.Roots.Any(root => !bundle.Roots.Any(kept => kept.RawDataMemory.Span.SequenceEqual(root.RawDataMemory.Span)));
        lock (_applying)
        {
            _clusters.OnTrustChanged(removed);
        }

        // A root was taken away: whoever was let in by it is out. Peers with a good certificate come back on their own.
        if (removed)
        {
            foreach (var entry in _services.Registry.Snapshot().Where(entry => entry is DownstreamEntry { Info.IsMutualTls: true } or TcpConnectionEntry { IsMeshUpstream: true }))
            {
                entry.Abort(ConnectionCloseReason.Revoked);
            }
        }
    }
}
