using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.ControlPlane.Issuance;

/// <summary>
/// The control plane's own certificate. Made at start, its key is only in memory; past half of its life the next handshake makes a new one, so that it
/// never expires under a running server and nothing has to be restarted.
/// </summary>
internal sealed class ServerCertificate(CertificateAuthority authority, IReadOnlyList<string> hostNames, TimeSpan lifetime, TimeProvider time)
{
    private readonly Lock _gate = new();
    private SslStreamCertificateContext? _current;
    private DateTimeOffset _renewAt;

    /// <summary>What a handshake presents now.</summary>
    public SslStreamCertificateContext Current
    {
        get
        {
            lock (_gate)
            {
                var now = time.GetUtcNow();
                if (_current is null || now >= _renewAt)
                {
                    // The one before is left to the garbage collector: handshakes may still be using it.
                    _current = Make();
                    _renewAt = now + (lifetime / 2);
                }

                return _current;
            }
        }
    }

    private SslStreamCertificateContext Make()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = authority.IssueServer(hostNames, new PublicKey(key), lifetime);

        // offline: the chain is what we hand over; nothing is fetched.
        return SslStreamCertificateContext.Create(certificate.CopyWithPrivateKey(key), [authority.Issuing], offline: true);
    }
}
