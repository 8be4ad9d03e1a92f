using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.Model.Identity;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace MeshProxy.ControlPlane.Callers;

/// <summary>Tells who a client certificate belongs to. The chain is built from our own authority's certificates alone.</summary>
internal sealed class CallerVerifier(CertificateAuthority authority, TimeProvider time)
{
    private static readonly object ItemKey = new();

    private readonly X509Certificate2Collection _intermediates = [authority.Issuing];

    /// <summary>Judges a connection's certificate, once, after its handshake; requests read the verdict.</summary>
    public void Admit(ConnectionContext connection) => connection.Items[ItemKey] = Verify(connection.Features.Get<ITlsConnectionFeature>()?.ClientCertificate);

    /// <summary>The caller of a request: the connection's, as long as its certificate lasts.</summary>
    public Caller Identify(HttpContext request)
    {
        var items = request.Features.Get<IConnectionItemsFeature>()?.Items;
        var caller = items is not null && items.TryGetValue(ItemKey, out var known) ? (Caller)known! : new Caller.Anonymous("the connection has no TLS");
        return caller switch
        {
            Caller.Operator { NotAfter: var end } when end < time.GetUtcNow() => Expired(end),
            Caller.Workload { NotAfter: var end } when end < time.GetUtcNow() => Expired(end),
            _ => caller,
        };
    }

    /// <summary>Judges a certificate.</summary>
    public Caller Verify(X509Certificate2? certificate)
    {
        if (certificate is null)
        {
            return new Caller.Anonymous("no client certificate was presented");
        }

        var operatorPrefix = $"spiffe://{authority.Bundle.TrustDomain}/operator/";
        if (SvidValidator.UriNames(certificate) is [var uri] && uri.StartsWith(operatorPrefix, StringComparison.Ordinal) && uri.Length > operatorPrefix.Length)
        {
            var refused = CheckOperatorChain(certificate);
            return refused is null
                ? new Caller.Operator(uri[operatorPrefix.Length..], new DateTimeOffset(certificate.NotAfter.ToUniversalTime(), TimeSpan.Zero))
                : new Caller.Anonymous(refused);
        }

        var verdict = SvidValidator.Validate(certificate, _intermediates, authority.Bundle, time.GetUtcNow());
        return verdict.IsAccepted
            ? new Caller.Workload(verdict.Identity, verdict.NotAfter)
            : new Caller.Anonymous(verdict.Refused!.Replace("the peer", "the client", StringComparison.Ordinal));
    }

    private static Caller.Anonymous Expired(DateTimeOffset end) => new($"the client's certificate ended at {end.UtcDateTime:yyyy-MM-ddTHH:mm:ssZ}; connect again with a current one");

    private string? CheckOperatorChain(X509Certificate2 certificate)
    {
        using var chain = new X509Chain();
        var policy = chain.ChainPolicy;
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        policy.CustomTrustStore.AddRange(authority.Bundle.Roots.ToArray());
        policy.ExtraStore.AddRange(_intermediates);
        policy.ApplicationPolicy.Add(new Oid("1.3.6.1.5.5.7.3.2"));
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        policy.VerificationTime = time.GetUtcNow().UtcDateTime;
        policy.VerificationTimeIgnored = false;
        return chain.Build(certificate)
            ? null
            : $"the operator certificate does not hold ({string.Join(", ", chain.ChainStatus.Select(status => status.Status.ToString()).Distinct())})";
    }
}
