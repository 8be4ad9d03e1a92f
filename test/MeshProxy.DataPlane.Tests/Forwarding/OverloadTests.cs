using System.Net;
using System.Net.Sockets;
using System.Text;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http.Http2.FlowControl;
using MeshProxy.Model.Config;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Peers that read slowly fill the memory budget: what is new is refused (OM), what is under way goes on, and it ends when they leave.</summary>
/// <remarks>The budget counts for the whole process, so nothing else may run beside these.</remarks>
[NonParallelizable]
internal sealed class OverloadTests
{
    private const long Budget = 32 * 1024;

    // A reader that holds its writer up costs a block at the least: all of them together three times the budget.
    private const int Readers = 24;
    private const int SmallReceiveBuffer = 16 * 1024;

    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(100);
    private static readonly byte[] s_piece = new byte[64 * 1024];
    private static readonly byte[] s_chunk = [.. "10000\r\n"u8, .. s_piece, .. "\r\n"u8];

    private static long Held => BlockPool.Shared.RentedBytes + SegmentPool.RentedBytes;

    [SetUp]
    public Task NothingIsHeldAsync() => TestProxy.EventuallyAsync(() => Held == 0, $"what earlier tests held is given back; held are {Held} bytes");

    [Test]
    [CancelAfter(60_000)]
    public async Task Requests_are_refused_while_slow_readers_of_HTTP1_hold_too_much()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                if (!request.StartLine.Contains("/endless", StringComparison.Ordinal))
                {
                    await wire.SendAsync(ScriptedServer.Ok("ok"));
                    continue;
                }

                // Of no declared length: the kernel does not move it past us.
                await wire.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                await SendEndlesslyAsync(wire, s_chunk);
            }
        });
        var time = new ManualTime();
        await using (var proxy = await StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time))
        {
            await using var client = await proxy.DialAsync();
            Assert.That(await AskAsync(client), Is.EqualTo("200"));
            await using var readers = new SlowReaders();
            for (var i = 0; i < Readers; i++)
            {
                var reader = await proxy.DialAsync(receiveBuffer: SmallReceiveBuffer);
                readers.Add(reader);
                await reader.SendAsync("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
                Assert.That((await reader.ReadHeadAsync())!.Status, Is.EqualTo(200));
            }

            await TestProxy.EventuallyAsync(() => Held > 2 * Budget, "slow readers hold more than the budget");
            Assert.That(await AskAsync(client), Is.EqualTo("200"), "nobody has looked yet");
            time.Advance(Tick);
            await proxy.Log.WaitForAsync("more than the memory budget of 32768");
            await EverybodyIsRefusedAsync(proxy, client);

            // What is under way goes on.
            await readers[0].ReadExactlyAsync(4 * 1024 * 1024);
            await readers.DisposeAsync();
            await TestProxy.EventuallyAsync(() => Held < Budget / 2, "who leaves holds nothing");
            Assert.That(await AskAsync(client), Is.EqualTo("503 OM"), "nobody has looked again");
            time.Advance(Tick);
            await proxy.Log.WaitForAsync("are taken again");
            Assert.That(await AskAsync(client), Is.EqualTo("200"), "the connection was kept");
        }

        await NothingIsHeldAsync();
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Requests_are_refused_while_slow_streams_of_HTTP2_hold_too_much()
    {
        await using var server = await ForeignServer.StartAsync(HttpProtocols.Http2, async context =>
        {
            if (context.Request.Path != "/endless")
            {
                await context.Response.Body.WriteAsync("ok"u8.ToArray());
                return;
            }

            while (!context.RequestAborted.IsCancellationRequested)
            {
                await context.Response.Body.WriteAsync(s_piece, context.RequestAborted);
            }
        });
        var time = new ManualTime();
        await using (var proxy = await StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint), time))
        {
            await using var client = await proxy.DialAsync();
            Assert.That(await AskAsync(client), Is.EqualTo("200"));
            await using var reader = await proxy.DialAsync();
            await reader.BeginHttp2Async();
            for (var i = 0; i < Readers; i++)
            {
                // As many bytes as the stream's first window allows, and no more: nobody gives it another.
                await reader.SendFrameAsync(Frame.Headers, 5, (2 * i) + 1, Wire.Block((":method", "GET"), (":scheme", "http"), (":path", "/endless"), (":authority", "a")));
            }

            await TestProxy.EventuallyAsync(() => SegmentPool.RentedBytes > 2 * Budget, "slow streams hold more than the budget");
            time.Advance(Tick);
            await EverybodyIsRefusedAsync(proxy, client);
            await reader.DisposeAsync();
            await TestProxy.EventuallyAsync(() => Held < Budget / 2, "who leaves holds nothing");
            time.Advance(Tick);
            Assert.That(await AskAsync(client), Is.EqualTo("200"));
        }

        await NothingIsHeldAsync();
    }

    [Test]
    public async Task Opaque_connections_are_reset_and_those_under_way_go_on()
    {
        await using var server = new ScriptedServer((wire, _) => SendEndlesslyAsync(wire, s_piece));
        var cluster = Configs.Cluster(protocol: AppProtocol.Tcp);
        var config = Configs.Gateway(cluster, server.EndPoint);
        var opaque = config.Listeners[0] with { Protocol = ListenerProtocol.Tcp, HttpRoutes = [], TcpBackends = [new BackendConfig(cluster.Id, 1)] };
        var time = new ManualTime();
        await using (var proxy = await StartAsync(config with { Listeners = [opaque] }, time))
        {
            await using var underWay = await proxy.DialAsync();
            await underWay.ReadExactlyAsync(1);
            using (new HeldBlocks(2 * Budget))
            {
                time.Advance(Tick);
                Assert.That(await IsResetAsync(proxy), Is.True);
                var line = await proxy.AccessAsync();
                Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("OM"));
                Assert.That(line.GetProperty("meshproxy.failure").GetString(), Does.StartWith("memory_budget: "));
                Assert.That(await MetricsAsync(proxy), Does.Contain("meshproxy_tcp_connections_total{direction=\"gateway\",service=\"shop/payments\",flag=\"OM\"} 1"));
                Assert.That(server.Accepted, Is.EqualTo(1), "nothing was dialed for it");
                await underWay.ReadExactlyAsync(4 * 1024 * 1024);
                await underWay.DisposeAsync();
                await TestProxy.EventuallyAsync(() => Held == 2 * Budget, "who leaves holds nothing");
            }

            time.Advance(Tick);
            await using var taken = await proxy.DialAsync();
            await taken.ReadExactlyAsync(1);
        }

        await NothingIsHeldAsync();
    }

    [Test]
    public async Task What_an_inbound_refuses_is_told_by_the_outbound_and_not_tried_again()
    {
        await using var application = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        var time = new ManualTime();
        using var ca = new TestCa();
        await using var mesh = await Mesh.StartAsync(ca, application.EndPoint, time: time, inbound: Mesh.Inbound() with { MemoryBudgetBytes = Budget });
        const string Request = "GET / HTTP/1.1\r\nHost: payments\r\n\r\n";
        Assert.That((await mesh.Client.SendAsync(Request, "outbound")).Status, Is.EqualTo(200));
        await mesh.Client.AccessAsync();
        using (new HeldBlocks(2 * Budget))
        {
            time.Advance(Tick);
            var answer = await mesh.Client.SendAsync(Request, "outbound");
            Assert.That((answer.Status, answer.Flag), Is.EqualTo((503, "OM")));
            Assert.That(answer.Text, Does.Contain("memory_budget"));
            var line = await mesh.Client.AccessAsync();
            Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("OM"));
            Assert.That(line.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
        }

        time.Advance(Tick);
        Assert.That((await mesh.Client.SendAsync(Request, "outbound")).Status, Is.EqualTo(200));
    }

    [Test]
    public async Task A_body_that_nobody_takes_ends_as_after_any_other_reply()
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        var time = new ManualTime();
        await using var proxy = await StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time);
        using var held = new HeldBlocks(2 * Budget);
        time.Advance(Tick);
        await using var small = await proxy.DialAsync();
        for (var i = 0; i < 2; i++)
        {
            await small.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\npayment");
            var answer = await small.ReadResponseAsync();
            Assert.That((answer.Status, answer.Flag, answer.Fields.ContainsKey("connection")), Is.EqualTo((503, "OM", false)));
        }

        await using var large = await proxy.DialAsync();
        await large.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        var last = await large.ReadResponseAsync();
        Assert.That((last.Status, last.Flag, last.Fields["connection"]), Is.EqualTo((503, "OM", "close")));
        Assert.That(server.Accepted, Is.Zero);
    }

    /// <summary>New requests of every protocol, on a connection from before and on new ones; and what the operator sees of it.</summary>
    private static async Task EverybodyIsRefusedAsync(TestProxy proxy, Wire client)
    {
        Assert.That(await AskAsync(client), Is.EqualTo("503 OM"));
        Assert.That(await AskAsync(client), Is.EqualTo("503 OM"), "the connection is kept");
        using (var http2 = ForeignServer.Client(proxy.EndPoint(), "2.0"))
        {
            using var answer = await http2.GetAsync("/");
            Assert.That(answer.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
            Assert.That(await answer.Content.ReadAsStringAsync(), Does.StartWith("503 OM"));
            using var call = new ByteArrayContent([0, 0, 0, 0, 0]);
            call.Headers.ContentType = new("application/grpc");
            using var status = await http2.PostAsync("/", call);
            Assert.That(status.StatusCode, Is.EqualTo(HttpStatusCode.OK));
            Assert.That(status.Headers.GetValues("grpc-status").Single(), Is.EqualTo("14"));
            Assert.That(status.Headers.GetValues("grpc-message").Single(), Does.StartWith("OM: "));
        }

        var metrics = await MetricsAsync(proxy);
        Assert.That(metrics, Does.Contain("flag=\"OM\"} 3").And.Contain("flag=\"OM\"} 1"), "three of status 503, one of status 200 for the call");
        Assert.That(metrics, Does.Contain("meshproxy_memory_budget_bytes 32768"));
        var held = metrics.Split('\n').Single(line => line.StartsWith("meshproxy_buffered_bytes ", StringComparison.Ordinal));
        Assert.That(double.Parse(held.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture), Is.GreaterThan(Budget));
    }

    private static Task<TestProxy> StartAsync(ProxyConfig config, TimeProvider time) =>
        TestProxy.StartAsync(config, new ProxyServerOptions { MemoryBudgetBytes = Budget }, time: time);

    private static async Task<string> AskAsync(Wire client)
    {
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        var answer = await client.ReadResponseAsync();
        return answer.Status == 200 ? "200" : $"{answer.Status} {answer.Flag}";
    }

    private static async Task<string> MetricsAsync(TestProxy proxy) => Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());

    private static async Task SendEndlesslyAsync(Wire wire, byte[] piece)
    {
        while (true)
        {
            await wire.SendAsync(piece);
        }
    }

    private static async Task<bool> IsResetAsync(TestProxy proxy)
    {
        try
        {
            await using var client = await proxy.DialAsync();
            return await client.EndsWithResetAsync();
        }
        catch (SocketException)
        {
            // It came before this side had seen that it is connected.
            return true;
        }
    }

    private sealed class SlowReaders : List<Wire>, IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            foreach (var reader in this)
            {
                await reader.DisposeAsync();
            }
        }
    }

    /// <summary>Memory that is held for as long as this lives.</summary>
    private sealed class HeldBlocks(long bytes) : IDisposable
    {
        private readonly Block[] _blocks = [.. Enumerable.Range(0, (int)(bytes / BlockPool.LargeSize)).Select(_ => BlockPool.Shared.Rent(large: true))];

        public void Dispose() => Array.ForEach(_blocks, block => block.Release());
    }
}
