using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Judges the peer of one handshake, by <see cref="SvidValidator"/> and our bundle alone.</summary>
internal sealed class PeerJudge(ITrustView trust, TimeProvider time, IReadOnlyCollection<SpiffeId>? allowed)
{
    /// <summary>The verdict; refused until a certificate was judged.</summary>
    public PeerVerdict Verdict { get; private set; } = PeerVerdict.Refuse("the peer presented no certificate");

    /// <summary>What the engine's own chain building may do: nothing over the network, no root of the system. Its result is not asked for.</summary>
    public static X509ChainPolicy EnginePolicy() => new()
    {
        TrustMode = X509ChainTrustMode.CustomRootTrust,
        RevocationMode = X509RevocationMode.NoCheck,
        DisableCertificateDownloads = true,
        VerificationFlags = X509VerificationFlags.AllFlags,
    };

    /// <summary>The engine's callback.</summary>
    public bool Judge(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (trust.Bundle is not { } bundle)
        {
            Verdict = PeerVerdict.Refuse("we have no trust bundle yet to judge the peer by: is the control plane reachable, or is one configured?");
            return false;
        }

        var verdict = SvidValidator.Validate(certificate as X509Certificate2, chain?.ChainPolicy.ExtraStore, bundle, time.GetUtcNow());
        if (verdict.IsAccepted && allowed is not null && !allowed.Contains(verdict.Identity))
        {
            verdict = verdict with
            {
                Refused = $"the peer proved to be {verdict.Identity}, but the service may be served only by {string.Join(", ", allowed)}: "
                    + "check the service's annotation meshproxy.io/service-accounts and the endpoint's address",
            };
        }

        Verdict = verdict;
        return verdict.IsAccepted;
    }
}
