using System.Net;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>What is sent again, and what never is.</summary>
internal sealed class RetryTests
{
    [TestCase("GET", true)]
    [TestCase("PUT", true)]
    [TestCase("DELETE", true)]
    [TestCase("POST", false)]
    [TestCase("PATCH", false)]
    [TestCase("BOOK", false)]
    public async Task After_the_endpoint_may_have_acted_only_idempotent_methods_are_sent_again(string method, bool again)
    {
        var requests = 0;
        async Task Serve(Wire wire, int _)
        {
            while (await wire.ReadRequestAsync() is not null)
            {
                if (Interlocked.Increment(ref requests) == 1)
                {
                    wire.Finish();
                    await wire.ReadToEndAsync();
                    return;
                }

                await wire.SendAsync(ScriptedServer.Ok("ok"));
            }
        }

        await using var one = new ScriptedServer(Serve);
        await using var two = new ScriptedServer(Serve);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), one.EndPoint, two.EndPoint));
        var response = await proxy.SendAsync($"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        Assert.That(response.Status, Is.EqualTo(again ? 200 : 503));
        Assert.That(requests, Is.EqualTo(again ? 2 : 1));
        Assert.That((one.Accepted, two.Accepted), again ? Is.EqualTo((1, 1)) : Is.AnyOf((0, 1), (1, 0)));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(again ? 2 : 1));
    }

    [Test]
    public async Task A_status_is_no_reason_to_send_again()
    {
        await using var server = ScriptedServer.Http1(_ => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 1\r\n\r\nbusy");
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("busy"));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
    }

    [Test]
    public async Task What_was_not_sent_goes_elsewhere_whatever_the_method()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Text));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint, ScriptedServer.Closed()));
        for (var i = 0; i < 10; i++)
        {
            Assert.That((await proxy.PostAsync($"payment {i}")).Text, Is.EqualTo($"payment {i}"));
        }
    }

    [TestCase(Frame.Reset)]
    [TestCase(Frame.GoAway)]
    public async Task What_is_provably_unprocessed_is_sent_again_with_its_streamed_body(byte how)
    {
        var refused = new TaskCompletionSource();
        var streams = 0;
        var bodies = new List<byte[]>();
        async Task Serve(Wire wire, int _)
        {
            await wire.AcceptHttp2Async();
            while (true)
            {
                var head = await wire.ReadFrameAsync(Frame.Headers);
                if (Interlocked.Increment(ref streams) == 1)
                {
                    // After some of the body, so that it has to be replayed.
                    await wire.ReadFrameAsync(Frame.Data);
                    await (how == Frame.Reset
                        ? wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 7)
                        : wire.SendFrameAsync(Frame.GoAway, 0, 0, new byte[8]));
                    refused.SetResult();
                    continue;
                }

                var body = new List<byte>();
                Frame data;
                do
                {
                    data = await wire.ReadFrameAsync(Frame.Data);
                    body.AddRange(data.Payload);
                }
                while (!data.EndsStream);
                bodies.Add([.. body]);
                await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, 0x88);
            }
        }

        await using var one = new ScriptedServer(Serve);
        await using var two = new ScriptedServer(Serve);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), one.EndPoint, two.EndPoint));
        var parts = Enumerable.Range(0, 40).Select(i => new string((char)('a' + (i % 26)), 1000 + i)).ToArray();
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (var i = 0; i < parts.Length; i++)
        {
            await client.SendAsync($"{parts[i].Length:x}\r\n{parts[i]}\r\n");
            if (i == 20)
            {
                await refused.Task.WaitAsync(Wire.Patience);
            }
        }

        await client.SendAsync("0\r\n\r\n");
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(200));
        Assert.That(streams, Is.EqualTo(2));
        Assert.That(Encoding.ASCII.GetString(bodies.Single()), Is.EqualTo(string.Concat(parts)));
    }

    [Test]
    public async Task An_answer_to_a_repeated_request_comes_though_it_takes_no_more_of_the_body()
    {
        var refused = new TaskCompletionSource();
        var streams = 0;
        async Task Serve(Wire wire, int _)
        {
            var isFirst = Interlocked.Increment(ref streams) == 1;

            // Without a window the repeated body waits.
            await (isFirst ? wire.AcceptHttp2Async() : wire.AcceptHttp2Async(0, 4, 0, 0, 0, 0));
            var head = await wire.ReadFrameAsync(Frame.Headers);
            if (isFirst)
            {
                await wire.ReadFrameAsync(Frame.Data);
                await wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 7);
                refused.SetResult();
            }
            else
            {
                await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, Wire.Block((":status", "413")));
                await wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 0);
            }

            await wire.ReadToEndAsync();
        }

        await using var one = new ScriptedServer(Serve);
        await using var two = new ScriptedServer(Serve);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), one.EndPoint, two.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
        await refused.Task.WaitAsync(Wire.Patience);
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(413));
        Assert.That(streams, Is.EqualTo(2));
    }

    [Test]
    public async Task A_body_longer_than_the_replay_buffer_is_not_sent_again()
    {
        var streams = 0;
        async Task Serve(Wire wire, int _)
        {
            await wire.AcceptHttp2Async(0, 4, 0, 16, 0, 0);
            await wire.SendFrameAsync(Frame.WindowUpdate, 0, 0, 0, 16, 0, 0);
            var head = await wire.ReadFrameAsync(Frame.Headers);
            Interlocked.Increment(ref streams);
            for (var read = 0; read < 100_000;)
            {
                read += (await wire.ReadFrameAsync(Frame.Data)).Payload.Length;
            }

            await wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 7);
            await wire.ReadToEndAsync();
        }

        await using var one = new ScriptedServer(Serve);
        await using var two = new ScriptedServer(Serve);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), one.EndPoint, two.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{new string('x', 120_000)}");
        var response = await client.ReadResponseAsync();
        Assert.That((response.Status, response.Flag), Is.EqualTo((503, "UR")));
        Assert.That(streams, Is.EqualTo(1));
    }

    [Test]
    public async Task An_endpoint_that_goes_takes_no_request_with_it()
    {
        await using var one = ScriptedServer.Http1(_ => ScriptedServer.Ok("1"));
        await using var two = ScriptedServer.Http1(_ => ScriptedServer.Ok("2"));
        var cluster = Configs.Cluster();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, one.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), "1.1");
        var stop = false;
        var answers = new int[3];
        var workers = Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            while (!Volatile.Read(ref stop))
            {
                var text = await (await client.PostAsync("/", new StringContent("payment"))).EnsureSuccessStatusCode().Content.ReadAsStringAsync();
                Interlocked.Increment(ref answers[text == "1" ? 1 : 2]);
            }
        })).ToArray();
        for (var i = 0; i < 60; i++)
        {
            IPEndPoint[] now = (i % 3) switch { 0 => [one.EndPoint, two.EndPoint], 1 => [two.EndPoint], _ => [one.EndPoint] };
            proxy.Server.ApplyEndpoints([Configs.Set(cluster.Id, now)]);
            var before = answers[1] + answers[2];
            await TestProxy.EventuallyAsync(() => Volatile.Read(ref answers[1]) + Volatile.Read(ref answers[2]) >= before + 16 || workers.Any(worker => worker.IsFaulted), "load goes on");
        }

        Volatile.Write(ref stop, true);
        await Task.WhenAll(workers);
        Assert.That(answers[1], Is.GreaterThan(0));
        Assert.That(answers[2], Is.GreaterThan(0));
    }

    [Test]
    public async Task Snapshots_are_swapped_under_load_and_a_request_sees_one()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Fields["x-route"]));
        ProxyConfig Make(int revision)
        {
            // Another cluster each time, and a filter on request and response that must agree.
            var cluster = Configs.Cluster($"s{revision}");
            var rule = Configs.Rule(cluster.Id) with
            {
                Filters =
                [
                    new HeaderModifierConfig(false, [new("x-route", $"{revision}")], [], []),
                    new HeaderModifierConfig(true, [new("x-route", $"{revision}")], [], []),
                ],
            };
            return Configs.Gateway([Configs.Route(rule)], [cluster], Configs.Set(cluster.Id, server.EndPoint)) with { Revision = $"{revision}" };
        }

        await using var proxy = await TestProxy.StartAsync(Make(0));
        using var client = ForeignServer.Client(proxy.EndPoint(), "1.1");
        var stop = false;
        var count = 0;
        var seen = new System.Collections.Concurrent.ConcurrentDictionary<string, bool>();
        var workers = Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            while (!Volatile.Read(ref stop))
            {
                var response = (await client.PostAsync("/", new StringContent("x"))).EnsureSuccessStatusCode();
                var route = await response.Content.ReadAsStringAsync();
                Assert.That(response.Headers.GetValues("x-route").Single(), Is.EqualTo(route));
                seen[route] = true;
                Interlocked.Increment(ref count);
            }
        })).ToArray();
        for (var revision = 1; revision <= 50; revision++)
        {
            Assert.That(proxy.Server.Apply(Make(revision)), Is.Empty);
            var before = Volatile.Read(ref count);
            await TestProxy.EventuallyAsync(() => Volatile.Read(ref count) >= before + 16 || workers.Any(worker => worker.IsFaulted), "load goes on");
        }

        Volatile.Write(ref stop, true);
        await Task.WhenAll(workers);
        Assert.That(seen, Has.Count.GreaterThan(45));
    }

    [TestCase("1.1")]
    [TestCase("2.0")]
    public async Task A_drain_under_load_fails_no_request(string version)
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var count = 0;
        var drained = false;
        var failed = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var workers = Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
        {
            using var client = ForeignServer.Client(proxy.EndPoint(), version);
            while (true)
            {
                try
                {
                    // A POST, which the client does not send again on its own.
                    var response = await client.PostAsync("/", new StringContent("payment"));
                    Assert.That((int)response.StatusCode, Is.EqualTo(200));
                    Interlocked.Increment(ref count);
                }
                catch (HttpRequestException error) when (error.HttpRequestError == HttpRequestError.ConnectionError)
                {
                    // Nobody listens any more.
                    return;
                }
                catch (HttpRequestException error) when (error.InnerException is HttpProtocolException { ErrorCode: 0 })
                {
                    // Beyond the last stream of a GOAWAY, which is provably unprocessed; and nobody is left to send it to again.
                    return;
                }
                catch (HttpRequestException error)
                {
                    failed.Enqueue($"{error.HttpRequestError} {error.Message} {error.InnerException?.Message} drained {Volatile.Read(ref drained)}");
                    return;
                }
            }
        })).ToArray();
        await TestProxy.EventuallyAsync(() => Volatile.Read(ref count) > 200, "load runs");
        await proxy.Server.DrainAsync(TimeSpan.FromSeconds(3));
        Volatile.Write(ref drained, true);
        await Task.WhenAll(workers).WaitAsync(Wire.Patience);
        Assert.That(failed, Is.Empty);
        Assert.That(proxy.Server.ConnectionCount, Is.Zero);
    }

    // It may have sent its request by then; a starved machine is only late to see it.
    [Test]
    public async Task A_drain_hears_a_connection_out_that_has_not_said_anything_yet()
    {
        var time = new ManualTime();
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time: time);
        await using var late = await proxy.DialAsync();
        await using var silent = await proxy.DialAsync();
        var drain = proxy.Server.DrainAsync(TimeSpan.FromSeconds(25));
        for (var stepsAfter = 0; stepsAfter < 10; stepsAfter += proxy.Server.Listeners.Count == 0 ? 1 : 0)
        {
            time.Advance(TimeSpan.FromMilliseconds(50));
            await Task.WhenAny(drain, Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System));
        }

        Assert.That(drain.IsCompleted, Is.False);
        await late.SendAsync("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 7\r\n\r\npayment");
        Assert.That((await late.ReadResponseAsync()).Status, Is.EqualTo(200));
        await time.AdvanceUntilAsync(drain, TimeSpan.FromSeconds(2));
        Assert.That(drain.IsCompleted, Is.True, "the other one says nothing, and is not waited for longer");
    }
}
