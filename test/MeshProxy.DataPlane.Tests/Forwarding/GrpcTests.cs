using System.Buffers;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>What the proxy knows of gRPC: whose messages are counted, whose status is kept.</summary>
internal sealed class GrpcTests
{
    [TestCase("application/grpc", (int)GrpcKind.Grpc)]
    [TestCase("Application/GRPC", (int)GrpcKind.Grpc)]
    [TestCase("application/grpc+proto", (int)GrpcKind.Grpc)]
    [TestCase("application/grpc;charset=utf-8", (int)GrpcKind.Grpc)]
    [TestCase("application/grpc-web", (int)GrpcKind.Web)]
    [TestCase("application/grpc-web+proto", (int)GrpcKind.Web)]
    [TestCase("application/grpc-web-text", (int)GrpcKind.WebText)]
    [TestCase("application/grpc-web-text+proto", (int)GrpcKind.WebText)]
    [TestCase("application/grpcx", (int)GrpcKind.None)]
    [TestCase("application/grpc-other", (int)GrpcKind.None)]
    [TestCase("application/grpc-web-texts", (int)GrpcKind.None)]
    [TestCase("application/json", (int)GrpcKind.None)]
    public void The_content_type_tells_what_is_gRPC(string type, int kind)
    {
        var fields = new FieldMap();
        fields.Add(KnownField.ContentType, Encoding.ASCII.GetBytes(type));
        Assert.That(GrpcKinds.Of(fields), Is.EqualTo((GrpcKind)kind));
    }

    [Test]
    public void Messages_are_counted_in_whatever_pieces_they_come()
    {
        byte[] call = [.. Message(0, 0), .. Message(1, 3), .. Message(0, 300), .. Message(0, 1), 0, 0, 0, 0, 9, 1];
        for (var piece = 1; piece <= call.Length; piece++)
        {
            var counter = default(GrpcMessageCounter);
            var seen = 0;
            for (var at = 0; at < call.Length; at += piece)
            {
                seen += counter.Take(new ReadOnlySequence<byte>(call, at, Math.Min(piece, call.Length - at)));
            }

            Assert.That(seen, Is.EqualTo(4), $"pieces of {piece}");
        }

        var several = default(GrpcMessageCounter);
        Assert.That(several.Take(Segments(call, 7)), Is.EqualTo(4));
        var other = default(GrpcMessageCounter);
        Assert.That(other.Take(new ReadOnlySequence<byte>("<html>"u8.ToArray())) + other.Take(new ReadOnlySequence<byte>(new byte[500])), Is.Zero, "no gRPC");
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task Messages_of_a_call_are_counted_both_ways_and_nothing_is_touched(bool streamed)
    {
        byte[] request = [.. Message(1, 40), .. Message(0, 0)];
        byte[] response = [.. Message(0, 10), .. Message(1, 20), .. Message(0, 30)];
        var received = new List<byte>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            Frame data;
            do
            {
                data = await wire.ReadFrameAsync(Frame.Data);
                received.AddRange(data.Payload);
            }
            while (!data.EndsStream);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, [0x88, .. Wire.Block(("content-type", "application/grpc"), ("grpc-encoding", "gzip"))]);
            foreach (var b in response)
            {
                await wire.SendFrameAsync(Frame.Data, 0, head.Stream, b);
            }

            await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, Wire.Block(("grpc-status", "0"), ("x-t", "1")));
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
        var content = streamed ? (HttpContent)new Slowly(request) : new ByteArrayContent(request);
        content.Headers.ContentType = new("application/grpc");
        content.Headers.Add("grpc-encoding", "gzip");
        var answer = await client.PostAsync("/pay.Payments/Book", content);
        Assert.That(await answer.Content.ReadAsByteArrayAsync(), Is.EqualTo(response));
        Assert.That(received, Is.EqualTo(request));
        Assert.That(answer.Headers.GetValues("grpc-encoding").Single(), Is.EqualTo("gzip"));
        Assert.That(answer.TrailingHeaders.GetValues("grpc-status").Single(), Is.EqualTo("0"));
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("meshproxy.grpc_messages_received").GetInt32(), line.GetProperty("meshproxy.grpc_messages_sent").GetInt32()), Is.EqualTo((2, 3)));
        var metrics = Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());
        Assert.That(metrics, Does.Contain("meshproxy_grpc_messages_total{direction=\"gateway\",service=\"shop/payments\",route=\"shop/route\",way=\"received\"} 2"));
        Assert.That(metrics, Does.Contain("meshproxy_grpc_messages_total{direction=\"gateway\",service=\"shop/payments\",route=\"shop/route\",way=\"sent\"} 3"));
    }

    [Test]
    public async Task A_trailers_only_response_stays_one_with_status_message_and_details()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            while (true)
            {
                var head = await wire.ReadFrameAsync(Frame.Headers);
                await wire.SendFrameAsync(Frame.Headers, 5, head.Stream,
                    [0x88, .. Wire.Block(("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no%20such"), ("grpc-status-details-bin", "CAUSBG5vbmU"))]);
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
        var answer = await client.PostAsync("/pay.Payments/Book", Grpc());
        Assert.That(answer.Headers.GetValues("grpc-status").Single(), Is.EqualTo("5"));
        Assert.That(answer.Headers.GetValues("grpc-message").Single(), Is.EqualTo("no%20such"));
        Assert.That(answer.Headers.GetValues("grpc-status-details-bin").Single(), Is.EqualTo("CAUSBG5vbmU"));
        Assert.That(answer.TrailingHeaders, Is.Empty);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.grpc_status").GetInt32(), Is.EqualTo(5));

        await using var wire = await proxy.DialAsync();
        await wire.BeginHttp2Async();
        await wire.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a/b"), ("content-type", "application/grpc"), ("te", "trailers")));
        Assert.That((await wire.ReadFrameAsync(Frame.Headers, Frame.Data)) is { Type: Frame.Headers, EndsStream: true }, Is.True, "one HEADERS frame that ends the stream");
    }

    [Test]
    public async Task An_answer_that_is_no_gRPC_is_left_for_the_client_to_judge()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);

            // The call's message is counted as it goes by: an answer before it would leave none to be told.
            await wire.ReadFrameAsync(Frame.Data);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "503"), ("content-type", "text/html")));
            await wire.SendFrameAsync(Frame.Data, 1, head.Stream, [0, 0, 0, 0, 0]);
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
        var answer = await client.PostAsync("/pay.Payments/Book", Grpc());
        Assert.That(((int)answer.StatusCode, answer.Content.Headers.ContentType!.MediaType), Is.EqualTo((503, "text/html")));
        Assert.That(answer.Headers.Contains("grpc-status"), Is.False);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.grpc_messages_sent").GetInt32(), Is.Zero);
    }

    [Test]
    public async Task A_call_over_HTTP1_keeps_its_trailers_and_one_over_HTTP10_is_refused_because_it_can_not()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, [0x88, .. Wire.Block(("content-type", "application/grpc"))]);
            await wire.SendFrameAsync(Frame.Data, 0, head.Stream, Message(0, 2));
            await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, Wire.Block(("grpc-status", "0")));
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        var answer = await proxy.PostAsync("\0\0\0\0\0", "/pay.Payments/Book", fields: "Content-Type: application/grpc\r\nTE: trailers\r\nConnection: TE\r\n");
        Assert.That((answer.Status, answer.Body.Length, answer.Trailers["grpc-status"]), Is.EqualTo((200, 7, "0")));
        var refused = await proxy.SendAsync("POST /pay.Payments/Book HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: application/grpc\r\n\r\n\0\0\0\0\0");
        Assert.That((refused.Status, refused.Fields["grpc-status"]), Is.EqualTo((200, "12")));
        Assert.That(server.Accepted, Is.EqualTo(1));
    }

    [Test]
    public async Task What_the_proxy_says_itself_is_percent_encoded()
    {
        var cluster = Configs.Cluster();
        var route = Configs.Route(new HttpRouteRuleConfig { Name = "1", Backends = [new BackendConfig(null, 1, "100% of ü\ngone~")] });
        await using var proxy = await TestProxy.StartAsync(Configs.Destination(cluster, [], route), Mesh.Outbound());
        using var client = ForeignServer.Client(proxy.EndPoint("outbound"), "2.0");
        var answer = await client.SendAsync(new HttpRequestMessage(HttpMethod.Post, "/a/b") { Content = Grpc(), Headers = { Host = "payments" }, Version = new Version(2, 0) });
        Assert.That(answer.Headers.GetValues("grpc-message").Single(), Does.EndWith("100%25 of %C3%BC%0Agone~"), "gRPC over HTTP/2, Percent-Encoded: all but printable ASCII, and the percent sign");
    }

    private static byte[] Message(byte flag, int length) => [flag, 0, 0, (byte)(length >> 8), (byte)length, .. Enumerable.Repeat((byte)7, length)];

    private static ByteArrayContent Grpc()
    {
        var content = new ByteArrayContent([0, 0, 0, 0, 0]);
        content.Headers.ContentType = new("application/grpc");
        return content;
    }

    private static ReadOnlySequence<byte> Segments(byte[] bytes, int size)
    {
        var first = new Segment(bytes.AsMemory(0, size), null);
        var last = first;
        for (var at = size; at < bytes.Length; at += size)
        {
            last = new Segment(bytes.AsMemory(at, Math.Min(size, bytes.Length - at)), last);
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, Segment? before)
        {
            Memory = memory;
            if (before is not null)
            {
                RunningIndex = before.RunningIndex + before.Memory.Length;
                before.Next = this;
            }
        }
    }

    /// <summary>A body that comes byte by byte.</summary>
    private sealed class Slowly(byte[] bytes) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context)
        {
            foreach (var b in bytes)
            {
                await stream.WriteAsync(new[] { b });
                await stream.FlushAsync();
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
