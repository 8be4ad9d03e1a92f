using System.Net;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Every flag that this proxy can raise, raised once, with its status.</summary>
internal sealed class FlagTests
{
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    [Test]
    public async Task NR_no_route_and_NC_no_backend_and_UH_no_endpoint()
    {
        var cluster = Configs.Cluster();
        var route = Configs.Route(
            Configs.Rule(cluster.Id) with { Matches = [Configs.Prefix("/empty")] },
            new HttpRouteRuleConfig { Name = "1", Matches = [Configs.Prefix("/gone")], Backends = [new BackendConfig(null, 1, "Service shop/gone does not exist")] },
            new HttpRouteRuleConfig { Name = "2", Matches = [Configs.Prefix("/nothing")] });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([route], [cluster]));
        foreach (var (path, status, flag, grpc) in new[] { ("/other", 404, "NR", 12), ("/gone", 500, "NC", 14), ("/nothing", 500, "NC", 14), ("/empty", 503, "UH", 14) })
        {
            var response = await proxy.GetAsync(path);
            Assert.That((response.Status, response.Flag), Is.EqualTo((status, flag)), path);
            Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo(flag));
            using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
            var content = new ByteArrayContent([0, 0, 0, 0, 0]);
            content.Headers.ContentType = new("application/grpc");
            var told = await client.PostAsync(path, content);
            Assert.That(told.StatusCode, Is.EqualTo(HttpStatusCode.OK));
            Assert.That(told.Headers.GetValues("grpc-status").Single(), Is.EqualTo($"{grpc}"), path);
            Assert.That(told.Headers.GetValues("grpc-message").Single(), Does.StartWith(flag));
            Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo(flag));
        }
    }

    [Test]
    public async Task UO_too_many_requests_and_too_many_connections()
    {
        var release = new TaskCompletionSource();
        var reached = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is not null)
            {
                reached.TrySetResult();
                await release.Task;
                await wire.SendAsync(ScriptedServer.Ok("ok"));
            }
        });
        var cluster = Configs.Cluster() with { CircuitBreaker = new CircuitBreakerConfig { MaxRequests = 2, MaxConnections = 1, MaxPendingRequests = 1 } };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint));
        var first = proxy.GetAsync();
        await reached.Task.WaitAsync(Wire.Patience);
        var second = proxy.GetAsync();
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeClusters().Single() is { Requests: 2, PendingRequests: 1 }, "the second waits");
        var third = await proxy.GetAsync();
        Assert.That((third.Status, third.Flag), Is.EqualTo((503, "UO")));
        release.SetResult();
        Assert.That(((await first).Text, (await second).Text), Is.EqualTo(("ok", "ok")));
        Assert.That(server.Accepted, Is.EqualTo(1), "one connection is all it may have");

        // The one connection is at one endpoint; a second endpoint can not get any, and nobody waits for ever.
        await using var other = ScriptedServer.Http1(_ => ScriptedServer.Ok("other"));
        proxy.Server.ApplyEndpoints([Configs.Set(cluster.Id, server.EndPoint, other.EndPoint)]);
        var flags = new List<string>();
        for (var i = 0; i < 4; i++)
        {
            flags.Add((await proxy.GetAsync()) is { Status: 200 } ok ? ok.Text : "UO");
        }

        Assert.That(flags, Does.Contain("UO").And.Contain("ok"));
    }

    [Test]
    public async Task A_waiter_gets_the_place_of_a_connection_that_closes()
    {
        // "Connection: close" after each response, and one connection allowed: each waiter needs a dial that becomes possible only when the last one is gone.
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync(ScriptedServer.Ok("ok", "Connection: close\r\n"));
            wire.Finish();
            await wire.ReadToEndAsync();
        });
        var cluster = Configs.Cluster() with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1 } };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint));
        var answers = await Task.WhenAll(Enumerable.Range(0, 40).Select(_ => proxy.GetAsync()));
        Assert.That(answers.Select(answer => answer.Text), Is.All.EqualTo("ok"));
    }

    [Test]
    public async Task UF_nobody_listens()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        var response = await proxy.PostAsync("x");
        Assert.That((response.Status, response.Flag), Is.EqualTo((503, "UF")));
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.Contain("connection refused").And.Contain("127.0.0.1:"));
        Assert.That(line.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(2));
        var metrics = System.Text.Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());
        Assert.That(metrics, Does.Contain("meshproxy_upstream_attempts_total{cluster=\"shop/payments:80\",result=\"UF\"} 2"));
    }

    [TestCase("", "UC", 503)]
    [TestCase("HTTP/1.1 2xx what\r\n\r\n", "UPE", 502)]
    [TestCase("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "UPE", 502)]
    [TestCase("HTTP/1.1 101 Switching Protocols\r\n\r\n", "UPE", 502)]
    public async Task UC_and_UPE_what_the_endpoint_did(string answer, string flag, int status)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync(answer);
            wire.Finish();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var response = await proxy.PostAsync("x");
        Assert.That((response.Status, response.Flag), Is.EqualTo((status, flag)));
        Assert.That(server.Accepted, Is.EqualTo(1), "a POST that may have been processed is not sent again");
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo(flag));
    }

    [Test]
    public async Task UR_the_endpoint_resets_the_stream()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            while (true)
            {
                var head = await wire.ReadFrameAsync(Frame.Headers);
                await wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 2);
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        var response = await proxy.PostAsync("x");
        Assert.That((response.Status, response.Flag), Is.EqualTo((503, "UR")));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
    }

    [TestCase(100, false, "DPE", 431)]
    [TestCase(4000, true, "DPE", 431)]
    public async Task DPE_the_endpoint_takes_no_fields_of_that_size(int announced, bool inTrailers, string flag, int status)
    {
        var seen = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async(0, 6, 0, 0, (byte)(announced >> 8), (byte)announced);
            await wire.ReadFrameAsync(Frame.Headers);
            seen.SetResult();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        var large = $"X-Large: {new string('x', 5000)}\r\n";
        var response = await proxy.SendAsync(
            $"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{(inTrailers ? large : "")}\r\n");
        Assert.That((response.Status, response.Flag), Is.EqualTo((status, flag)));
        if (inTrailers)
        {
            await seen.Task.WaitAsync(Wire.Patience);
        }

        Assert.That(seen.Task.IsCompleted, Is.EqualTo(inTrailers), "a head that is too large is not sent");
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo(flag));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith(inTrailers ? "request_trailers_too_large" : "request_head_too_large"));
        Assert.That(line.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1), "another endpoint takes no more");
    }

    [TestCase("X-Large: {0}\r\nContent-Length: 2\r\n\r\nok", "502", "response_head_too_large")]
    [TestCase("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Large: {0}\r\n\r\n", "RST_STREAM 2", "response_trailers_too_large")]
    public async Task UPE_the_caller_takes_no_fields_of_that_size(string answer, string expected, string detail)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync("HTTP/1.1 200 OK\r\n" + answer.Replace("{0}", new string('x', 1000), StringComparison.Ordinal));
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        await client.SendFrameAsync(Frame.Settings, 0, 0, 0, 6, 0, 0, 2, 0);
        await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")));
        Frame frame;
        while ((frame = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset)).Type != Frame.Reset && (frame.Flags & 1) == 0)
        {
            // Up to the end.
        }

        var told = frame.Type == Frame.Reset ? $"RST_STREAM {frame.Payload[3]}" : System.Text.Encoding.ASCII.GetString(frame.Payload)[..3];
        Assert.That(told, Is.EqualTo(expected));
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UPE"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith(detail));
    }

    [TestCase("UT", 504, 15, null, null)]
    [TestCase("UT", 504, 3, 0.0, 3.0)]
    [TestCase("DT", 504, 2, 2.0, null)]
    [TestCase("SI", 408, 301, 0.0, null)]
    public async Task UT_DT_SI_time_passes(string flag, int status, int seconds, double? timeout, double? attemptTimeout)
    {
        var time = new ManualTime();
        var reached = new SemaphoreSlim(0);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is not null)
            {
                reached.Release();
            }
        });
        var cluster = Configs.Cluster();
        var rule = Configs.Rule(cluster.Id) with
        {
            RequestTimeout = timeout is { } s ? TimeSpan.FromSeconds(s) : null,
            BackendRequestTimeout = attemptTimeout is { } each ? TimeSpan.FromSeconds(each) : null,
        };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(rule)], [cluster], Configs.Set(cluster.Id, server.EndPoint)), time: time);
        foreach (var request in (string[])[Get, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"])
        {
            await using var client = await proxy.DialAsync();
            await client.SendAsync(request);
            Assert.That(await reached.WaitAsync(Wire.Patience), Is.True);
            var answer = client.ReadResponseAsync();
            time.Advance(TimeSpan.FromSeconds(seconds - 1.5));
            Assert.That(answer.IsCompleted, Is.False);
            await time.AdvanceUntilAsync(answer, TimeSpan.FromSeconds(2));
            Assert.That(((await answer).Status, (await answer).Flag), Is.EqualTo((status, flag)));
            Assert.That((await answer).Fields.GetValueOrDefault("connection"), Is.EqualTo(status == 408 ? "close" : null));
        }
    }

    [Test]
    public async Task An_exchange_that_was_stopped_while_it_waited_for_a_connection_leaves_no_place_behind()
    {
        // The first request waits for a connection to "slow" and runs out of time; the next on the same connection goes to "fast". When slow's connection
        // comes free at last, nobody may be served there in the name of the first.
        var time = new ManualTime();
        var free = new TaskCompletionSource();
        var slowPaths = new List<string>();
        await using var slow = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                lock (slowPaths)
                {
                    slowPaths.Add(request.StartLine);
                }

                await free.Task;
                await wire.SendAsync(ScriptedServer.Ok("slow"));
            }
        });
        var fastMayAnswer = new TaskCompletionSource();
        var fastReached = new TaskCompletionSource();
        await using var fast = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                fastReached.TrySetResult();
                await fastMayAnswer.Task;
                await wire.SendAsync(ScriptedServer.Ok(request.StartLine));
            }
        });
        var slowCluster = Configs.Cluster("slow") with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1 } };
        var fastCluster = Configs.Cluster("fast") with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1 } };
        var second = TimeSpan.FromSeconds(1);
        var route = Configs.Route(
            Configs.Rule(slowCluster.Id) with { Matches = [Configs.Prefix("/holds")], RequestTimeout = TimeSpan.Zero },
            Configs.Rule(slowCluster.Id) with { Matches = [Configs.Prefix("/slow")], RequestTimeout = second },
            Configs.Rule(fastCluster.Id) with { Matches = [Configs.Prefix("/fast")], RequestTimeout = TimeSpan.Zero });
        await using var proxy = await TestProxy.StartAsync(
            Configs.Gateway([route], [slowCluster, fastCluster], Configs.Set(slowCluster.Id, slow.EndPoint), Configs.Set(fastCluster.Id, fast.EndPoint)), time: time);
        var holder = proxy.GetAsync("/holds");
        await TestProxy.EventuallyAsync(() => slow.Accepted == 1, "one request holds slow's only connection");
        var other = proxy.GetAsync("/fast/holds");
        await fastReached.Task.WaitAsync(Wire.Patience);

        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeClusters().Any(cluster => cluster is { Name: "shop/slow:80", PendingRequests: 1 }), "it waits");
        time.Advance(TimeSpan.FromSeconds(1.2));
        Assert.That((await client.ReadResponseAsync()).Flag, Is.EqualTo("DT"));
        await client.SendAsync("GET /fast/mine HTTP/1.1\r\nHost: a\r\n\r\n");
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeClusters().Any(cluster => cluster is { Name: "shop/fast:80", PendingRequests: 1 }), "now it waits for fast");
        free.SetResult();
        Assert.That((await holder).Text, Is.EqualTo("slow"));
        fastMayAnswer.SetResult();
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("GET /fast/mine HTTP/1.1"));
        await other;
        Assert.That(slowPaths, Is.EqualTo(new[] { "GET /holds HTTP/1.1" }));
    }

    [Test]
    public async Task DPE_a_body_that_breaks_the_rules()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nnonsense\r\n");
        var response = await client.ReadResponseAsync();
        Assert.That((response.Status, response.Flag), Is.EqualTo((400, "DPE")));
    }

    [TestCase("chunk extensions", 413, "chunk_extensions_too_large")]
    [TestCase("trailers", 431, "trailers_too_large")]
    [TestCase("many trailers", 431, "too_many_trailers")]
    public async Task DPE_a_body_that_turns_out_too_large(string what, int status, string detail)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.EndsWithResetAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        foreach (var type in (string[])["text/plain", "application/grpc"])
        {
            await using var client = await proxy.DialAsync();
            await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
            await client.SendAsync(what switch
            {
                "chunk extensions" => $"2;{new string('x', 300)}\r\nab\r\n",
                "trailers" => $"0\r\nx: {new string('x', 62_000)}\r\n\r\n",
                _ => $"0\r\n{string.Concat(Enumerable.Range(0, 101).Select(i => $"x{i}: 1\r\n"))}\r\n",
            });
            var response = await client.ReadResponseAsync();
            var grpc = type == "application/grpc";
            Assert.That(response.Status, Is.EqualTo(grpc ? 200 : status));
            Assert.That(grpc ? response.Fields["grpc-status"] : response.Flag, Is.EqualTo(grpc ? "8" : "DPE"));
            Assert.That(response.Fields["connection"], Is.EqualTo("close"), "nobody knows where the next request begins");
            var line = await proxy.AccessAsync();
            Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DPE"));
            Assert.That(line.GetProperty("meshproxy.failure").GetString(), Is.EqualTo($"request_body: {detail}"));
            Assert.That(line.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
        }
    }

    [TestCase("trailers", 11, "trailers_too_large")]
    [TestCase("length", 1, "content_length_mismatch")]
    public async Task DPE_an_HTTP2_body_that_breaks_the_rules_is_reset(string what, int code, string detail)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.EndsWithResetAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("content-length", "3")));
        if (what == "trailers")
        {
            await client.SendFrameAsync(Frame.Data, 0, 1, 1, 2, 3);
            await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block([.. Enumerable.Range(0, 101).Select(i => ($"f{i}", "v"))]));
        }
        else
        {
            await client.SendFrameAsync(Frame.Data, 1, 1, 1, 2, 3, 4);
        }

        var reset = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
        Assert.That((reset.Type, reset.Payload[3]), Is.EqualTo((Frame.Reset, (byte)code)));
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DPE"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.EndWith(detail));
    }

    // RFC 9110 section 15.6.3 while there is a status to be told; once the head is out the response must not look whole.
    [TestCase("0\r\nx: ", 62_000)]
    [TestCase("2;", 300)]
    public async Task UPE_a_response_whose_framing_is_too_large_is_broken_off(string framing, int size)
    {
        await using var server = ScriptedServer.Http1(_ => $"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n{framing}{new string('x', size)}\r\n\r\n");
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var wire = await proxy.DialAsync();
        await wire.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.That(await wire.EndsWithResetAsync());
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UPE"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.Contain("too_large"));
    }

    [Test]
    public async Task DPE_a_malformed_HTTP2_request_is_reset_and_counted()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/p?q"), ("Upper", "1")));
        var reset = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
        Assert.That((reset.Type, reset.Payload[3]), Is.EqualTo((Frame.Reset, (byte)1)), "RFC 9113 section 8.1.1: PROTOCOL_ERROR");
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DPE"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Is.EqualTo("invalid_field_name"));
        Assert.That(line.GetProperty("url.path").GetString(), Is.EqualTo("/p"));
        Assert.That(System.Text.Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync()), Does.Match("meshproxy_requests_total\\{[^}]*flag=\"DPE\"\\} 1"));
    }

    [Test]
    public async Task DT_who_waited_for_a_connection_in_vain_is_answered_and_keeps_no_place()
    {
        var time = new ManualTime();
        var held = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadExactlyAsync(1);
            held.TrySetResult();
            await wire.ReadToEndAsync();
        });
        var cluster = Configs.Cluster() with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1 } };
        var route = Configs.Route(
            Configs.Rule(cluster.Id) with { Matches = [Configs.Prefix("/holds")], RequestTimeout = TimeSpan.Zero },
            Configs.Rule(cluster.Id) with { RequestTimeout = TimeSpan.FromSeconds(1) });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([route], [cluster], Configs.Set(cluster.Id, server.EndPoint)), time: time);
        var holder = proxy.GetAsync("/holds");
        await held.Task.WaitAsync(Wire.Patience);
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        foreach (var stream in (int[])[1, 3])
        {
            await client.SendFrameAsync(Frame.Headers, 4, stream, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
            await client.SendFrameAsync(Frame.Data, 1, stream, 1);
            await TestProxy.EventuallyAsync(() => proxy.Server.DescribeClusters().Single().PendingRequests == 1, "it waits");
            time.Advance(TimeSpan.FromSeconds(1.2));
            var head = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
            Assert.That((head.Type, head.Stream), Is.EqualTo((Frame.Headers, stream)));
            Assert.That(System.Text.Encoding.ASCII.GetString(head.Payload), Does.Contain("504"));
            time.Advance(TimeSpan.FromSeconds(1));
            Assert.That(proxy.Server.DescribeClusters().Single().PendingRequests, Is.Zero, "who gave up waits no more");
        }

        await client.SendFrameAsync(Frame.Ping, 0, 0, new byte[8]);
        for (var frame = await client.ReadFrameAsync(Frame.Ping, Frame.Reset); frame.Type != Frame.Ping || frame.Flags == 0; frame = await client.ReadFrameAsync(Frame.Ping, Frame.Reset))
        {
            // NO_ERROR says that the rest of the request is not wanted (RFC 9113 section 8.1): the answer stands.
            Assert.That(frame.Type == Frame.Ping || frame.Payload[3] == 0, Convert.ToHexString(frame.Payload));
        }

        proxy.MayBeBusy = true;
    }

    [Test]
    public async Task SI_an_HTTP2_stream_that_never_ends()
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadExactlyAsync(1);
            reached.TrySetResult();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time: time);
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        await reached.Task.WaitAsync(Wire.Patience);
        await client.SendFrameAsync(Frame.Ping, 0, 0, new byte[8]);
        while ((await client.ReadFrameAsync(Frame.Ping)).Flags == 0)
        {
        }

        // Its answer comes after the acknowledgement of our SETTINGS.
        await client.SendFrameAsync(Frame.Ping, 0, 0, new byte[8]);
        while ((await client.ReadFrameAsync(Frame.Ping)).Flags == 0)
        {
        }

        time.Advance(TimeSpan.FromSeconds(299));
        Assert.That(proxy.Server.DescribeConnections().Single().ActiveExchanges, Is.EqualTo(1));
        time.Advance(TimeSpan.FromSeconds(2));
        var head = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
        Assert.That(System.Text.Encoding.ASCII.GetString(head.Payload), Does.Contain("408"));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("SI"));
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeConnections().Single().ActiveExchanges == 0, "its place is free");
    }

    [Test]
    public async Task Abuse_of_HTTP2_is_counted()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Settings, 0, 0, new byte[33 * 6]);
        var goAway = await client.ReadFrameAsync(Frame.GoAway);
        Assert.That(goAway.Payload[7], Is.EqualTo(11), "ENHANCE_YOUR_CALM");
        await client.ReadToEndAsync();
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeConnections().Count == 0, "it is closed");
        var metrics = System.Text.Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());
        Assert.That(metrics, Does.Contain("meshproxy_http2_abuse_total{side=\"downstream\",kind=\"settings_list_too_long\"} 1"));
        Assert.That(metrics, Does.Contain("meshproxy_connection_closes_total{direction=\"gateway\",reason=\"abuse\"} 1"));
    }

    [Test]
    public async Task DPE_an_oversized_HTTP2_head_is_answered_431()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        (string, string)[] fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), .. Enumerable.Range(0, 101).Select(i => ($"f{i}", "v"))];
        await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block(fields));
        var head = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
        Assert.That(System.Text.Encoding.ASCII.GetString(head.Payload), Does.Contain("431"));
        var body = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
        Assert.That((System.Text.Encoding.ASCII.GetString(body.Payload), body.EndsStream), Is.EqualTo(("431 DPE: too_many_fields\n", true)));
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("meshproxy.flags").GetString(), line.GetProperty("http.response.status_code").GetInt32()), Is.EqualTo(("DPE", 431)));
    }

    [Test]
    public async Task URX_the_retry_budget_is_used_up()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        var flags = new List<string>();
        for (var i = 0; i < 200; i++)
        {
            await client.SendAsync(Get);
            flags.Add((await client.ReadResponseAsync()).Flag);
        }

        // Ten a second over ten seconds, and one for every five requests.
        Assert.That(flags.IndexOf("URX"), Is.InRange(100, 140));
        Assert.That(flags.Skip(flags.IndexOf("URX")), Has.Some.EqualTo("UF"), "each fifth request earns one");
    }
}
