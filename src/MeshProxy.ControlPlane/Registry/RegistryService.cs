using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Registry;

/// <summary>registry.proto.</summary>
internal sealed class RegistryService(WorkloadRegistry registry, MeshState mesh, ControlPlaneLimits limits, CallLifetime lifetime) : Api.Control.V1.Registry.RegistryBase
{
    /// <inheritdoc/>
    public override Task<RegisterReply> Register(RegisterRequest request, ServerCallContext context) => Answer(() => new RegisterReply
    {
        LeaseId = registry.Register(CallerInterceptor.WorkloadOf(context).Identity, request),
        Lease = limits.Lease.ToDuration(),
        HeartbeatInterval = limits.HeartbeatInterval.ToDuration(),
    });

    /// <inheritdoc/>
    public override Task<HeartbeatReply> Heartbeat(HeartbeatRequest request, ServerCallContext context) => Answer(() =>
    {
        registry.Heartbeat(CallerInterceptor.WorkloadOf(context).Identity, request.LeaseId, request.Ready, request.Draining);
        return new HeartbeatReply();
    });

    /// <inheritdoc/>
    public override Task<DeregisterReply> Deregister(DeregisterRequest request, ServerCallContext context) => Answer(() =>
    {
        registry.Deregister(CallerInterceptor.WorkloadOf(context).Identity, request.LeaseId);
        return new DeregisterReply();
    });

    /// <inheritdoc/>
    public override async Task Watch(WatchInstancesRequest request, IServerStreamWriter<EndpointSet> responseStream, ServerCallContext context)
    {
        if (!ConfigMapping.TryToModel(request.Cluster, out ClusterId cluster, out var field, out var reason))
        {
            throw new RpcException(new Status(StatusCode.InvalidArgument, $"cluster.{field}: {reason}"));
        }

        await lifetime.RunAsync(context, CallerInterceptor.WorkloadOf(context).NotAfter, async cancellation =>
        {
            var signal = new ChangeSignal();
            using var watch = mesh.Watch(signal);
            EndpointSetConfig? sent = null;
            while (true)
            {
                var snapshot = mesh.Current;
                var set = snapshot.Endpoints(cluster);
                if (sent is null || !(ReferenceEquals(sent, set) || sent.Equals(set)))
                {
                    await responseStream.WriteAsync(snapshot.EndpointMessage(cluster), cancellation);
                    sent = set;
                }

                await signal.WaitAsync(cancellation);
            }
        });
    }

    private static Task<TReply> Answer<TReply>(Func<TReply> call)
    {
        try
        {
            return Task.FromResult(call());
        }
        catch (RegistryException e)
        {
            var code = e.Refusal switch
            {
                RegistryRefusal.Invalid => StatusCode.InvalidArgument,
                RegistryRefusal.NoLease => StatusCode.NotFound,
                _ => StatusCode.PermissionDenied,
            };
            throw new RpcException(new Status(code, e.Message));
        }
    }
}
