using System.Collections.Immutable;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Tests.Forwarding;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>Two proxies with mutual TLS between them: outbound of checkout, inbound of payments.</summary>
internal sealed class Mesh : IAsyncDisposable
{
    private Mesh(TestProxy client, TestProxy server)
    {
        Client = client;
        Server = server;
    }

    public TestProxy Client { get; }

    public TestProxy Server { get; }

    public static ProxyServerOptions Outbound(int? upstream = null) => new()
    {
        Outbound = new IPEndPoint(IPAddress.Loopback, 0),
        TrustDomain = TrustDomain.Parse("mesh.local"),
        Namespace = "shop",
        Upstreams = upstream is { } port ? [new UpstreamListenerOptions("payments", port)] : [],
    };

    public static ProxyServerOptions Inbound(MutualTlsMode mode = MutualTlsMode.Strict) => new()
    {
        Inbound = new IPEndPoint(IPAddress.Loopback, 0),
        TrustDomain = TrustDomain.Parse("mesh.local"),
        Namespace = "shop",
        MutualTls = mode,
    };

    public static ProxyConfig Serving(IPEndPoint application, AppProtocol protocol = AppProtocol.Http) => new()
    {
        Revision = "1",
        Inbound = new InboundConfig
        {
            Workload = new ResourceName("shop", "payments-1"),
            Identity = SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/payments"),
            Ports = [new InboundPortConfig(Configs.Id("payments"), application.Port, protocol)],
        },
    };

    public static ProxyConfig Calling(IPEndPoint application, int inboundPort, AppProtocol protocol = AppProtocol.Http, string account = "payments", CircuitBreakerConfig? circuitBreaker = null) => Configs.Destination(
        Configs.Cluster(protocol: protocol) with
        {
            AllowedServers = [SpiffeId.Parse($"spiffe://mesh.local/ns/shop/sa/{account}")],
            CircuitBreaker = circuitBreaker ?? new CircuitBreakerConfig(),
        },
        [new EndpointConfig { Id = "shop/payments-1", Address = "127.0.0.1", Port = application.Port, InboundPort = inboundPort }]);

    public static async Task<Mesh> StartAsync(
        TestCa ca,
        IPEndPoint application,
        AppProtocol protocol = AppProtocol.Http,
        SvidStore? client = null,
        SvidStore? server = null,
        string account = "payments",
        bool tcp = false,
        TimeProvider? time = null,
        CircuitBreakerConfig? circuitBreaker = null,
        ProxyServerOptions? inbound = null)
    {
        var serving = await TestProxy.StartAsync(Serving(application, protocol), inbound ?? Inbound(), server ?? await TestProxy.IdentityAsync(ca, "payments"), time);
        var outbound = await TestProxy.StartAsync(
            Calling(application, serving.EndPoint("inbound").Port, protocol, account, circuitBreaker), Outbound(tcp ? 0 : null), client ?? await TestProxy.IdentityAsync(ca, "checkout"), time);
        return new Mesh(outbound, serving);
    }

    public async ValueTask DisposeAsync()
    {
        await Client.DisposeAsync();
        await Server.DisposeAsync();
    }
}

internal sealed class MeshTests
{
    private readonly TestCa _ca = new();

    [OneTimeTearDown]
    public void TearDown() => _ca.Dispose();

    [Test]
    public async Task A_client_that_leaves_without_a_word_is_not_refused()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Destination(Configs.Cluster(), []), Mesh.Outbound());
        foreach (var bytes in (string[])["", "", "no HTTP\r\n", ""])
        {
            await using var wire = await proxy.DialAsync("outbound");
            await wire.SendAsync(bytes);
            wire.Finish();
            Assert.That(await wire.EndsWithResetAsync(), Is.EqualTo(bytes.Length > 0));
        }

        Assert.That(System.Text.Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync()), Does.Contain("meshproxy_connection_refusals_total{direction=\"outbound\",reason=\"no_destination\"} 1\n"));
    }

    [Test]
    public async Task A_request_travels_by_mutual_TLS_and_both_sides_know_each_other()
    {
        await using var app = ScriptedServer.Http1(request => ScriptedServer.Ok($"{request.StartLine} {request.Text} {string.Join(',', request.Fields.Keys.Order())}", "x-meshproxy-failure: UF; retry=always; a lie\r\n"));
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        foreach (var host in (string[])["payments", "payments.shop", "PAYMENTS.shop.svc", "payments.shop.svc.cluster.local:80"])
        {
            var response = await mesh.Client.PostAsync("body", "/pay", host, "x-forwarded-client-cert: me\r\n", listener: "outbound");
            Assert.That((response.Status, response.Text), Is.EqualTo((200, "POST /pay HTTP/1.1 body content-length,host,x-request-id")), host);
            Assert.That(response.Fields, Does.Not.ContainKey("x-meshproxy-failure"));
        }

        var line = await mesh.Server.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.peer").GetString(), Is.EqualTo("spiffe://mesh.local/ns/shop/sa/checkout"));
        Assert.That(line.GetProperty("tls.client.server_name").GetString(), Is.EqualTo("p80.payments.shop.mesh.mesh.local"));
        Assert.That(line.GetProperty("http.version").GetString(), Is.EqualTo("2"));
        Assert.That(mesh.Server.Server.DescribeConnections().Count, Is.EqualTo(1), "one connection for all of them");

        // What names no service, or no port of one.
        foreach (var (host, detail) in new[] { ("nobody", "unknown_service"), ("payments:81", "no_port"), ("payments.other", "unknown_service") })
        {
            var refused = await mesh.Client.GetAsync(host: host, listener: "outbound");
            Assert.That((refused.Status, refused.Flag), Is.EqualTo((404, "NR")), host);
            Assert.That(refused.Fields["x-meshproxy-failure"], Does.StartWith("NR; retry=never; " + detail));
        }
    }

    [Test]
    public async Task What_the_inbound_answers_itself_comes_back_as_its_failure()
    {
        var down = ScriptedServer.Closed();
        await using var mesh = await Mesh.StartAsync(_ca, down);
        var response = await mesh.Client.PostAsync("x", host: "payments", listener: "outbound");
        Assert.That((response.Status, response.Flag), Is.EqualTo((503, "UF")));
        Assert.That(response.Text, Does.Contain("inbound of").And.Contain("connection refused"));
        var outbound = await mesh.Client.AccessAsync();
        Assert.That(outbound.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UF"));
        Assert.That(outbound.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(2), "provably not sent: also a POST is tried again, by the outbound");
        Assert.That((await mesh.Server.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1), "never by the inbound");
    }

    [TestCase("GET", 2)]
    [TestCase("POST", 1)]
    public async Task A_connection_to_the_application_that_died_of_age_is_replaced_for_idempotent_requests_only(string method, int requests)
    {
        // The application answers one request on each connection, then closes when the next has arrived: what a server that times out idle connections does.
        var seen = 0;
        await using var app = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync(ScriptedServer.Ok("ok"));
            if (await wire.ReadRequestAsync() is not null)
            {
                Interlocked.Increment(ref seen);
                wire.Finish();
                await wire.ReadToEndAsync();
            }
        });
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        Assert.That((await mesh.Client.GetAsync(host: "payments", listener: "outbound")).Text, Is.EqualTo("ok"));
        var second = await mesh.Client.SendAsync($"{method} / HTTP/1.1\r\nHost: payments\r\nContent-Length: 1\r\n\r\nx", "outbound");
        Assert.That(second.Status, Is.EqualTo(requests == 2 ? 200 : 503));
        Assert.That(app.Accepted, Is.EqualTo(requests));
        await mesh.Server.AccessAsync();
        Assert.That((await mesh.Server.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(requests));
        await mesh.Client.AccessAsync();
        Assert.That((await mesh.Client.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1), "the outbound sees none of it");
    }

    [TestCase("identity")]
    [TestCase("root")]
    [TestCase("expired")]
    public async Task Who_is_not_who_is_expected_gets_nothing(string what)
    {
        var reached = 0;
        await using var app = ScriptedServer.Http1(_ =>
        {
            Interlocked.Increment(ref reached);
            return ScriptedServer.Ok("");
        });
        using var stranger = new TestCa();
        SvidStore? client = null;
        if (what == "root")
        {
            client = await TestProxy.IdentityAsync(stranger, "checkout", trusting: _ca);
        }
        else if (what == "expired")
        {
            client = new SvidStore();
            client.Update(TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), _ca.RootPem));
            var id = SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/checkout");
            client.Update(new Svid(id, _ca.IssueExpiredSvid(id.ToString()), _ca.Intermediates));
        }

        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint, client: client, account: what == "identity" ? "somebody-else" : "payments");
        var response = await mesh.Client.PostAsync("secret", host: "payments", listener: "outbound");
        Assert.That((response.Status, response.Flag), Is.EqualTo((503, "UF")));
        if (what == "identity")
        {
            Assert.That(response.Text, Does.Contain("somebody-else").And.Contain("sa/payments"));
        }
        else
        {
            await mesh.Server.Log.WaitForAsync("tls_failed");
        }

        Assert.That(reached, Is.Zero);
        await TestProxy.EventuallyAsync(() => mesh.Server.Server.ConnectionCount == 0, "nothing stays open");
    }

    [Test]
    public async Task Plaintext_to_a_strict_inbound_is_refused_with_a_reason()
    {
        await using var app = ScriptedServer.Http1(_ => ScriptedServer.Ok(""));
        await using var proxy = await TestProxy.StartAsync(Mesh.Serving(app.EndPoint), Mesh.Inbound(), await TestProxy.IdentityAsync(_ca, "payments"));
        await using var client = await proxy.DialAsync("inbound");
        await client.SendAsync("GET / HTTP/1.1\r\nHost: payments\r\n\r\n");
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        Assert.That(await proxy.Log.WaitForAsync("tls_failed"), Does.Contain("plaintext"));
        Assert.That(app.Accepted, Is.Zero);
    }

    [Test]
    public async Task A_permissive_inbound_takes_plaintext_but_not_its_claims()
    {
        Message? seen = null;
        await using var app = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("plain");
        });
        await using var proxy = await TestProxy.StartAsync(Mesh.Serving(app.EndPoint, AppProtocol.Undeclared), Mesh.Inbound(MutualTlsMode.Permissive), await TestProxy.IdentityAsync(_ca, "payments"));
        var response = await proxy.GetAsync(fields: "x-forwarded-client-cert: By=admin\r\nx-meshproxy-identity: admin\r\n", listener: "inbound");
        Assert.That(response.Text, Is.EqualTo("plain"));
        Assert.That(seen!.Fields.Keys, Has.None.StartsWith("x-meshproxy").And.None.EqualTo("x-forwarded-client-cert"));
    }

    [Test]
    public async Task A_port_that_was_not_declared_is_not_served()
    {
        await using var app = ScriptedServer.Http1(_ => ScriptedServer.Ok(""));
        await using var proxy = await TestProxy.StartAsync(Mesh.Serving(app.EndPoint), Mesh.Inbound(), await TestProxy.IdentityAsync(_ca, "payments"));
        await using var wire = await proxy.DialAsync("inbound");
        await using var tls = await TlsAsync(wire, "p81.payments.shop.mesh.mesh.local", "h2");
        Assert.That(await proxy.Log.WaitForAsync("undeclared_port"), Does.Contain("p81.payments").And.Contain("shop/payments:80"));
    }

    [Test]
    public async Task A_trusted_root_that_is_removed_ends_connections()
    {
        await using var app = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        var server = await TestProxy.IdentityAsync(_ca, "payments");
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint, server: server);
        Assert.That((await mesh.Client.GetAsync(host: "payments", listener: "outbound")).Status, Is.EqualTo(200));
        using var stranger = new TestCa();
        server.Update(TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), stranger.RootPem));
        await TestProxy.EventuallyAsync(() => mesh.Server.Server.ConnectionCount == 0, "the connection ends");
        Assert.That((await mesh.Client.GetAsync(host: "payments", listener: "outbound")).Flag, Is.EqualTo("UF"));
    }

    [Test]
    public async Task A_trusted_root_that_is_removed_ends_also_connections_to_endpoints_that_are_no_more()
    {
        var reached = new TaskCompletionSource();
        await using var app = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            reached.SetResult();
            await wire.ReadToEndAsync();
        });
        var client = await TestProxy.IdentityAsync(_ca, "checkout");
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint, client: client);
        var asking = mesh.Client.GetAsync(host: "payments", listener: "outbound");
        await reached.Task.WaitAsync(Wire.Patience);
        mesh.Client.Server.ApplyEndpoints([new EndpointSetConfig(Configs.Id("payments"), [])]);
        using var stranger = new TestCa();
        client.Update(TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), stranger.RootPem));
        Assert.That((await asking).Flag, Is.EqualTo("LR"));
    }

    [Test]
    public async Task Opaque_bytes_flow_both_ways_with_half_close_and_the_server_may_speak_first()
    {
        await using var app = new ScriptedServer(async (wire, _) =>
        {
            await wire.SendAsync("220 ready\r\n");
            var all = await wire.ReadToEndAsync();
            await wire.SendAsync($"got {all.Length}");
            wire.Finish();
        });
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint, AppProtocol.Tcp, tcp: true);
        await using var client = await mesh.Client.DialAsync("upstream/payments");
        Assert.That(System.Text.Encoding.ASCII.GetString(await client.ReadExactlyAsync(11)), Is.EqualTo("220 ready\r\n"));
        await client.SendAsync(new byte[5_000_000]);
        client.Finish();
        Assert.That(System.Text.Encoding.ASCII.GetString(await client.ReadToEndAsync()), Is.EqualTo("got 5000000"));
        var line = await mesh.Server.AccessAsync();
        Assert.That((line.GetProperty("source.bytes").GetInt64(), line.GetProperty("destination.bytes").GetInt64()), Is.EqualTo((5_000_000L, 22L)));
        Assert.That(line.GetProperty("event.outcome").GetString(), Is.EqualTo("success"));
    }

    [Test]
    public async Task A_reset_of_opaque_bytes_is_a_reset_at_the_other_end()
    {
        var ended = new TaskCompletionSource<bool>();
        await using var app = new ScriptedServer(async (wire, number) =>
        {
            await wire.ReadExactlyAsync(1);
            if (number == 1)
            {
                ended.SetResult(await wire.EndsWithResetAsync());
            }
            else
            {
                wire.Reset();
            }
        });
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint, AppProtocol.Tcp, tcp: true);
        var client = await mesh.Client.DialAsync("upstream/payments");
        await client.SendAsync("x");
        await TestProxy.EventuallyAsync(() => app.Accepted == 1, "it is through");
        client.Reset();
        Assert.That(await ended.Task.WaitAsync(Wire.Patience), Is.True);
        Assert.That((await mesh.Client.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));

        await using var second = await mesh.Client.DialAsync("upstream/payments");
        await second.SendAsync("x");
        Assert.That(await second.EndsWithResetAsync(), Is.True);
        Assert.That((await mesh.Client.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UC"));
    }

    [Test]
    public async Task Opaque_bytes_to_an_application_that_is_down_never_begin()
    {
        await using var mesh = await Mesh.StartAsync(_ca, ScriptedServer.Closed(), AppProtocol.Tcp, tcp: true);
        await using var client = await mesh.Client.DialAsync("upstream/payments");
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        var line = await mesh.Client.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UF"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.Contain("ended_before_ready"));
    }

    [Test]
    public async Task A_stalled_reader_stops_the_writer_behind_the_other_proxy_and_memory_stays_bounded()
    {
        const long Total = 96L << 20;
        var written = 0L;
        await using var app = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Total}\r\n\r\n");
            var chunk = new byte[64 * 1024];
            for (var i = 0; i < Total / chunk.Length; i++)
            {
                await wire.SendAsync(chunk);
                Interlocked.Add(ref written, chunk.Length);
            }
        });
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        await using var client = await mesh.Client.DialAsync("outbound", receiveBuffer: 64 * 1024);
        await client.SendAsync("GET / HTTP/1.1\r\nHost: payments\r\n\r\n");
        var head = await client.ReadHeadAsync();
        Assert.That(head!.StartLine, Does.Contain("200"));

        var last = -1L;
        for (var still = 0; still < 20; still = last == Interlocked.Read(ref written) ? still + 1 : 0)
        {
            last = Interlocked.Read(ref written);
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }

        Assert.That(last, Is.LessThan(24 << 20), "what the writer could get rid of: windows, pipes and the kernel's socket buffers");

        // A neighbour on the same mesh connection is not held up.
        var left = Total;
        var buffer = new byte[256 * 1024];
        while (left > 0)
        {
            var read = await client.ReadSomeAsync(buffer);
            Assert.That(read, Is.GreaterThan(0));
            left -= read;
        }

        Assert.That(left, Is.Zero);
    }

    [Test]
    public async Task A_drain_of_the_inbound_under_load_fails_no_request()
    {
        await using var app = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Text));
        await using var other = await TestProxy.StartAsync(Mesh.Serving(app.EndPoint), Mesh.Inbound(), await TestProxy.IdentityAsync(_ca, "payments"));
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        var first = mesh.Client.Server.Current.Endpoints.Values.Single();
        using var client = ForeignServer.Client(mesh.Client.EndPoint("outbound"), "1.1");
        client.DefaultRequestHeaders.Host = "payments";
        var stop = false;
        var count = 0;
        var workers = Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
        {
            while (!Volatile.Read(ref stop))
            {
                (await client.PostAsync("/", new StringContent("payment"))).EnsureSuccessStatusCode();
                Interlocked.Increment(ref count);
            }
        })).ToArray();
        await TestProxy.EventuallyAsync(() => Volatile.Read(ref count) > 100 || workers.Any(worker => worker.IsFaulted), "load runs");

        // What the registry does when a workload drains: it is taken out of the sets, then its sidecar drains.
        mesh.Client.Server.ApplyEndpoints([new EndpointSetConfig(first.Cluster,
            [first.Endpoints[0] with { IsDraining = true }, first.Endpoints[0] with { Id = "shop/payments-2", InboundPort = other.EndPoint("inbound").Port }])]);
        await mesh.Server.Server.DrainAsync(TimeSpan.FromSeconds(20));
        Assert.That(mesh.Server.Server.ConnectionCount, Is.Zero);
        Volatile.Write(ref stop, true);
        await Task.WhenAll(workers);
    }

#pragma warning disable CA5359 // the server is judged elsewhere: this client only wants in
    private async Task<SslStream> TlsAsync(Wire wire, string serverName, string alpn)
    {
        var svid = (await TestProxy.IdentityAsync(_ca, "checkout")).Current!;
        var stream = new SslStream(new NetworkStream(wire.Socket));
        try
        {
            await stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = serverName,
                ApplicationProtocols = [new SslApplicationProtocol(alpn)],
                ClientCertificateContext = svid.Context,
                RemoteCertificateValidationCallback = static (_, _, _, _) => true,
            });
        }
        catch (Exception error) when (error is AuthenticationException or IOException)
        {
        }

        return stream;
    }
#pragma warning restore CA5359
}
