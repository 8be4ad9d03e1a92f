using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Judges the peer of one handshake. The engine builds the chain in any case, so it builds the one chain that is judged: by our roots alone and nothing
/// over the network. Building a second one would cost as much again.</summary>
internal abstract class PeerJudge
{
    /// <summary>The verdict; refused until a certificate was judged.</summary>
    public PeerVerdict Verdict { get; protected set; } = PeerVerdict.Refuse("the peer presented no certificate");

    /// <summary>True once the peer's certificate (or its absence) was judged.</summary>
    public bool HasSpoken { get; private set; }

    /// <summary>How the engine builds the chain.</summary>
    public abstract X509ChainPolicy ChainPolicy { get; }

    /// <summary>The engine's callback.</summary>
    public bool Judge(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        HasSpoken = true;
        if (certificate is X509Certificate2 leaf && chain is not null)
        {
            Verdict = Judge(leaf, chain);
        }

        return Verdict.IsAccepted;
    }

    /// <summary>Judges a certificate by the chain that was built with <see cref="ChainPolicy"/>.</summary>
    protected abstract PeerVerdict Judge(X509Certificate2 leaf, X509Chain chain);
}

/// <summary>Judges a peer in the mesh, by <see cref="SvidValidator"/> and our bundle.</summary>
internal sealed class SvidJudge : PeerJudge
{
    private readonly TrustBundle? _bundle;
    private readonly DateTimeOffset _now;
    private readonly IReadOnlyCollection<SpiffeId>? _allowed;

    /// <param name="trust">The roots; those of this moment judge.</param>
    /// <param name="time">The clock.</param>
    /// <param name="allowed">Who the peer may be; null: anybody in our trust domain.</param>
    public SvidJudge(ITrustView trust, TimeProvider time, IReadOnlyCollection<SpiffeId>? allowed)
    {
        _bundle = trust.Bundle;
        _now = time.GetUtcNow();
        _allowed = allowed;
        ChainPolicy = SvidValidator.ChainPolicy(_bundle, _now);
    }

    /// <inheritdoc/>
    public override X509ChainPolicy ChainPolicy { get; }

    /// <inheritdoc/>
    protected override PeerVerdict Judge(X509Certificate2 leaf, X509Chain chain)
    {
        if (_bundle is null)
        {
            return PeerVerdict.Refuse("we have no trust bundle yet to judge the peer by: is the control plane reachable, or is one configured?");
        }

        var verdict = SvidValidator.ValidateChain(leaf, chain, _bundle, _now);
        return verdict.IsAccepted && _allowed is not null && !_allowed.Contains(verdict.Identity)
            ? verdict with
            {
                Refused = $"the peer proved to be {verdict.Identity}, but the service may be served only by {string.Join(", ", _allowed)}: "
                    + "check the service's annotation meshproxy.io/service-accounts and the endpoint's address",
            }
            : verdict;
    }
}

/// <summary>Judges a server outside the mesh, by a BackendTLSPolicy.</summary>
internal sealed class ServerNameJudge(UpstreamTls tls, TimeProvider time) : PeerJudge
{
    /// <inheritdoc/>
    public override X509ChainPolicy ChainPolicy { get; } = tls.ChainPolicy(time.GetUtcNow());

    /// <inheritdoc/>
    protected override PeerVerdict Judge(X509Certificate2 leaf, X509Chain chain) => tls.Judge(leaf, chain);
}
