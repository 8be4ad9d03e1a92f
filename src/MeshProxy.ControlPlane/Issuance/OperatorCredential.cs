using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.ControlPlane.Store;

namespace MeshProxy.ControlPlane.Issuance;

/// <summary>The first operator's credential: chain and key in one PEM file, 0600. Whoever can read the data directory can act as an operator anyway.</summary>
internal static class OperatorCredential
{
    /// <summary>File name in the data directory.</summary>
    public const string FileName = "operator.pem";

    private static readonly TimeSpan Lifetime = TimeSpan.FromDays(365);
    private static readonly TimeSpan RenewBefore = TimeSpan.FromDays(30);

    /// <summary>Writes the file when it is missing, unreadable or within a month of its end.</summary>
    /// <returns>True when it was written.</returns>
    public static bool Ensure(string directory, CertificateAuthority authority, TimeProvider time)
    {
        var path = Path.Combine(directory, FileName);
        if (File.Exists(path))
        {
            try
            {
                using var present = X509Certificate2.CreateFromPemFile(path);
                if (present.NotAfter.ToUniversalTime() - RenewBefore > time.GetUtcNow().UtcDateTime)
                {
                    return false;
                }
            }
            catch (CryptographicException)
            {
                // A damaged file is replaced.
            }
        }

        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = authority.IssueOperator("admin", new PublicKey(key), Lifetime);
        StateFile.Write(path, $"{certificate.ExportCertificatePem()}\n{authority.Issuing.ExportCertificatePem()}\n{key.ExportPkcs8PrivateKeyPem()}\n", StateFile.Private);
        return true;
    }
}
