using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.Model.Tests.Identity;

/// <summary>A root, an issuing authority and leaves of any shape, valid around a fixed time.</summary>
internal sealed class TestChain : IDisposable
{
    public static readonly DateTimeOffset Now = new(2026, 6, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly ECDsa _rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly ECDsa _issuerKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private int _serial;

    public TestChain()
    {
        Root = Authority("CN=root", _rootKey).CreateSelfSigned(Now.AddYears(-1), Now.AddYears(9));
        using var issuer = Authority("CN=issuer", _issuerKey).Create(Root, Now.AddDays(-30), Now.AddYears(1), [1]);
        Issuer = issuer.CopyWithPrivateKey(_issuerKey);
    }

    public X509Certificate2 Root { get; }

    public X509Certificate2 Issuer { get; }

    public X509Certificate2 Leaf(string[] uris, TimeSpan? from = null, TimeSpan? to = null, bool isAuthority = false)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isAuthority, false, 0, true));
        if (uris.Length > 0)
        {
            var names = new SubjectAlternativeNameBuilder();
            names.AddDnsName("not-a-uri.example.com");
            foreach (var uri in uris)
            {
                names.AddUri(new Uri(uri));
            }

            request.CertificateExtensions.Add(names.Build(critical: true));
        }

        return request.Create(Issuer, Now + (from ?? TimeSpan.FromHours(-1)), Now + (to ?? TimeSpan.FromHours(23)), BitConverter.GetBytes(++_serial));
    }

    /// <summary>A good leaf, and another that the first signed although it is no authority.</summary>
    public (X509Certificate2 Signer, X509Certificate2 Leaf) LeafSignedByLeaf(string signerUri, string leafUri)
    {
        using var signerKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var leafKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var signerRequest = Named("CN=signer", signerKey, signerUri);
        var signer = signerRequest.Create(Issuer, Now.AddHours(-1), Now.AddHours(23), [0, 77]);
        var leaf = Named("CN=leaf", leafKey, leafUri)
            .Create(signer.SubjectName, X509SignatureGenerator.CreateForECDsa(signerKey), Now.AddHours(-1), Now.AddHours(23), [0, 78]);
        return (signer, leaf);
    }

    public void Dispose()
    {
        Root.Dispose();
        Issuer.Dispose();
        _rootKey.Dispose();
        _issuerKey.Dispose();
    }

    private static CertificateRequest Named(string name, ECDsa key, string uri)
    {
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(new Uri(uri));
        request.CertificateExtensions.Add(names.Build());
        return request;
    }

    private static CertificateRequest Authority(string name, ECDsa key)
    {
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        return request;
    }
}
