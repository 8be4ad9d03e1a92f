using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;
using MeshProxy.Sidecar.State;

namespace MeshProxy.Sidecar.Certificates;

/// <summary>Key, certificate chain and roots in the state directory, in one file so that they always belong together.</summary>
internal static class KeptCertificate
{
    /// <summary>PEM: our key, then our chain (leaf first).</summary>
    public const string IdentityFile = "identity.pem";

    /// <summary>PEM: the roots.</summary>
    public const string BundleFile = "trust-bundle.pem";

    /// <summary>Loads what was kept.</summary>
    /// <returns>Null when nothing was kept.</returns>
    /// <exception cref="StartException">What is there can not be used.</exception>
    public static (Svid Svid, TrustBundle Bundle)? Load(StateDirectory state)
    {
        try
        {
            var identity = state.Read(IdentityFile);
            var roots = state.Read(BundleFile);
            if (identity is null || roots is null)
            {
                return null;
            }

            var pem = Encoding.ASCII.GetString(identity);
            using var key = ECDsa.Create();
            key.ImportFromPem(pem);
            var chain = new X509Certificate2Collection();
            chain.ImportFromPem(pem);
            var svid = Assemble(key, chain);
            return (svid, TrustBundle.FromPem(svid.Id.TrustDomain, Encoding.ASCII.GetString(roots)));
        }
        catch (Exception exception) when (exception is CryptographicException or ArgumentException or FormatException or IOException or UnauthorizedAccessException)
        {
            throw new StartException(
                $"The kept certificate in '{state.Path}' can not be used: {exception.Message} Remove {IdentityFile} there and start with a new join token (meshctl token create).",
                exception);
        }
    }

    /// <summary>Keeps a certificate.</summary>
    /// <exception cref="IOException">The disk is full or failing.</exception>
    /// <exception cref="UnauthorizedAccessException">The directory may not be written.</exception>
    public static void Save(StateDirectory state, ECDsa key, Svid svid, string bundlePem)
    {
        // The roots first: with them and the old identity the old state is still whole.
        state.Write(BundleFile, Encoding.ASCII.GetBytes(bundlePem));
        var pem = new StringBuilder(key.ExportPkcs8PrivateKeyPem()).Append('\n').Append(svid.Leaf.ExportCertificatePem()).Append('\n');
        foreach (var intermediate in svid.Intermediates)
        {
            pem.Append(intermediate.ExportCertificatePem()).Append('\n');
        }

        var bytes = Encoding.ASCII.GetBytes(pem.ToString());
        state.Write(IdentityFile, bytes);
        CryptographicOperations.ZeroMemory(bytes);
    }

    /// <summary>Joins a key and the chain that was issued for it.</summary>
    /// <exception cref="FormatException">The chain is empty or names no SPIFFE ID.</exception>
    /// <exception cref="ArgumentException">The certificate is of another key.</exception>
    public static Svid Assemble(ECDsa key, X509Certificate2Collection chain)
    {
        if (chain.Count == 0)
        {
            throw new FormatException("the certificate chain is empty");
        }

        if (SvidValidator.UriNames(chain[0]) is not [var uri] || !SpiffeId.TryParse(uri, out var id))
        {
            throw new FormatException("the certificate names no SPIFFE ID of a mesh");
        }

        return new Svid(id, chain[0].CopyWithPrivateKey(key), [.. chain.Skip(1)]);
    }
}
