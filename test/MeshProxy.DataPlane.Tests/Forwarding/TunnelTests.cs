using System.Net;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Tunnels: WebSocket over either version at either end, CONNECT, half-close, and every way in which one ends.</summary>
internal sealed class TunnelTests
{
    private const string Key = "dGhlIHNhbXBsZSBub25jZQ==";
    private const string Upgrade = "GET /ws HTTP/1.1\r\nHost: payments\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + Key + "\r\n\r\n";

    private readonly TestCa _ca = new();

    [OneTimeTearDown]
    public void TearDown() => _ca.Dispose();

    [TestCase("1.1", AppProtocol.Http)]
    [TestCase("1.1", AppProtocol.WebSocket)]
    [TestCase("1.1", AppProtocol.Http2)]
    [TestCase("2.0", AppProtocol.Http)]
    [TestCase("2.0", AppProtocol.Http2)]
    public async Task Foreign_WebSockets_of_either_version_understand_each_other(string version, AppProtocol protocol)
    {
        await using var server = await StartEchoAsync(protocol);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        var bytes = await EchoAsync(proxy.EndPoint(), version, "payments");
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(version == "1.1" ? 101 : 200));
        Assert.That(line.GetProperty("http.request.body.bytes").GetInt64(), Is.GreaterThan(bytes));
        Assert.That(line.GetProperty("http.response.body.bytes").GetInt64(), Is.GreaterThan(bytes));
        var flag = line.TryGetProperty("meshproxy.flags", out var flags) ? flags.GetString() : "";
        Assert.That(flag, Is.EqualTo("").Or.EqualTo("DC"), "both have said Close by now: whether the client ends its stream first or gives it up is its own race");
        var metrics = Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());
        Assert.That(metrics, Does.Contain("meshproxy_tunnel_bytes_total{direction=\"gateway\",service=\"shop/payments\",route=\"shop/route\",way=\"received\"} "
            + line.GetProperty("http.request.body.bytes").GetInt64()));
    }

    [TestCase("1.1", AppProtocol.Http)]
    [TestCase("1.1", AppProtocol.WebSocket)]
    [TestCase("1.1", AppProtocol.Http2)]
    [TestCase("2.0", AppProtocol.Undeclared)]
    [TestCase("2.0", AppProtocol.Http2)]
    public async Task Through_the_mesh_too(string version, AppProtocol protocol)
    {
        await using var server = await StartEchoAsync(protocol);
        await using var mesh = await Mesh.StartAsync(_ca, server.EndPoint, protocol);
        await EchoAsync(mesh.Client.EndPoint("outbound"), version, "payments");
        Assert.That((await mesh.Server.AccessAsync()).GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(200), "between sidecars it is an extended CONNECT");
    }

    [TestCase(true)]
    [TestCase(false)]
    public async Task Each_direction_ends_by_itself_and_nothing_is_lost(bool clientFirst)
    {
        var seen = new TaskCompletionSource<byte[]>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await AcceptAsync(wire);
            if (!clientFirst)
            {
                await wire.SendAsync(new byte[700_000]);
                wire.Finish();
            }

            seen.SetResult(await wire.ReadToEndAsync());
            if (clientFirst)
            {
                await wire.SendAsync(new byte[700_000]);
                wire.Finish();
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Upgrade + "early");
        await ExpectSwitchAsync(client);
        byte[] all;
        if (clientFirst)
        {
            await client.SendAsync(new byte[500_000]);
            client.Finish();
            all = await client.ReadToEndAsync();
        }
        else
        {
            all = await client.ReadToEndAsync();
            await client.SendAsync(new byte[500_000]);
            client.Finish();
        }

        Assert.That(all, Has.Length.EqualTo(700_000));
        var sent = await seen.Task.WaitAsync(Wire.Patience);
        Assert.That((sent.Length, Encoding.ASCII.GetString(sent, 0, 5)), Is.EqualTo((500_005, "early")), "bytes behind the head belong to the tunnel");
        Assert.That((await proxy.AccessAsync()).TryGetProperty("meshproxy.flags", out _), Is.False);
    }

    [Test]
    public async Task A_reset_at_one_end_is_a_reset_at_the_other()
    {
        var ended = new TaskCompletionSource<bool>();
        await using var server = new ScriptedServer(async (wire, number) =>
        {
            await AcceptAsync(wire);
            await wire.ReadExactlyAsync(1);
            if (number == 1)
            {
                await wire.SendAsync("x");
                ended.SetResult(await wire.EndsWithResetAsync());
            }
            else
            {
                wire.Reset();
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var client = await proxy.DialAsync();
        await client.SendAsync(Upgrade + "x");
        await ExpectSwitchAsync(client);
        await client.ReadExactlyAsync(1);
        client.Reset();
        Assert.That(await ended.Task.WaitAsync(Wire.Patience), Is.True, "never an end in order");
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));

        await using var second = await proxy.DialAsync();
        await second.SendAsync(Upgrade + "x");
        await ExpectSwitchAsync(second);
        Assert.That(await second.EndsWithResetAsync(), Is.True);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UC"));

        // Over HTTP/2 it is CONNECT_ERROR on the stream (RFC 9113 section 8.5), and the connection lives on.
        await using var http2 = await proxy.DialAsync();
        await http2.BeginHttp2Async();
        await http2.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/ws"), ("sec-websocket-version", "13")));
        Assert.That((await http2.ReadFrameAsync(Frame.Headers, Frame.Reset)).Type, Is.EqualTo(Frame.Headers));
        await http2.SendFrameAsync(Frame.Data, 0, 1, 7);
        Assert.That((await http2.ReadFrameAsync(Frame.Data, Frame.Reset, Frame.GoAway)) is { Type: Frame.Reset, Payload: [0, 0, 0, 10] }, Is.True);
    }

    [Test]
    public async Task A_refusal_of_the_endpoint_is_an_answer_like_any_other()
    {
        await using var server = ScriptedServer.Http1(request => request.Fields.ContainsKey("upgrade")
            ? "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
            : ScriptedServer.Ok("plain"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Upgrade);
        var answer = await client.ReadResponseAsync();
        Assert.That((answer.Status, answer.Text), Is.EqualTo((401, "no")));
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("plain"), "the connection goes on");
    }

    [Test]
    public async Task An_endpoint_of_HTTP2_that_takes_no_tunnels_is_named()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        var answer = await proxy.SendAsync(Upgrade);
        Assert.That((answer.Status, answer.Flag), Is.EqualTo((501, "NC")));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.failure").GetString(), Does.Contain("RFC 8441"));
    }

    [Test]
    public async Task CONNECT_is_served_only_by_a_rule_that_names_it()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            var head = await wire.ReadHeadAsync();
            Assert.That(head!.StartLine, Is.EqualTo("CONNECT db.example:5432 HTTP/1.1"));
            await wire.SendAsync("HTTP/1.1 200 OK\r\n\r\n");
            await wire.SendAsync(await wire.ReadExactlyAsync(4));
            wire.Finish();
            await wire.ReadToEndAsync();
        });
        var cluster = Configs.Cluster();
        await using var closed = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint));
        var refused = await closed.SendAsync("CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n");
        Assert.That((refused.Status, refused.Flag), Is.EqualTo((404, "NR")));

        var rule = Configs.Rule(cluster.Id) with { Matches = [new HttpMatchConfig { Method = "CONNECT" }] };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(rule)], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n");
        Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(200));
        await client.SendAsync("ping");
        client.Finish();
        Assert.That(Encoding.ASCII.GetString(await client.ReadToEndAsync()), Is.EqualTo("ping"));

        await using var http2 = await proxy.DialAsync();
        await http2.BeginHttp2Async();
        await http2.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "CONNECT"), (":authority", "db.example:5432")));
        Assert.That((await http2.ReadFrameAsync(Frame.Headers, Frame.Reset)) is { Type: Frame.Headers, EndsStream: false }, Is.True);
        await http2.SendFrameAsync(Frame.Data, 1, 1, "pong"u8.ToArray());
        var echoed = new List<byte>();
        Frame data;
        do
        {
            data = await http2.ReadFrameAsync(Frame.Data, Frame.Reset);
            Assert.That(data.Type, Is.EqualTo(Frame.Data));
            echoed.AddRange(data.Payload);
        }
        while (!data.EndsStream);
        Assert.That(Encoding.ASCII.GetString([.. echoed]), Is.EqualTo("pong"));
    }

    [Test]
    public async Task Only_silence_ends_a_tunnel_and_new_configuration_does_not()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await AcceptAsync(wire);
            while (true)
            {
                await wire.SendAsync(await wire.ReadExactlyAsync(1));
            }
        });
        var cluster = Configs.Cluster();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint), time: time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Upgrade);
        await ExpectSwitchAsync(client);
        for (var minute = 0; minute < 12; minute += 4)
        {
            await client.SendAsync("x");
            Assert.That(await client.ReadExactlyAsync(1), Is.EqualTo("x"u8.ToArray()), $"after {minute} minutes");
            time.Advance(TimeSpan.FromMinutes(4));
        }

        Assert.That(proxy.Server.Apply(Configs.Gateway([], [cluster], Configs.Set(cluster.Id, server.EndPoint))), Is.Empty);
        await client.SendAsync("x");
        Assert.That(await client.ReadExactlyAsync(1), Is.EqualTo("x"u8.ToArray()), "its route is gone");
        time.Advance(TimeSpan.FromMinutes(5.1));
        time.Advance(TimeSpan.FromMinutes(5.1));
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("SI"));
    }

    [Test]
    public async Task A_drain_waits_for_tunnels_until_its_deadline()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await AcceptAsync(wire);
            while (true)
            {
                await wire.SendAsync(await wire.ReadExactlyAsync(1));
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time: time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync(Upgrade);
        await ExpectSwitchAsync(client);
        var drain = proxy.Server.DrainAsync(TimeSpan.FromSeconds(25));
        time.Advance(TimeSpan.FromSeconds(20));
        await client.SendAsync("x");
        Assert.That(await client.ReadExactlyAsync(1), Is.EqualTo("x"u8.ToArray()));
        Assert.That(drain.IsCompleted, Is.False);
        for (var i = 0; i < 200 && !drain.IsCompleted; i++)
        {
            time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.WhenAny(drain, Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System));
        }

        await drain.WaitAsync(Wire.Patience);
        Assert.That(await client.EndsWithResetAsync(), Is.True);
    }

    [Test]
    public async Task Who_does_not_read_holds_up_who_sends()
    {
        const int Total = 64 << 20;
        var written = 0L;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await AcceptAsync(wire);
            var chunk = new byte[64 * 1024];
            for (var i = 0; i < Total / chunk.Length; i++)
            {
                await wire.SendAsync(chunk);
                Interlocked.Add(ref written, chunk.Length);
            }

            wire.Finish();
        });
        await using var mesh = await Mesh.StartAsync(_ca, server.EndPoint);
        await using var client = await mesh.Client.DialAsync("outbound", receiveBuffer: 64 * 1024);
        await client.SendAsync(Upgrade);
        await ExpectSwitchAsync(client);
        var last = -1L;
        for (var still = 0; still < 20; still = last == Interlocked.Read(ref written) ? still + 1 : 0)
        {
            last = Interlocked.Read(ref written);
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }

        Assert.That(last, Is.LessThan(24 << 20));
        client.Finish();
        Assert.That(await client.ReadToEndAsync(), Has.Length.EqualTo(Total));
    }

    private static async Task AcceptAsync(Wire wire)
    {
        var head = await wire.ReadHeadAsync();
        Assert.That(head!.Fields["upgrade"], Is.EqualTo("websocket"));
#pragma warning disable CA5350 // RFC 6455
        var accept = Convert.ToBase64String(SHA1.HashData(Encoding.ASCII.GetBytes(head.Fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
#pragma warning restore CA5350
        await wire.SendAsync($"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    }

    private static async Task ExpectSwitchAsync(Wire client)
    {
        var head = await client.ReadHeadAsync();
        Assert.That((head!.Status, head.Fields["upgrade"], head.Fields["sec-websocket-accept"]), Is.EqualTo((101, "websocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), "RFC 6455 section 1.3");
    }

    /// <summary>Messages of many sizes there and back, then the closing handshake.</summary>
    private static async Task<int> EchoAsync(IPEndPoint proxy, string version, string host)
    {
        using var socket = new ClientWebSocket();
        socket.Options.HttpVersion = Version.Parse(version);
        socket.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        socket.Options.SetRequestHeader("Host", host);
        using var invoker = new HttpMessageInvoker(new SocketsHttpHandler());
        using var patience = new CancellationTokenSource(Wire.Patience);
        await socket.ConnectAsync(new Uri($"ws://{proxy}/ws"), invoker, patience.Token);
        var total = 0;
        var received = new byte[200_000];
        foreach (var size in (int[])[0, 1, 125, 126, 65_535, 65_536, 150_000, 3])
        {
            var message = new byte[size];
            new Random(size).NextBytes(message);
            await socket.SendAsync(message, WebSocketMessageType.Binary, endOfMessage: true, patience.Token);
            var length = 0;
            ValueWebSocketReceiveResult result;
            do
            {
                result = await socket.ReceiveAsync(received.AsMemory(length), patience.Token);
                length += result.Count;
            }
            while (!result.EndOfMessage);
            Assert.That(received.AsSpan(0, length).SequenceEqual(message), Is.True, $"{size} bytes");
            total += size;
        }

        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "done", patience.Token);
        Assert.That(socket.CloseStatus, Is.EqualTo(WebSocketCloseStatus.NormalClosure));
        return total;
    }

    /// <summary>Kestrel's WebSockets: what comes goes back.</summary>
    private static Task<ForeignServer> StartEchoAsync(AppProtocol protocol) => ForeignServer.StartAsync(protocol == AppProtocol.Http2 ? HttpProtocols.Http2 : HttpProtocols.Http1, static async context =>
    {
        using var socket = await context.WebSockets.AcceptWebSocketAsync();
        var buffer = new byte[32 * 1024];
        while (true)
        {
            var result = await socket.ReceiveAsync(buffer.AsMemory(), context.RequestAborted);
            if (result.MessageType == WebSocketMessageType.Close)
            {
                await socket.CloseAsync(socket.CloseStatus!.Value, socket.CloseStatusDescription, context.RequestAborted);
                return;
            }

            await socket.SendAsync(buffer.AsMemory(0, result.Count), result.MessageType, result.EndOfMessage, context.RequestAborted);
        }
    });
}
