using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.Testing;

/// <summary>A root with an issuing authority under it, for tests: SVIDs and server certificates, good ones and broken ones. Two objects are strangers to each other.</summary>
public sealed class TestCa : IDisposable
{
    private readonly ECDsa _rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly ECDsa _issuerKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _rootWithKey;
    private readonly X509Certificate2 _issuerWithKey;
    private readonly TimeProvider _time;
    private int _serial;

    /// <summary>Makes the keys and the two certificates.</summary>
    public TestCa(string trustDomain = "mesh.local", TimeProvider? time = null)
    {
        TrustDomain = trustDomain;
        _time = time ?? TimeProvider.System;
        var now = _time.GetUtcNow();
        var root = new CertificateRequest($"CN={trustDomain} root", _rootKey, HashAlgorithmName.SHA256);
        root.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        root.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        root.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(root.PublicKey, false));
        _rootWithKey = root.CreateSelfSigned(now.AddDays(-2), now.AddDays(3650));
        Root = X509CertificateLoader.LoadCertificate(_rootWithKey.RawData);

        var issuer = new CertificateRequest($"CN={trustDomain} issuing", _issuerKey, HashAlgorithmName.SHA256);
        issuer.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        issuer.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        issuer.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(issuer.PublicKey, false));
        issuer.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(Root, true, false));
        using var signed = issuer.Create(_rootWithKey, now.AddDays(-2), now.AddDays(3000), NextSerial());
        _issuerWithKey = signed.CopyWithPrivateKey(_issuerKey);
        Intermediates = [X509CertificateLoader.LoadCertificate(signed.RawData)];
    }

    /// <summary>The trust domain's name.</summary>
    public string TrustDomain { get; }

    /// <summary>The root, without its key.</summary>
    public X509Certificate2 Root { get; }

    /// <summary>What a leaf's owner sends besides the leaf.</summary>
    public X509Certificate2Collection Intermediates { get; }

    /// <summary>The trust bundle as PEM.</summary>
    public string RootPem => Root.ExportCertificatePem() + "\n";

    /// <summary>An X.509-SVID with its key.</summary>
    /// <param name="spiffeId">The only URI name.</param>
    /// <param name="notBefore">Default: an hour ago.</param>
    /// <param name="notAfter">Default: in a day.</param>
    /// <param name="authority">Makes the leaf claim to be an authority, which no SVID may.</param>
    public X509Certificate2 IssueSvid(string spiffeId, DateTimeOffset? notBefore = null, DateTimeOffset? notAfter = null, bool authority = false)
    {
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(new Uri(spiffeId));
        return Issue("CN=workload", names, notBefore, notAfter, authority);
    }

    /// <summary>An X.509-SVID of the shape of this mesh: /ns/NAMESPACE/sa/ACCOUNT.</summary>
    public X509Certificate2 IssueSvid(string @namespace, string serviceAccount) =>
        IssueSvid($"spiffe://{TrustDomain}/ns/{@namespace}/sa/{serviceAccount}");

    /// <summary>One that expired an hour ago.</summary>
    public X509Certificate2 IssueExpiredSvid(string spiffeId) =>
        IssueSvid(spiffeId, _time.GetUtcNow().AddDays(-1), _time.GetUtcNow().AddHours(-1));

    /// <summary>A server certificate for DNS names (and loopback), with its key.</summary>
    public X509Certificate2 IssueServer(params string[] dnsNames) => IssueServer(null, dnsNames);

    /// <summary>The same, with a URI name too.</summary>
    public X509Certificate2 IssueServer(Uri? uri, params string[] dnsNames)
    {
        var names = new SubjectAlternativeNameBuilder();
        foreach (var name in dnsNames)
        {
            names.AddDnsName(name);
        }

        if (uri is not null)
        {
            names.AddUri(uri);
        }

        names.AddIpAddress(IPAddress.Loopback);
        names.AddIpAddress(IPAddress.IPv6Loopback);
        return Issue($"CN={dnsNames.FirstOrDefault() ?? "server"}", names, null, null, false);
    }

    /// <summary>Certificate chain and key of a certificate as one PEM text.</summary>
    public string ToPem(X509Certificate2 certificate)
    {
        using var key = certificate.GetECDsaPrivateKey()!;
        var chain = string.Concat(Intermediates.Select(intermediate => intermediate.ExportCertificatePem() + "\n"));
        return $"{certificate.ExportCertificatePem()}\n{chain}{key.ExportPkcs8PrivateKeyPem()}\n";
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _rootWithKey.Dispose();
        _issuerWithKey.Dispose();
        _rootKey.Dispose();
        _issuerKey.Dispose();
    }

    private X509Certificate2 Issue(string subject, SubjectAlternativeNameBuilder names, DateTimeOffset? notBefore, DateTimeOffset? notAfter, bool authority)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(subject, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(authority, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1"), new Oid("1.3.6.1.5.5.7.3.2")], false));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_issuerWithKey, true, false));
        request.CertificateExtensions.Add(names.Build(critical: true));
        var now = _time.GetUtcNow();
        using var signed = request.Create(_issuerWithKey, notBefore ?? now.AddHours(-1), notAfter ?? now.AddDays(1), NextSerial());
        return signed.CopyWithPrivateKey(key);
    }

    private byte[] NextSerial()
    {
        var serial = new byte[8];
        System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(serial, Interlocked.Increment(ref _serial) + 0x10_0000L);
        return serial;
    }
}
