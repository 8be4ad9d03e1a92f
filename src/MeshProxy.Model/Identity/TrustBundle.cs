using System.Collections.Immutable;
using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.Model.Identity;

/// <summary>The roots of one trust domain. <see cref="Revision"/> changes with every change of the roots, and keys connection pools.</summary>
public sealed record TrustBundle(TrustDomain TrustDomain, ImmutableArray<X509Certificate2> Roots, string Revision)
{
    /// <summary>Reads PEM roots; the revision is the hash of the roots.</summary>
    /// <exception cref="FormatException">There is no certificate in the text.</exception>
    public static TrustBundle FromPem(TrustDomain trustDomain, string pem)
    {
        var roots = new X509Certificate2Collection();
        roots.ImportFromPem(pem);
        if (roots.Count == 0)
        {
            throw new FormatException("The trust bundle holds no certificate: expected at least one PEM block 'CERTIFICATE'.");
        }

        var thumbprints = roots.Select(root => root.GetCertHashString(System.Security.Cryptography.HashAlgorithmName.SHA256)).Order(StringComparer.Ordinal);
        return new TrustBundle(trustDomain, [.. roots], string.Join('+', thumbprints.Select(hash => hash[..16])));
    }
}
