using System.Collections.Immutable;
using System.Security.Authentication;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>TLS that passes through by server name, and TLS that ends here and goes on by it.</summary>
internal sealed class TlsRouteTests
{
    private static readonly byte[] UnrecognizedName = [0x15, 3, 3, 0, 2, 2, 112];

    private TestCa _ca = null!;

    [OneTimeSetUp]
    public void MakeCa() => _ca = new TestCa();

    [OneTimeTearDown]
    public void DropCa() => _ca.Dispose();

    [Test]
    public async Task A_connection_goes_where_its_server_name_says_and_nobody_opens_it()
    {
        await using var pay = Server("pay", "pay.example.com");
        await using var other = Server("other", "a.example.com");
        await using var proxy = await TestProxy.StartAsync(Gateway(
            [Listener(ListenerProtocol.TlsPassthrough, "*.example.com", Route("shop/pay", "pay", "pay.example.com"), Route("shop/other", "other", "*.example.com"))],
            ("pay", pay), ("other", other)));
        Assert.That(await TlsClient.AskAsync(proxy.EndPoint(), "pay.example.com", _ca), Is.EqualTo(("pay pay.example.com", "ping")));
        Assert.That(await TlsClient.AskAsync(proxy.EndPoint(), "a.b.example.com", _ca), Is.EqualTo(("other a.b.example.com", "ping")));
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("tls.client.server_name").GetString(), Is.EqualTo("pay.example.com"));
        Assert.That(line.TryGetProperty("tls.established", out _), Is.False, "it is not ours");
        Assert.That(line.GetProperty("meshproxy.cluster").GetString(), Is.EqualTo("shop/pay:80"));
    }

    [TestCase("pay.example.org", "no_listener")]
    [TestCase("b.example.com", "no_route")]
    [TestCase(null, "no_listener")]
    public async Task What_no_route_takes_is_told_so_by_an_alert_and_logged(string? serverName, string why)
    {
        await using var pay = Server("pay", "pay.example.com");
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, "*.example.com", Route("shop/pay", "pay", "pay.example.com"))], ("pay", pay)));
        var error = await Assert.CatchAsync<Exception>(() => TlsClient.AskAsync(proxy.EndPoint(), serverName, _ca));
        Assert.That(error, Is.InstanceOf<AuthenticationException>(), "an alert, not a reset");
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("NR"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith(why));
        Assert.That(Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync()), Does.Contain("meshproxy_connection_refusals_total{direction=\"gateway\",reason=\"no_route\"} 1"));
        Assert.That(pay.Accepted, Is.Zero);
    }

    [Test]
    public async Task The_alert_is_all_that_a_refused_client_reads()
    {
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, null)]));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Transport.ClientHelloTests.Hello("pay.example.com"));
        Assert.That(await client.ReadToEndAsync(), Is.EqualTo(UnrecognizedName));
    }

    [TestCase("GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [TestCase("\x16\x03\x01\x00\x04\x02\x00\x00\x00")]
    [TestCase("\x80\x2e\x01\x03\x01\x00\x15")]
    public async Task What_is_no_ClientHello_is_refused(string bytes)
    {
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, null)]));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(bytes);
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        await proxy.Log.WaitForAsync("tls_failed");
    }

    [Test]
    public async Task A_hello_in_many_small_packets_and_records_passes_as_it_came()
    {
        var received = new TaskCompletionSource<byte[]>();
        var hello = Transport.ClientHelloTests.Recut(Transport.ClientHelloTests.Hello("pay.example.com"), 40);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            received.TrySetResult(await wire.ReadExactlyAsync(hello.Length));
            wire.Finish();
        });
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, null, Route("shop/pay", "pay", "pay.example.com"))]) with
        {
            Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty.Add(Configs.Id("pay"), Configs.Set(Configs.Id("pay"), server.EndPoint)),
        });
        await using var client = await proxy.DialAsync();
        foreach (var part in hello.Chunk(7))
        {
            await client.SendAsync(part);
        }

        Assert.That(await received.Task.WaitAsync(Wire.Patience), Is.EqualTo(hello));
        client.Finish();
        await client.ReadToEndAsync();
    }

    [Test]
    public async Task Much_that_passes_through_arrives_whole_in_both_directions_with_half_close()
    {
        var hello = Transport.ClientHelloTests.Hello("pay.example.com");
        byte[] data = [.. hello, .. Transport.Pipes.Pattern(6_000_000), .. Transport.Pipes.Pattern(100)];
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            var all = await wire.ReadToEndAsync();
            await wire.SendAsync("slow start");
            await wire.SendAsync(all);
            wire.Finish();
        });
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, null, Route("shop/pay", "pay", "pay.example.com"))]) with
        {
            Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty.Add(Configs.Id("pay"), Configs.Set(Configs.Id("pay"), server.EndPoint)),
        });
        var moved = SocketSplice.MovedBytes;
        await using var client = await proxy.DialAsync();
        await client.SendAsync(data);
        client.Finish();
        Assert.That((await client.ReadToEndAsync()).AsSpan(10).SequenceEqual(data), Is.True);
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("source.bytes").GetInt64(), line.GetProperty("destination.bytes").GetInt64()), Is.EqualTo((data.Length + 0L, data.Length + 10L)));
        Assert.That(SocketSplice.MovedBytes - moved, Is.GreaterThan(data.Length), "most of it was moved, not copied");
    }

    [Test]
    public async Task A_share_that_has_no_backend_is_refused_and_the_rest_is_served()
    {
        await using var pay = Server("pay", "pay.example.com");
        var route = Route("shop/pay", "pay", "pay.example.com") with { Backends = [new BackendConfig(Configs.Id("pay"), 1), new BackendConfig(null, 1, "TLSRoute shop/pay: there is no Service shop/gone")] };
        await using var proxy = await TestProxy.StartAsync(Gateway([Listener(ListenerProtocol.TlsPassthrough, null, route)], ("pay", pay)));
        var served = 0;
        for (var i = 0; i < 20; i++)
        {
            try
            {
                await TlsClient.AskAsync(proxy.EndPoint(), "pay.example.com", _ca);
                served++;
            }
            catch (Exception error) when (error is IOException or AuthenticationException)
            {
                // Its share.
            }
        }

        Assert.That(served, Is.InRange(9, 11));
    }

    [Test]
    public async Task Where_TLS_ends_here_the_route_sees_plaintext()
    {
        await using var pay = ScriptedServer.Http1(request => ScriptedServer.Ok("pay " + request.StartLine));
        await using var other = ScriptedServer.Http1(_ => ScriptedServer.Ok("other"));
        var listener = Listener(ListenerProtocol.Tls, null, Route("shop/pay", "pay", "pay.example.com"), Route("shop/other", "other", "other.example.com")) with
        {
            Certificates = [Certificate("pay.example.com", "other.example.com", "none.example.com")],
        };
        await using var proxy = await TestProxy.StartAsync(Gateway([listener]) with
        {
            Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty
                .Add(Configs.Id("pay"), Configs.Set(Configs.Id("pay"), pay.EndPoint)).Add(Configs.Id("other"), Configs.Set(Configs.Id("other"), other.EndPoint)),
        });
        foreach (var (name, expected) in new[] { ("pay.example.com", "pay GET / HTTP/1.1"), ("other.example.com", "other") })
        {
            await using var tls = await TlsClient.ConnectAsync(proxy.EndPoint(), name, _ca);
            await tls.WriteAsync(Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
            var buffer = new byte[4096];
            var read = await tls.ReadAtLeastAsync(buffer, 40).AsTask().WaitAsync(Wire.Patience);
            Assert.That(Encoding.ASCII.GetString(buffer, 0, read), Does.EndWith(expected));
        }

        await using var refused = await TlsClient.ConnectAsync(proxy.EndPoint(), "none.example.com", _ca);
        Assert.That(await refused.ReadAsync(new byte[1]).AsTask().WaitAsync(Wire.Patience), Is.Zero);
        await proxy.Log.WaitForAsync("no_route: no TLSRoute of listener shop/edge/Tls takes the server name 'none.example.com'");
    }

    [Test]
    public async Task One_port_passes_some_names_through_and_ends_TLS_for_others()
    {
        await using var pay = Server("pay", "pay.example.com");
        await using var web = ScriptedServer.Http1(_ => ScriptedServer.Ok("web"));
        var https = new ListenerConfig
        {
            Id = "shop/edge/https",
            Address = "127.0.0.1",
            Port = 0,
            Protocol = ListenerProtocol.Https,
            Hostname = "web.example.com",
            Certificates = [Certificate("web.example.com")],
            HttpRoutes = [Configs.Route(Configs.Rule(Configs.Id("web")))],
            BackendClusters = [Configs.Cluster("web")],
        };
        var config = Gateway([https, Listener(ListenerProtocol.TlsPassthrough, "pay.example.com", Route("shop/pay", "pay", "pay.example.com"))], ("pay", pay));
        await using var proxy = await TestProxy.StartAsync(config with { Endpoints = config.Endpoints.Add(Configs.Id("web"), Configs.Set(Configs.Id("web"), web.EndPoint)) });
        Assert.That((await TlsClient.AskAsync(proxy.EndPoint(), "pay.example.com", _ca)).Greeting, Is.EqualTo("pay pay.example.com"));
        await using var tls = await TlsClient.ConnectAsync(proxy.EndPoint(), "web.example.com", _ca);
        foreach (var (host, status) in new[] { ("web.example.com", "200"), ("pay.example.com", "421"), ("none.example.org", "404") })
        {
            await tls.WriteAsync(Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            var buffer = new byte[4096];
            var read = await tls.ReadAtLeastAsync(buffer, 12).AsTask().WaitAsync(Wire.Patience);
            Assert.That(Encoding.ASCII.GetString(buffer, 0, read), Does.StartWith("HTTP/1.1 " + status));
        }
    }

    // RFC 9110 section 15.5.20, and what Gateway API asks for of listeners that share a port.
    [TestCase("a.example.com", "a.example.com", "200")]
    [TestCase("a.example.com", "A.Example.com:443", "200")]
    [TestCase("a.example.com", "b.example.com", "421")]
    [TestCase("a.example.com", "x.example.com", "421")]
    [TestCase("x.example.com", "y.example.com", "200")]
    [TestCase("x.example.com", "a.example.com", "421")]
    [TestCase("a.example.com", "example.org", "404")]
    [TestCase(null, "a.example.com", "200")]
    [TestCase(null, "b.example.com", "200")]
    public async Task A_request_for_another_listener_than_its_connection_s_is_misdirected(string? serverName, string host, string status)
    {
        await using var web = ScriptedServer.Http1(_ => ScriptedServer.Ok("web"));
        ListenerConfig Https(string hostname) => new()
        {
            Id = $"shop/edge/{hostname}",
            Address = "127.0.0.1",
            Port = 0,
            Protocol = ListenerProtocol.Https,
            Hostname = hostname,
            Certificates = [Certificate("*.example.com")],
            HttpRoutes = [Configs.Route(Configs.Rule(Configs.Id("web")))],
            BackendClusters = [Configs.Cluster("web")],
        };
        var config = Gateway([Https("a.example.com"), Https("b.example.com"), Https("*.example.com")]);
        await using var proxy = await TestProxy.StartAsync(config with { Endpoints = config.Endpoints.Add(Configs.Id("web"), Configs.Set(Configs.Id("web"), web.EndPoint)) });
        await using var tls = await TlsClient.ConnectAsync(proxy.EndPoint(), serverName, _ca);
        for (var round = 0; round < 2; round++)
        {
            await tls.WriteAsync(Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            var buffer = new byte[4096];
            var read = await tls.ReadAtLeastAsync(buffer, 12).AsTask().WaitAsync(Wire.Patience);
            Assert.That(Encoding.ASCII.GetString(buffer, 0, read), Does.StartWith("HTTP/1.1 " + status));
        }

        Assert.That((await proxy.AccessAsync()).TryGetProperty("meshproxy.flags", out var flag) ? flag.GetString() : "", Is.EqualTo(status == "200" ? "" : "NR"));
    }

    [Test]
    public async Task East_west_the_server_name_chooses_among_the_routes_of_the_service()
    {
        await using var one = Server("one", "one.example.com");
        await using var two = Server("two", "two.example.com");
        var own = Configs.Cluster("db", AppProtocol.Tls);
        var destination = Configs.Destination(own, [], []);
        var config = destination with
        {
            Destinations = destination.Destinations.SetItem(own.Id.Service, destination.Destinations[own.Id.Service] with
            {
                Ports =
                [
                    new DestinationPortConfig
                    {
                        Cluster = own,
                        TlsRoutes = [Route("shop/one", "one", "one.example.com"), Route("shop/two", "two", "*.example.com")],
                        BackendClusters = [Configs.Cluster("one", AppProtocol.Tls), Configs.Cluster("two", AppProtocol.Tls)],
                    },
                ],
            }),
            Endpoints = destination.Endpoints.Add(Configs.Id("one"), Configs.Set(Configs.Id("one"), one.EndPoint)).Add(Configs.Id("two"), Configs.Set(Configs.Id("two"), two.EndPoint)),
        };
        await using var proxy = await TestProxy.StartAsync(config, new ProxyServerOptions { Namespace = "shop", Upstreams = [new UpstreamListenerOptions("db", 0)] });
        var endPoint = proxy.EndPoint("upstream/db");
        Assert.That((await TlsClient.AskAsync(endPoint, "one.example.com", _ca)).Greeting, Is.EqualTo("one one.example.com"));
        Assert.That((await TlsClient.AskAsync(endPoint, "x.example.com", _ca)).Greeting, Is.EqualTo("two x.example.com"));
        await Assert.CatchAsync<AuthenticationException>(() => TlsClient.AskAsync(endPoint, "example.org", _ca));
    }

    private TlsServer Server(string greeting, string name) => new(greeting, _ca.IssueServer(name), _ca.Intermediates);

    private ServerCertificateConfig Certificate(params string[] names)
    {
        var pem = _ca.ToPem(_ca.IssueServer(names));
        var key = pem[pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal)..];
        return new ServerCertificateConfig(new ResourceName("shop", "tls"), pem[..^key.Length], key);
    }

    private static TlsRouteConfig Route(string id, string service, params string[] hostnames) =>
        new() { Id = id, Hostnames = [.. hostnames], Backends = [new BackendConfig(Configs.Id(service), 1)] };

    private static ListenerConfig Listener(ListenerProtocol protocol, string? hostname, params TlsRouteConfig[] routes) => new()
    {
        Id = $"shop/edge/{protocol}",
        Address = "127.0.0.1",
        Port = 0,
        Protocol = protocol,
        Hostname = hostname,
        TlsRoutes = [.. routes],
        BackendClusters = [.. routes.SelectMany(route => route.Backends).Select(backend => backend.Cluster).OfType<ClusterId>().Distinct().Select(id => Configs.Cluster(id.Service.Name, AppProtocol.Tls))],
    };

    private static ProxyConfig Gateway(IEnumerable<ListenerConfig> listeners, params (string Service, TlsServer Server)[] servers) => new()
    {
        Revision = "1",
        Listeners = [.. listeners],
        Endpoints = servers.ToImmutableDictionary(pair => Configs.Id(pair.Service), pair => Configs.Set(Configs.Id(pair.Service), pair.Server.EndPoint)),
    };
}
