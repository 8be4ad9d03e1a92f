using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Callers that leave at any moment, endpoints that break off, refuse, stall and vanish, places that run out: afterwards nothing may be held, and nothing
/// that arrived may be other than what was sent.</summary>
internal sealed class ChaosTests
{
    [TestCase(AppProtocol.Http, 1)]
    [TestCase(AppProtocol.Http2, 2)]
    public async Task Whatever_happens_every_permit_comes_back(AppProtocol protocol, int seed)
    {
        async Task Http1Async(Wire wire, int number)
        {
            var random = new Random((seed * 1000) + number);
            while (await wire.ReadRequestAsync() is { } request)
            {
                switch (random.Next(10))
                {
                    case 0:
                        wire.Reset();
                        return;
                    case 1:
                        wire.Finish();
                        await wire.ReadToEndAsync();
                        return;
                    case 2:
                        await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {request.Body.Length + 10}\r\n\r\n{request.Text}");
                        wire.Finish();
                        await wire.ReadToEndAsync();
                        return;
                    case 3:
                        await Task.Delay(TimeSpan.FromMilliseconds(random.Next(15)), TimeProvider.System);
                        break;
                    case 4:
                        await wire.SendAsync(ScriptedServer.Ok(request.Text, "Connection: close\r\n"));
                        wire.Finish();
                        return;
                }

                await wire.SendAsync(ScriptedServer.Ok(request.Text));
            }
        }

        async Task Http2Async(Wire wire, int number)
        {
            var random = new Random((seed * 1000) + number);
            await wire.AcceptHttp2Async(0, 3, 0, 0, 0, 3);
            var bodies = new Dictionary<int, List<byte>>();
            while (true)
            {
                var frame = await wire.ReadFrameAsync(Frame.Headers, Frame.Data, Frame.Reset);
                if (frame.Type == Frame.Reset)
                {
                    bodies.Remove(frame.Stream);
                    continue;
                }

                var body = bodies.TryGetValue(frame.Stream, out var known) ? known : bodies[frame.Stream] = [];
                if (frame.Type == Frame.Data)
                {
                    body.AddRange(frame.Payload);
                }

                if (!frame.EndsStream)
                {
                    if (frame.Type == Frame.Headers && random.Next(6) == 0)
                    {
                        await wire.SendFrameAsync(Frame.Reset, 0, frame.Stream, 0, 0, 0, 7);
                    }

                    continue;
                }

                bodies.Remove(frame.Stream);
                switch (random.Next(12))
                {
                    case 0:
                        wire.Reset();
                        return;
                    case 1:
                        await wire.SendFrameAsync(Frame.Reset, 0, frame.Stream, 0, 0, 0, (byte)(random.Next(2) == 0 ? 7 : 2));
                        continue;
                    case 2:
                        await wire.SendFrameAsync(Frame.GoAway, 0, 0, 0, 0, 0, (byte)(frame.Stream - 2 < 0 ? 0 : Math.Min(255, frame.Stream - 2)), 0, 0, 0, 0);
                        await wire.ReadToEndAsync();
                        return;
                }

                await wire.SendFrameAsync(Frame.Headers, 4, frame.Stream, 0x88);
                await wire.SendFrameAsync(Frame.Data, 1, frame.Stream, [.. body]);
            }
        }

        Func<Wire, int, Task> serve = protocol == AppProtocol.Http2 ? Http2Async : Http1Async;
        await using var one = new ScriptedServer(serve);
        await using var two = new ScriptedServer(serve);
        await using var three = new ScriptedServer(serve);
        var closed = ScriptedServer.Closed();
        var cluster = Configs.Cluster(protocol: protocol) with { CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 4, MaxPendingRequests = 20, MaxRequests = 40 } };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, one.EndPoint, two.EndPoint));
        var stop = false;
        var answered = 0;
        var failed = 0;
        var left = 0;
        var wrong = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var workers = Enumerable.Range(0, 24).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            using var client = ForeignServer.Client(proxy.EndPoint(), worker % 2 == 0 ? "1.1" : "2.0");
            for (var i = 0; !Volatile.Read(ref stop); i++)
            {
                var text = $"{worker}-{i}-{new string('x', random.Next(3) == 0 ? random.Next(4000) : 0)}";
                using var leave = new CancellationTokenSource();
                if (random.Next(4) == 0)
                {
                    leave.CancelAfter(TimeSpan.FromMilliseconds(random.Next(8)));
                }

                try
                {
                    using var request = new HttpRequestMessage(random.Next(2) == 0 ? HttpMethod.Post : HttpMethod.Put, "/") { Content = new StringContent(text), Version = client.DefaultRequestVersion };
                    request.Headers.TransferEncodingChunked = worker % 4 == 0;
                    var response = await client.SendAsync(request, leave.Token);
                    var body = await response.Content.ReadAsStringAsync(leave.Token);
                    if ((int)response.StatusCode == 200)
                    {
                        Interlocked.Increment(ref answered);
                        if (body != text)
                        {
                            wrong.Enqueue($"sent {text.Length}: {text[..10]}, got {body.Length}: {body[..Math.Min(10, body.Length)]}");
                        }
                    }
                    else
                    {
                        Interlocked.Increment(ref failed);
                    }
                }
                catch (OperationCanceledException) when (leave.IsCancellationRequested)
                {
                    Interlocked.Increment(ref left);
                }
                catch (HttpRequestException)
                {
                    Interlocked.Increment(ref failed);
                }
            }
        })).ToArray();
        var swaps = new Random(seed);
        for (var round = 0; round < 40; round++)
        {
            var all = new[] { one.EndPoint, two.EndPoint, three.EndPoint, closed };
            swaps.Shuffle(all);
            proxy.Server.ApplyEndpoints([Configs.Set(cluster.Id, all[..swaps.Next(1, 4)])]);
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }

        Volatile.Write(ref stop, true);
        await Task.WhenAll(workers).WaitAsync(Wire.Patience);
        await TestContext.Out.WriteLineAsync($"answered {answered}, failed {failed}, left {left}");
        Assert.That(wrong, Is.Empty);
        Assert.That((answered, failed, left), Is.Not.EqualTo((0, 0, 0)));
        Assert.That(answered, Is.GreaterThan(100));

        // And it still works.
        await using var good = ScriptedServer.Http1(_ => ScriptedServer.Ok("good"));
        await proxy.QuietAsync();
        if (protocol == AppProtocol.Http)
        {
            proxy.Server.ApplyEndpoints([Configs.Set(cluster.Id, good.EndPoint)]);
            Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("good"));
        }
    }
}
