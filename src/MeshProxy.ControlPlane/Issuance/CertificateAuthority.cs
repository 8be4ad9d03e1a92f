using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.ControlPlane.Store;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Issuance;

/// <summary>
/// The mesh's certificate authority: a root and an issuing authority below it, both P-256, kept in the data directory with their keys (0600). It signs
/// public keys for names that somebody else has authorized; it never sees a workload's private key.
/// </summary>
/// <remarks>Thread-safe: everything is read-only after <see cref="Open"/>, and an ECDSA key is opened anew for each signature.</remarks>
internal sealed class CertificateAuthority : IDisposable
{
    /// <summary>Both authorities live ten years; their rotation is not built yet.</summary>
    private static readonly TimeSpan AuthorityLifetime = TimeSpan.FromDays(3652);

    private static readonly Oid ServerAuthentication = new("1.3.6.1.5.5.7.3.1");
    private static readonly Oid ClientAuthentication = new("1.3.6.1.5.5.7.3.2");

    private readonly X509Certificate2 _root;
    private readonly X509Certificate2 _issuing;
    private readonly TimeProvider _time;

    private CertificateAuthority(X509Certificate2 root, X509Certificate2 issuing, TrustDomain trustDomain, bool isNew, TimeProvider time)
    {
        _root = root;
        _issuing = issuing;
        _time = time;
        IsNew = isNew;
        Issuing = X509CertificateLoader.LoadCertificate(issuing.RawData);
        BundlePem = root.ExportCertificatePem() + "\n";
        Bundle = TrustBundle.FromPem(trustDomain, BundlePem);
        RootSha256 = root.GetCertHashString(HashAlgorithmName.SHA256).ToLowerInvariant();
    }

    /// <summary>True when this start made the authority.</summary>
    public bool IsNew { get; }

    /// <summary>The roots that workloads and operators trust.</summary>
    public TrustBundle Bundle { get; }

    /// <summary>The same as PEM.</summary>
    public string BundlePem { get; }

    /// <summary>SHA-256 of the root certificate's DER, lower-case hex: what a join token pins.</summary>
    public string RootSha256 { get; }

    /// <summary>The issuing authority's certificate, without its key.</summary>
    public X509Certificate2 Issuing { get; }

    /// <summary>Loads the authority, or makes it on the first start.</summary>
    /// <exception cref="StartException">The directory's authority is of another trust domain, or cannot be read.</exception>
    public static CertificateAuthority Open(string directory, TrustDomain trustDomain, TimeProvider time)
    {
        var rootPath = Path.Combine(directory, "root-ca.pem");
        var issuingPath = Path.Combine(directory, "issuing-ca.pem");
        var isNew = !File.Exists(rootPath);
        if (isNew && File.Exists(issuingPath))
        {
            throw new StartException($"{issuingPath} is there but {rootPath} is not: restore the root from a backup, or start with an empty --data-dir.");
        }

        if (isNew)
        {
            using var made = MakeRoot(trustDomain, time.GetUtcNow());
            WriteAuthority(rootPath, made);
        }

        var root = ReadAuthority(rootPath);
        var expected = $"spiffe://{trustDomain}";
        if (SvidValidator.UriNames(root) is not [var uri] || uri != expected)
        {
            throw new StartException($"{rootPath} is not the root of {expected}: check --trust-domain and --data-dir.");
        }

        // A crash between the two files leaves a root without an issuing authority, which the next start completes.
        if (!File.Exists(issuingPath))
        {
            using var made = MakeIssuing(root, trustDomain, time.GetUtcNow());
            WriteAuthority(issuingPath, made);
        }

        return new CertificateAuthority(root, ReadAuthority(issuingPath), trustDomain, isNew, time);
    }

    /// <summary>Signs a workload's key: exactly one URI name, client and server use (X509-SVID sections 2 to 4).</summary>
    public X509Certificate2 IssueWorkload(SpiffeId id, PublicKey key, TimeSpan lifetime)
    {
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(new Uri(id.ToString()));
        return Issue(Subject(id.TrustDomain, null), key, names, [ServerAuthentication, ClientAuthentication], lifetime);
    }

    /// <summary>Signs an operator's key. Its URI is no workload identity, so that no sidecar ever takes an operator for a workload.</summary>
    public X509Certificate2 IssueOperator(string name, PublicKey key, TimeSpan lifetime)
    {
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(new Uri($"spiffe://{Bundle.TrustDomain}/operator/{name}"));
        return Issue(Subject(Bundle.TrustDomain, name), key, names, [ClientAuthentication], lifetime);
    }

    /// <summary>Signs the control plane's own server key: DNS names and addresses, no URI, so that it is nobody's client identity.</summary>
    public X509Certificate2 IssueServer(IEnumerable<string> hostNames, PublicKey key, TimeSpan lifetime)
    {
        var names = new SubjectAlternativeNameBuilder();
        foreach (var name in hostNames)
        {
            if (IPAddress.TryParse(name, out var address))
            {
                names.AddIpAddress(address);
            }
            else
            {
                names.AddDnsName(name);
            }
        }

        return Issue(Subject(Bundle.TrustDomain, "control"), key, names, [ServerAuthentication], lifetime);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _root.Dispose();
        _issuing.Dispose();
        Issuing.Dispose();
    }

    private X509Certificate2 Issue(X500DistinguishedName subject, PublicKey key, SubjectAlternativeNameBuilder names, Oid[] usages, TimeSpan lifetime)
    {
        var now = _time.GetUtcNow();

        // Backdated for clocks that are behind, but by a tenth at most: a lifetime of seconds must not be half over when it arrives.
        var backdate = TimeSpan.FromTicks(Math.Min(TimeSpan.FromMinutes(5).Ticks, lifetime.Ticks / 10));
        var notAfter = Earlier(now + lifetime, NotAfter(_issuing));
        var request = new CertificateRequest(subject, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, critical: true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([.. usages], critical: false));
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_issuing, true, false));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(key, critical: false));
        return Sign(request, _issuing, now - backdate, notAfter);
    }

    private static X509Certificate2 MakeRoot(TrustDomain trustDomain, DateTimeOffset now)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = AuthorityRequest(trustDomain, "root CA", key, pathLength: 1);
        return request.CreateSelfSigned(now - TimeSpan.FromMinutes(5), now + AuthorityLifetime);
    }

    private static X509Certificate2 MakeIssuing(X509Certificate2 root, TrustDomain trustDomain, DateTimeOffset now)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = AuthorityRequest(trustDomain, "issuing CA", key, pathLength: 0);
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(root, true, false));
        using var certificate = Sign(request, root, Later(now - TimeSpan.FromMinutes(5), NotBefore(root)), NotAfter(root));
        return certificate.CopyWithPrivateKey(key);
    }

    private static CertificateRequest AuthorityRequest(TrustDomain trustDomain, string name, ECDsa key, int pathLength)
    {
        var request = new CertificateRequest(Subject(trustDomain, $"MeshProxy {name}"), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, pathLength, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));

        // X509-SVID section 3.1: a signing certificate may name the trust domain itself, with no path.
        request.CertificateExtensions.Add(TrustDomainName(trustDomain));
        return request;
    }

    /// <summary>Written by hand: <see cref="System.Uri"/> would add a slash to a URI without a path.</summary>
    private static X509Extension TrustDomainName(TrustDomain trustDomain)
    {
        var writer = new System.Formats.Asn1.AsnWriter(System.Formats.Asn1.AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteCharacterString(System.Formats.Asn1.UniversalTagNumber.IA5String, $"spiffe://{trustDomain}",
                new System.Formats.Asn1.Asn1Tag(System.Formats.Asn1.TagClass.ContextSpecific, 6));
        }

        return new X509Extension("2.5.29.17", writer.Encode(), critical: false);
    }

    private static X509Certificate2 Sign(CertificateRequest request, X509Certificate2 authority, DateTimeOffset notBefore, DateTimeOffset notAfter)
    {
        using var key = authority.GetECDsaPrivateKey()!;
        return request.Create(authority.SubjectName, X509SignatureGenerator.CreateForECDsa(key), notBefore, notAfter, NewSerial());
    }

    private static byte[] NewSerial()
    {
        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)((serial[0] & 0x7F) | 0x01); // positive and of fixed length (RFC 5280 section 4.1.2.2)
        return serial;
    }

    private static X500DistinguishedName Subject(TrustDomain trustDomain, string? commonName)
    {
        var name = new X500DistinguishedNameBuilder();
        name.AddOrganizationName(trustDomain.Name.Length <= 64 ? trustDomain.Name : trustDomain.Name[..64]);
        if (commonName is not null)
        {
            name.AddCommonName(commonName);
        }

        return name.Build();
    }

    private static void WriteAuthority(string path, X509Certificate2 certificate)
    {
        using var key = certificate.GetECDsaPrivateKey()!;
        var text = new StringBuilder().Append(certificate.ExportCertificatePem()).Append('\n').Append(key.ExportPkcs8PrivateKeyPem()).Append('\n');
        StateFile.Write(path, text.ToString(), StateFile.Private);
    }

    private static X509Certificate2 ReadAuthority(string path)
    {
        try
        {
            return X509Certificate2.CreateFromPemFile(path);
        }
        catch (CryptographicException e)
        {
            throw new StartException($"{path} does not hold a certificate with its key ({e.Message.TrimEnd('.')}): restore it from a backup.", e);
        }
    }

    private static DateTimeOffset NotAfter(X509Certificate2 certificate) => new(certificate.NotAfter.ToUniversalTime(), TimeSpan.Zero);

    private static DateTimeOffset NotBefore(X509Certificate2 certificate) => new(certificate.NotBefore.ToUniversalTime(), TimeSpan.Zero);

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;
}
