using System.Collections.Immutable;
using System.Net;
using System.Net.Security;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>TLS towards servers outside the mesh: how they are judged, what is spoken to them, and that nothing goes in plaintext instead.</summary>
internal sealed class BackendTlsTests
{
    private const string Name = "ledger.example.com";

    private TestCa _ca = null!;
    private TestCa _stranger = null!;

    [OneTimeSetUp]
    public void MakeCas() => (_ca, _stranger) = (new TestCa(), new TestCa());

    [OneTimeTearDown]
    public void DropCas()
    {
        _ca.Dispose();
        _stranger.Dispose();
    }

    [TestCase(AppProtocol.Http, HttpProtocols.Http1AndHttp2, "HTTP/1.1")]
    [TestCase(AppProtocol.WebSocket, HttpProtocols.Http1AndHttp2, "HTTP/1.1")]
    [TestCase(AppProtocol.Http2, HttpProtocols.Http1AndHttp2, "HTTP/2")]
    [TestCase(AppProtocol.Grpc, HttpProtocols.Http1AndHttp2, "HTTP/2")]
    [TestCase(AppProtocol.Https, HttpProtocols.Http1AndHttp2, "HTTP/2")]
    [TestCase(AppProtocol.Https, HttpProtocols.Http1, "HTTP/1.1")]
    [TestCase(AppProtocol.Https, HttpProtocols.Http2, "HTTP/2")]
    [TestCase(AppProtocol.Undeclared, HttpProtocols.Http1AndHttp2, "HTTP/2")]
    [TestCase(AppProtocol.Undeclared, HttpProtocols.Http1, "HTTP/1.1")]
    [TestCase(AppProtocol.Http2, HttpProtocols.Http1, null)]
    public async Task What_is_spoken_is_what_was_declared_or_what_the_server_chose(AppProtocol protocol, HttpProtocols server, string? expected)
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, server, Name);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Cluster(protocol, Policy()), upstream.EndPoint));
        for (var i = 0; i < 2; i++)
        {
            var response = await proxy.GetAsync("/");
            if (expected is not null)
            {
                Assert.That(response.Text, Is.EqualTo($"{expected} https {Name}"));
                continue;
            }

            Assert.That(response.Status, Is.EqualTo(503));
            Assert.That(Detail(await proxy.AccessAsync()), Does.StartWith("UF tls_failed: "));
        }
    }

    [TestCase(AppProtocol.Http)]
    [TestCase(AppProtocol.Http2)]
    public async Task Without_a_policy_the_scheme_is_that_of_plaintext(AppProtocol protocol)
    {
        await using var upstream = await HttpsServer.StartAsync(null, protocol == AppProtocol.Http2 ? HttpProtocols.Http2 : HttpProtocols.Http1, Name);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), upstream.EndPoint));
        Assert.That((await proxy.GetAsync("/")).Text, Is.EqualTo($"{(protocol == AppProtocol.Http2 ? "HTTP/2" : "HTTP/1.1")} http "));
    }

    [TestCase(HttpProtocols.Http1)]
    [TestCase(HttpProtocols.Http1AndHttp2)]
    public async Task A_burst_before_the_server_has_chosen_is_served_whole(HttpProtocols server)
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, server, Name);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Cluster(AppProtocol.Https, Policy()), upstream.EndPoint));
        var texts = (await Task.WhenAll(Enumerable.Range(0, 40).Select(_ => proxy.GetAsync("/slow")))).Select(response => response.Text);
        Assert.That(texts, Has.All.EqualTo($"{(server == HttpProtocols.Http1 ? "HTTP/1.1" : "HTTP/2")} https {Name}"));
    }

    private static IEnumerable<TestCaseData> Judgements()
    {
        static TestCaseData Row(string what, Func<BackendTlsTests, UpstreamTlsConfig> policy, string? reason) => new(policy, reason) { TestName = $"A server is judged: {what}" };
        yield return Row("its name, under the policy's authority", t => t.Policy(), null);
        yield return Row("another name", t => t.Policy() with { ServerName = "other.example.com" },
            $"the server's certificate is for {Name}, urn:ledger, not for other.example.com as BackendTLSPolicy shop/ledger demands");
        yield return Row("another authority", t => t.Policy() with { AuthoritiesPem = t._stranger.RootPem }, "does not chain to the authorities of BackendTLSPolicy shop/ledger");
        yield return Row("the system's authorities", t => t.Policy() with { AuthoritiesPem = "" }, "does not chain to an authority of this system of BackendTLSPolicy shop/ledger");
        yield return Row("one of two authorities", t => t.Policy() with { AuthoritiesPem = t._stranger.RootPem + t._ca.RootPem }, null);
        yield return Row("a listed hostname instead of the server name", t => t.Policy() with { ServerName = "other.example.com", Hostnames = ["x.example.com", Name] }, null);
        yield return Row("hostnames listed without the server name", t => t.Policy() with { Hostnames = ["x.example.com"] }, "not for x.example.com");
        yield return Row("a listed wildcard", t => t.Policy() with { Hostnames = ["*.example.com"] }, null);
        yield return Row("a listed wildcard two labels up", t => t.Policy() with { Hostnames = ["*.com"] }, "not for *.com");
        yield return Row("a listed URI", t => t.Policy() with { Uris = ["urn:other", "urn:ledger"] }, null);
        yield return Row("URIs listed, none of its", t => t.Policy() with { Uris = ["urn:LEDGER"] }, "not for urn:LEDGER");
        yield return Row("a hostname or a URI", t => t.Policy() with { Hostnames = ["x.example.com"], Uris = ["urn:ledger"] }, null);
    }

    [TestCaseSource(nameof(Judgements))]
    public async Task Judge(Func<BackendTlsTests, UpstreamTlsConfig> policy, string? reason)
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1, Name, "urn:ledger");
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Cluster(AppProtocol.Http, policy(this)), upstream.EndPoint));
        var response = await proxy.GetAsync("/");
        Assert.That(response.Status, Is.EqualTo(reason is null ? 200 : 503));
        if (reason is not null)
        {
            Assert.That(Detail(await proxy.AccessAsync()), Does.StartWith($"UF tls_failed: {upstream.EndPoint} ").And.Contain(reason));
            Assert.That(upstream.Requests, Is.Zero, "nothing was sent");
        }
    }

    [Test]
    public async Task An_expired_certificate_and_a_server_without_TLS_are_told_as_such()
    {
        await using var expired = new TlsServer("expired", _ca.IssueExpiredSvid("spiffe://mesh.local/ns/shop/sa/ledger"), _ca.Intermediates);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Cluster(AppProtocol.Http, Policy()), expired.EndPoint));
        Assert.That((await proxy.GetAsync("/")).Status, Is.EqualTo(503));
        Assert.That(Detail(await proxy.AccessAsync()), Does.Contain("the server's certificate is valid from").And.Contain("NotTimeValid"));

        await using var plain = ScriptedServer.Http1(_ => ScriptedServer.Ok("plain"));
        await using var second = await TestProxy.StartAsync(Configs.Gateway(Cluster(AppProtocol.Http, Policy()), plain.EndPoint));
        Assert.That((await second.GetAsync("/")).Status, Is.EqualTo(503));
        Assert.That(Detail(await second.AccessAsync()), Does.StartWith("UF tls_failed"));
    }

    [Test]
    public async Task A_policy_that_cannot_be_enforced_answers_500_and_dials_nobody()
    {
        await using var upstream = ScriptedServer.Http1(_ => ScriptedServer.Ok("plain"));
        var invalid = Policy() with { AuthoritiesPem = "", Invalid = "BackendTLSPolicy shop/ledger: spec.validation.caCertificateRefs[0]: there is no ConfigMap shop/ca" };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Cluster(AppProtocol.Http, invalid), upstream.EndPoint));
        Assert.That((await proxy.GetAsync("/")).Status, Is.EqualTo(500));
        Assert.That(Detail(await proxy.AccessAsync()), Does.StartWith("NC ").And.Contain("BackendTLSPolicy shop/ledger: ").And.Contain("there is no ConfigMap shop/ca"));
        Assert.That(upstream.Accepted, Is.Zero);
    }

    [Test]
    public async Task Authorities_that_are_none_refuse_the_unit_and_the_last_good_state_stays()
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1, Name);
        var good = Configs.Gateway(Cluster(AppProtocol.Http, Policy()), upstream.EndPoint);
        await using var proxy = await TestProxy.StartAsync(good);
        var bad = Configs.Gateway(Cluster(AppProtocol.Http, Policy() with { AuthoritiesPem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }), upstream.EndPoint);
        Assert.That(proxy.Server.Apply(bad).Single().Unit, Is.EqualTo("gateway"));
        Assert.That((await proxy.GetAsync("/")).Status, Is.EqualTo(200));
    }

    [Test]
    public async Task A_changed_policy_never_takes_a_connection_that_an_older_one_judged()
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1AndHttp2, Name);
        ProxyConfig Under(UpstreamTlsConfig? policy) => Configs.Gateway(Cluster(AppProtocol.Https, policy), upstream.EndPoint);
        await using var proxy = await TestProxy.StartAsync(Under(Policy()));
        Assert.That((await proxy.GetAsync("/connection")).Text, Is.EqualTo("1"));
        Assert.That((await proxy.GetAsync("/connection")).Text, Is.EqualTo("1"));

        // Equal by content is the same policy: the connection stays.
        Assert.That(proxy.Server.Apply(Under(Policy() with { Hostnames = [] })), Is.Empty);
        Assert.That((await proxy.GetAsync("/connection")).Text, Is.EqualTo("1"));

        Assert.That(proxy.Server.Apply(Under(Policy() with { AuthoritiesPem = _stranger.RootPem })), Is.Empty);
        Assert.That((await proxy.GetAsync("/connection")).Status, Is.EqualTo(503));
        Assert.That(proxy.Server.Apply(Under(Policy() with { AuthoritiesPem = _stranger.RootPem + _ca.RootPem })), Is.Empty);
        Assert.That((await proxy.GetAsync("/connection")).Text, Is.GreaterThan("1"), "the first one lives on, but not for this policy");
    }

    [TestCase("ledger")]
    [TestCase("checkout")]
    public async Task A_unit_is_dialed_by_its_own_copy_of_a_policy_whatever_another_one_still_has(string last)
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1, Name);
        await using var plain = await HttpsServer.StartAsync(null, HttpProtocols.Http1, Name);
        var told = TwoUnits(null, "/.*", plain.EndPoint, last);
        await using var proxy = await TestProxy.StartAsync(told, Mesh.Outbound());
        Assert.That(await AskAsync(proxy, "ledger"), Is.EqualTo("HTTP/1.1 http "));

        // What a sidecar tells when it understands nothing of checkout's new state: the old one again, beside ledger's new one.
        var ordered = TwoUnits(Policy(), "/.*", upstream.EndPoint, last);
        var checkout = Configs.Id("checkout").Service;
        Assert.That(proxy.Server.Apply(ordered with { Destinations = ordered.Destinations.SetItem(checkout, told.Destinations[checkout]) }), Is.Empty);
        Assert.That(await AskAsync(proxy, "ledger"), Is.EqualTo($"HTTP/1.1 https {Name}"));
        proxy.Server.ApplyEndpoints([Configs.Set(Configs.Id("ledger"), plain.EndPoint)]);
        Assert.That(await AskAsync(proxy, "checkout"), Is.EqualTo("HTTP/1.1 http "), "the last good state of checkout is what it was");
        var copies = Copies(proxy).ToArray();
        Assert.That(copies.Select(copy => copy.Policy), Is.EquivalentTo(new[] { null, "shop/ledger" }));
        Assert.That(copies.Select(copy => copy.Connections).Distinct(), Has.Exactly(1).GreaterThan(0), "they are bounded together");

        Assert.That(proxy.Server.Apply(ordered), Is.Empty);
        Assert.That(await AskAsync(proxy, "checkout"), Is.EqualTo($"HTTP/1.1 https {Name}"));
        Assert.That(Copies(proxy).Select(copy => copy.Policy), Is.EqualTo(new[] { "shop/ledger" }), "a copy that nobody uses is gone");
    }

    [TestCase("ledger")]
    [TestCase("checkout")]
    public async Task A_policy_is_in_force_also_for_a_unit_that_was_refused_for_its_routes(string last)
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1, Name);
        await using var plain = await HttpsServer.StartAsync(null, HttpProtocols.Http1, Name);
        await using var proxy = await TestProxy.StartAsync(TwoUnits(null, "/.*", plain.EndPoint, last), Mesh.Outbound());
        Assert.That(await AskAsync(proxy, "checkout"), Is.EqualTo("HTTP/1.1 http "));

        var rejection = proxy.Server.Apply(TwoUnits(Policy(), "/[", upstream.EndPoint, last)).Single();
        Assert.That(rejection.Unit, Is.EqualTo("service/shop/checkout"));
        Assert.That(proxy.Server.Current.Destinations[Configs.Id("checkout").Service].Ports[0].BackendClusters[0].Tls, Is.EqualTo(Policy()), "and what is shown is what is in force");
        Assert.That(await AskAsync(proxy, "checkout"), Is.EqualTo($"HTTP/1.1 https {Name}"), "the routes of before, never in plaintext");
        Assert.That(await AskAsync(proxy, "ledger"), Is.EqualTo($"HTTP/1.1 https {Name}"));
        Assert.That(Copies(proxy), Has.Exactly(1).Items);

        // A policy that cannot be taken at all leaves everything as it was.
        var broken = Policy() with { AuthoritiesPem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" };
        Assert.That(proxy.Server.Apply(TwoUnits(broken, "/[", upstream.EndPoint, last)), Has.Count.EqualTo(2));
        Assert.That(await AskAsync(proxy, "checkout"), Is.EqualTo($"HTTP/1.1 https {Name}"));
    }

    [Test]
    public async Task A_policy_is_in_force_also_for_listeners_that_were_refused_for_their_routes()
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1, Name);
        await using var plain = await HttpsServer.StartAsync(null, HttpProtocols.Http1, Name);
        ProxyConfig Make(UpstreamTlsConfig? policy, string path, IPEndPoint endPoint)
        {
            var ledger = Cluster(AppProtocol.Http, policy);
            var rule = Configs.Rule(ledger.Id) with { Matches = [new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.RegularExpression, path) }] };
            return Configs.Gateway([Configs.Route(rule)], [ledger], Configs.Set(ledger.Id, endPoint));
        }

        await using var proxy = await TestProxy.StartAsync(Make(null, "/.*", plain.EndPoint));
        Assert.That((await proxy.GetAsync("/")).Text, Is.EqualTo("HTTP/1.1 http "));
        Assert.That(proxy.Server.Apply(Make(Policy(), "/[", upstream.EndPoint)).Single().Unit, Is.EqualTo("gateway"));
        Assert.That((await proxy.GetAsync("/")).Text, Is.EqualTo($"HTTP/1.1 https {Name}"));
        Assert.That(proxy.Server.Current.Listeners[0].HttpRoutes[0].Rules[0].Matches[0].Path!.Value, Is.EqualTo("/.*"), "what is shown is what is in force");
    }

    [Test]
    public async Task Opaque_bytes_are_wrapped_and_TLS_of_the_clients_own_is_not()
    {
        await using var server = new TlsServer("db", _ca.IssueServer(Name), _ca.Intermediates);
        var cluster = Cluster(AppProtocol.Tcp, Policy());
        ListenerConfig Listener(ListenerProtocol protocol) => new()
        {
            Id = "shop/edge/tcp",
            Address = "127.0.0.1",
            Port = 0,
            Protocol = protocol,
            TcpBackends = protocol == ListenerProtocol.Tcp ? [new BackendConfig(cluster.Id, 1)] : [],
            TlsRoutes = protocol == ListenerProtocol.Tcp ? [] : [new TlsRouteConfig { Id = "shop/db", Backends = [new BackendConfig(cluster.Id, 1)] }],
            BackendClusters = [cluster],
        };
        var config = Configs.Gateway([], [], Configs.Set(cluster.Id, server.EndPoint));
        await using (var proxy = await TestProxy.StartAsync(config with { Listeners = [Listener(ListenerProtocol.Tcp)] }))
        {
            await using var client = await proxy.DialAsync();
            await client.SendAsync("ping\n");
            var expected = $"db {Name}\nping\n";
            Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(expected.Length)), Is.EqualTo(expected));
            client.Finish();
            await client.ReadToEndAsync();
        }

        await using (var proxy = await TestProxy.StartAsync(config with { Listeners = [Listener(ListenerProtocol.TlsPassthrough)] }))
        {
            Assert.That(await TlsClient.AskAsync(proxy.EndPoint(), "mine.example.com", _ca), Is.EqualTo(("db mine.example.com", "ping")));
        }
    }

    [Test]
    public async Task An_application_in_plaintext_gets_TLS_and_one_that_speaks_TLS_is_left_to_it()
    {
        await using var upstream = await HttpsServer.StartAsync(_ca, HttpProtocols.Http1AndHttp2, Name);
        var config = Configs.Destination(Cluster(AppProtocol.Https, Policy()), [new EndpointConfig { Id = "a", Address = "127.0.0.1", Port = upstream.EndPoint.Port }]);
        await using var proxy = await TestProxy.StartAsync(config, new ProxyServerOptions
        {
            Outbound = new IPEndPoint(IPAddress.Loopback, 0),
            Namespace = "shop",
            Upstreams = [new UpstreamListenerOptions("ledger", 0)],
        });
        Assert.That((await proxy.GetAsync("/", "ledger", listener: "outbound")).Text, Is.EqualTo($"HTTP/2 https {Name}"), "the explicit listener");
        Assert.That((await proxy.GetAsync("/", "any", listener: "upstream/ledger")).Text, Is.EqualTo($"HTTP/2 https {Name}"), "HTTP on the port itself");
        await using var tls = await TlsClient.ConnectAsync(proxy.EndPoint("upstream/ledger"), "mine.example.com", _ca);
        await tls.WriteAsync("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"u8.ToArray());
        using var reader = new StreamReader(tls);
        Assert.That(await reader.ReadToEndAsync().WaitAsync(Wire.Patience), Does.Contain("HTTP/1.1 https mine.example.com"));
    }

    [Test]
    public async Task A_gateway_that_ends_TLS_may_begin_it_anew()
    {
        await using var server = new TlsServer("db", _ca.IssueServer(Name), _ca.Intermediates);
        var cluster = Cluster(AppProtocol.Tcp, Policy());
        var pem = _ca.ToPem(_ca.IssueServer("edge.example.com"));
        var key = pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([], [], Configs.Set(cluster.Id, server.EndPoint)) with
        {
            Listeners =
            [
                new ListenerConfig
                {
                    Id = "shop/edge/tls",
                    Address = "127.0.0.1",
                    Port = 0,
                    Protocol = ListenerProtocol.Tls,
                    Certificates = [new ServerCertificateConfig(new ResourceName("shop", "tls"), pem[..key], pem[key..])],
                    TlsRoutes = [new TlsRouteConfig { Id = "shop/db", Hostnames = ["edge.example.com"], Backends = [new BackendConfig(cluster.Id, 1)] }],
                    BackendClusters = [cluster],
                },
            ],
        });
        Assert.That(await TlsClient.AskAsync(proxy.EndPoint(), "edge.example.com", _ca), Is.EqualTo(($"db {Name}", "ping")));
    }

    private static async Task<string> AskAsync(TestProxy proxy, string host) => (await proxy.GetAsync(host: host, listener: "outbound")).Text;

    private static IEnumerable<ClusterView> Copies(TestProxy proxy) => proxy.Server.DescribeClusters().Where(cluster => cluster.Name == "shop/ledger:80");

    /// <summary>Ledger, and checkout that routes to ledger, so that both units have a copy of ledger's cluster.</summary>
    /// <param name="policy">On ledger.</param>
    /// <param name="path">Of checkout's route.</param>
    /// <param name="endPoint">Ledger's.</param>
    /// <param name="last">The unit that comes last.</param>
    private static ProxyConfig TwoUnits(UpstreamTlsConfig? policy, string path, IPEndPoint endPoint, string last)
    {
        var ledger = Cluster(AppProtocol.Http, policy);
        var checkout = Configs.Cluster("checkout");
        var route = Configs.Route(Configs.Rule(ledger.Id) with { Matches = [new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.RegularExpression, path) }] });
        DestinationConfig[] units =
        [
            new() { Service = ledger.Id.Service, Ports = [new DestinationPortConfig { Cluster = ledger }] },
            new() { Service = checkout.Id.Service, Ports = [new DestinationPortConfig { Cluster = checkout, HttpRoutes = [route], BackendClusters = [ledger] }] },
        ];
        return new ProxyConfig
        {
            Destinations = units.ToImmutableDictionary(unit => unit.Service, new Last(last)),
            Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty.Add(ledger.Id, Configs.Set(ledger.Id, endPoint)),
        };
    }

    private static string Detail(System.Text.Json.JsonElement line) => $"{line.GetProperty("meshproxy.flags").GetString()} {line.GetProperty("meshproxy.failure").GetString()}";

    private static ClusterConfig Cluster(AppProtocol protocol, UpstreamTlsConfig? policy) => Configs.Cluster("ledger", protocol) with { Tls = policy };

    private UpstreamTlsConfig Policy() => new() { Policy = new ResourceName("shop", "ledger"), ServerName = Name, AuthoritiesPem = _ca.RootPem };

    /// <summary>Hashes so that one unit is the last of an immutable dictionary, which enumerates by hash.</summary>
    private sealed class Last(string name) : IEqualityComparer<ResourceName>
    {
        public bool Equals(ResourceName one, ResourceName other) => one == other;

        public int GetHashCode(ResourceName unit) => unit.Name == name ? 1 : 0;
    }
}

/// <summary>Kestrel with a certificate of a test's authority: tells protocol, scheme and server name of each request.</summary>
internal sealed class HttpsServer : IAsyncDisposable
{
    private ForeignServer _server = null!;
    private int _requests;
    private int _connections;

    public IPEndPoint EndPoint => _server.EndPoint;

    public int Requests => Volatile.Read(ref _requests);

    public static async Task<HttpsServer> StartAsync(TestCa? ca, HttpProtocols protocols, string name, string? uri = null)
    {
        var server = new HttpsServer();
        server._server = await ForeignServer.StartAsync(protocols, server.ServeAsync, listen =>
        {
            listen.Use(next => connection =>
            {
                connection.Items["number"] = Interlocked.Increment(ref server._connections);
                return next(connection);
            });
            if (ca is not null)
            {
                var certificate = SslStreamCertificateContext.Create(uri is null ? ca.IssueServer(name) : ca.IssueServer(new Uri(uri), name), ca.Intermediates, offline: true);
                listen.UseHttps(new TlsHandshakeCallbackOptions
                {
                    OnConnection = handshake =>
                    {
                        handshake.Connection.Items["sni"] = handshake.ClientHelloInfo.ServerName;
                        return ValueTask.FromResult(new SslServerAuthenticationOptions { ServerCertificateContext = certificate });
                    },
                });
            }
        });
        return server;
    }

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    private async Task ServeAsync(HttpContext context)
    {
        Interlocked.Increment(ref _requests);
        if (context.Request.Path == "/slow")
        {
            // So that a connection that serves one request at a time is not free for the next at once.
            await Task.Yield();
        }

        var items = context.Features.Get<IConnectionItemsFeature>()!.Items;
        await context.Response.WriteAsync(context.Request.Path == "/connection"
            ? items["number"]!.ToString()!
            : $"{context.Request.Protocol} {context.Request.Scheme} {(items.TryGetValue("sni", out var sni) ? sni : "")}");
    }
}
