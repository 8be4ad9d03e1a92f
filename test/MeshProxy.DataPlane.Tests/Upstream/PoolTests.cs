using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Upstream;

/// <summary>How many HTTP/2 connections there are to an endpoint, what each carries, and when it is renewed.</summary>
internal sealed class PoolTests
{
    [Test]
    public async Task Beyond_the_stream_limit_there_are_further_connections_and_requests_are_spread()
    {
        var open = new BlockingCollection<(Wire Wire, int Connection, int Stream)>();
        await using var server = new ScriptedServer(async (wire, number) =>
        {
            await wire.AcceptHttp2Async(0, 3, 0, 0, 0, 2);
            while (true)
            {
                open.Add((wire, number, (await wire.ReadFrameAsync(Frame.Headers)).Stream));
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        async Task<int[]> RoundAsync(int requests)
        {
            var responses = Enumerable.Range(0, requests).Select(_ => proxy.GetAsync()).ToArray();
            var streams = new List<(Wire Wire, int Connection, int Stream)>();
            await TestProxy.EventuallyAsync(
                () =>
                {
                    while (open.TryTake(out var stream))
                    {
                        streams.Add(stream);
                    }

                    return streams.Count == requests;
                },
                "every request is under way at once");
            foreach (var (wire, _, stream) in streams)
            {
                await wire.SendFrameAsync(Frame.Headers, 5, stream, 0x88);
            }

            Assert.That((await Task.WhenAll(responses)).Select(response => response.Status), Has.All.EqualTo(200));
            await proxy.QuietAsync();
            return [.. streams.GroupBy(stream => stream.Connection).Select(group => group.Count()).Order()];
        }

        Assert.That(await RoundAsync(6), Is.EqualTo(new[] { 2, 2, 2 }), "three connections of two streams");

        // Each event loop takes the least busy one of its own: two requests of a loop that has but one share it.
        Assert.That(await RoundAsync(3), Is.EqualTo(new[] { 1, 1, 1 }).Or.EqualTo(new[] { 1, 2 }), "the least busy one is taken");
        Assert.That(await RoundAsync(1), Is.EqualTo(new[] { 1 }));
        Assert.That(server.Accepted, Is.EqualTo(3), "connections are used again");
    }

    [Test]
    public async Task An_event_loop_that_finds_anothers_connection_busy_gets_one_of_its_own()
    {
        Assume.That(EventLoop.All, Has.Length.GreaterThan(1), "one processor has one loop");
        Assert.That(await ConnectionsForAsync(requests: 60, Configs.Cluster(protocol: AppProtocol.Http2)), Is.InRange(2, EventLoop.All.Length), "one for each loop at most");
    }

    [Test]
    public async Task Few_requests_share_one_connection_on_whatever_loop() =>
        Assert.That(await ConnectionsForAsync(requests: 8, Configs.Cluster(protocol: AppProtocol.Http2)), Is.EqualTo(1));

    [Test]
    public async Task Where_the_cluster_may_open_no_further_connection_the_loops_share_one()
    {
        var cluster = Configs.Cluster(protocol: AppProtocol.Http2) with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1 } };
        Assert.That(await ConnectionsForAsync(requests: 60, cluster), Is.EqualTo(1));
    }

    [Test]
    public async Task An_endpoint_that_takes_one_connection_keeps_its_share_of_requests()
    {
        Assume.That(EventLoop.All, Has.Length.GreaterThan(1), "one processor has one loop");
        const int Requests = 60;
        var open = new BlockingCollection<(Wire Wire, int Stream)>();
        var ofOne = 0;
        async Task TakeAsync(Wire wire, bool isOne)
        {
            await wire.AcceptHttp2Async();
            while (true)
            {
                var stream = (await wire.ReadFrameAsync(Frame.Headers)).Stream;
                ofOne += isOne ? 1 : 0;
                open.Add((wire, stream));
            }
        }

        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(1);
        await using var other = new ScriptedServer((wire, _) => TakeAsync(wire, isOne: false));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), (IPEndPoint)listener.LocalEndPoint!, other.EndPoint));
        var accepting = listener.AcceptAsync();
        var responses = new List<Task<Message>>();
        var silent = new List<Wire>();
        Wire? one = null;
        while (responses.Count < Requests)
        {
            if (responses.Count % 2 == 0)
            {
                // Loops and endpoints are both taken in turn: each endpoint shall be asked from every loop.
                silent.Add(await proxy.DialAsync());
            }

            responses.Add(proxy.GetAsync());
            if (one is null && (await Task.WhenAny(accepting, Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System))) == accepting)
            {
                one = new Wire(await accepting);
                listener.Dispose();
                _ = TakeAsync(one, isOne: true);
            }

            await TestProxy.EventuallyAsync(() => open.Count == responses.Count, "the request has reached an endpoint");
        }

        foreach (var (wire, stream) in open)
        {
            await wire.SendFrameAsync(Frame.Headers, 5, stream, 0x88);
        }

        Assert.That((await Task.WhenAll(responses)).Select(response => response.Status), Has.All.EqualTo(200));
        await one!.DisposeAsync();
        silent.ForEach(wire => wire.Socket.Dispose());
        Assert.That(ofOne, Is.EqualTo(Requests / 2), "that it takes no second connection, which nobody needs, is no reason to ask the other one");
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task A_connection_of_an_endpoint_that_is_no_more_is_still_judged_by_the_tick(bool whole)
    {
        var time = new ManualTime();
        var reached = new TaskCompletionSource();
        var ended = new TaskCompletionSource<bool>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal");
            reached.SetResult();
            ended.SetResult(await wire.EndsWithResetAsync());
        });
        var config = Configs.Gateway(Configs.Cluster(), server.EndPoint);
        var patient = new ClientTrafficConfig { Timeouts = new() { StreamIdle = TimeSpan.FromHours(1) } };
        config = config with { Listeners = [config.Listeners[0] with { ClientTraffic = patient }] };
        await using var proxy = await TestProxy.StartAsync(config, time: time);
        var asking = proxy.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ContinueWith(_ => { }, TaskScheduler.Default);
        await reached.Task.WaitAsync(Wire.Patience);
        if (whole)
        {
            // No snapshot names the cluster any more.
            Assert.That(proxy.Server.Apply(new ProxyConfig { Revision = "2" }), Is.Empty);
        }
        else
        {
            proxy.Server.ApplyEndpoints([new EndpointSetConfig(Configs.Id("payments"), [])]);
        }

        for (var minutes = 0; minutes < 60 && !ended.Task.IsCompleted; minutes++)
        {
            time.Advance(TimeSpan.FromMinutes(1));
            await Task.WhenAny(ended.Task, Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System));
        }

        Assert.That(ended.Task.IsCompleted, "by the codec's own limit");
        await asking;
    }

    [Test]
    public async Task A_request_whose_dial_fails_is_answered_while_the_connections_that_there_are_stay_busy()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(1);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), (IPEndPoint)listener.LocalEndPoint!));
        var busy = proxy.GetAsync();
        using var socket = await listener.AcceptAsync();
        await using var endpoint = new Wire(socket);
        await endpoint.ReadRequestAsync();
        listener.Dispose();
        var refused = await proxy.GetAsync().WaitAsync(Wire.Patience);
        Assert.That((refused.Status, (await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32()), Is.EqualTo((503, 2)), "neither it nor its retry waits for the busy one");
        await endpoint.SendAsync(ScriptedServer.Ok(""));
        Assert.That((await busy).Status, Is.EqualTo(200));
    }

    [Test]
    public async Task A_connection_to_an_endpoint_is_renewed_when_it_is_old()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(AnswerAsync);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint), time: time);
        var minutes = 0;
        while (true)
        {
            Assert.That((await proxy.GetAsync()).Status, Is.EqualTo(200));
            if (server.Accepted > 1)
            {
                break;
            }

            time.Advance(TimeSpan.FromMinutes(2));
            minutes += 2;
        }

        Assert.That(minutes, Is.InRange(54, 62), "an hour, less up to a tenth");
    }

    [Test]
    public async Task A_connection_of_a_client_is_asked_to_come_again_when_it_is_old_and_loses_nothing()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(AnswerAsync);
        await using var proxy = await TestProxy.StartAsync(
            Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint), new ProxyServerOptions { MaxConnectionAge = TimeSpan.FromSeconds(20) }, time: time);
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        var told = new List<(int Step, byte[] LastStream)>();
        for (var step = 0; told.Count < 2; step++)
        {
            var stream = (2 * step) + 1;
            await client.SendFrameAsync(Frame.Headers, 5, stream, Wire.Block((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
            for (var answered = false; !answered && told.Count < 2;)
            {
                var frame = await client.ReadFrameAsync(Frame.Headers, Frame.GoAway);
                if (frame.Type == Frame.GoAway)
                {
                    told.Add((step, frame.Payload[..4]));
                }
                else
                {
                    Assert.That((frame.Stream, frame.Payload[0]), Is.EqualTo((stream, (byte)0x88)), "what was sent before the second GOAWAY is served");
                    answered = true;
                }
            }

            // Its own PING comes back when all that it sent before has been taken in.
            await client.SendFrameAsync(Frame.Ping, 0, 0, new byte[8]);
            for (var taken = false; !taken && told.Count < 2;)
            {
                var frame = await client.ReadFrameAsync(Frame.Ping, Frame.GoAway);
                if (frame.Type == Frame.GoAway)
                {
                    told.Add((step, frame.Payload[..4]));
                }
                else
                {
                    taken = frame.Flags != 0;
                }
            }

            time.Advance(TimeSpan.FromMilliseconds(500));
        }

        Assert.That(told[0].LastStream, Is.EqualTo(new byte[] { 0x7f, 0xff, 0xff, 0xff }), "the first of two");
        Assert.That(told[0].Step, Is.InRange(36, 41));
        Assert.That(told[1].LastStream[0], Is.Zero);
        await client.ReadToEndAsync();
    }

    [Test]
    public void Ages_lie_between_nine_tenths_and_the_whole_and_differ()
    {
        var longest = TimeSpan.FromMinutes(100);
        var ages = new ConnectionAges(7);
        var all = Enumerable.Range(0, 1000).Select(_ => ages.Next(longest).TotalMinutes).ToArray();
        Assert.That(all, Has.All.InRange(90, 100));
        Assert.That(Enumerable.Range(0, 10).Select(tenth => all.Count(age => age >= 90 + tenth && age < 91 + tenth)), Has.All.InRange(90, 110), "spread evenly");
        Assert.That(new ConnectionAges(1 << 30).Next(longest), Is.Not.EqualTo(new ConnectionAges(7).Next(longest)));
    }

    /// <summary>Sends requests one after the other, each from a connection of its own and while all before it are under way, then answers them all; how many connections
    /// there were to the endpoint.</summary>
    private static async Task<int> ConnectionsForAsync(int requests, ClusterConfig cluster)
    {
        var open = new BlockingCollection<(Wire Wire, int Stream)>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            while (true)
            {
                open.Add((wire, (await wire.ReadFrameAsync(Frame.Headers)).Stream));
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint));
        var responses = new List<Task<Message>>();
        while (responses.Count < requests)
        {
            responses.Add(proxy.GetAsync());
            await TestProxy.EventuallyAsync(() => open.Count == responses.Count, "the request has reached the endpoint");
        }

        foreach (var (wire, stream) in open)
        {
            await wire.SendFrameAsync(Frame.Headers, 5, stream, 0x88);
        }

        Assert.That((await Task.WhenAll(responses)).Select(response => response.Status), Has.All.EqualTo(200));
        return server.Accepted;
    }

    private static async Task AnswerAsync(Wire wire, int number)
    {
        await wire.AcceptHttp2Async();
        while (true)
        {
            await wire.SendFrameAsync(Frame.Headers, 5, (await wire.ReadFrameAsync(Frame.Headers)).Stream, 0x88);
        }
    }
}
