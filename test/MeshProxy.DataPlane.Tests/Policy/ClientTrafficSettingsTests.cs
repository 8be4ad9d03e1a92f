using System.Net;
using MeshProxy.DataPlane.Tests.Forwarding;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MeshProxy.DataPlane.Tests.Policy;

/// <summary>Each setting of a ClientTrafficPolicy at a gateway.</summary>
internal sealed class ClientTrafficSettingsTests
{
    [TestCase(UnderscorePolicy.Allow, 200, true)]
    [TestCase(UnderscorePolicy.Reject, 400, false)]
    [TestCase(UnderscorePolicy.Drop, 200, false)]
    public async Task Names_with_underscores(UnderscorePolicy policy, int status, bool passes)
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { Underscores = policy });
        foreach (var version in (string[])["1.1", "2.0"])
        {
            seen = null;
            using var client = ForeignServer.Client(proxy.EndPoint(), version);
            client.DefaultRequestHeaders.TryAddWithoutValidation("content_length", "1");
            client.DefaultRequestHeaders.TryAddWithoutValidation("x-fine", "1");
            var response = await client.GetAsync("/");
            Assert.That((int)response.StatusCode, Is.EqualTo(status), version);
            Assert.That(seen?.Fields.ContainsKey("content_length") ?? false, Is.EqualTo(passes), version);
            if (status == 400)
            {
                Assert.That(await response.Content.ReadAsStringAsync(), Does.StartWith("400 DPE: the name of a field"));
                Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.failure").GetString(), Does.StartWith("underscore_in_field_name"));
            }
            else
            {
                Assert.That(seen!.Fields, Does.ContainKey("x-fine"));
            }
        }
    }

    [Test]
    public async Task The_client_that_trusted_proxies_tell_is_logged_and_sent_on()
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { Forwarded = new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.Both, TrustedHops: 1) });
        await proxy.GetAsync(fields: "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
        Assert.That(seen!.Fields["x-forwarded-for"], Is.EqualTo("192.0.2.7, 127.0.0.1"));
        Assert.That(seen.Fields["x-forwarded-proto"], Is.EqualTo("https"));
        Assert.That(seen.Fields["forwarded"], Is.EqualTo("for=127.0.0.1;host=\"shop.example\";proto=http"));
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("client.ip").GetString(), Is.EqualTo("192.0.2.7"));
        Assert.That(line.GetProperty("source.ip").GetString(), Is.EqualTo("127.0.0.1"));
        await proxy.GetAsync();
        Assert.That((await proxy.AccessAsync()).TryGetProperty("client.ip", out _), Is.False, "nobody told it this time");
    }

    [TestCase(1, "https", "https://shop.example/there")]
    [TestCase(1, null, "http://shop.example:8080/there")]
    [TestCase(0, "https", "http://shop.example:8080/there")]
    public async Task A_redirect_that_names_no_scheme_has_the_one_that_a_trusted_proxy_tells(int hops, string? proto, string location)
    {
        var route = Configs.Route(new HttpRouteRuleConfig
        {
            Name = "0",
            Filters = [new RedirectConfig(null, null, new PathRewriteConfig(false, "/there"), 8080, 302) { IsListenerPort = true }],
        });
        var config = Configs.Gateway([route], []);
        var traffic = new ClientTrafficConfig { Forwarded = new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.XForwarded, hops) };
        await using var proxy = await TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { ClientTraffic = traffic }] });
        var fields = "X-Forwarded-For: 192.0.2.7\r\n" + (proto is null ? "" : $"X-Forwarded-Proto: {proto}\r\n");
        foreach (var version in (string[])["1.1", "2.0"])
        {
            using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
            {
                BaseAddress = new Uri($"http://{proxy.EndPoint()}"),
                DefaultRequestVersion = Version.Parse(version),
                DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
                DefaultRequestHeaders = { Host = "shop.example" },
            };
            foreach (var line in fields.Split("\r\n", StringSplitOptions.RemoveEmptyEntries))
            {
                client.DefaultRequestHeaders.TryAddWithoutValidation(line.Split(": ")[0], line.Split(": ")[1]);
            }

            var response = await client.GetAsync("/");
            Assert.That(((int)response.StatusCode, response.Headers.Location?.OriginalString), Is.EqualTo((302, location)), version);
        }

        // On the same connection nobody is remembered.
        await using var wire = await proxy.DialAsync();
        await wire.SendAsync($"GET / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\nGET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        Assert.That((await wire.ReadResponseAsync()).Fields["location"], Is.EqualTo(location));
        Assert.That((await wire.ReadResponseAsync()).Fields["location"], Is.EqualTo("http://shop.example:8080/there"));
    }

    [Test]
    public async Task Via_names_the_proxy_and_the_version_it_received_in_both_directions()
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("", "Via: 1.0 behind\r\n");
        });
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { AddsVia = true });
        foreach (var (version, via) in new[] { ("1.1", "1.0 front, 1.1 meshproxy"), ("2.0", "1.0 front, 2 meshproxy") })
        {
            using var client = ForeignServer.Client(proxy.EndPoint(), version);
            client.DefaultRequestHeaders.TryAddWithoutValidation("via", "1.0 front");
            var response = await client.GetAsync("/");
            Assert.That(seen!.Fields["via"], Is.EqualTo(via));
            Assert.That(string.Join(", ", response.Headers.GetValues("via")), Is.EqualTo("1.0 behind, 1.1 meshproxy"));
        }
    }

    [Test]
    public async Task An_Upgrade_that_is_not_allowed_is_passed_over()
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { UpgradeProtocols = ["other/1"] });
        await using var client = await proxy.DialAsync();
        for (var i = 0; i < 2; i++)
        {
            // The connection goes on: the second time is the proof.
            await client.SendAsync("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
            Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(200));
            Assert.That(seen!.Fields.Keys, Has.None.EqualTo("upgrade").And.None.EqualTo("connection"));
        }
    }

    [Test]
    public async Task An_extended_CONNECT_that_is_not_allowed_is_refused()
    {
        await using var proxy = await StartAsync(ScriptedServer.Closed(), new ClientTrafficConfig { UpgradeProtocols = ["other"] });
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(
            Frame.Headers, 0x4, 1, Wire.Block((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "shop.example"), (":path", "/chat")));
        await client.ReadFrameAsync(Frame.Headers);
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("http.response.status_code").GetInt32(), line.GetProperty("meshproxy.flags").GetString()), Is.EqualTo((501, "DPE")));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith("upgrade_not_allowed"));
    }

    [TestCase("1.1")]
    [TestCase("2.0")]
    public async Task A_body_that_is_too_long_gets_413(string version)
    {
        await using var server = await ForeignServer.StartAsync(HttpProtocols.Http1);
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { MaxRequestBodyBytes = 100_000 });
        using var client = ForeignServer.Client(proxy.EndPoint(), version);
        foreach (var (length, declared, status) in new[] { (100_000, true, 200), (100_001, true, 413), (100_000, false, 200), (100_001, false, 413), (400_000, false, 413) })
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "/echo")
            {
                Version = Version.Parse(version),
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = declared ? new ByteArrayContent(new byte[length]) : new Undeclared(length),
            };
            using var response = await client.SendAsync(request);
            Assert.That((int)response.StatusCode, Is.EqualTo(status), $"{length} {declared}");
            var line = await proxy.AccessAsync();
            Assert.That(line.TryGetProperty("meshproxy.failure", out var failure) ? failure.GetString() : "", status == 413 ? Does.StartWith("request_body_too_large") : Is.Empty);
        }
    }

    [Test]
    public async Task A_small_body_that_is_at_hand_is_judged_too()
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok(""));
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { MaxRequestBodyBytes = 4 });
        const string Chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        Assert.That((await proxy.SendAsync(Chunked + "4\r\nbody\r\n0\r\n\r\n")).Status, Is.EqualTo(200));
        var refused = await proxy.SendAsync(Chunked + "5\r\nbody+\r\n0\r\n\r\n");
        Assert.That((refused.Status, refused.Flag), Is.EqualTo((413, "DPE")));
        Assert.That((await proxy.PostAsync("body+")).Status, Is.EqualTo(413));
    }

    [Test]
    public async Task Deadlines_of_clients_are_believed_when_the_listener_says_so()
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var proxy = await StartAsync(server.EndPoint, new ClientTrafficConfig { BelievesDeadlines = true });
        await proxy.GetAsync(fields: "x-request-timeout: 60000\r\n");
        Assert.That(int.Parse(seen!.Fields["x-request-timeout"], System.Globalization.CultureInfo.InvariantCulture), Is.InRange(1, 60_000));
    }

    [Test]
    public async Task A_head_that_is_too_slow_gets_408()
    {
        var time = new ManualTime();
        await using var proxy = await StartAsync(ScriptedServer.Closed(), Timeouts(new() { RequestHead = TimeSpan.FromSeconds(2) }), time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: ");
        var answer = client.ReadResponseAsync();
        await time.AdvanceUntilAsync(answer, TimeSpan.FromSeconds(4));
        Assert.That((await answer).Status, Is.EqualTo(408));
    }

    [Test]
    public async Task An_idle_connection_closes()
    {
        var time = new ManualTime();
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok(""));
        await using var proxy = await StartAsync(server.EndPoint, Timeouts(new() { Idle = TimeSpan.FromSeconds(2) }), time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadResponseAsync();
        var end = client.ReadToEndAsync();
        await time.AdvanceUntilAsync(end, TimeSpan.FromSeconds(4));
        Assert.That(await end, Is.Empty);

        await using var multiplexed = await proxy.DialAsync();
        await multiplexed.BeginHttp2Async();
        var goAway = multiplexed.ReadFrameAsync(Frame.GoAway);
        await time.AdvanceUntilAsync(goAway, TimeSpan.FromSeconds(4));
        Assert.That((await goAway).Payload[7], Is.Zero, "NO_ERROR");
    }

    [Test]
    public async Task An_exchange_in_which_nothing_moves_ends()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is not null)
            {
            }
        });
        await using var proxy = await StartAsync(server.EndPoint, Timeouts(new() { StreamIdle = TimeSpan.FromSeconds(3) }), time);
        var answer = proxy.GetAsync();
        await time.AdvanceUntilAsync(answer, TimeSpan.FromSeconds(10));
        Assert.That(((await answer).Status, (await answer).Flag), Is.EqualTo((408, "SI")));
    }

    [Test]
    public async Task A_connection_that_is_too_old_is_asked_to_end()
    {
        var time = new ManualTime();
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok(""));
        await using var proxy = await StartAsync(server.EndPoint, Timeouts(new() { MaxConnectionAge = TimeSpan.FromSeconds(60) }), time);
        await using var client = await proxy.DialAsync();
        async Task<Message> AskAsync()
        {
            await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            return await client.ReadResponseAsync();
        }

        Assert.That((await AskAsync()).Fields, Does.Not.ContainKey("connection"));
        time.Advance(TimeSpan.FromSeconds(50));
        Assert.That((await AskAsync()).Fields, Does.Not.ContainKey("connection"), "younger than nine tenths of the age");

        // Half a second after the latest moment: the grace for a request under way is not over.
        time.Advance(TimeSpan.FromSeconds(4));
        var told = false;
        for (var i = 0; i < 30 && !told; i++)
        {
            time.Advance(TimeSpan.FromMilliseconds(500));
            told = (await AskAsync()).Fields.TryGetValue("connection", out var option) && option == "close";
        }

        Assert.That(told, "Connection: close on the next response");
        Assert.That(await client.ReadToEndAsync(), Is.Empty, "an orderly end");

        await using var multiplexed = await proxy.DialAsync();
        await multiplexed.BeginHttp2Async();
        var goAway = multiplexed.ReadFrameAsync(Frame.GoAway);
        await time.AdvanceUntilAsync(goAway, TimeSpan.FromSeconds(70));
        Assert.That((await goAway).Payload[7], Is.Zero, "NO_ERROR");
    }

    [Test]
    public async Task The_streams_of_a_connection_are_bounded_as_set()
    {
        await using var proxy = await StartAsync(ScriptedServer.Closed(), new ClientTrafficConfig { MaxConcurrentStreams = 7 });
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        var settings = await client.ReadFrameAsync(Frame.Settings);
        var streams = settings.Payload.Chunk(6).Where(setting => setting[1] == 3).Select(setting => setting[5]).ToArray();
        Assert.That(streams, Is.EqualTo(new[] { 7 }));
    }

    [Test]
    public async Task A_handshake_that_is_too_slow_ends()
    {
        using var ca = new TestCa();
        var pem = ca.ToPem(ca.IssueServer("shop.example"));
        var key = pem[pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal)..];
        var time = new ManualTime();
        var config = Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed());
        await using var proxy = await TestProxy.StartAsync(
            config with
            {
                Listeners =
                [
                    config.Listeners[0] with
                    {
                        Protocol = ListenerProtocol.Https,
                        Certificates = [new ServerCertificateConfig(new ResourceName("shop", "tls"), pem[..^key.Length], key)],
                        ClientTraffic = Timeouts(new() { TlsHandshake = TimeSpan.FromSeconds(1) }),
                    },
                ],
            },
            time: time);
        await using var client = await proxy.DialAsync();

        // The beginning of a ClientHello, and nothing more.
        await client.SendAsync([0x16, 0x03, 0x01]);
        var end = client.EndsWithResetAsync();
        await time.AdvanceUntilAsync(end, TimeSpan.FromSeconds(4));
        Assert.That(await end, "it is cut off");
        await proxy.Log.WaitForAsync("tls_failed");
    }

    [Test]
    public async Task An_endpoint_that_says_nothing_is_given_up_in_time()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) => await wire.ReadToEndAsync());
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2) with { ConnectTimeout = TimeSpan.FromSeconds(2) }, server.EndPoint), time: time);
        var answer = proxy.GetAsync();
        await time.AdvanceUntilAsync(answer, TimeSpan.FromSeconds(10));
        Assert.That(((await answer).Status, (await answer).Flag), Is.EqualTo((503, "UF")), "its first byte, SETTINGS, did not come");
    }

    [Test]
    public async Task An_upstream_connection_without_a_request_closes()
    {
        var time = new ManualTime();
        var ended = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync(ScriptedServer.Ok(""));
            await wire.ReadToEndAsync();
            ended.TrySetResult();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time: time);
        Assert.That((await proxy.GetAsync()).Status, Is.EqualTo(200));
        await time.AdvanceUntilAsync(ended.Task, TimeSpan.FromSeconds(6));
    }

    [Test]
    public async Task An_opaque_connection_without_a_byte_is_reset()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.SendAsync("hello");
            await wire.EndsWithResetAsync();
        });
        var cluster = Configs.Cluster(protocol: AppProtocol.Tcp);
        var config = Configs.Gateway(cluster, server.EndPoint);
        await using var proxy = await TestProxy.StartAsync(
            config with { Listeners = [config.Listeners[0] with { Protocol = ListenerProtocol.Tcp, HttpRoutes = [], TcpBackends = [new BackendConfig(cluster.Id, 1)] }] }, time: time);
        await using var client = await proxy.DialAsync();
        await client.ReadExactlyAsync(5);
        time.Advance(TimeSpan.FromMinutes(59));
        var end = client.EndsWithResetAsync();
        await time.AdvanceUntilAsync(end, TimeSpan.FromMinutes(2));
        Assert.That(await end, "both sides are reset");
    }

    private static Task<TestProxy> StartAsync(IPEndPoint server, ClientTrafficConfig traffic, TimeProvider? time = null)
    {
        var config = Configs.Gateway(Configs.Cluster(), server);
        return TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { ClientTraffic = traffic }] }, time: time);
    }

    private static ClientTrafficConfig Timeouts(ClientTimeoutsConfig timeouts) => new() { Timeouts = timeouts };

    /// <summary>Lets the clock go on in steps until something has happened, and proves that it has by then.</summary>
    private static string Keep(Message request, ref Message? seen)
    {
        seen = request;
        return ScriptedServer.Ok("");
    }

    /// <summary>Content whose length nobody is told.</summary>
    private sealed class Undeclared(int length) : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => stream.WriteAsync(new byte[length]).AsTask();

        protected override bool TryComputeLength(out long computed)
        {
            computed = 0;
            return false;
        }
    }
}
