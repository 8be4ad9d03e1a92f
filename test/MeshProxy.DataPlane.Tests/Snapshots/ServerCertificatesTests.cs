using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Snapshots;

/// <summary>Which of a listener's certificates a client gets, and how long one is kept.</summary>
internal sealed class ServerCertificatesTests
{
    private TestCa _ca = null!;
    private SnapshotCompiler _compiler = null!;

    [OneTimeSetUp]
    public void Make()
    {
        _ca = new TestCa();
        var meters = new Meters(TimeProvider.System);
        var clusters = new ClusterStore(new ClusterServices(null!, null, null, meters, TimeProvider.System, new Random(1)), "127.0.0.1");
        _compiler = new SnapshotCompiler(clusters, meters, new ClientTrafficCompiler(TimeProvider.System, (_, _, _) => { }), "shop");
    }

    [OneTimeTearDown]
    public void Drop() => _ca.Dispose();

    [TestCase("one.example.com", 0)]
    [TestCase("ONE.example.com", 0)]
    [TestCase("two.example.com", 1)]
    [TestCase("x.wild.example.com", 2)]
    [TestCase("exact.wild.example.com", 1)]
    [TestCase("x.y.wild.example.com", 0)]
    [TestCase("wild.example.com", 0)]
    [TestCase("unknown", 0)]
    [TestCase(null, 0)]
    public void The_very_name_goes_before_a_wildcard_and_the_first_is_the_default(string? serverName, int expected)
    {
        ServerCertificateConfig[] certificates = [Certificate("one.example.com"), Certificate("two.example.com", "exact.wild.example.com"), Certificate("*.wild.example.com")];
        var chosen = Compile(ProxySnapshot.Empty, certificates).GatewayPorts[0].Sections[0].Certificates!.Choose(serverName);
        Assert.That(chosen.Context.TargetCertificate.ExportCertificatePem(), Is.EqualTo(certificates[expected].CertificateChainPem.Split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"));
    }

    [Test]
    public void A_certificate_that_has_not_changed_keeps_its_prepared_state()
    {
        var (one, two) = (Certificate("one.example.com"), Certificate("two.example.com"));
        var first = Compile(ProxySnapshot.Empty, one, two);
        var second = Compile(first, one with { }, Certificate("two.example.com"));
        Assert.That(Chosen(second, "one.example.com"), Is.SameAs(Chosen(first, "one.example.com")));
        Assert.That(Chosen(second, "two.example.com"), Is.Not.SameAs(Chosen(first, "two.example.com")));

        static object Chosen(ProxySnapshot snapshot, string name) => snapshot.GatewayPorts[0].Sections[0].Certificates!.Choose(name);
    }

    private ProxySnapshot Compile(ProxySnapshot previous, params ServerCertificateConfig[] certificates)
    {
        var (snapshot, rejections) = _compiler.Compile(
            new ProxyConfig { Listeners = [new ListenerConfig { Id = "shop/edge/https", Port = 443, Protocol = ListenerProtocol.Https, Certificates = [.. certificates] }] }, previous);
        Assert.That(rejections, Is.Empty);
        return snapshot;
    }

    private ServerCertificateConfig Certificate(params string[] names)
    {
        var pem = _ca.ToPem(_ca.IssueServer(names));
        var key = pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal);
        return new ServerCertificateConfig(new ResourceName("shop", names[0].TrimStart('*', '.')), pem[..key], pem[key..]);
    }
}
