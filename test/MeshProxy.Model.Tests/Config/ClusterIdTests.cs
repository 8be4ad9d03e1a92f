using MeshProxy.Model.Config;

namespace MeshProxy.Model.Tests.Config;

public class ClusterIdTests
{
    private static readonly ClusterId Payments = new(new ResourceName("shop", "payments"), 8080);

    [Test]
    public void Text_and_server_name_go_both_ways()
    {
        Assert.That(ClusterId.TryParse("shop/payments:8080", out var id) ? id : default, Is.EqualTo(Payments));
        Assert.That(Payments.ToMeshServerName("mesh.local"), Is.EqualTo("p8080.payments.shop.mesh.mesh.local"));
        Assert.That(ClusterId.TryParseMeshServerName("P8080.Payments.shop.MESH.mesh.local", "mesh.local", out var named) ? named : default, Is.EqualTo(Payments));
    }

    [TestCase(null), TestCase(""), TestCase("payments:80"), TestCase("/payments:80"), TestCase("shop/:80"), TestCase("shop/payments"), TestCase("shop/payments:0"), TestCase("shop/payments:65536"), TestCase("shop/payments:-1"), TestCase("shop/payments: 80")]
    public void Other_text_is_none(string? text) => Assert.That(ClusterId.TryParse(text, out _), Is.False);

    [TestCase(null), TestCase(""), TestCase("payments.shop.mesh.mesh.local"), TestCase("p80.payments.shop.mesh.other.local"), TestCase("p80.payments.shop.mesh.local"), TestCase("p80.a.payments.shop.mesh.mesh.local")]
    [TestCase("p0.payments.shop.mesh.mesh.local"), TestCase("p65536.payments.shop.mesh.mesh.local"), TestCase("p.payments.shop.mesh.mesh.local"), TestCase("p80..shop.mesh.mesh.local"), TestCase("x80.payments.shop.mesh.mesh.local"), TestCase(".mesh.mesh.local")]
    public void Other_server_names_are_none(string? name) => Assert.That(ClusterId.TryParseMeshServerName(name, "mesh.local", out _), Is.False);

    [TestCase("http", AppProtocol.Http), TestCase("http2", AppProtocol.Http2), TestCase("kubernetes.io/h2c", AppProtocol.Http2), TestCase("grpc", AppProtocol.Grpc), TestCase("kubernetes.io/ws", AppProtocol.WebSocket), TestCase("https", AppProtocol.Https), TestCase("tls", AppProtocol.Tls), TestCase("tcp", AppProtocol.Tcp)]
    public void Every_protocol_is_either_read_or_passed_on(string text, AppProtocol expected)
    {
        Assert.That(AppProtocols.TryParse(text, out var protocol), Is.True);
        Assert.That(protocol, Is.EqualTo(expected));
        Assert.That(protocol.IsHttp() ^ protocol.IsOpaque(), Is.True);
        Assert.That(AppProtocols.Accepted.Split(", "), Does.Contain(text));
    }

    [TestCase(null), TestCase(""), TestCase("HTTP"), TestCase("udp")]
    public void Other_protocols_are_not_known(string? text) => Assert.That(AppProtocols.TryParse(text, out _), Is.False);

    [Test]
    public void Endpoint_sets_are_equal_by_content()
    {
        EndpointSetConfig Set(int weight) => new(Payments, [new EndpointConfig { Id = "a", Address = "::1", Port = 1, Weight = weight }]);
        var (one, same, other) = (Set(1), Set(1), Set(2));
        Assert.That(one, Is.EqualTo(same));
        Assert.That(one, Is.Not.EqualTo(other));
    }
}
