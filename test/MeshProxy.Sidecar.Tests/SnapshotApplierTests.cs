using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Discovery;
using MeshProxy.Sidecar.State;
using Microsoft.Extensions.Logging.Abstractions;
using Rejection = MeshProxy.DataPlane.Snapshots.UnitRejection;

namespace MeshProxy.Sidecar.Tests;

internal sealed class SnapshotApplierTests
{
    private static readonly ResourceName Payments = new("shop", "payments");
    private readonly List<ProxyConfig> _applied = [];
    private readonly List<EndpointSetConfig> _endpoints = [];
    private IReadOnlyList<Rejection> _refuse = [];
    private ProxyConfig _inForce = ProxyConfig.Empty;
    private SnapshotApplier _applier = null!;

    [SetUp]
    public void Make()
    {
        _applied.Clear();
        _endpoints.Clear();
        _refuse = [];
        _inForce = ProxyConfig.Empty;
        _applier = Applier();
    }

    [Test]
    public void UnitsOfAFrameAreSwappedOnceWhenTheirEndpointsAreThere()
    {
        _applier.Begin();
        _applier.Add(Service("payments", "r1"));
        _applier.Add(Service("ledger", "r1"));
        Assert.That(_applier.Commit("n1", "m1"), Is.Empty, "its clusters have no endpoints yet");
        Assert.That(_applied, Is.Empty);
        Assert.That(_applier.Apply(Endpoints("n2", "payments")).Select(answer => answer.Nonce), Is.EqualTo(new[] { "n2" }));
        Assert.That(_applied, Is.Empty);
        Assert.That(_applier.IsAnswered("service/shop/payments"), Is.False);

        var answers = _applier.Apply(Endpoints("n3", "ledger"));
        Assert.That(answers.Select(answer => answer.Nonce), Is.EqualTo(new[] { "n1", "n3" }));
        Assert.That(_applied, Has.Count.EqualTo(1));
        Assert.That(_applied[0].Revision, Is.EqualTo("m1"));
        Assert.That(_applied[0].Destinations.Keys, Is.EquivalentTo(new[] { Payments, new ResourceName("shop", "ledger") }));
        Assert.That(_applied[0].Endpoints[new ClusterId(Payments, 80)].Endpoints, Has.Length.EqualTo(1));
        Assert.That(_applier.IsAnswered("service/shop/payments"), Is.True);
    }

    [Test]
    public void EndpointsThatNeverComeHoldNothingUpForEver()
    {
        _applier.Begin();
        _applier.Add(Service("payments", "r1"));
        _applier.Commit("n1", "m1");
        Assert.That(_applier.WaitingNonce, Is.EqualTo("n1"));
        Assert.That(_applier.Flush().Single().Nonce, Is.EqualTo("n1"));
        Assert.That(_applied.Single().Destinations, Contains.Key(Payments));
        Assert.That(_applier.Flush(), Is.Empty);
    }

    [Test]
    public void AnEndpointUpdateGoesInAtOnce()
    {
        Apply("m1", Service("payments", "r1"));
        _applier.Apply(Endpoints("n9", "payments", ready: false));
        Assert.That(_endpoints[^1].Endpoints[0].IsReady, Is.False);
    }

    [Test]
    public void AUnitThatIsNotUnderstoodKeepsItsLastGoodState()
    {
        Apply("m1", Service("payments", "r1"));
        var broken = Service("payments", "r2");
        broken.Destination.Ports[0].Cluster.Id.Port = 70_000;
        var answer = Apply("m2", broken, Service("ledger", "r1"));
        Assert.That(answer.Rejections.Single().Name, Is.EqualTo("service/shop/payments"));
        Assert.That(answer.Rejections.Single().Reason, Is.Not.Empty);
        var config = _applied[^1];
        Assert.That(config.Destinations[Payments].Revision, Is.EqualTo("r1"));
        Assert.That(config.Destinations[Payments].Refused, Is.Null);
        Assert.That(config.Destinations, Contains.Key(new ResourceName("shop", "ledger")), "other units go on");
        Assert.That(_applier.Held.Single(unit => unit.Name == "service/shop/payments").Revision, Is.EqualTo("r1"));
    }

    [Test]
    public void RoutesThatAreNotUnderstoodDoNotTakeThePoliciesOfTheirUnitWithThem()
    {
        var route = new HttpRouteConfig { Id = "shop/payments", Rules = [new HttpRouteRuleConfig { Name = "0", Backends = [new BackendConfig(new ClusterId(Payments, 80), 1)] }] };
        Apply("m1", Service("payments", "r1", port => port with { HttpRoutes = [route] }));
        var newer = Service("payments", "r2", port => port with
        {
            Cluster = port.Cluster with { Tls = new UpstreamTlsConfig { Policy = Payments, ServerName = "payments.example.com" } },
            ClientTraffic = ClientTrafficConfig.Default with { MaxRequestBodyBytes = 100 },
            HttpRoutes = [route with { Id = "shop/newer" }],
        });
        newer.Destination.Ports[0].HttpRoutes[0].Rules[0].Filters.Add(new HttpFilter());
        Assert.That(Apply("m2", newer).Rejections.Single().Field, Does.Contain("filters"));
        var port = _applied[^1].Destinations[Payments].Ports[0];
        Assert.That(port.HttpRoutes.Single().Id, Is.EqualTo("shop/payments"));
        Assert.That(port.Cluster.Tls?.ServerName, Is.EqualTo("payments.example.com"));
        Assert.That(port.ClientTraffic.MaxRequestBodyBytes, Is.EqualTo(100));
        Assert.That(_applier.Held.Single().Revision, Is.EqualTo("r1"));
    }

    [Test]
    public void AUnitThatIsNotUnderstoodAndHasNoEarlierStateIsRefusedNotDropped()
    {
        var broken = Service("payments", "r1");
        broken.Destination.Ports[0].Cluster.Id.Port = 70_000;
        Apply("m1", broken);
        Assert.That(_applied[^1].Destinations[Payments].Refused, Is.Not.Null.And.Not.Empty);
        Assert.That(_applier.Held, Is.Empty, "it must be sent again when we connect again");
    }

    [Test]
    public void WhatTheDataPlaneRefusesIsAnsweredAndNotNamedAsHeld()
    {
        Apply("m1", Service("payments", "r1"));
        _refuse = [new Rejection("service/shop/payments", "rules[0]", "bad expression")];
        var answer = Apply("m2", Service("payments", "r2"));
        Assert.That(answer.Rejections.Single().Field, Is.EqualTo("rules[0]"));
        Assert.That(_applier.Held.Single().Revision, Is.EqualTo("r1"));
    }

    [Test]
    public void WhatIsInForceInsteadOfARefusedUnitIsWhatIsToldAgainAndKept()
    {
        Apply("m1", Service("payments", "r1"));
        var cluster = new ClusterConfig { Id = new ClusterId(Payments, 80), Tls = new UpstreamTlsConfig { Policy = Payments, ServerName = "payments.example.com" } };
        _inForce = _applied[^1] with { Destinations = _applied[^1].Destinations.SetItem(Payments, _applied[^1].Destinations[Payments] with { Ports = [new DestinationPortConfig { Cluster = cluster }] }) };
        _refuse = [new Rejection("service/shop/payments", "", "bad expression")];
        Assert.That(Apply("m2", Service("payments", "r2")).Rejections, Has.Count.EqualTo(1));
        Assert.That(_applier.Held.Single().Revision, Is.EqualTo("r1"), "its routes are still those");

        _refuse = [];
        Apply("m3", Service("ledger", "r1"));
        Assert.That(_applied[^1].Destinations[Payments].Ports[0].Cluster.Tls, Is.EqualTo(cluster.Tls));
        Assert.That(_applier.Export().Single(message => message.Unit?.Name == "service/shop/payments").Unit.Destination.Ports[0].Cluster.Tls.ServerName, Is.EqualTo("payments.example.com"));
    }

    [TestCase(true)]
    [TestCase(false)]
    public void WhatTheControlPlaneRefusesKeepsTheRoutesThatAreHereUnlessNothingMayBeServed(bool hasPorts)
    {
        // A control plane that has been restarted does not know any more what was good before.
        Apply("m1", Service("payments", "r1", port => port with { HttpRoutes = [new HttpRouteConfig { Id = "shop/before", Rules = [new HttpRouteRuleConfig { Name = "0" }] }] }));
        var refused = Service("payments", "r2", port => port with { Cluster = port.Cluster with { Tls = new UpstreamTlsConfig { Policy = Payments, ServerName = "payments.example.com" } } });
        refused.Destination.Refused = "a route that can not be followed";
        if (!hasPorts)
        {
            refused.Destination.Ports.Clear();
        }

        Assert.That(Apply("m2", refused).Rejections, Is.Empty);
        var destination = _applied[^1].Destinations[Payments];
        Assert.That(destination.Refused, hasPorts ? Is.Null : Is.Not.Null);
        Assert.That(_applier.Held.Single().Revision, Is.EqualTo("r2"));
        if (hasPorts)
        {
            Assert.That(destination.Ports.Single().HttpRoutes.Single().Id, Is.EqualTo("shop/before"));
            Assert.That(destination.Ports.Single().Cluster.Tls?.ServerName, Is.EqualTo("payments.example.com"));
        }
    }

    [Test]
    public void ARemovedServiceIsRememberedAsAbsent()
    {
        Apply("m1", Service("payments", "r1"));
        Apply("m2", new Unit { Name = "service/shop/payments", Removed = new Removed { Reason = "deleted" } });
        Assert.That(_applied[^1].Destinations, Is.Empty);
        Assert.That(_applied[^1].Endpoints, Is.Empty);
        Assert.That(_applier.IsAbsent("service/shop/payments"), Is.True);
        Assert.That(_applier.IsAnswered("service/shop/payments"), Is.True);
    }

    [Test]
    public void AnUnfinishedFrameIsForgotten()
    {
        _applier.Begin();
        _applier.Add(Service("ledger", "r1"));
        Apply("m1", Service("payments", "r1"));
        Assert.That(_applied[^1].Destinations.Keys, Is.EqualTo(new[] { Payments }));
    }

    [Test]
    public void AnAddressLeadsToItsService()
    {
        var alias = new Unit { Name = "address/10.0.0.1:80", Revision = "a", Address = new AddressAlias { Cluster = ConfigMapping.ToProto(new ClusterId(Payments, 80)) } };
        Apply("m1", alias);
        Assert.That(_applier.AliasOf(alias.Name), Is.EqualTo(Payments));
        Assert.That(_applier.IsAnswered(alias.Name), Is.False, "the service itself is still to come");
        Apply("m2", Service("payments", "r1"));
        Assert.That(_applier.IsAnswered(alias.Name), Is.True);
        Assert.That(_applied[^1].Addresses["10.0.0.1:80"], Is.EqualTo(new ClusterId(Payments, 80)));
    }

    [Test]
    public void TheLastGoodStateSurvivesARestart()
    {
        Apply("m7", Service("payments", "r1"));
        var state = StateDirectory.Open(Path.Combine(TestContext.CurrentContext.WorkDirectory, $"kept-{Guid.NewGuid():N}"));
        KeptConfiguration.Save(state, _applier);

        var before = _applied[^1];
        _applier = Applier();
        Assert.That(KeptConfiguration.Load(state, _applier), Is.True);
        var after = _applied[^1];
        Assert.That(after, Is.Not.SameAs(before));
        Assert.That(after.Revision, Is.EqualTo("m7"));
        Assert.That(after.Destinations[Payments].Revision, Is.EqualTo("r1"));
        Assert.That(after.Endpoints[new ClusterId(Payments, 80)], Is.EqualTo(before.Endpoints[new ClusterId(Payments, 80)]));
        Assert.That(_applier.Held.Select(unit => (unit.Name, unit.Revision)), Is.EqualTo(new[] { ("service/shop/payments", "r1") }));
    }

    private static Unit Service(string name, string revision, Func<DestinationPortConfig, DestinationPortConfig>? change = null)
    {
        var service = new ResourceName("shop", name);
        var port = new DestinationPortConfig { Cluster = new ClusterConfig { Id = new ClusterId(service, 80), Protocol = Model.Config.AppProtocol.Http } };
        var destination = new DestinationConfig { Service = service, Ports = [change is null ? port : change(port)] };
        return new Unit { Name = $"service/{service}", Revision = revision, Destination = ConfigMapping.ToProto(destination) };
    }

    private static EndpointUpdate Endpoints(string nonce, string name, bool ready = true)
    {
        var set = new EndpointSetConfig(new ClusterId(new ResourceName("shop", name), 80),
            [new EndpointConfig { Id = $"shop/{name}-1", Address = "10.0.0.1", Port = 8080, InboundPort = 15006, IsReady = ready }]);
        var update = new EndpointUpdate { Nonce = nonce };
        update.Sets.Add(ConfigMapping.ToProto(set));
        return update;
    }

    private SnapshotApplier Applier() => new(
        new DataPlaneSink(
            config =>
            {
                _applied.Add(config);
                return _refuse;
            },
            _endpoints.AddRange,
            () => _inForce),
        new Meters(TimeProvider.System),
        NullLogger.Instance);

    private Acknowledge Apply(string revision, params Unit[] units)
    {
        _applier.Begin();
        foreach (var unit in units)
        {
            _applier.Add(unit);
        }

        var answers = new List<Acknowledge>(_applier.Commit("c-" + revision, revision));
        foreach (var unit in units.Where(unit => unit.Destination is not null))
        {
            answers.AddRange(_applier.Apply(Endpoints("e", unit.Destination.Service.Name)));
        }

        return answers.Concat(_applier.Flush()).Single(answer => answer.Nonce == "c-" + revision);
    }
}
