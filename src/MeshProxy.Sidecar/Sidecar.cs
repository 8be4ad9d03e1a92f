using Grpc.Core;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Admin;
using MeshProxy.Sidecar.Certificates;
using MeshProxy.Sidecar.Discovery;
using MeshProxy.Sidecar.Files;
using MeshProxy.Sidecar.Logging;
using MeshProxy.Sidecar.Registry;
using MeshProxy.Sidecar.State;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar;

/// <summary>
/// The executable's life: open the state, get an identity, start the data plane, take the configuration, serve until told to stop, drain. Everything
/// here runs on the thread pool; the event loops belong to the data plane.
/// </summary>
internal sealed class Sidecar : IAsyncDisposable
{
    private static readonly TimeSpan PropagationDelay = TimeSpan.FromMilliseconds(500);

    private readonly SidecarOptions _options;
    private readonly TimeProvider _time;
    private readonly JsonLog _logs;
    private readonly ILogger _log;
    private readonly AccessLog? _accessLog;
    private readonly ProxyTelemetry _telemetry;
    private readonly StateDirectory? _state;
    // A peer that vanished without a word is noticed long before the idle limit of opaque connections (1 h).
    private readonly SocketTransport _transport = new(new SocketTransportOptions { KeepAlive = TimeSpan.FromSeconds(60) });
    private readonly SvidStore? _identity;
    private readonly AppProber _prober;
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _drainRequested = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Task> _work = [];
    private readonly string _version = typeof(Sidecar).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
    private LocalHttpServer? _admin;
    private LocalHttpServer? _metrics;
    private ProxyServer? _proxy;
    private FileSource? _files;
    private DiscoveryClient? _discovery;
    private RegistryClient? _registry;
    private ControlChannel? _channel;
    private long _accessLogFailureLogged;
    private volatile bool _isStarted;
    private volatile bool _isDraining;

    private Sidecar(SidecarOptions options, JsonLog logs, TimeProvider time)
    {
        _options = options;
        _time = time;
        _logs = logs;
        _log = logs.CreateLogger("meshproxy.sidecar");
        _accessLog = OpenAccessLog(options.AccessLog);
        _telemetry = new ProxyTelemetry(time, _accessLog);
        _telemetry.Meters.WatchLogs(null, () => logs.Dropped);
        _state = options.StateDirectory is { } path ? StateDirectory.Open(path) : null;
        _identity = options.Mesh is null ? null : new SvidStore();
        _prober = new AppProber(options.AppProbes, "127.0.0.1", time);
    }

    private SidecarStatus Status => new(
        _version,
        _options.Mesh is null ? "file" : "mesh",
        (_files?.IsApplied ?? _discovery?.Applied.IsCompleted ?? false) && !_isDraining,
        _isDraining,
        _discovery?.IsConnected,
        _registry?.IsRegistered);

    /// <summary>The inbound knows what it serves. Registered as ready any earlier, this workload would be picked and refuse what it is asked for.</summary>
    private bool ServesSomething => _proxy?.Current.Inbound is { Ports.Length: > 0 };

    /// <summary>Runs until a signal or the admin endpoint ends it.</summary>
    /// <returns>The process's exit status: 0 stopped in order, 1 could not start.</returns>
    public static async Task<int> RunAsync(SidecarOptions options, TimeProvider time)
    {
        using var logs = new JsonLog(Console.OpenStandardError(), options.LogLevel, time);
        var log = logs.CreateLogger("meshproxy.sidecar");
        try
        {
            await using var sidecar = new Sidecar(options, logs, time);
            using var signals = new Signals(sidecar.OnStopSignal, sidecar.OnReopenSignal);
            try
            {
                await sidecar.StartAsync().ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
            catch (Exception exception) when (exception is OperationCanceledException or RpcException && sidecar._stop.IsCancellationRequested)
            {
                // Told to stop before it had begun to serve.
                return 0;
            }

            await sidecar._drainRequested.Task.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            await sidecar.DrainAsync().ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            log.LogInformation(LogEvents.Stopped, "Stopped");
            return 0;
        }
        catch (StartException exception)
        {
            log.LogCritical(LogEvents.StartFailed, "{Reason}", exception.Message);
            return 1;
        }
        catch (IOException exception)
        {
            // A port that is taken: the listener's own words say which, and what to check.
            log.LogCritical(LogEvents.StartFailed, "{Reason}", exception.Message);
            return 1;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        if (_proxy is not null)
        {
            await _proxy.DisposeAsync();
        }

        await Task.WhenAll(_work).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_metrics is not null)
        {
            await _metrics.DisposeAsync();
        }

        if (_admin is not null)
        {
            await _admin.DisposeAsync();
        }

        _discovery?.Dispose();
        _registry?.Dispose();
        _channel?.Dispose();
        _prober.Dispose();
        _accessLog?.Dispose();
    }

    private AccessLog? OpenAccessLog(string where)
    {
        try
        {
            return where switch
            {
                "none" => null,
                "stdout" => AccessLog.ToStream(Console.OpenStandardOutput, OnAccessLogFailed),
                _ => AccessLog.ToFile(where, OnAccessLogFailed),
            };
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new StartException($"The access log can not be opened: {exception.Message}", exception);
        }
    }

    private void OnAccessLogFailed(Exception exception)
    {
        // At most one line a minute: a full disk fails for every write.
        var now = _time.GetTimestamp();
        if (_accessLogFailureLogged == 0 || _time.GetElapsedTime(_accessLogFailureLogged, now) > TimeSpan.FromMinutes(1))
        {
            _accessLogFailureLogged = now;
            _log.LogError(LogEvents.AccessLogFailed, "The access log can not be written, its records are dropped and counted: {Reason}", exception.Message);
        }
    }

    private async Task StartAsync()
    {
        // Metrics and probes come first: the orchestrator should see "alive, not ready" while the identity is being fetched.
        if (_options.Metrics is { } metrics)
        {
            var pages = new MetricsPages(_telemetry.Meters, () => Status, _prober);
            _metrics = await LocalHttpServer.StartAsync(_transport, metrics, "metrics", pages.HandleAsync, _log, _time, _stop.Token);
        }

        if (_options.Mesh is { } mesh)
        {
            await StartMeshAsync(mesh);
        }
        else
        {
            await StartProxyAsync(new ProxyServerOptions
            {
                Outbound = _options.Outbound,
                Upstreams = _options.Upstreams,
                AllowEgress = _options.AllowEgress,
                MemoryBudgetBytes = _options.MemoryBudgetBytes,
            }, demand: null);
            _files = new FileSource(_options.ConfigPaths, _proxy!.Apply, _telemetry.Meters, _log, _time);
            _files.Load();
            _work.Add(_files.WatchAsync(_stop.Token));
        }

        await StartAdminAsync();
        _work.Add(new MemoryTrim(_transport, () => _proxy!.DescribeClusters().All(cluster => cluster.Requests == 0), _time).RunAsync(_stop.Token));
        _isStarted = true;
        var bound = BoundListeners().ToArray();
        _log.LogInformation(LogEvents.Listening, "meshproxy {Version} serves: {Listeners} (ports: outbound {OutboundPort}, inbound {InboundPort}, admin {AdminPort}, metrics {MetricsPort})",
            _version, string.Join(", ", bound.Select(listener => $"{listener.Name} {listener.EndPoint}")), Port("outbound"), Port("inbound"), Port("admin"), Port("metrics"));

        // What starting left behind (documents, certificates, the first messages) would otherwise stay resident until much later: a sidecar allocates
        // next to nothing from here on.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);

        int Port(string name) => Array.Find(bound, listener => listener.Name == name)?.EndPoint.Port ?? 0;
    }

    private async Task StartMeshAsync(MeshOptions mesh)
    {
        var random = new Random(System.Security.Cryptography.RandomNumberGenerator.GetInt32(int.MaxValue));
        var certificates = new CertificateClient(mesh, _state, _identity!, _telemetry.Meters, _log, _time, random);
        var trustDomain = await certificates.ObtainAsync(_stop.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        _channel = ControlChannel.Mutual(mesh.Control, _identity!, trustDomain, _time);

        // The data plane asks the discovery client for what traffic needs, and the discovery client puts the answers into the data plane.
        var sink = new DataPlaneSink(ApplyInMesh, sets => _proxy!.ApplyEndpoints(sets), () => _proxy!.Current);
        _discovery = new DiscoveryClient(mesh, _state, sink, _telemetry.Meters, _logs.CreateLogger("meshproxy.discovery"), _time, _version);
        await StartProxyAsync(new ProxyServerOptions
        {
            Outbound = _options.Outbound,
            Inbound = _options.Inbound,
            Upstreams = _options.Upstreams,
            MutualTls = _options.MutualTls,
            AllowEgress = _options.AllowEgress,
            MemoryBudgetBytes = _options.MemoryBudgetBytes,
            TrustDomain = trustDomain,
            Namespace = mesh.Namespace,
        }, _discovery);
        _discovery.Declare(_options.Upstreams.Select(upstream => ServiceOf(upstream.Service, mesh.Namespace)));
        _discovery.LoadKept();
        var inbound = _proxy!.Listeners.FirstOrDefault(listener => listener.Name == "inbound")?.EndPoint.Port ?? 0;
        _registry = new RegistryClient(mesh, inbound, () => Status.IsReady && ServesSomething, _channel, _logs.CreateLogger("meshproxy.registry"), _time);
        _work.Add(_discovery.RunAsync(_channel, _stop.Token));
        _work.Add(certificates.RenewAsync(_channel, _stop.Token));
        _work.Add(RegisterWhenReadyAsync());
    }

    private IReadOnlyList<DataPlane.Snapshots.UnitRejection> ApplyInMesh(ProxyConfig config)
    {
        var served = ServesSomething;
        var rejections = _proxy!.Apply(config);
        if (served != ServesSomething)
        {
            _registry?.Notify();
        }

        return rejections;
    }

    private async Task RegisterWhenReadyAsync()
    {
        // Not before there is something to serve: a registered workload gets traffic.
        await _discovery!.Applied.WaitAsync(_stop.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
        if (!_stop.IsCancellationRequested && _options.Inbound is not null)
        {
            await _registry!.RunAsync(_stop.Token);
        }
    }

    private async Task StartProxyAsync(ProxyServerOptions options, IDestinationDemand? demand)
    {
        _proxy = new ProxyServer(options, _identity, _telemetry, demand, _logs, _time, _transport, _transport);
        await _proxy.StartAsync(_stop.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
    }

    private async Task StartAdminAsync()
    {
        var pages = new AdminPages(_proxy!, _identity, _logs, () => Status, BoundListeners, () => _drainRequested.TrySetResult(), _time);
        if (_discovery is not null)
        {
            _discovery.State = pages.State;
            _discovery.SetLogLevel = pages.TrySetLogLevel;
        }

        if (_options.Admin is { } admin)
        {
            _admin = await LocalHttpServer.StartAsync(_transport, admin, "admin", pages.HandleAsync, _log, _time, _stop.Token);
        }
    }

    private IEnumerable<BoundListener> BoundListeners()
    {
        foreach (var listener in _proxy?.Listeners ?? [])
        {
            yield return listener;
        }

        if (_admin is not null)
        {
            yield return new BoundListener("admin", _admin.EndPoint);
        }

        if (_metrics is not null)
        {
            yield return new BoundListener("metrics", _metrics.EndPoint);
        }
    }

    /// <summary>"name", "name.namespace" or either with ":port".</summary>
    internal static ResourceName ServiceOf(string text, string ownNamespace)
    {
        var colon = text.LastIndexOf(':');
        var labels = (colon > 0 ? text[..colon] : text).Split('.');
        return new ResourceName(labels.Length > 1 ? labels[1] : ownNamespace, labels[0]);
    }

    private void OnStopSignal(bool isFirst)
    {
        if (isFirst)
        {
            _drainRequested.TrySetResult();
            if (!_isStarted)
            {
                _stop.Cancel();
            }
        }
        else
        {
            Environment.Exit(1);
        }
    }

    private void OnReopenSignal() => _accessLog?.Reopen();

    private async Task DrainAsync()
    {
        _isDraining = true;
        _log.LogInformation(LogEvents.Draining, "Draining for at most {Deadline}", _options.DrainTimeout);
        var began = _time.GetTimestamp();
        if (_registry is not null)
        {
            // The news needs a moment to reach those who pick this workload; what they send until then is served like everything before.
            await _registry.BeginDrainAsync();
            await Task.Delay(TimeSpan.FromTicks(Math.Min(PropagationDelay.Ticks, _options.DrainTimeout.Ticks / 4)), _time).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }

        var left = _options.DrainTimeout - _time.GetElapsedTime(began);
        await _proxy!.DrainAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero);
        if (_registry is not null)
        {
            await _registry.DeregisterAsync();
        }

        _discovery?.Save();
    }
}
