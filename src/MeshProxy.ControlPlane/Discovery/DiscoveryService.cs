using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Discovery;

/// <summary>discovery.proto: one stream for each sidecar.</summary>
internal sealed class DiscoveryService(MeshState mesh, SidecarDirectory directory, ControlPlaneLimits limits, CallLifetime lifetime, TimeProvider time, ControlMeters meters, EventLog log)
    : Api.Control.V1.Discovery.DiscoveryBase
{
    /// <inheritdoc/>
    public override async Task Stream(IAsyncStreamReader<SidecarMessage> requestStream, IServerStreamWriter<ControlMessage> responseStream, ServerCallContext context)
    {
        var caller = CallerInterceptor.WorkloadOf(context);
        await lifetime.RunAsync(context, caller.NotAfter, async cancellation =>
        {
            var hello = await ReadHelloAsync(requestStream, cancellation);
            var workload = new ResourceName(hello.Workload.Namespace, hello.Workload.Name);
            CheckWorkload(caller.Identity, workload);
            var stream = new SidecarStream(workload, caller.Identity, hello, mesh, limits, time, meters, log);
            directory.Attach(stream);
            log.Info("sidecar_connected", $"{workload} connected", ("meshproxy.workload", workload), ("meshproxy.identity", caller.Identity),
                ("client.address", context.Peer), ("meshproxy.held", hello.Held.Count), ("service.version", hello.Version));
            try
            {
                await ServeAsync(stream, requestStream, responseStream, cancellation);
            }
            finally
            {
                directory.Detach(stream);
                log.Info("sidecar_disconnected", $"{workload} disconnected", ("meshproxy.workload", workload), ("meshproxy.identity", caller.Identity));
            }
        });
    }

    private static async Task ServeAsync(SidecarStream stream, IAsyncStreamReader<SidecarMessage> requests, IServerStreamWriter<ControlMessage> responses, CancellationToken cancellation)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var read = stream.ReadAsync(requests, end.Token);
        var write = stream.WriteAsync(responses, end.Token);
        var first = await Task.WhenAny(read, write, stream.Replaced);
        await end.CancelAsync();
        try
        {
            await Task.WhenAll(read, write);
        }
        catch (Exception) when (first == stream.Replaced && !cancellation.IsCancellationRequested)
        {
            throw new RpcException(new Status(StatusCode.Aborted, $"A newer stream of {stream.Workload} took over."));
        }
        catch (OperationCanceledException) when (first == read && read.IsCompletedSuccessfully)
        {
            // The sidecar ended its half: a clean end.
        }
    }

    private static SpiffeId? IdentityOf(WorkloadDocument workload, TrustDomain trustDomain) =>
        workload.Identity ?? (workload.ServiceAccount is { } account ? new SpiffeId(trustDomain, workload.Name.Namespace, account) : null);

    private async Task<Hello> ReadHelloAsync(IAsyncStreamReader<SidecarMessage> requests, CancellationToken cancellation)
    {
        using var late = new CancellationTokenSource(limits.HelloTimeout, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, late.Token);
        bool hasMessage;
        try
        {
            hasMessage = await requests.MoveNext(either.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or RpcException or IOException && late.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            throw new RpcException(new Status(StatusCode.DeadlineExceeded, $"No hello within {limits.HelloTimeout.TotalSeconds:0} s."));
        }

        return hasMessage && requests.Current.Hello is { Workload: { Namespace.Length: > 0, Name.Length: > 0 } } hello
            ? hello
            : throw new RpcException(new Status(StatusCode.InvalidArgument, "The first message is hello, with the workload's namespace and name."));
    }

    private void CheckWorkload(SpiffeId caller, ResourceName workload)
    {
        var inputs = mesh.Inputs;
        var owner = inputs.Workloads.TryGetValue(workload, out var registered) ? registered.Identity
            : inputs.Documents.TryGetValue((DocumentKinds.Workload, workload), out var declared) ? IdentityOf((WorkloadDocument)declared.Document, caller.TrustDomain)
            : null;
        if (owner is { } identity && identity != caller)
        {
            throw new RpcException(new Status(StatusCode.PermissionDenied, $"Workload {workload} is of {identity}; {caller} may not speak for it."));
        }

        if (workload.Namespace != caller.Namespace)
        {
            throw new RpcException(new Status(StatusCode.PermissionDenied, $"{caller} may speak for workloads of namespace '{caller.Namespace}' only, not {workload}."));
        }
    }
}
