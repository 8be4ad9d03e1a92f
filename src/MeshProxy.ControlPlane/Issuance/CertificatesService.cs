using Grpc.Core;
using Google.Protobuf;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Joining;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Issuance;

/// <summary>certificates.proto. The only service that answers without a certificate: a join token stands in for one, and the roots are public.</summary>
internal sealed class CertificatesService(CertificateAuthority authority, MeshDatabase database, ControlPlaneOptions options, TimeProvider time, ControlMeters meters, EventLog log)
    : Certificates.CertificatesBase
{
    /// <inheritdoc/>
    public override Task<IssueReply> Issue(IssueRequest request, ServerCallContext context)
    {
        var caller = CallerInterceptor.CallerOf(context);
        if (request.JoinToken.Length == 0 && caller is not Caller.Workload)
        {
            meters.UnauthenticatedCalls.Inc();
            throw caller is Caller.Anonymous nobody
                ? new RpcException(new Status(StatusCode.Unauthenticated, $"A join token or a current workload certificate is required: {nobody.Reason}."))
                : new RpcException(new Status(StatusCode.PermissionDenied, "An operator's certificate is not renewed here: a join token or a current workload certificate is required."));
        }

        // The request is judged before the token, so that a bad one does not use the token up.
        if (!SigningRequest.TryRead(request.CsrDer.Span, out var key, out var refused))
        {
            throw new RpcException(new Status(StatusCode.InvalidArgument, $"csr_der: {refused}."));
        }

        var isJoin = request.JoinToken.Length > 0;
        var identity = isJoin ? Redeem(request.JoinToken, context) : ((Caller.Workload)caller).Identity;
        using var certificate = authority.IssueWorkload(identity, key!, options.WorkloadCertificateLifetime);
        (isJoin ? meters.JoinCertificates : meters.RenewedCertificates).Inc();
        log.Info("certificate_issued", $"{identity} has a certificate until {certificate.NotAfter.ToUniversalTime():yyyy-MM-ddTHH:mm:ssZ}",
            ("meshproxy.identity", identity), ("meshproxy.cause", isJoin ? "join" : "renewal"), ("tls.client.serial", certificate.SerialNumber), ("client.address", context.Peer));
        var reply = new IssueReply { TrustBundlePem = authority.BundlePem, SpiffeId = identity.ToString() };
        reply.ChainDer.Add(ByteString.CopyFrom(certificate.RawData));
        reply.ChainDer.Add(ByteString.CopyFrom(authority.Issuing.RawData));
        return Task.FromResult(reply);
    }

    /// <inheritdoc/>
    public override Task<TrustBundleReply> GetTrustBundle(TrustBundleRequest request, ServerCallContext context) =>
        Task.FromResult(new TrustBundleReply { TrustDomain = authority.Bundle.TrustDomain.Name, Pem = authority.BundlePem });

    private SpiffeId Redeem(string text, ServerCallContext context)
    {
        var state = TokenState.Unknown;
        SpiffeId identity = default;
        if (JoinToken.TryParse(text, out var token))
        {
            (state, identity) = database.RedeemToken(token.SecretHash(), token.SpiffeId, time.GetUtcNow());
        }

        if (state == TokenState.Redeemed)
        {
            return identity;
        }

        meters.TokenRefusals.Inc();
        var why = state switch
        {
            TokenState.Used => "The join token has been used before; a token works once. Make a new one: meshctl token create.",
            TokenState.Expired => "The join token has expired. Make a new one: meshctl token create.",
            _ => "The join token is unknown here: check that it is whole and of this control plane.",
        };
        log.Warn("join_token_refused", why, ("meshproxy.identity", token?.SpiffeId), ("meshproxy.token_state", state.ToString().ToLowerInvariant()), ("client.address", context.Peer));
        throw new RpcException(new Status(StatusCode.PermissionDenied, why));
    }
}
