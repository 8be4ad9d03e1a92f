using System.Collections.Concurrent;
using System.Threading.Channels;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Certificates;
using MeshProxy.Sidecar.State;
using Microsoft.Extensions.Logging;
using Polly;
using Polly.Retry;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>
/// The stream to the control plane. Asks for what traffic needs, puts in force what comes, answers, and connects again for ever while the data plane
/// serves on from the last good state.
/// </summary>
/// <remarks>
/// <c>_gate</c> owns the applier. Compiling runs under it on pool threads; event loops never take it: what they ask goes through
/// <see cref="Subscriptions"/> and <c>_waiters</c>.
/// </remarks>
internal sealed class DiscoveryClient : IDestinationDemand, IDisposable
{
    /// <summary>How long traffic waits for the first answer about a service it has not used before.</summary>
    public static readonly TimeSpan DemandTimeout = TimeSpan.FromSeconds(2);

    /// <summary>How long a commit waits for the endpoints of the clusters it names.</summary>
    private static readonly TimeSpan EndpointsTimeout = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan SaveInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan ExpiryInterval = TimeSpan.FromSeconds(10);

    private readonly MeshOptions _mesh;
    private readonly StateDirectory? _state;
    private readonly Meters _meters;
    private readonly ILogger _log;
    private readonly TimeProvider _time;
    private readonly string _version;
    private readonly Subscriptions _subscriptions;
    private readonly ConcurrentDictionary<ResourceName, string> _serviceNames = new();
    private readonly ConcurrentDictionary<string, TaskCompletionSource<bool>> _waiters = new(StringComparer.Ordinal);
    private readonly Lock _gate = new();
    private readonly SnapshotApplier _applier;
    private readonly SemaphoreSlim _dirty = new(0, 1);
    private readonly TaskCompletionSource _applied = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ChannelWriter<SidecarMessage>? _outgoing;
    private string? _saveFailure;
    private string? _lostReason;
    private volatile bool _isConnected;

    /// <summary>Makes a client that has not connected yet.</summary>
    public DiscoveryClient(MeshOptions mesh, StateDirectory? state, DataPlaneSink sink, Meters meters, ILogger log, TimeProvider time, string version)
    {
        _mesh = mesh;
        _state = state;
        _meters = meters;
        _log = log;
        _time = time;
        _version = version;
        _subscriptions = new Subscriptions(time);
        _applier = new SnapshotApplier(sink, meters, log);
    }

    /// <summary>Completes when the first configuration is in force.</summary>
    public Task Applied => _applied.Task;

    /// <summary>True while the stream is up.</summary>
    public bool IsConnected => _isConnected;

    /// <summary>Answers the control plane's questions for the state of this sidecar, as JSON.</summary>
    public Func<string> State { get; set; } = () => "{}";

    /// <summary>Changes the level of the log; false when there is no such level.</summary>
    public Func<string, bool> SetLogLevel { get; set; } = _ => false;

    /// <summary>Subscribes to services that are declared, for good.</summary>
    public void Declare(IEnumerable<ResourceName> services)
    {
        foreach (var service in services)
        {
            Subscribe(service, isPinned: true);
        }
    }

    /// <summary>Puts the kept configuration in force, if there is one.</summary>
    public void LoadKept()
    {
        if (_state is null)
        {
            return;
        }

        try
        {
            lock (_gate)
            {
                if (!KeptConfiguration.Load(_state, _applier))
                {
                    return;
                }

                foreach (var unit in _applier.Held)
                {
                    if (unit.Name is not (UnitNames.Inbound or UnitNames.Gateway))
                    {
                        _subscriptions.TryAdd(unit.Name, isPinned: false, out _);
                        Remember(unit.Name);
                    }
                }

                _log.LogInformation(LogEvents.ConfigKept, "Serving from the kept configuration {Revision} until the control plane answers", _applier.Revision);
            }

            _applied.TrySetResult();
        }
        catch (Exception exception) when (exception is Google.Protobuf.InvalidProtocolBufferException or IOException or UnauthorizedAccessException)
        {
            _log.LogError(LogEvents.ConfigRejected, "The kept configuration in {Directory} can not be used, waiting for the control plane: {Reason}", _state.Path, exception.Message);
        }
    }

    /// <summary>Stays connected until cancelled.</summary>
    public async Task RunAsync(ControlChannel channel, CancellationToken cancellation)
    {
        var saving = SaveAsync(cancellation);
        var expiring = ExpireAsync(cancellation);
        var retry = new ResiliencePipelineBuilder { TimeProvider = _time }
            .AddRetry(new RetryStrategyOptions
            {
                MaxRetryAttempts = int.MaxValue,
                BackoffType = DelayBackoffType.Exponential,
                UseJitter = true,
                Delay = TimeSpan.FromMilliseconds(200),
                MaxDelay = TimeSpan.FromSeconds(10),
                ShouldHandle = new PredicateBuilder().Handle<RpcException>(),
            })
            .Build();
        while (!cancellation.IsCancellationRequested)
        {
            try
            {
                // One execution lasts until a stream that had been up ends: its back-off begins anew.
                await retry.ExecuteAsync(async token => await ConnectAsync(channel, token).ConfigureAwait(false), cancellation)
                    .AsTask().ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                break;
            }
        }

        await Task.WhenAll(saving, expiring).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <inheritdoc/>
    public ValueTask<bool> RequestAsync(ResourceName service)
    {
        Subscribe(service, isPinned: false);
        return new ValueTask<bool>(WaitAsync(UnitNames.Service(service)));
    }

    /// <inheritdoc/>
    public ValueTask<bool> RequestAddressAsync(string address)
    {
        var name = UnitNames.Address(address);
        Subscribe(name, isPinned: false);
        return new ValueTask<bool>(WaitAsync(name));
    }

    /// <inheritdoc/>
    public void Touch(ResourceName service)
    {
        if (_serviceNames.TryGetValue(service, out var name))
        {
            _subscriptions.Touch(name);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _dirty.Dispose();

    /// <summary>Keeps what is in force, now; at stop.</summary>
    public void Save()
    {
        if (_state is null)
        {
            return;
        }

        try
        {
            lock (_gate)
            {
                if (!_applier.IsApplied)
                {
                    return;
                }

                KeptConfiguration.Save(_state, _applier);
            }

            _saveFailure = null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            if (_saveFailure != exception.Message)
            {
                _saveFailure = exception.Message;
                _log.LogError(LogEvents.StateFailed,
                    "The configuration is in force but could not be kept in {Directory}: {Reason} A restart without the control plane would serve the state before; free space or fix the directory.",
                    _state.Path, exception.Message);
            }
        }
    }

    /// <summary>Takes one message of the stream.</summary>
    internal void OnMessage(ControlMessage message)
    {
        IReadOnlyList<Acknowledge> answers = [];
        lock (_gate)
        {
            switch (message.MessageCase)
            {
                case ControlMessage.MessageOneofCase.Begin:
                    _applier.Begin();
                    return;
                case ControlMessage.MessageOneofCase.Unit:
                    _applier.Add(message.Unit);
                    return;
                case ControlMessage.MessageOneofCase.Commit:
                    answers = _applier.Commit(message.Commit.Nonce, message.Commit.MeshRevision);
                    break;
                case ControlMessage.MessageOneofCase.Endpoints:
                    answers = _applier.Apply(message.Endpoints);
                    break;
                case ControlMessage.MessageOneofCase.Request:
                    Send(new SidecarMessage { Reply = Answer(message.Request) });
                    return;
            }

            if (_applier.WaitingNonce is { } nonce)
            {
                _ = FlushLaterAsync(nonce);
            }

            Settle(answers);
        }
    }

    private static string Reason(RpcException exception) => exception.Status.DebugException?.GetBaseException().Message ?? exception.Status.Detail;

    private async Task ConnectAsync(ControlChannel channel, CancellationToken cancellation)
    {
        // A stream belongs to the certificate of its connection: after a renewal it moves over to the new channel.
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellation, channel.Renewed);
        var wasUp = false;
        try
        {
            using var call = new Api.Control.V1.Discovery.DiscoveryClient(channel.Channel).Stream(cancellationToken: end.Token);
            var outgoing = System.Threading.Channels.Channel.CreateUnbounded<SidecarMessage>(new UnboundedChannelOptions { SingleReader = true });
            Open(outgoing.Writer);
            var writing = WriteAsync(outgoing.Reader, call.RequestStream, end.Token);
            try
            {
                while (await call.ResponseStream.MoveNext(end.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding))
                {
                    if (!wasUp)
                    {
                        wasUp = true;
                        OnConnected();
                    }

                    OnMessage(call.ResponseStream.Current);
                }
            }
            finally
            {
                Close(outgoing.Writer);
                await writing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            OnLost("the control plane ended the stream");
        }
        catch (Exception exception) when (exception is RpcException or OperationCanceledException && end.IsCancellationRequested)
        {
            cancellation.ThrowIfCancellationRequested();
        }
        catch (RpcException exception)
        {
            OnLost(Reason(exception));
            if (!wasUp)
            {
                throw;
            }
        }
        finally
        {
            if (_isConnected && !end.IsCancellationRequested)
            {
                _isConnected = false;
                _meters.OnControlConnected(false);
            }
        }

        // A stream that came up and fell at once must not make a busy loop.
        if (!end.IsCancellationRequested)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), _time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void OnConnected()
    {
        _lostReason = null;
        if (!_isConnected)
        {
            _isConnected = true;
            _meters.OnControlConnected(true);
            _log.LogInformation(LogEvents.ControlConnected, "Connected to the control plane {Control}", _mesh.Control);
        }
    }

    private void OnLost(string reason)
    {
        _isConnected = false;
        _meters.OnControlConnected(false);
        if (_lostReason != reason)
        {
            _lostReason = reason;
            _log.LogWarning(LogEvents.ControlLost, "No stream from the control plane {Control}, serving on from the last good state and trying again: {Reason}", _mesh.Control, reason);
        }
    }

    private void Open(ChannelWriter<SidecarMessage> outgoing)
    {
        lock (_gate)
        {
            var hello = new Hello { Workload = ConfigMapping.ToProto(_mesh.Workload), Version = _version, Gateway = _mesh.Gateway ?? "" };
            hello.Capabilities.AddRange(["http", "http2", "grpc", "tcp", "header-modifier", "redirect", "url-rewrite", Capabilities.TlsRoute, Capabilities.BackendTls, Capabilities.ClientTraffic, "grpc-match", "mirror", "cors"]);
            var held = new HashSet<string>(StringComparer.Ordinal);
            foreach (var unit in _applier.Held)
            {
                hello.Held.Add(new Api.Control.V1.HeldUnit { Name = unit.Name, Revision = unit.Revision });
                held.Add(unit.Name);
            }

            outgoing.TryWrite(new SidecarMessage { Hello = hello });

            // From here on Subscribe writes to this stream; a name that comes in twice does no harm.
            Volatile.Write(ref _outgoing, outgoing);
            var subscribe = new Subscribe();
            subscribe.Add.AddRange(_subscriptions.Names.Where(name => !held.Contains(name)));
            if (subscribe.Add.Count > 0)
            {
                outgoing.TryWrite(new SidecarMessage { Subscribe = subscribe });
            }
        }
    }

    private void Close(ChannelWriter<SidecarMessage> outgoing)
    {
        Interlocked.CompareExchange(ref _outgoing, null, outgoing);
        outgoing.TryComplete();
    }

    private static async Task WriteAsync(ChannelReader<SidecarMessage> outgoing, IClientStreamWriter<SidecarMessage> stream, CancellationToken cancellation)
    {
        await foreach (var message in outgoing.ReadAllAsync(cancellation).ConfigureAwait(false))
        {
            await stream.WriteAsync(message, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }
    }

    private void Send(SidecarMessage message) => Volatile.Read(ref _outgoing)?.TryWrite(message);

    private void Settle(IReadOnlyList<Acknowledge> answers)
    {
        foreach (var answer in answers)
        {
            if (answer.Nonce.Length > 0)
            {
                Send(new SidecarMessage { Acknowledge = answer });
            }
        }

        if (_applier.IsApplied)
        {
            _applied.TrySetResult();
        }

        foreach (var (name, waiter) in _waiters)
        {
            if (_applier.AliasOf(name) is { } service)
            {
                Subscribe(service, isPinned: false);
            }

            if (_applier.IsAnswered(name))
            {
                _subscriptions.OnAnswer(name, _applier.IsAbsent(name));
                waiter.TrySetResult(!_applier.IsAbsent(name));
            }
        }

        if (_dirty.CurrentCount == 0)
        {
            _dirty.Release();
        }
    }

    private async Task FlushLaterAsync(string nonce)
    {
        await Task.Delay(EndpointsTimeout, _time).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        lock (_gate)
        {
            if (_applier.WaitingNonce == nonce)
            {
                Settle(_applier.Flush());
            }
        }
    }

    private SidecarReply Answer(SidecarRequest request)
    {
        var reply = new SidecarReply { Id = request.Id };
        switch (request.RequestCase)
        {
            case SidecarRequest.RequestOneofCase.State:
                reply.Json = State();
                break;
            case SidecarRequest.RequestOneofCase.LogLevel:
                if (!SetLogLevel(request.LogLevel.Level))
                {
                    reply.Error = $"'{request.LogLevel.Level}' is no level: debug, info, warn or error.";
                }

                break;
            default:
                reply.Error = "this version of meshproxy does not know that request";
                break;
        }

        return reply;
    }

    private void Subscribe(ResourceName service, bool isPinned)
    {
        var name = _serviceNames.GetOrAdd(service, UnitNames.Service);
        if (!Subscribe(name, isPinned))
        {
            _serviceNames.TryRemove(service, out _);
        }
    }

    private bool Subscribe(string name, bool isPinned)
    {
        if (!isPinned && _subscriptions.Touch(name))
        {
            return true;
        }

        if (!_subscriptions.TryAdd(name, isPinned, out var evicted))
        {
            return false;
        }

        var message = new Subscribe();
        message.Add.Add(name);
        message.Remove.AddRange(evicted);
        Send(new SidecarMessage { Subscribe = message });
        if (evicted.Count > 0)
        {
            _ = Task.Run(() => Forget(evicted));
        }

        return true;
    }

    private async Task<bool> WaitAsync(string name)
    {
        // Off the event loop: below waits for a compilation that may be running.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        Task<bool> answer;
        lock (_gate)
        {
            if (_applier.IsAnswered(name))
            {
                return !_applier.IsAbsent(name);
            }

            answer = _waiters.GetOrAdd(name, _ => new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
            if (_applier.AliasOf(name) is { } service)
            {
                // The address was answered before anybody waited for it, so that nobody has asked for the service behind it yet.
                Subscribe(service, isPinned: false);
            }
        }

        try
        {
            return await answer.WaitAsync(DemandTimeout, _time).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }
        catch (TimeoutException)
        {
            return false;
        }
        finally
        {
            if (answer.IsCompleted || !_subscriptions.Touch(name))
            {
                _waiters.TryRemove(name, out _);
            }
        }
    }

    private async Task SaveAsync(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            try
            {
                await _dirty.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                Save();
                await Task.Delay(SaveInterval, _time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
            catch (OperationCanceledException)
            {
                break;
            }
        }
    }

    private async Task ExpireAsync(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await Task.Delay(ExpiryInterval, _time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
            lock (_gate)
            {
                // An address is in use as long as its service is: established routes do not ask for it again.
                foreach (var name in _subscriptions.Names)
                {
                    if (_applier.AliasOf(name) is { } service && _subscriptions.IsFresh(UnitNames.Service(service), ExpiryInterval))
                    {
                        _subscriptions.Touch(name);
                    }
                }
            }

            var expired = _subscriptions.Expire();
            if (expired.Count > 0)
            {
                var message = new Subscribe();
                message.Remove.AddRange(expired);
                Send(new SidecarMessage { Subscribe = message });
                Forget(expired);
            }
        }
    }

    private void Forget(IReadOnlyList<string> names)
    {
        foreach (var name in names)
        {
            if (UnitNames.TryService(name, out var service))
            {
                _serviceNames.TryRemove(service, out _);
            }

            _waiters.TryRemove(name, out _);
        }

        lock (_gate)
        {
            _applier.Forget(names);
        }
    }

    private void Remember(string name)
    {
        if (UnitNames.TryService(name, out var service))
        {
            _serviceNames[service] = name;
        }
    }
}
