using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Exchanges through a gateway: scripts of bytes at both ends, or a foreign HTTP stack.</summary>
internal sealed class GatewayTests
{
    [Test]
    public async Task A_request_goes_through_and_back()
    {
        await using var server = ScriptedServer.Http1(request =>
            ScriptedServer.Ok($"{request.StartLine}|{request.Fields["host"]}|{request.Fields["x-request-id"].Length}|{request.Text}", "X-Answer: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\n"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        for (var i = 0; i < 3; i++)
        {
            await client.SendAsync("POST /pay?x=1 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\nx-meshproxy-failure: lie\r\n\r\nbody");
            var response = await client.ReadResponseAsync();
            Assert.That(response.Status, Is.EqualTo(200));
            Assert.That(response.Text, Is.EqualTo("POST /pay?x=1 HTTP/1.1|shop.example|32|body"));
            Assert.That(response.Fields, Does.ContainKey("x-answer").And.Not.ContainKey("x-hop"));
        }

        Assert.That(server.Accepted, Is.EqualTo(1), "the upstream connection is used again");
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(200));
        Assert.That(line.GetProperty("http.request.body.bytes").GetInt64(), Is.EqualTo(4));
        Assert.That(line.GetProperty("url.path").GetString(), Is.EqualTo("/pay"));
        Assert.That(line.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
        var metrics = System.Text.Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());
        Assert.That(metrics, Does.Contain("meshproxy_upstream_attempts_total{cluster=\"shop/payments:80\",result=\"ok\"} 3"));
        Assert.That(metrics, Does.Contain("meshproxy_upstream_connections_open{cluster=\"shop/payments:80\"} 1"));
    }

    [Test]
    public async Task Spoofed_fields_of_the_mesh_do_not_get_in()
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("");
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await proxy.GetAsync(fields: "x-forwarded-client-cert: By=me\r\nX-MeshProxy-Failure: UF\r\nx-meshproxy-anything: 1\r\nx-other: 1\r\n");
        Assert.That(seen!.Fields.Keys, Has.None.StartsWith("x-meshproxy-").And.None.EqualTo("x-forwarded-client-cert"));
        Assert.That(seen.Fields, Does.ContainKey("x-other"));
    }

    [TestCase("1.1", AppProtocol.Http)]
    [TestCase("1.1", AppProtocol.Http2)]
    [TestCase("2.0", AppProtocol.Http)]
    [TestCase("2.0", AppProtocol.Http2)]
    public async Task Foreign_clients_and_servers_of_either_version_understand_each_other(string version, AppProtocol protocol)
    {
        await using var server = await ForeignServer.StartAsync(protocol == AppProtocol.Http2 ? HttpProtocols.Http2 : HttpProtocols.Http1);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), version);
        for (var round = 0; round < 3; round++)
        {
            var small = await client.GetAsync("/hello");
            Assert.That(await small.Content.ReadAsStringAsync(), Is.EqualTo("hello"));
            Assert.That(small.Version, Is.EqualTo(Version.Parse(version)));
        }

        // A big upload that comes back: flow control and framing in both directions at once.
        var body = new byte[3_000_000];
        new Random(7).NextBytes(body);
        var echo = await client.PostAsync("/echo", new ByteArrayContent(body));
        Assert.That((await echo.Content.ReadAsByteArrayAsync()).AsSpan().SequenceEqual(body), Is.True);
        if (protocol == AppProtocol.Http2)
        {
            Assert.That(echo.TrailingHeaders.GetValues("x-sum").Single(), Is.EqualTo("3000000"));
        }

        var many = await Task.WhenAll(Enumerable.Range(0, 200).Select(async i => await client.GetStringAsync($"/path/{i}")));
        Assert.That(many, Is.EqualTo(Enumerable.Range(0, 200).Select(i => $"/path/{i}")));
        var head = await client.SendAsync(new HttpRequestMessage(HttpMethod.Head, "/hello"));
        Assert.That(head.Content.Headers.ContentLength, Is.EqualTo(5));
    }

    [Test]
    public async Task An_informational_head_and_trailers_are_passed_on()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n3\r\nabc\r\n0\r\nx-t: 9\r\n\r\n");
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
        var hints = await client.ReadResponseAsync();
        Assert.That((hints.Status, hints.Fields["link"]), Is.EqualTo((103, "</a>")));
        var response = await client.ReadResponseAsync();
        Assert.That((response.Status, response.Text, response.Trailers.GetValueOrDefault("x-t")), Is.EqualTo((200, "abc", "9")));
    }

    [Test]
    public async Task An_early_response_comes_whole_and_frees_everything_though_the_upstream_reads_no_more()
    {
        // The upstream answers from the head and never reads the body: the pump's write to it can not complete by itself.
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.SendAsync("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong");
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n");
        var sending = Task.Run(async () =>
        {
            var chunk = new byte[256 * 1024];
            for (var i = 0; i < 200; i++)
            {
                await client.SendAsync(chunk);
            }
        });
        var response = await client.ReadResponseAsync();
        Assert.That((response.Status, response.Text), Is.EqualTo((413, "long")));
        await proxy.QuietAsync();
        client.Socket.Dispose();
        await sending.ContinueWith(static task => _ = task.Exception, TaskScheduler.Default);
    }

    [Test]
    public async Task An_early_response_in_HTTP2_is_not_taken_back()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.SendAsync("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong");
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        await client.SendFrameAsync(Frame.Data, 0, 1, new byte[1000]);
        var frames = new List<Frame>();
        do
        {
            frames.Add(await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset));
        }
        while (frames[^1].Type != Frame.Reset);
        Assert.That(frames.Select(frame => frame.Type).Distinct(), Is.EqualTo(new[] { Frame.Headers, Frame.Data, Frame.Reset }));
        Assert.That(frames[^2].EndsStream, Is.True);
        Assert.That(frames[^1].Payload, Is.EqualTo(new byte[4]), "RFC 9113 section 8.1: NO_ERROR");
    }

    [TestCase("Transfer-Encoding: chunked\r\n\r\n5\r\nhel")]
    [TestCase("Content-Length: 10\r\n\r\nhel")]
    public async Task A_response_that_breaks_off_never_looks_whole(string rest)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\n{rest}");
            wire.Finish();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        foreach (var version in (string[])["1.1", "1.0"])
        {
            await using var client = await proxy.DialAsync();
            await client.SendAsync($"GET / HTTP/{version}\r\nHost: a\r\n\r\n");
            Assert.That(await client.EndsWithResetAsync(), Is.True, $"HTTP/{version}");
        }

        await using var http2 = await proxy.DialAsync();
        await http2.BeginHttp2Async();
        await http2.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        Frame frame;
        do
        {
            frame = await http2.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
            Assert.That(frame.Type == Frame.Reset || !frame.EndsStream, Is.True);
        }
        while (frame.Type != Frame.Reset);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UC"));
    }

    [Test]
    public async Task What_came_never_indexed_goes_on_never_indexed_and_priority_goes_on()
    {
        byte[] Never(string name, string value) => [0x10, .. Wire.Block((name, value))[1..]];
        byte[]? seen = null;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            seen = head.Payload;
            await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, [0x88, .. Never("x-card", "4711"), .. Wire.Block(("priority", "u=2"))]);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(0x10, 0, 0, [0, 0, 0, 1, .. "u=1"u8]);
        await client.SendFrameAsync(Frame.Headers, 5, 1, [
            .. Wire.Block((":method", "GET"), (":scheme", "http"), (":authority", "a")), 0x14, 7, .. "/secret"u8, .. Never("x-card", "4711"), .. Wire.Block(("priority", "u=1, i"))]);
        var response = await client.ReadFrameAsync(Frame.Headers);

        // RFC 7541 section 6.2.3, RFC 9218 section 5.
        Assert.That(seen.AsSpan().IndexOf(Never("x-card", "4711")), Is.Positive);
        Assert.That(seen.AsSpan().IndexOf((byte[])[0x14, 7, .. "/secret"u8]), Is.Positive);
        Assert.That(System.Text.Encoding.ASCII.GetString(seen!), Does.Contain("priority").And.Contain("u=1, i"));
        Assert.That(response.Payload.AsSpan().IndexOf(Never("x-card", "4711")), Is.Positive);
        Assert.That(System.Text.Encoding.ASCII.GetString(response.Payload), Does.Contain("u=2"));
    }

    [Test]
    public async Task A_caller_that_leaves_ends_the_attempt()
    {
        var gone = new TaskCompletionSource<bool>();
        var reached = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            reached.TrySetResult();
            await wire.EndsWithResetAsync();
            gone.TrySetResult(true);
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await reached.Task.WaitAsync(Wire.Patience);
        client.Reset();
        Assert.That(await gone.Task.WaitAsync(Wire.Patience), Is.True);
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));
        Assert.That(line.TryGetProperty("http.response.status_code", out _), Is.False);
    }

    [Test]
    public async Task An_HTTP2_stream_that_is_reset_resets_the_attempt_and_nothing_else()
    {
        var reset = new TaskCompletionSource<Frame>();
        var reached = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            reached.TrySetResult();
            reset.TrySetResult(await wire.ReadFrameAsync(Frame.Reset));
            var next = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 5, next.Stream, 0x88);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        var head = Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"));
        await client.SendFrameAsync(Frame.Headers, 4, 1, head);
        await reached.Task.WaitAsync(Wire.Patience);
        await client.SendFrameAsync(Frame.Reset, 0, 1, 0, 0, 0, 8);
        Assert.That((await reset.Task.WaitAsync(Wire.Patience)).Payload, Is.EqualTo(new byte[] { 0, 0, 0, 8 }));
        await client.SendFrameAsync(Frame.Headers, 5, 3, head);
        Assert.That((await client.ReadFrameAsync(Frame.Headers)).Stream, Is.EqualTo(3));
        Assert.That(server.Accepted, Is.EqualTo(1));
    }

    [Test]
    public async Task Weights_are_kept_from_the_first_hundred_requests_on()
    {
        await using var one = ScriptedServer.Http1(_ => ScriptedServer.Ok("1"));
        await using var two = ScriptedServer.Http1(_ => ScriptedServer.Ok("2"));
        var v1 = Configs.Cluster("v1");
        var v2 = Configs.Cluster("v2");
        var rule = Configs.Rule(v1.Id) with { Backends = [new BackendConfig(v1.Id, 80), new BackendConfig(v2.Id, 20), new BackendConfig(null, 0, "gone")] };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(rule)], [v1, v2], Configs.Set(v1.Id, one.EndPoint), Configs.Set(v2.Id, two.EndPoint)));
        await using var client = await proxy.DialAsync();
        var second = 0;
        for (var i = 0; i < 100; i++)
        {
            await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            second += (await client.ReadResponseAsync()).Text == "2" ? 1 : 0;
        }

        Assert.That(second, Is.InRange(18, 22));
    }

    [Test]
    public async Task Filters_change_heads_and_redirect()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(
            $"{request.StartLine.Split(' ')[1]}|{request.Fields["host"]}|{request.Fields.GetValueOrDefault("x-a")}|{request.Fields.GetValueOrDefault("x-b")}|{request.Fields.GetValueOrDefault("x-c")}",
            "x-secret: 1\r\nx-both: up\r\n"));
        var cluster = Configs.Cluster();
        var rewrite = Configs.Rule(cluster.Id) with
        {
            Matches = [Configs.Prefix("/old")],
            Filters =
            [
                new HeaderModifierConfig(false, [new("x-a", "set")], [new("x-b", "added")], ["x-c"]),
                new HeaderModifierConfig(true, [], [new("x-both", "proxy")], ["x-secret"]),
                new UrlRewriteConfig("inner.example", new PathRewriteConfig(true, "/new/")),
            ],
        };
        var redirect = new HttpRouteRuleConfig
        {
            Name = "1",
            Matches = [Configs.Prefix("/away")],
            Filters = [new RedirectConfig("https", null, new PathRewriteConfig(true, "/there"), null, 301)],
        };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(rewrite, redirect)], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
        var response = await proxy.GetAsync("/old/x?q=1", fields: "x-a: mine\r\nx-b: mine\r\nx-c: mine\r\n");
        Assert.That(response.Text, Is.EqualTo("/new/x?q=1|inner.example|set|mine, added|"));
        Assert.That(response.Fields["x-both"], Is.EqualTo("up, proxy"));
        Assert.That(response.Fields, Does.Not.ContainKey("x-secret"));
        var away = await proxy.GetAsync("/away/x?q=1", host: "shop.example:8080");
        Assert.That((away.Status, away.Fields["location"]), Is.EqualTo((301, "https://shop.example/there/x?q=1")));
        Assert.That((await proxy.GetAsync("/old")).Text, Does.StartWith("/new|"));
    }
}
