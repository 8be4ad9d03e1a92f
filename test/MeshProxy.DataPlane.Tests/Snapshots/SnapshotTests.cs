using System.Collections.Immutable;
using System.Net;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Tests.Snapshots;

/// <summary>What becomes of configurations that are good, bad, and in between.</summary>
internal sealed class SnapshotTests
{
    [Test]
    public void A_listener_that_is_the_same_as_before_is_not_compiled_again()
    {
        var meters = new Meters(TimeProvider.System);
        var clusters = new ClusterStore(new ClusterServices(null!, null, null, meters, TimeProvider.System, new Random(1)), "127.0.0.1");
        var compiler = new SnapshotCompiler(clusters, meters, new ClientTrafficCompiler(TimeProvider.System, (_, _, _) => { }), "shop");
        ListenerConfig Listener(string name) => new()
        {
            Id = $"shop/edge/{name}",
            Port = 80,
            Hostname = $"{name}.example",
            Protocol = ListenerProtocol.Http,
            HttpRoutes = [Configs.Route(new HttpRouteRuleConfig { Name = "0", Filters = [new RedirectConfig("https", null, null, null, 301)] })],
        };
        var config = new ProxyConfig { Listeners = [Listener("a"), Listener("b")] };
        var (first, _) = compiler.Compile(config, ProxySnapshot.Empty);
        var (second, rejections) = compiler.Compile(config with { Revision = "2", Listeners = config.Listeners.SetItem(1, Listener("b")) }, first);
        Assert.That(rejections, Is.Empty);
        Assert.That(second.GatewayPorts[0].Sections[0], Is.SameAs(first.GatewayPorts[0].Sections[0]));
        Assert.That(second.GatewayPorts[0].Sections[1], Is.Not.SameAs(first.GatewayPorts[0].Sections[1]));
    }

    [Test]
    public async Task A_refused_unit_keeps_its_last_good_state_and_the_others_go_on()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Fields.GetValueOrDefault("x-route", "none")));
        await using var proxy = await TestProxy.StartAsync(Make(("payments", "1", false), ("ledger", "1", false)), Mesh.Outbound());
        Assert.That(await AskAsync("payments"), Is.EqualTo("1"));

        var rejections = proxy.Server.Apply(Make(("payments", "2", true), ("ledger", "2", false), ("fresh", "2", true)));
        Assert.That(rejections.Select(rejection => rejection.Unit), Is.EquivalentTo(new[] { "service/shop/payments", "service/shop/fresh" }));
        Assert.That(rejections[0].Reason, Does.Contain("["), "it quotes what is wrong");
        Assert.That(await AskAsync("payments"), Is.EqualTo("1"));
        Assert.That(await AskAsync("ledger"), Is.EqualTo("2"));
        var refused = await proxy.GetAsync(host: "fresh", listener: "outbound");
        Assert.That((refused.Status, refused.Flag), Is.EqualTo((500, "NC")));
        Assert.That(refused.Text, Does.Contain("refused_configuration").And.Contain("shop/fresh"));
        Assert.That(proxy.Server.Current.Destinations[new ResourceName("shop", "payments")].Revision, Is.EqualTo("1"), "what is shown is what is in force");

        Assert.That(proxy.Server.Apply(Make(("payments", "3", false), ("fresh", "3", false))), Is.Empty);
        Assert.That(await AskAsync("payments"), Is.EqualTo("3"));
        Assert.That(await AskAsync("fresh"), Is.EqualTo("3"));
        Assert.That((await proxy.GetAsync(host: "ledger", listener: "outbound")).Flag, Is.EqualTo("NR"));

        async Task<string> AskAsync(string host) => (await proxy.GetAsync(host: host, listener: "outbound")).Text;

        ProxyConfig Make(params (string Name, string Revision, bool Bad)[] services)
        {
            var config = new ProxyConfig { Revision = services[0].Revision };
            foreach (var (name, revision, bad) in services)
            {
                var cluster = Configs.Cluster(name);
                var rule = Configs.Rule(cluster.Id) with
                {
                    Matches = [new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.RegularExpression, bad ? "/[" : "/.*") }],
                    Filters = [new HeaderModifierConfig(false, [new("x-route", revision)], [], [])],
                };
                config = config with
                {
                    Destinations = config.Destinations.Add(cluster.Id.Service, new DestinationConfig
                    {
                        Service = cluster.Id.Service,
                        Revision = revision,
                        Ports = [new DestinationPortConfig { Cluster = cluster, HttpRoutes = [Configs.Route(rule)], BackendClusters = [cluster, cluster] }],
                    }),
                    Endpoints = config.Endpoints.Add(cluster.Id, Configs.Set(cluster.Id, server.EndPoint)),
                };
            }

            return config;
        }
    }

    [TestCase(AppProtocol.Http)]
    [TestCase(AppProtocol.Tcp)]
    public async Task Nothing_goes_to_a_service_that_is_refused_whatever_it_speaks(AppProtocol protocol)
    {
        // As a control plane tells it that knows no earlier state: refused, and with the ports it would have.
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("served"));
        var cluster = Configs.Cluster(protocol: protocol);
        var config = Configs.Destination(cluster, Configs.Set(cluster.Id, server.EndPoint).Endpoints);
        await using var proxy = await TestProxy.StartAsync(config, Mesh.Outbound(upstream: 0));
        Assert.That((await proxy.GetAsync(listener: "upstream/payments")).Text, Is.EqualTo("served"));

        Assert.That(proxy.Server.Apply(config with { Destinations = config.Destinations.SetItem(cluster.Id.Service, config.Destinations[cluster.Id.Service] with { Refused = "AuthorizationPolicy shop/p" }) }), Is.Empty);
        var refused = await proxy.GetAsync(listener: "upstream/payments");
        Assert.That((refused.Status, refused.Flag), Is.EqualTo((500, "NC")));
        Assert.That(refused.Text, Does.Contain("refused_configuration").And.Contain("AuthorizationPolicy shop/p"));
        await using var opaque = await proxy.DialAsync("upstream/payments");
        await opaque.SendAsync("\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b not HTTP\r\n");
        await proxy.Log.WaitForAsync("refused_configuration");
        Assert.That(server.Accepted, Is.EqualTo(1));
    }

    [Test]
    public async Task One_endpoint_with_a_bad_address_does_not_take_the_others_with_it()
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        var cluster = Configs.Cluster();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster));
        proxy.Server.ApplyEndpoints([new EndpointSetConfig(cluster.Id,
            [new EndpointConfig { Id = "bad", Address = "not-an-address", Port = 1 }, .. Configs.Set(cluster.Id, server.EndPoint).Endpoints])]);
        for (var i = 0; i < 4; i++)
        {
            Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("ok"));
        }
    }

    [Test]
    public async Task Only_ready_endpoints_that_do_not_drain_are_chosen()
    {
        await using var ready = ScriptedServer.Http1(_ => ScriptedServer.Ok("ready"));
        await using var other = ScriptedServer.Http1(_ => ScriptedServer.Ok("other"));
        var cluster = Configs.Cluster();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster));
        var set = Configs.Set(cluster.Id, ready.EndPoint, other.EndPoint);
        foreach (var unfit in new[] { set.Endpoints[1] with { IsReady = false }, set.Endpoints[1] with { IsDraining = true } })
        {
            proxy.Server.ApplyEndpoints([set with { Endpoints = [set.Endpoints[0], unfit] }]);
            for (var i = 0; i < 6; i++)
            {
                Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("ready"));
            }
        }

        proxy.Server.ApplyEndpoints([set with { Endpoints = [set.Endpoints[0] with { Weight = 3 }, set.Endpoints[1]] }]);
        var answers = new List<string>();
        for (var i = 0; i < 40; i++)
        {
            answers.Add((await proxy.GetAsync()).Text);
        }

        Assert.That(answers.Count(answer => answer == "ready"), Is.EqualTo(30), "weights of endpoints");
        proxy.Server.ApplyEndpoints([set with { Endpoints = [set.Endpoints[0] with { IsReady = false }] }]);
        Assert.That((await proxy.GetAsync()).Flag, Is.EqualTo("UH"));
    }

    [Test]
    public async Task A_port_that_is_taken_is_a_rejection_that_says_so()
    {
        using var taken = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        await using var proxy = await TestProxy.StartAsync(ProxyConfig.Empty);
        var config = Configs.Gateway(Configs.Cluster());
        var rejection = proxy.Server.Apply(config with { Listeners = [config.Listeners[0] with { Port = ((IPEndPoint)taken.LocalEndpoint).Port }] }).Single();
        Assert.That(rejection.Reason, Does.Contain("taken"));
    }
}
