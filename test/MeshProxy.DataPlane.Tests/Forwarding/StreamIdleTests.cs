using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>timeouts.streamIdle (three seconds here) where one side is HTTP/2: what ends, how each side hears of it, and what goes on because something moves.</summary>
internal sealed class StreamIdleTests
{
    private static readonly byte[] s_noWindow = [0, 4, 0, 0, 0, 0];
    private static readonly byte[] s_ok = [0x88];

    // ---- The client's side is HTTP/2 ----

    [Test]
    public async Task An_endpoint_that_is_silent_before_its_head()
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource();
        await using var server = Silent(reached);
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await AskAsync(proxy, "GET");
        await reached.Task.WaitAsync(Wire.Patience);
        await UntilAsync(time, AnswerAsync(client), ":status 408, SI");
        await IdleIsLoggedAsync(proxy);
    }

    [Test]
    public async Task An_endpoint_that_is_silent_after_its_head_ends_the_stream_alone()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                await wire.SendAsync(request.StartLine.StartsWith("GET", StringComparison.Ordinal) ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal" : ScriptedServer.Ok("x"));
            }
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await AskAsync(proxy, "GET");
        await client.ReadFrameAsync(Frame.Headers);
        await UntilAsync(time, AnswerAsync(client), "RST_STREAM 8");
        await IdleIsLoggedAsync(proxy);
        await client.SendFrameAsync(Frame.Headers, 5, 3, Block("POST"));
        Assert.That(await AnswerAsync(client), Is.EqualTo(":status 200, x"), "the connection serves on");
    }

    [Test]
    public async Task A_client_that_stops_in_its_upload()
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource();
        await using var server = Silent(reached);
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await AskAsync(proxy, "POST", ends: false);
        await client.SendFrameAsync(Frame.Data, 0, 1, 1, 2, 3);
        await reached.Task.WaitAsync(Wire.Patience);
        await UntilAsync(time, AnswerAsync(client), ":status 408, SI");
        Assert.That((await client.ReadFrameAsync(Frame.Reset)).Payload[3], Is.Zero, "no more of the request, please");
        await IdleIsLoggedAsync(proxy);
    }

    [Test]
    public async Task A_client_whose_window_stays_shut()
    {
        var time = new ManualTime();
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("never read"));
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await AskAsync(proxy, "GET", s_noWindow);
        await client.ReadFrameAsync(Frame.Headers);
        await UntilAsync(time, AnswerAsync(client), "RST_STREAM");
        await proxy.QuietAsync();
    }

    [Test]
    public async Task A_client_that_reads_slowly_gets_all()
    {
        // One piece for the proxy, and much longer under way than the timeout.
        const int Length = 20_000;
        var time = new ManualTime();
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok(new string('x', Length)));
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await AskAsync(proxy, "GET", s_noWindow);
        await client.ReadFrameAsync(Frame.Headers);
        for (var received = 0; received < Length;)
        {
            await PassAsync(time, TimeSpan.FromSeconds(1));
            await client.SendFrameAsync(Frame.WindowUpdate, 0, 1, 0, 0, 0x07, 0xd0);
            var frame = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
            Assert.That(frame.Type, Is.EqualTo(Frame.Data), $"after {received} bytes");
            received += frame.Payload.Length;
        }
    }

    // ---- The endpoint's side is HTTP/2 ----

    [Test]
    public async Task An_HTTP2_endpoint_that_is_silent_before_its_head_is_told()
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource();
        var told = new TaskCompletionSource<Frame>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            reached.SetResult();
            told.SetResult(await wire.ReadFrameAsync(Frame.Reset));
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http2, time);
        var answer = AskHttp1Async(proxy);
        await reached.Task.WaitAsync(Wire.Patience);
        await UntilAsync(time, answer, "408 SI");
        Assert.That((await told.Task.WaitAsync(Wire.Patience)).Payload[3], Is.EqualTo(8), "CANCEL");
        await IdleIsLoggedAsync(proxy);
    }

    [Test]
    public async Task An_HTTP2_endpoint_that_is_silent_after_its_head_is_told()
    {
        var time = new ManualTime();
        var told = new TaskCompletionSource<Frame>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, 1, s_ok);
            await wire.SendFrameAsync(Frame.Data, 0, 1, 1, 2, 3);
            told.SetResult(await wire.ReadFrameAsync(Frame.Reset));
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http2, time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(200));
        var end = client.EndsWithResetAsync();
        await UntilAsync(time, EndAsync(end), "True");
        Assert.That((await told.Task.WaitAsync(Wire.Patience)).Payload[3], Is.EqualTo(8), "CANCEL");
        await IdleIsLoggedAsync(proxy);

        static async Task<string> EndAsync(Task<bool> end) => $"{await end}";
    }

    [Test]
    public async Task An_HTTP2_endpoint_whose_window_stays_shut()
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource();
        var told = new TaskCompletionSource<Frame>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async(s_noWindow);
            await wire.ReadFrameAsync(Frame.Headers);
            reached.SetResult();
            told.SetResult(await wire.ReadFrameAsync(Frame.Reset));
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http2, time);
        var answer = AskHttp1Async(proxy, new string('x', 100));
        await reached.Task.WaitAsync(Wire.Patience);
        await UntilAsync(time, answer, "408 SI");
        Assert.That((await told.Task.WaitAsync(Wire.Patience)).Payload[3], Is.EqualTo(8), "CANCEL");
        await IdleIsLoggedAsync(proxy);
    }

    [Test]
    public async Task An_HTTP2_endpoint_that_reads_slowly_gets_all()
    {
        const int Length = 20_000;
        var time = new ManualTime();
        var received = 0;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async(s_noWindow);
            await wire.ReadFrameAsync(Frame.Headers);
            while (received < Length)
            {
                await PassAsync(time, TimeSpan.FromSeconds(1));
                await wire.SendFrameAsync(Frame.WindowUpdate, 0, 1, 0, 0, 0x07, 0xd0);
                var frame = await wire.ReadFrameAsync(Frame.Data, Frame.Reset);
                if (frame.Type == Frame.Reset)
                {
                    break;
                }

                received += frame.Payload.Length;
            }

            await wire.SendFrameAsync(Frame.Headers, 5, 1, s_ok);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http2, time);
        Assert.That(await AskHttp1Async(proxy, new string('x', Length)), Is.EqualTo("200"), $"after {received} bytes");
        Assert.That(received, Is.EqualTo(Length));
    }

    [Test]
    public async Task An_HTTP2_endpoint_that_sends_slowly_is_read_to_its_end()
    {
        var time = new ManualTime();
        var go = new SemaphoreSlim(1);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, 1, s_ok);
            for (var i = 0; i < 6; i++)
            {
                await go.WaitAsync(Wire.Patience);
                await wire.SendFrameAsync(Frame.Data, (byte)(i == 5 ? 1 : 0), 1, (byte)'a');
            }

            await wire.ReadToEndAsync();
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http2, time);
        await using var client = await AskAsync(proxy, "GET");
        await client.ReadFrameAsync(Frame.Headers);
        for (var ended = false; !ended;)
        {
            var frame = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
            Assert.That(frame.Type, Is.EqualTo(Frame.Data));
            ended = (frame.Flags & 1) != 0;
            await PassAsync(time, TimeSpan.FromSeconds(2));
            go.Release();
        }
    }

    [Test]
    public async Task A_tunnel_in_which_nothing_moves_ends_also_on_a_connection_that_carried_an_upload()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                await wire.SendAsync(request.Fields.ContainsKey("upgrade")
                    ? "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nhello" : ScriptedServer.Ok("x"));
            }
        });
        await using var proxy = await StartAsync(server, AppProtocol.Http, time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        await client.SendAsync("0\r\n\r\n");
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(200));
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n");
        Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(101));
        var end = client.EndsWithResetAsync();
        await UntilAsync(time, EndAsync(end), "True");

        static async Task<string> EndAsync(Task<bool> end) => $"{await end}";
    }

    private static Task<TestProxy> StartAsync(ScriptedServer server, AppProtocol protocol, TimeProvider time)
    {
        var config = Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint);
        var traffic = new ClientTrafficConfig { Timeouts = new() { StreamIdle = TimeSpan.FromSeconds(3) }, UpgradeProtocols = ["other"] };
        return TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { ClientTraffic = traffic }] }, time: time);
    }

    private static byte[] Block(string method) => Wire.Block((":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a"));

    private static async Task<Wire> AskAsync(TestProxy proxy, string method, byte[]? settings = null, bool ends = true)
    {
        var client = await proxy.DialAsync();
        await client.SendAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        await client.SendFrameAsync(Frame.Settings, 0, 0, settings ?? []);
        await client.SendFrameAsync(Frame.Headers, (byte)(ends ? 5 : 4), 1, Block(method));
        return client;
    }

    private static async Task<string> AskHttp1Async(TestProxy proxy, string? body = null)
    {
        var answer = body is null ? await proxy.GetAsync() : await proxy.PostAsync(body);
        return answer.Status == 200 ? "200" : $"{answer.Status} {answer.Flag}";
    }

    /// <summary>The end of the next stream: a reset, or status and body, which of a reply of our own is its flag.</summary>
    private static async Task<string> AnswerAsync(Wire client)
    {
        var text = "";
        while (true)
        {
            var frame = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
            if (frame.Type == Frame.Reset)
            {
                return $"RST_STREAM {frame.Payload[3]}";
            }

            if (frame.Type == Frame.Headers)
            {
                text = frame.Payload[0] == 0x88 ? ":status 200, " : $":status {Encoding.ASCII.GetString(frame.Payload.AsSpan(frame.Payload.AsSpan().IndexOf("408"u8), 3))}, ";
            }
            else
            {
                var body = Encoding.ASCII.GetString(frame.Payload);
                text += body.StartsWith("408 ", StringComparison.Ordinal) ? body[4..6] : body;
            }

            if ((frame.Flags & 1) != 0)
            {
                return text;
            }
        }
    }

    private static async Task IdleIsLoggedAsync(TestProxy proxy)
    {
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("SI"));
        Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith("stream_idle"));
        await proxy.QuietAsync();
    }

    /// <summary>Lets the clock go on until the answer is there.</summary>
    /// <summary>An endpoint that tells of the head of a request, and answers nothing.</summary>
    private static ScriptedServer Silent(TaskCompletionSource reached) => new(async (wire, _) =>
    {
        await wire.ReadHeadAsync();
        reached.SetResult();
        await wire.ReadToEndAsync();
    });

    private static async Task UntilAsync(ManualTime time, Task<string> answer, string expected)
    {
        await time.AdvanceUntilAsync(answer, TimeSpan.FromSeconds(10));
        Assert.That(await answer, Does.StartWith(expected));
    }

    private static async Task PassAsync(ManualTime time, TimeSpan span)
    {
        for (var gone = TimeSpan.Zero; gone < span; gone += TimeSpan.FromMilliseconds(100))
        {
            time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System);
        }
    }
}
