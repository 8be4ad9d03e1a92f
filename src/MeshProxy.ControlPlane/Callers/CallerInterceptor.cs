using Grpc.Core;
using Grpc.Core.Interceptors;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using Microsoft.Data.Sqlite;

namespace MeshProxy.ControlPlane.Callers;

/// <summary>
/// The gate before every call: decides by the method's name who may call it, refuses everybody else, and hands the caller on. A service that is not in
/// the table is closed to all, so that a new one cannot be open by oversight.
/// </summary>
internal sealed class CallerInterceptor(CallerVerifier verifier, ControlMeters meters, EventLog log) : Interceptor
{
    private const string Package = "/meshproxy.control.v1.";
    private static readonly object CallerKey = new();

    /// <inheritdoc/>
    public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        try
        {
            return await continuation(request, context);
        }
        catch (SqliteException e)
        {
            throw StoreFailed(e, context);
        }
        catch (Exception e) when (e is not (RpcException or OperationCanceledException))
        {
            log.Error("call_failed", e.Message, ("rpc.method", context.Method), ("error.type", e.GetType().FullName), ("error.stack_trace", e.StackTrace));
            throw new RpcException(new Status(StatusCode.Internal, "The control plane failed at this call; its log says more."));
        }
    }

    /// <inheritdoc/>
    public override async Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(IAsyncStreamReader<TRequest> requestStream, ServerCallContext context, ClientStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        return await continuation(requestStream, context);
    }

    /// <inheritdoc/>
    public override async Task ServerStreamingServerHandler<TRequest, TResponse>(TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        await continuation(request, responseStream, context);
    }

    /// <inheritdoc/>
    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        await continuation(requestStream, responseStream, context);
    }

    /// <summary>Who made this call.</summary>
    public static Caller CallerOf(ServerCallContext context) => (Caller)context.UserState[CallerKey];

    /// <summary>Who made this call, which only a workload can.</summary>
    public static Caller.Workload WorkloadOf(ServerCallContext context) => (Caller.Workload)CallerOf(context);

    /// <summary>The operator who made this call, which only an operator can.</summary>
    public static Caller.Operator OperatorOf(ServerCallContext context) => (Caller.Operator)CallerOf(context);

    private static string ServiceOf(string method)
    {
        var slash = method.LastIndexOf('/');
        return method.StartsWith(Package, StringComparison.Ordinal) && slash > Package.Length ? method[Package.Length..slash] : "";
    }

    private void Admit(ServerCallContext context)
    {
        var caller = verifier.Identify(context.GetHttpContext());
        context.UserState[CallerKey] = caller;
        switch (ServiceOf(context.Method), caller)
        {
            case ("Certificates", _): // decides for itself: a join token may stand in for the certificate
            case ("Resources" or "Operations", Caller.Operator):
            case ("Discovery" or "Registry", Caller.Workload):
                return;
            case (_, Caller.Anonymous nobody):
                meters.UnauthenticatedCalls.Inc();
                throw new RpcException(new Status(StatusCode.Unauthenticated, $"{context.Method}: {nobody.Reason}."));
            case ("Resources" or "Operations", Caller.Workload workload):
                meters.ForbiddenCalls.Inc();
                throw new RpcException(new Status(StatusCode.PermissionDenied, $"{context.Method} is for operators; {workload.Identity} is a workload."));
            case ("Discovery" or "Registry", Caller.Operator person):
                meters.ForbiddenCalls.Inc();
                throw new RpcException(new Status(StatusCode.PermissionDenied, $"{context.Method} is for workloads; '{person.Name}' is an operator."));
            default:
                meters.ForbiddenCalls.Inc();
                throw new RpcException(new Status(StatusCode.PermissionDenied, $"{context.Method} is open to nobody."));
        }
    }

    private RpcException StoreFailed(SqliteException e, ServerCallContext context)
    {
        var message = MeshDatabase.Explain(e, "mesh.db");
        log.Error("store_failed", message, ("rpc.method", context.Method), ("error.code", e.SqliteErrorCode));
        return new RpcException(new Status(e.SqliteErrorCode == 13 ? StatusCode.ResourceExhausted : StatusCode.Unavailable, $"Nothing was changed: {message}"));
    }
}
