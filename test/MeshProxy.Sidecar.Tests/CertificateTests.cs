using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.Api.Joining;
using MeshProxy.Model.Identity;
using MeshProxy.Sidecar.Certificates;
using MeshProxy.Sidecar.State;

namespace MeshProxy.Sidecar.Tests;

internal sealed class CertificateTests
{
    private const string ServerName = "control.mesh.mesh.local";
    private static readonly SpiffeId Pay = SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/pay");

    [Test]
    public void OnlyTheControlPlanesNameUnderOurRootIsBelieved()
    {
        using var root = Root();
        using var foreign = Root();
        var bundle = TrustBundle.FromPem(Pay.TrustDomain, root.ExportCertificatePem());
        string? Judge(X509Certificate2 leaf) => ControlChannel.Refusal(leaf, [], bundle, ServerName, TimeProvider.System);
        Assert.Multiple(() =>
        {
            Assert.That(Judge(Leaf(root, names => names.AddDnsName(ServerName))), Is.Null);
            Assert.That(Judge(Leaf(foreign, names => names.AddDnsName(ServerName))), Does.Contain("does not chain"));
            Assert.That(Judge(Leaf(root, names => names.AddUri(new Uri(Pay.ToString())))), Does.Contain("does not name"), "a member must not pass for the control plane");
            Assert.That(Judge(Leaf(root, names => names.AddDnsName("control.mesh.other"))), Does.Contain("does not name"));
            Assert.That(Judge(Leaf(root, names => names.AddDnsName(ServerName), days: -1)), Does.Contain("NotTimeValid"));
        });
    }

    [Test]
    public void AKeptCertificateComesBackWithItsKey()
    {
        using var root = Root();
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var leaf = Leaf(root, names => names.AddUri(new Uri(Pay.ToString())), key: key);
        var state = StateDirectory.Open(Path.Combine(TestContext.CurrentContext.WorkDirectory, $"identity-{Guid.NewGuid():N}"));
        Assert.That(KeptCertificate.Load(state), Is.Null);
        KeptCertificate.Save(state, key, KeptCertificate.Assemble(key, [leaf]), root.ExportCertificatePem());
        var (svid, bundle) = KeptCertificate.Load(state)!.Value;
        Assert.That(svid.Id, Is.EqualTo(Pay));
        Assert.That(svid.Leaf.HasPrivateKey, Is.True);
        Assert.That(bundle.Roots, Has.Length.EqualTo(1));

        state.Write(KeptCertificate.IdentityFile, "rubbish"u8);
        Assert.That(() => KeptCertificate.Load(state), Throws.TypeOf<StartException>().With.Message.Contains(KeptCertificate.IdentityFile));
    }

    [Test]
    public void ACertificateOfAnotherKeyIsRefused()
    {
        using var root = Root();
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var leaf = Leaf(root, names => names.AddUri(new Uri(Pay.ToString())));
        Assert.That(() => KeptCertificate.Assemble(other, [leaf]), Throws.ArgumentException);
    }

    [Test]
    public void AJoinTokenTellsWhomToTrustAndKeepsItsSecret()
    {
        var hash = new string('a', 64);
        Assert.That(JoinToken.TryParse(Token($$"""{"root":"{{hash}}","trust_domain":"mesh.local","spiffe_id":"{{Pay}}","secret":"{{new string('s', 43)}}","expires":"2030-01-01T00:00:00Z"}""") + "\n", out var token), Is.True);
        Assert.Multiple(() =>
        {
            Assert.That(token!.RootSha256, Is.EqualTo(hash));
            Assert.That(token.SpiffeId, Is.EqualTo(Pay));
            Assert.That(token.ExpiresAt, Is.EqualTo(new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero)));
            Assert.That(token.ToString(), Does.Not.Contain("mp1."));
        });
    }

    [TestCase("")]
    [TestCase("mp1.")]
    [TestCase("mp1.e30")]
    [TestCase("mp1.%%%")]
    [TestCase("mp2.e30")]
    public void WhatIsNoJoinTokenIsNotRead(string text) => Assert.That(JoinToken.TryParse(text, out _), Is.False);

    private static string Token(string json) => "mp1." + System.Buffers.Text.Base64Url.EncodeToString(Encoding.UTF8.GetBytes(json));

    private static X509Certificate2 Root()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=root {Guid.NewGuid():N}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-10), DateTimeOffset.UtcNow.AddDays(10));
    }

    private static X509Certificate2 Leaf(X509Certificate2 root, Action<SubjectAlternativeNameBuilder> names, int days = 1, ECDsa? key = null)
    {
        using var made = key is null ? ECDsa.Create(ECCurve.NamedCurves.nistP256) : null;
        var request = new CertificateRequest("CN=leaf", key ?? made!, HashAlgorithmName.SHA256);
        var alternative = new SubjectAlternativeNameBuilder();
        names(alternative);
        request.CertificateExtensions.Add(alternative.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        return request.Create(root, DateTimeOffset.UtcNow.AddDays(-5), DateTimeOffset.UtcNow.AddDays(days), RandomNumberGenerator.GetBytes(8));
    }
}
