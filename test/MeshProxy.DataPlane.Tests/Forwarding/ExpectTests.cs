using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Expect: 100-continue from end to end (RFC 9110 section 10.1.1).</summary>
internal sealed class ExpectTests
{
    private const string Head = "PUT / HTTP/1.1\r\nHost: payments\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";

    [Test]
    public async Task The_endpoint_is_asked_and_its_own_100_is_relayed_behind_what_it_said_before()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadHeadAsync() is { } head)
            {
                await wire.SendAsync($"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\nX-Asked: {head.Fields["expect"]}\r\n\r\n");
                await wire.SendAsync(ScriptedServer.Ok(Encoding.ASCII.GetString(await wire.ReadExactlyAsync(3))));
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        for (var i = 0; i < 3; i++)
        {
            await client.SendAsync(Head);
            Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(103));
            var go = await client.ReadResponseAsync();
            Assert.That((go.Status, go.Fields["x-asked"]), Is.EqualTo((100, "100-continue")));
            await client.SendAsync("abc");
            Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("abc"));
        }

        Assert.That(server.Accepted, Is.EqualTo(1));
    }

    [TestCase(417)]
    [TestCase(200)]
    public async Task A_final_answer_instead_of_100_is_relayed_and_the_body_never_asked_for(int status)
    {
        var rest = new TaskCompletionSource<int>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.SendAsync($"HTTP/1.1 {status} Final\r\nContent-Length: 2\r\n\r\nno");
            rest.SetResult((await wire.ReadToEndAsync()).Length);
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Head);
        var answer = await client.ReadResponseAsync();
        Assert.That((answer.Status, answer.Text, answer.Fields["connection"]), Is.EqualTo((status, "no", "close")), "whether a body follows can not be known");
        Assert.That(await rest.Task.WaitAsync(Wire.Patience), Is.Zero);
    }

    [TestCase(AppProtocol.Http)]
    [TestCase(AppProtocol.Http2)]
    public async Task An_endpoint_that_says_nothing_gets_the_body_after_a_second(AppProtocol protocol)
    {
        var time = new ManualTime();
        var reached = new SemaphoreSlim(0);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            if (protocol == AppProtocol.Http)
            {
                await wire.ReadHeadAsync();
                reached.Release();
                await wire.SendAsync(ScriptedServer.Ok(Encoding.ASCII.GetString(await wire.ReadExactlyAsync(3))));
                return;
            }

            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            reached.Release();
            var data = await wire.ReadFrameAsync(Frame.Data);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, 0x88);
            await wire.SendFrameAsync(Frame.Data, 1, head.Stream, data.Payload);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint), time: time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Head);
        Assert.That(await reached.WaitAsync(Wire.Patience), Is.True);
        var go = client.ReadResponseAsync();
        time.Advance(TimeSpan.FromMilliseconds(800));
        Assert.That(go.IsCompleted, Is.False);

        // In small steps: the wait begins when the head has been sent, which the endpoint may see first.
        for (var i = 0; i < 100 && !go.IsCompleted; i++)
        {
            time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.WhenAny(go, Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System));
        }

        Assert.That((await go).Status, Is.EqualTo(100));
        await client.SendAsync("abc");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("abc"));
    }

    [Test]
    public async Task A_client_that_does_not_wait_is_not_waited_with()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok($"{request.Text}{request.Fields.ContainsKey("expect")}"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Head + "abc");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("abcFalse"), "no 100 either");

        // An expectation means nothing in HTTP/1.0, and nothing without a body.
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("True"), "passed on as it is");
        await using var old = await proxy.DialAsync();
        await old.SendAsync("PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
        await old.SendAsync("abc");
        Assert.That((await old.ReadResponseAsync()).StartLine, Does.Contain("200"), "1xx never goes to HTTP/1.0");
    }

    [Test]
    public async Task Over_HTTP2_the_expectation_and_the_100_travel_the_same_way()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "103"), ("link", "</a>")));
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "100")));
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "100")));
            var data = await wire.ReadFrameAsync(Frame.Data);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, 0x88);
            await wire.SendFrameAsync(Frame.Data, 1, head.Stream, data.Payload);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1,
            Wire.Block((":method", "PUT"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("expect", "100-continue")));
        var hints = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
        var go = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
        Assert.That((hints.Type, go.Type, go.EndsStream), Is.EqualTo((Frame.Headers, Frame.Headers, false)));
        await client.SendFrameAsync(Frame.Data, 1, 1, "abc"u8.ToArray());
        var final = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
        var body = await client.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
        Assert.That((final.Type, body.Type, Encoding.ASCII.GetString(body.Payload)), Is.EqualTo((Frame.Headers, Frame.Data, "abc")), "the second 100 goes nowhere");
    }

    [Test]
    public async Task Through_the_mesh_the_application_decides()
    {
        using var ca = new TestCa();
        await using var app = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadHeadAsync() is { } head)
            {
                Assert.That(head.Fields["expect"], Is.EqualTo("100-continue"));
                if (head.StartLine.Contains("/no", StringComparison.Ordinal))
                {
                    await wire.SendAsync("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    wire.Finish();
                    return;
                }

                await wire.SendAsync("HTTP/1.1 100 Continue\r\n\r\n");
                await wire.SendAsync(ScriptedServer.Ok(Encoding.ASCII.GetString(await wire.ReadExactlyAsync(3))));
            }
        });
        await using var mesh = await Mesh.StartAsync(ca, app.EndPoint);
        await using var client = await mesh.Client.DialAsync("outbound");
        await client.SendAsync(Head);
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(100));
        await client.SendAsync("abc");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("abc"));
        await client.SendAsync(Head.Replace("PUT / ", "PUT /no ", StringComparison.Ordinal));
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(401));
    }

    [Test]
    public async Task An_attempt_that_fails_while_the_client_waits_is_made_again_with_the_expectation()
    {
        async Task Serve(Wire wire, int number)
        {
            var head = await wire.ReadHeadAsync();
            if (number == 1 && Interlocked.Exchange(ref _failed, 1) == 0)
            {
                wire.Finish();
                await wire.ReadToEndAsync();
                return;
            }

            Assert.That(head!.Fields["expect"], Is.EqualTo("100-continue"));
            await wire.SendAsync("HTTP/1.1 100 Continue\r\n\r\n");
            await wire.SendAsync(ScriptedServer.Ok(Encoding.ASCII.GetString(await wire.ReadExactlyAsync(3))));
        }

        await using var one = new ScriptedServer(Serve);
        await using var two = new ScriptedServer(Serve);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), one.EndPoint, two.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Head);
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(100));
        await client.SendAsync("abc");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("abc"));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(2));
    }

    private int _failed;
}
