using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.Sidecar.Certificates;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Registry;

/// <summary>
/// Keeps the workload in the registry: registers, renews the lease, registers again when the lease was lost, and leaves in two steps at drain (draining
/// first, so that nobody picks it any more, then gone).
/// </summary>
internal sealed class RegistryClient(MeshOptions mesh, int inboundPort, Func<bool> isReady, ControlChannel channel, ILogger log, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan DefaultHeartbeat = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Retry = TimeSpan.FromSeconds(1);

    private readonly SemaphoreSlim _changed = new(0);
    private volatile string? _lease;
    private volatile bool _draining;
    private string? _lastFailure;

    private Api.Control.V1.Registry.RegistryClient Client => new(channel.Channel);

    /// <summary>True while the registry knows this workload, as far as we know.</summary>
    public bool IsRegistered => _lease is not null;

    /// <summary>Stays registered until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var heartbeat = DefaultHeartbeat;
        while (!cancellation.IsCancellationRequested)
        {
            var wait = heartbeat;
            try
            {
                if (_lease is { } lease)
                {
                    await Client.HeartbeatAsync(
                        new HeartbeatRequest { LeaseId = lease, Ready = isReady(), Draining = _draining }, deadline: Deadline(), cancellationToken: cancellation)
                        .ResponseAsync.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                }
                else if (!_draining)
                {
                    var reply = await Client.RegisterAsync(Registration(), deadline: Deadline(), cancellationToken: cancellation)
                        .ResponseAsync.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                    heartbeat = reply.HeartbeatInterval?.ToTimeSpan() is { } told && told > TimeSpan.Zero ? told : DefaultHeartbeat;
                    wait = heartbeat;
                    _lease = reply.LeaseId;
                    log.LogInformation(LogEvents.Registered, "{Workload} is registered at {Address}:{InboundPort}", mesh.Workload.ToString(), mesh.Address, inboundPort);
                }

                _lastFailure = null;
            }
            catch (RpcException exception) when (exception.StatusCode == StatusCode.NotFound && _lease is not null)
            {
                // The lease ran out while the control plane or we were away: register again at once.
                _lease = null;
                wait = TimeSpan.Zero;
            }
            catch (RpcException exception)
            {
                if (!cancellation.IsCancellationRequested)
                {
                    wait = _lease is null ? Retry : wait < Retry ? wait : Retry;
                    Report(exception);
                }
            }

            await ((Task)_changed.WaitAsync(wait, cancellation)).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Tells the registry of a change of readiness now instead of at the next heartbeat.</summary>
    public void Notify() => _changed.Release();

    /// <summary>First step of the drain: nobody should pick this workload any more. Never throws; bounded by one call's timeout.</summary>
    public async Task BeginDrainAsync()
    {
        _draining = true;
        if (_lease is { } lease)
        {
            await TryAsync(async () => await Client.HeartbeatAsync(new HeartbeatRequest { LeaseId = lease, Ready = false, Draining = true }, deadline: Deadline()));
        }
    }

    /// <summary>Leaves the registry. Never throws; bounded by one call's timeout.</summary>
    public async Task DeregisterAsync()
    {
        _draining = true;
        if (_lease is { } lease)
        {
            _lease = null;
            await TryAsync(async () => await Client.DeregisterAsync(new DeregisterRequest { LeaseId = lease }, deadline: Deadline()));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _changed.Dispose();

    private async Task TryAsync(Func<Task> call)
    {
        try
        {
            await call().ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }
        catch (RpcException exception)
        {
            Report(exception);
        }
    }

    private void Report(RpcException exception)
    {
        var reason = exception.Status.DebugException?.GetBaseException().Message ?? exception.Status.Detail;
        if (_lastFailure != reason)
        {
            _lastFailure = reason;
            log.LogWarning(LogEvents.RegistrationFailed, "The registry did not take {Workload}, trying again: {Reason}", mesh.Workload.ToString(), reason);
        }
    }

    private RegisterRequest Registration()
    {
        var request = new RegisterRequest
        {
            Workload = ConfigMapping.ToProto(mesh.Workload),
            Address = mesh.Address,
            InboundPort = (uint)inboundPort,
            Locality = mesh.Locality,
            Weight = (uint)mesh.Weight,
            Ready = isReady(),
        };
        foreach (var (name, value) in mesh.Labels)
        {
            request.Labels.Add(name, value);
        }

        foreach (var (name, port) in mesh.AppPorts)
        {
            request.Ports.Add(new WorkloadPort { Name = name, Port = (uint)port });
        }

        return request;
    }

    private DateTime Deadline() => (time.GetUtcNow() + CallTimeout).UtcDateTime;
}
