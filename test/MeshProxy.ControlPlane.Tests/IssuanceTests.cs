using System.Runtime.Versioning;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Joining;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Tests;

[TestFixture]
[Platform(Exclude = "Win")]
[UnsupportedOSPlatform("windows")]
internal sealed class IssuanceTests
{
    [Test]
    public async Task The_first_start_writes_keys_and_credentials_for_their_owner_alone()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        Assert.That(File.GetUnixFileMode(mesh.DataDirectory), Is.EqualTo(Private | UnixFileMode.UserExecute));
        foreach (var name in new[] { "root-ca.pem", "issuing-ca.pem", "operator.pem", "mesh.db", "mesh.db-wal" })
        {
            Assert.That(File.GetUnixFileMode(Path.Combine(mesh.DataDirectory, name)), Is.EqualTo(Private), name);
        }

        Assert.That(mesh.BundlePem, Does.Contain("BEGIN CERTIFICATE").And.Not.Contain("PRIVATE KEY"));
        Assert.That(Directory.GetFiles(mesh.DataDirectory, "*.new"), Is.Empty);
    }

    [Test]
    public async Task A_restart_keeps_the_authority_and_the_operator_credential()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var (bundle, credential) = (mesh.BundlePem, File.ReadAllText(Path.Combine(mesh.DataDirectory, "operator.pem")));
        await using var again = await mesh.RestartAsync();
        Assert.That(again.BundlePem, Is.EqualTo(bundle));
        Assert.That(File.ReadAllText(Path.Combine(mesh.DataDirectory, "operator.pem")), Is.EqualTo(credential));
    }

    [Test]
    public void Another_trust_domain_on_the_same_directory_is_refused()
    {
        using var directory = new TemporaryDirectory();
        CertificateAuthority.Open(directory.Path, TestControlPlane.Domain, TimeProvider.System).Dispose();
        var e = Assert.Throws<StartException>(() => CertificateAuthority.Open(directory.Path, TrustDomain.Parse("other.local"), TimeProvider.System));
        Assert.That(e!.Message, Does.Contain("--trust-domain").And.Contain("root-ca.pem"));
    }

    [Test]
    public void A_damaged_authority_file_is_named()
    {
        using var directory = new TemporaryDirectory();
        File.WriteAllText(Path.Combine(directory.Path, "root-ca.pem"), "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
        var e = Assert.Throws<StartException>(() => CertificateAuthority.Open(directory.Path, TestControlPlane.Domain, TimeProvider.System));
        Assert.That(e!.Message, Does.Contain("root-ca.pem").And.Contain("backup"));
    }

    [Test]
    public void An_operator_and_the_server_are_no_workloads()
    {
        using var directory = new TemporaryDirectory();
        using var authority = CertificateAuthority.Open(directory.Path, TestControlPlane.Domain, TimeProvider.System);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var person = authority.IssueOperator("admin", new PublicKey(key), TimeSpan.FromDays(1));
        using var server = authority.IssueServer(["localhost"], new PublicKey(key), TimeSpan.FromDays(1));
        X509Certificate2Collection intermediates = [authority.Issuing];
        Assert.That(SvidValidator.Validate(person, intermediates, authority.Bundle, DateTimeOffset.UtcNow).Refused, Does.Contain("no SPIFFE ID of a mesh"));
        Assert.That(SvidValidator.Validate(server, intermediates, authority.Bundle, DateTimeOffset.UtcNow).Refused, Does.Contain("0 URI names"));
    }

    [Test]
    public async Task A_workload_certificate_is_an_SVID_with_the_asked_lifetime()
    {
        await using var mesh = await TestControlPlane.StartAsync(change: options => options with { WorkloadCertificateLifetime = TimeSpan.FromSeconds(20) });
        var asked = DateTimeOffset.UtcNow;
        using var certificate = await mesh.JoinAsync(TestControlPlane.Id("payments"));
        var bundle = TrustBundle.FromPem(TestControlPlane.Domain, mesh.BundlePem);
        using var issuing = X509Certificate2.CreateFromPem(File.ReadAllText(Path.Combine(mesh.DataDirectory, "issuing-ca.pem")));
        var verdict = SvidValidator.Validate(certificate, [issuing], bundle, DateTimeOffset.UtcNow);
        Assert.That(verdict.Refused, Is.Null);
        Assert.That(verdict.Identity, Is.EqualTo(TestControlPlane.Id("payments")));
        Assert.That(SvidValidator.UriNames(certificate), Is.EqualTo(new[] { "spiffe://mesh.local/ns/shop/sa/payments" }));
        Assert.That(new DateTimeOffset(certificate.NotAfter.ToUniversalTime()), Is.EqualTo(asked.AddSeconds(20)).Within(TimeSpan.FromSeconds(5)));
        Assert.That(new DateTimeOffset(certificate.NotBefore.ToUniversalTime()), Is.LessThanOrEqualTo(asked).And.GreaterThan(asked.AddSeconds(-5)));
        Assert.That(certificate.Extensions.OfType<X509EnhancedKeyUsageExtension>().Single().EnhancedKeyUsages.Cast<Oid>().Select(usage => usage.Value),
            Is.EquivalentTo(new[] { "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2" }));
        Assert.That(certificate.Extensions.OfType<X509BasicConstraintsExtension>().Single().CertificateAuthority, Is.False);
        Assert.That(certificate.SerialNumber, Has.Length.EqualTo(32));
    }

    [Test]
    public async Task Renewal_with_the_current_certificate_keeps_the_identity_whatever_the_request_says()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var client = new Certificates.CertificatesClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=ledger", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(new Uri("spiffe://mesh.local/ns/shop/sa/ledger"));
        names.AddDnsName("control.mesh.mesh.local");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        var reply = await client.IssueAsync(new IssueRequest { CsrDer = ByteString.CopyFrom(request.CreateSigningRequest()) });
        using var leaf = X509CertificateLoader.LoadCertificate(reply.ChainDer[0].Span);
        Assert.That(reply.SpiffeId, Is.EqualTo("spiffe://mesh.local/ns/shop/sa/payments"));
        Assert.That(SvidValidator.UriNames(leaf), Is.EqualTo(new[] { "spiffe://mesh.local/ns/shop/sa/payments" }));
        Assert.That(leaf.MatchesHostname("control.mesh.mesh.local"), Is.False);
        Assert.That(leaf.Extensions.OfType<X509BasicConstraintsExtension>().Single().CertificateAuthority, Is.False);
        Assert.That(leaf.PublicKey.EncodedKeyValue.RawData, Is.EqualTo(new PublicKey(key).EncodedKeyValue.RawData));
    }

    [Test]
    public void Only_P256_requests_signed_by_their_own_key_are_taken()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var big = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var rsa = RSA.Create(2048);
        var good = TestControlPlane.MakeRequest(key);
        var tampered = good.ToArray();
        tampered[^1] ^= 1;
        var otherKey = good.ToArray();
        var point = new PublicKey(key).EncodedKeyValue.RawData;
        otherKey[good.AsSpan().IndexOf(point) + 40] ^= 1;
        Assert.Multiple(() =>
        {
            Assert.That(SigningRequest.TryRead(good, out var read, out _), Is.True);
            Assert.That(read!.EncodedKeyValue.RawData, Is.EqualTo(point));
            Assert.That(Refusal(tampered), Does.Contain("not signed by its own key"));
            Assert.That(Refusal(otherKey), Does.Contain("not signed by its own key"));
            Assert.That(Refusal(TestControlPlane.MakeRequest(big)), Does.Contain("P-256"));
            Assert.That(Refusal(new CertificateRequest("CN=a", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1).CreateSigningRequest()), Does.Contain("P-256"));
            Assert.That(Refusal([]), Does.Contain("0 bytes"));
            Assert.That(Refusal([1, 2, 3]), Does.Contain("does not parse"));
            Assert.That(Refusal(new byte[SigningRequest.MaxBytes + 1]), Does.Contain("at most"));
            for (var length = 1; length < good.Length; length++)
            {
                Assert.That(SigningRequest.TryRead(good.AsSpan(0, length), out _, out _), Is.False, $"cut at {length}");
            }
        });
    }

    [Test]
    public void The_servers_certificate_renews_itself_before_it_ends()
    {
        using var directory = new TemporaryDirectory();
        var time = new ManualTimeProvider();
        using var authority = CertificateAuthority.Open(directory.Path, TestControlPlane.Domain, time);
        var certificate = new Issuance.ServerCertificate(authority, ["control.mesh.mesh.local", "127.0.0.1"], TimeSpan.FromMinutes(10), time);
        var first = certificate.Current.TargetCertificate;
        time.Advance(TimeSpan.FromMinutes(4));
        Assert.That(certificate.Current.TargetCertificate, Is.SameAs(first));
        time.Advance(TimeSpan.FromMinutes(2));
        var second = certificate.Current.TargetCertificate;
        Assert.That(second.SerialNumber, Is.Not.EqualTo(first.SerialNumber));
        Assert.That(second.NotAfter, Is.GreaterThan(first.NotAfter));
        Assert.That(second.MatchesHostname("control.mesh.mesh.local"), Is.True);
    }

    [Test]
    public async Task Of_many_who_bring_one_token_at_once_exactly_one_gets_a_certificate()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var token = await mesh.CreateTokenAsync(TestControlPlane.Id("payments"));
        var client = new Certificates.CertificatesClient(mesh.Connect());
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new IssueRequest { CsrDer = ByteString.CopyFrom(TestControlPlane.MakeRequest(key)), JoinToken = token };
        var outcomes = await Task.WhenAll(Enumerable.Range(0, 24).Select(_ => TryIssueAsync(client, request)));
        Assert.That(outcomes.Count(outcome => outcome is null), Is.EqualTo(1));
        Assert.That(outcomes.Where(outcome => outcome is not null).Select(outcome => outcome!.Value.StatusCode).Distinct(), Is.EqualTo(new[] { StatusCode.PermissionDenied }));
        Assert.That(outcomes.First(outcome => outcome is not null)!.Value.Detail, Does.Contain("used before"));
    }

    [Test]
    public async Task A_used_token_stays_used_over_a_restart_and_a_late_or_strange_one_is_told_why()
    {
        var time = new ManualTimeProvider();
        await using var first = await TestControlPlane.StartAsync(time: time);
        var (used, late, good) = (await first.CreateTokenAsync(TestControlPlane.Id("a")), await first.CreateTokenAsync(TestControlPlane.Id("b"), TimeSpan.FromMinutes(1)), await first.CreateTokenAsync(TestControlPlane.Id("c")));
        Assert.That(await IssueAsync(first, used), Is.Null);
        await using var mesh = await first.RestartAsync();
        time.Advance(TimeSpan.FromMinutes(2));
        Assert.That(JoinToken.TryParse(good, out var parsed), Is.True);
        var stolen = (parsed! with { SpiffeId = TestControlPlane.Id("admin") }).Encode();
        var invented = JoinToken.Create(parsed.RootSha256, TestControlPlane.Id("c"), time.GetUtcNow().AddHours(1)).Encode();
        Assert.That((await IssueAsync(mesh, used))!.Value.Detail, Does.Contain("used before"));
        Assert.That((await IssueAsync(mesh, late))!.Value.Detail, Does.Contain("expired"));
        Assert.That((await IssueAsync(mesh, stolen))!.Value.Detail, Does.Contain("unknown"));
        Assert.That((await IssueAsync(mesh, invented))!.Value.Detail, Does.Contain("unknown"));
        Assert.That((await IssueAsync(mesh, "mp1.!!!"))!.Value.Detail, Does.Contain("unknown"));
        Assert.That(await IssueAsync(mesh, good), Is.Null, "none of the attempts above used it up");
    }

    [Test]
    public async Task A_bad_request_does_not_use_the_token_up()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var token = await mesh.CreateTokenAsync(TestControlPlane.Id("payments"));
        var client = new Certificates.CertificatesClient(mesh.Connect());
        var refused = await TryIssueAsync(client, new IssueRequest { CsrDer = ByteString.CopyFromUtf8("nonsense"), JoinToken = token });
        Assert.That(refused!.Value.StatusCode, Is.EqualTo(StatusCode.InvalidArgument));
        Assert.That(await IssueAsync(mesh, token), Is.Null);
    }

    [Test]
    public async Task A_token_pins_the_root_and_shows_no_secret_in_the_store()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var text = await mesh.CreateTokenAsync(TestControlPlane.Id("payments"));
        Assert.That(JoinToken.TryParse(text, out var token), Is.True);
        using var root = X509Certificate2.CreateFromPem(mesh.BundlePem);
        Assert.That(token!.RootSha256, Is.EqualTo(Convert.ToHexStringLower(SHA256.HashData(root.RawData))));
        Assert.That(token.SpiffeId, Is.EqualTo(TestControlPlane.Id("payments")));
        Assert.That(token.ToString(), Does.Not.Contain(token.Secret));
        var logged = System.Text.Encoding.UTF8.GetString(mesh.LogText.ToArray());
        Assert.That(logged, Does.Contain("join_token_created").And.Not.Contain(token.Secret));
        foreach (var file in Directory.GetFiles(mesh.DataDirectory))
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            using var content = new MemoryStream();
            await stream.CopyToAsync(content);
            Assert.That(System.Text.Encoding.Latin1.GetString(content.ToArray()), Does.Not.Contain(token.Secret), file);
        }
    }

    private static string Refusal(byte[] der) => SigningRequest.TryRead(der, out _, out var refused) ? "" : refused;

    private static async Task<Status?> IssueAsync(TestControlPlane mesh, string token)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        return await TryIssueAsync(new Certificates.CertificatesClient(mesh.Connect()), new IssueRequest { CsrDer = ByteString.CopyFrom(TestControlPlane.MakeRequest(key)), JoinToken = token });
    }

    private static async Task<Status?> TryIssueAsync(Certificates.CertificatesClient client, IssueRequest request)
    {
        try
        {
            await client.IssueAsync(request);
            return null;
        }
        catch (RpcException e)
        {
            return e.Status;
        }
    }
}
