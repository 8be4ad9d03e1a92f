using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Joining;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Discovery;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Sources;

/// <summary>resources.proto, what operators ask besides documents.</summary>
internal sealed class OperationsService(MeshState mesh, SidecarDirectory directory, CertificateAuthority authority, MeshDatabase database, ControlPlaneLimits limits, TimeProvider time, EventLog log)
    : Operations.OperationsBase
{
    /// <inheritdoc/>
    public override Task<StatusReply> Status(StatusRequest request, ServerCallContext context)
    {
        var reply = new StatusReply { MeshRevision = mesh.Current.RevisionText };
        reply.Sidecars.AddRange(directory.List().Select(sidecar => sidecar.ToProto()));
        return Task.FromResult(reply);
    }

    /// <inheritdoc/>
    public override Task<CreateTokenReply> CreateToken(CreateTokenRequest request, ServerCallContext context)
    {
        if (!SpiffeId.TryParse($"spiffe://{authority.Bundle.TrustDomain}/ns/{request.Namespace}/sa/{request.ServiceAccount}", out var id))
        {
            throw Invalid($"namespace '{request.Namespace}' and service account '{request.ServiceAccount}' do not make an identity: use letters, digits, '.', '-' and '_'.");
        }

        var ttl = limits.DefaultTokenLifetime;
        if (request.Ttl is not null)
        {
            try
            {
                ttl = request.Ttl.ToTimeSpan();
            }
            catch (Exception e) when (e is InvalidOperationException or OverflowException)
            {
                throw Invalid("ttl: not a duration.");
            }
        }

        if (ttl <= TimeSpan.Zero || ttl > limits.MaxTokenLifetime)
        {
            throw Invalid($"ttl: above zero and at most {limits.MaxTokenLifetime.TotalDays:0} days.");
        }

        var now = time.GetUtcNow();
        var token = JoinToken.Create(authority.RootSha256, id, now + ttl);
        database.AddToken(token.SecretHash(), id, now, token.ExpiresAt);
        log.Info("join_token_created", $"a join token for {id}, good until {token.ExpiresAt.UtcDateTime:yyyy-MM-ddTHH:mm:ssZ}",
            ("user.name", CallerInterceptor.OperatorOf(context).Name), ("meshproxy.identity", id));
        return Task.FromResult(new CreateTokenReply { Token = token.Encode(), ExpiresAt = token.ExpiresAt.ToTimestamp(), SpiffeId = id.ToString() });
    }

    private static RpcException Invalid(string message) => new(new Status(StatusCode.InvalidArgument, message));
}
