using System.Security.Cryptography.X509Certificates;
using MeshProxy.Model.Identity;

namespace MeshProxy.Model.Tests.Identity;

/// <summary>What proves an identity, and every way in which it does not (X509-SVID section 5).</summary>
public class SvidValidatorTests
{
    private const string Payments = "spiffe://mesh.local/ns/shop/sa/payments";

    private TestChain _chain = null!;
    private TestChain _foreign = null!;
    private TrustBundle _bundle = null!;

    [OneTimeSetUp]
    public void Make()
    {
        _chain = new TestChain();
        _foreign = new TestChain();
        _bundle = TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), _chain.Root.ExportCertificatePem());
    }

    [OneTimeTearDown]
    public void End()
    {
        _chain.Dispose();
        _foreign.Dispose();
    }

    [Test]
    public void A_good_one_proves_its_identity()
    {
        using var leaf = _chain.Leaf([Payments]);
        var verdict = Judge(leaf, _chain);
        Assert.That(verdict.Refused, Is.Null);
        Assert.That(verdict.Identity, Is.EqualTo(SpiffeId.Parse(Payments)));
        Assert.That(verdict.NotAfter, Is.EqualTo(TestChain.Now.AddHours(23)));
    }

    [Test]
    public void Nothing_proves_nothing() => Assert.That(Judge(null, _chain).Refused, Does.Contain("no certificate"));

    [TestCase("spiffe://other.local/ns/shop/sa/payments", "trust domain other.local")]
    [TestCase("spiffe://mesh.local/operator/admin", "no SPIFFE ID of a mesh")]
    [TestCase("https://mesh.local/ns/shop/sa/payments", "no SPIFFE ID of a mesh")]
    public void Another_name_is_refused(string uri, string reason)
    {
        using var leaf = _chain.Leaf([uri]);
        Assert.That(Judge(leaf, _chain).Refused, Does.Contain(reason));
    }

    [Test]
    public void No_uri_and_two_uris_are_refused()
    {
        using var none = _chain.Leaf([]);
        using var two = _chain.Leaf([Payments, "spiffe://mesh.local/ns/shop/sa/ledger"]);
        Assert.That(Judge(none, _chain).Refused, Does.Contain("0 URI names"));
        Assert.That(Judge(two, _chain).Refused, Does.Contain("2 URI names"));
    }

    [Test]
    public void Expired_and_not_yet_valid_are_refused()
    {
        using var expired = _chain.Leaf([Payments], TimeSpan.FromHours(-2), TimeSpan.FromSeconds(-1));
        using var early = _chain.Leaf([Payments], TimeSpan.FromSeconds(1), TimeSpan.FromHours(2));
        Assert.That(Judge(expired, _chain).Refused, Does.Contain("not now"));
        Assert.That(Judge(early, _chain).Refused, Does.Contain("not now"));
    }

    [Test]
    public void The_given_time_decides_not_the_clock()
    {
        using var leaf = _chain.Leaf([Payments]);
        Assert.That(SvidValidator.Validate(leaf, [_chain.Issuer], _bundle, TestChain.Now.AddHours(24)).IsAccepted, Is.False);
        Assert.That(SvidValidator.Validate(leaf, [_chain.Issuer], _bundle, TestChain.Now.AddHours(22)).IsAccepted, Is.True);
    }

    [Test]
    public void A_foreign_root_is_refused_even_when_presented()
    {
        using var leaf = _foreign.Leaf([Payments]);
        Assert.That(SvidValidator.Validate(leaf, [_foreign.Issuer, _foreign.Root], _bundle, TestChain.Now).Refused, Does.Contain("does not chain"));
    }

    [Test]
    public void A_chain_with_a_gap_is_refused()
    {
        using var leaf = _chain.Leaf([Payments]);
        Assert.That(SvidValidator.Validate(leaf, null, _bundle, TestChain.Now).Refused, Does.Contain("does not chain"));
    }

    [Test]
    public void An_authority_is_no_leaf()
    {
        using var leaf = _chain.Leaf([Payments], isAuthority: true);
        Assert.That(Judge(leaf, _chain).IsAccepted, Is.False);
    }

    [Test]
    public void A_leaf_cannot_sign()
    {
        // A workload that signs for another with its own good certificate.
        var (signer, leaf) = _chain.LeafSignedByLeaf(Payments, "spiffe://mesh.local/ns/shop/sa/ledger");
        Assert.That(SvidValidator.Validate(signer, [_chain.Issuer], _bundle, TestChain.Now).IsAccepted, Is.True);
        Assert.That(SvidValidator.Validate(leaf, [signer, _chain.Issuer], _bundle, TestChain.Now).Refused, Does.Contain("does not chain"));
        signer.Dispose();
        leaf.Dispose();
    }

    [Test]
    public void Bundles_with_the_same_roots_have_the_same_revision_in_any_order()
    {
        var domain = TrustDomain.Parse("mesh.local");
        var one = TrustBundle.FromPem(domain, _chain.Root.ExportCertificatePem() + "\n" + _foreign.Root.ExportCertificatePem());
        var two = TrustBundle.FromPem(domain, _foreign.Root.ExportCertificatePem() + "\n" + _chain.Root.ExportCertificatePem());
        Assert.That(one.Revision, Is.EqualTo(two.Revision));
        Assert.That(one.Revision, Is.Not.EqualTo(_bundle.Revision));
        Assert.That(() => TrustBundle.FromPem(domain, "nothing"), Throws.TypeOf<FormatException>());
    }

    private PeerVerdict Judge(X509Certificate2? leaf, TestChain chain) => SvidValidator.Validate(leaf, [chain.Issuer], _bundle, TestChain.Now);
}
