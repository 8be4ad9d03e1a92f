using MeshProxy.Model.Identity;

namespace MeshProxy.Model.Tests.Identity;

public class SpiffeIdTests
{
    [TestCase("spiffe://mesh.local/ns/shop/sa/payments", "mesh.local", "shop", "payments")]
    [TestCase("spiffe://a/ns/b/sa/C_d.e-1", "a", "b", "C_d.e-1")]
    public void Good_ones_are_read_and_written(string text, string domain, string ns, string account)
    {
        Assert.That(SpiffeId.TryParse(text, out var id), Is.True);
        Assert.That((id.TrustDomain.Name, id.Namespace, id.ServiceAccount, id.ToString()), Is.EqualTo((domain, ns, account, text)));
        Assert.That(new SpiffeId(TrustDomain.Parse(domain), ns, account), Is.EqualTo(id));
    }

    [TestCase(null), TestCase(""), TestCase("spiffe://"), TestCase("SPIFFE://a/ns/b/sa/c"), TestCase("https://a/ns/b/sa/c")]
    [TestCase("spiffe://A/ns/b/sa/c"), TestCase("spiffe://a:1/ns/b/sa/c"), TestCase("spiffe://u@a/ns/b/sa/c"), TestCase("spiffe:///ns/b/sa/c")]
    [TestCase("spiffe://a/ns/b/sa/"), TestCase("spiffe://a/ns//sa/c"), TestCase("spiffe://a/ns/b/sa/c/"), TestCase("spiffe://a/ns/b/sa/c/d"), TestCase("spiffe://a/NS/b/sa/c")]
    [TestCase("spiffe://a/ns/../sa/c"), TestCase("spiffe://a/ns/./sa/c"), TestCase("spiffe://a/ns/b%2f/sa/c"), TestCase("spiffe://a/ns/b/sa/c?x=1"), TestCase("spiffe://a/ns/b/sa/c#x"), TestCase("spiffe://a/ns/b/sa/ü")]
    [TestCase(" spiffe://a/ns/b/sa/c"), TestCase("spiffe://a/ns/b/sa/c\n"), TestCase("spiffe://a\0/ns/b/sa/c")]
    public void Bad_ones_are_not(string? text) => Assert.That(SpiffeId.TryParse(text, out _), Is.False);

    [Test]
    public void Overlong_ones_are_not()
    {
        Assert.That(SpiffeId.TryParse("spiffe://a/ns/b/sa/" + new string('c', 2048), out _), Is.False);
        Assert.That(TrustDomain.TryParse(new string('a', 256), out _), Is.False);
        Assert.That(TrustDomain.TryParse(new string('a', 255), out _), Is.True);
    }

    [Test]
    public void Parts_that_do_not_fit_throw() => Assert.That(() => new SpiffeId(TrustDomain.Parse("a"), "b/c", "d"), Throws.TypeOf<FormatException>());
}
