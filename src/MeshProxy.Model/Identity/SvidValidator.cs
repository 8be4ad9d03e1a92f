using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.Model.Identity;

/// <summary>What a peer's certificate proved: an identity, or the reason why not.</summary>
public readonly record struct PeerVerdict(SpiffeId Identity, DateTimeOffset NotAfter, string? Refused)
{
    /// <summary>True when the identity is proven.</summary>
    public bool IsAccepted => Refused is null;

    /// <summary>A refusal.</summary>
    public static PeerVerdict Refuse(string reason) => new(default, default, reason);
}

/// <summary>
/// Verifies an X.509-SVID (X509-SVID section 5): a chain to a root of our own bundle and nothing else, valid now, a leaf that is no CA, exactly one URI
/// name, a SPIFFE ID in our trust domain. Fetches nothing and asks no revocation service.
/// </summary>
public static class SvidValidator
{
    private const string SubjectAlternativeName = "2.5.29.17";

    /// <summary>Judges a peer's certificate.</summary>
    /// <param name="leaf">What the peer presented; null: nothing.</param>
    /// <param name="intermediates">What it presented besides.</param>
    /// <param name="bundle">Our roots.</param>
    /// <param name="now">The time to judge by.</param>
    public static PeerVerdict Validate(X509Certificate2? leaf, X509Certificate2Collection? intermediates, TrustBundle bundle, DateTimeOffset now)
    {
        if (leaf is null)
        {
            return PeerVerdict.Refuse("the peer presented no certificate");
        }

        using var chain = new X509Chain();
        chain.ChainPolicy = ChainPolicy(bundle, now);
        if (intermediates is not null)
        {
            chain.ChainPolicy.ExtraStore.AddRange(intermediates);
        }

        chain.Build(leaf);
        return ValidateChain(leaf, chain, bundle, now);
    }

    /// <summary>How a chain is built: to the roots of a bundle and nothing else, judged at one moment, with no word over the network.</summary>
    /// <param name="bundle">The roots; null: none.</param>
    /// <param name="now">The time to judge by.</param>
    public static X509ChainPolicy ChainPolicy(TrustBundle? bundle, DateTimeOffset now)
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
            VerificationTime = now.UtcDateTime,
            VerificationTimeIgnored = false,
        };
        if (bundle is not null)
        {
            policy.CustomTrustStore.AddRange(bundle.Roots.ToArray());
        }

        return policy;
    }

    /// <summary>Judges a peer's certificate by a chain that somebody else, such as a TLS engine, has built with <see cref="ChainPolicy"/>.</summary>
    /// <param name="leaf">What the peer presented.</param>
    /// <param name="chain">Its chain.</param>
    /// <param name="bundle">The bundle that the policy was made of.</param>
    /// <param name="now">The time to judge by.</param>
    public static PeerVerdict ValidateChain(X509Certificate2 leaf, X509Chain chain, TrustBundle bundle, DateTimeOffset now)
    {
        if (now < leaf.NotBefore.ToUniversalTime() || now > leaf.NotAfter.ToUniversalTime())
        {
            return PeerVerdict.Refuse($"the peer's certificate is valid from {leaf.NotBefore.ToUniversalTime():O} to {leaf.NotAfter.ToUniversalTime():O}, not now ({now.UtcDateTime:O})");
        }

        if (chain.ChainStatus is { Length: > 0 } statuses)
        {
            var why = string.Join(", ", statuses.Select(status => status.Status.ToString()).Distinct());
            return PeerVerdict.Refuse($"the peer's certificate does not chain to trust domain {bundle.TrustDomain} ({why})");
        }

        if (leaf.Extensions.OfType<X509BasicConstraintsExtension>().Any(constraints => constraints.CertificateAuthority))
        {
            return PeerVerdict.Refuse("the peer presented a certificate authority as its own certificate");
        }

        var uris = UriNames(leaf);
        if (uris.Count != 1)
        {
            return PeerVerdict.Refuse($"the peer's certificate has {uris.Count} URI names, an X.509-SVID has exactly one");
        }

        if (!SpiffeId.TryParse(uris[0], out var id))
        {
            return PeerVerdict.Refuse($"the peer's certificate names '{uris[0]}', which is no SPIFFE ID of a mesh");
        }

        return id.TrustDomain != bundle.TrustDomain
            ? PeerVerdict.Refuse($"the peer {id} is of trust domain {id.TrustDomain}, not {bundle.TrustDomain}")
            : new PeerVerdict(id, new DateTimeOffset(leaf.NotAfter.ToUniversalTime(), TimeSpan.Zero), null);
    }

    /// <summary>The URI names of a certificate (RFC 5280 section 4.2.1.6, context tag 6).</summary>
    public static IReadOnlyList<string> UriNames(X509Certificate2 certificate)
    {
        var names = new List<string>();
        foreach (var extension in certificate.Extensions)
        {
            if (extension.Oid?.Value != SubjectAlternativeName)
            {
                continue;
            }

            try
            {
                var sequence = new System.Formats.Asn1.AsnReader(extension.RawData, System.Formats.Asn1.AsnEncodingRules.DER).ReadSequence();
                while (sequence.HasData)
                {
                    var tag = sequence.PeekTag();
                    if (tag.HasSameClassAndValue(new System.Formats.Asn1.Asn1Tag(System.Formats.Asn1.TagClass.ContextSpecific, 6)))
                    {
                        names.Add(sequence.ReadCharacterString(System.Formats.Asn1.UniversalTagNumber.IA5String, tag));
                    }
                    else
                    {
                        sequence.ReadEncodedValue();
                    }
                }
            }
            catch (System.Formats.Asn1.AsnContentException)
            {
                return [];
            }
        }

        return names;
    }
}
