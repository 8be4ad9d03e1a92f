using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>gRPC-Web at a gateway, spoken by hand, in front of a gRPC server that knows nothing of it.</summary>
internal sealed class GrpcWebTests
{
    private static readonly byte[] Request = [.. Message(0, 10), .. Message(1, 300), .. Message(0, 0)];

    [TestCase("aGVsbG8=", "hello")]
    [TestCase("aGVsbG8=IHdv cmxk", null)]
    [TestCase("aGVsbG8=IHdvcmxk", "hello world")]
    [TestCase("aA==ZQ==bGxv", "hello")]
    [TestCase("", "")]
    [TestCase("aGVsbG8", null)]
    [TestCase("a===", null)]
    [TestCase("aG=s", null)]
    [TestCase("=aGVs", null)]
    [TestCase("aGVsbG9=", null)]
    [TestCase("aGVs\n", null)]
    [TestCase("aGV-", null)]
    public async Task Base64_is_read_in_whatever_pieces_it_comes_and_strictly(string text, string? expected)
    {
        for (var piece = 1; piece <= Math.Max(1, text.Length); piece++)
        {
            var reader = new Base64BodyReader();
            reader.Begin(new Pieces(Encoding.ASCII.GetBytes(text), piece));
            var decoded = new List<byte>();
            BodyChunk chunk;
            do
            {
                chunk = await reader.ReadAsync();

                // Byte by byte here too.
                var taken = chunk.Data.Slice(0, Math.Min(1, chunk.Data.Length));
                decoded.AddRange(taken.ToArray());
                reader.Advance(taken.Length);
                if (chunk.Data.Length > taken.Length)
                {
                    continue;
                }
            }
            while (!chunk.IsBroken && !(chunk.IsEnd && chunk.Data.Length <= 1));
            reader.Release();
            Assert.That(chunk.IsBroken, Is.EqualTo(expected is null), $"pieces of {piece}");
            if (expected is not null)
            {
                Assert.That(Encoding.ASCII.GetString([.. decoded]), Is.EqualTo(expected), $"pieces of {piece}");
            }
        }
    }

    [TestCase("application/grpc-web+proto", false)]
    [TestCase("application/grpc-web+proto", true)]
    [TestCase("application/grpc-web-text+proto", false)]
    [TestCase("application/grpc-web-text+proto", true)]
    [TestCase("application/grpc-web-text", true)]
    public async Task A_call_is_made_into_gRPC_and_back(string type, bool byteByByte)
    {
        await using var server = await GrpcServer.StartAsync();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        var isText = type.Contains("-text", StringComparison.Ordinal);
        var body = isText ? Encoding.ASCII.GetBytes(Convert.ToBase64String(Request, 0, 20) + Convert.ToBase64String(Request, 20, Request.Length - 20)) : Request;
        await using var client = await proxy.DialAsync();
        for (var round = 0; round < 2; round++)
        {
            var head = $"POST /pay.Payments/Book HTTP/1.1\r\nHost: a\r\nContent-Type: {type}\r\nX-Grpc-Web: 1\r\n";
            if (byteByByte)
            {
                await client.SendAsync(head + "Transfer-Encoding: chunked\r\n\r\n");
                foreach (var b in body)
                {
                    await client.SendAsync([(byte)'1', (byte)'\r', (byte)'\n', b, (byte)'\r', (byte)'\n']);
                }

                await client.SendAsync("0\r\n\r\n");
            }
            else
            {
                await client.SendAsync([.. Encoding.ASCII.GetBytes($"{head}Content-Length: {body.Length}\r\n\r\n"), .. body]);
            }

            var response = await client.ReadResponseAsync();
            Assert.That(response.Status, Is.EqualTo(200));
            Assert.That(response.Fields["content-type"], Is.EqualTo(isText ? "application/grpc-web-text+proto" : "application/grpc-web+proto"));
            var (messages, trailers) = Parse(isText ? Unbase64(response.Text) : response.Body);
            Assert.That(messages, Is.EqualTo(Request), "every message, compressed or not, as it was");
            Assert.That(trailers.Split("\r\n"), Is.EquivalentTo(new[] { "grpc-status: 0", "grpc-message: fine", "x-sum-bin: AAEC", "" }));
            Assert.That(response.Trailers, Is.Empty);
        }

        Assert.That(server.Seen, Is.All.EqualTo(type.EndsWith("+proto", StringComparison.Ordinal) ? "HTTP/2 application/grpc+proto trailers" : "HTTP/2 application/grpc trailers"));
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("meshproxy.grpc_messages_received").GetInt32(), line.GetProperty("meshproxy.grpc_messages_sent").GetInt32(), line.GetProperty("meshproxy.grpc_status").GetInt32()),
            Is.EqualTo((3, 3, 0)));
    }

    [TestCase("application/grpc-web", "application/grpc-web-text", true)]
    [TestCase("application/grpc-web-text", "application/grpc-web+proto", false)]
    [TestCase("application/grpc-web-text", "*/*", true)]
    public async Task Accept_chooses_the_form_of_the_response(string type, string accept, bool isText)
    {
        await using var server = await GrpcServer.StartAsync();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        var body = type.EndsWith("text", StringComparison.Ordinal) ? Convert.ToBase64String(Request) : Encoding.Latin1.GetString(Request);
        var response = await proxy.PostAsync(body, "/pay.Payments/Book", fields: $"Content-Type: {type}\r\nAccept: {accept}\r\n");
        Assert.That(response.Fields["content-type"], Does.StartWith(isText ? "application/grpc-web-text" : "application/grpc-web"));
        Assert.That(Parse(isText ? Unbase64(response.Text) : response.Body).Messages, Is.EqualTo(Request));
    }

    [Test]
    public async Task Messages_are_not_held_back_until_the_stream_ends()
    {
        await using var server = await GrpcServer.StartAsync();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST /pay.Payments/Book HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (var i = 1; i <= 3; i++)
        {
            var message = Convert.ToBase64String(Message(0, i));
            await client.SendAsync($"{message.Length:x}\r\n{message}\r\n");
            if (i == 1)
            {
                Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(200));
            }

            var back = new List<byte>();
            while (back.Count < 5 + i)
            {
                var size = Encoding.ASCII.GetString(await client.ReadExactlyAsync(1)) + Encoding.ASCII.GetString(await client.ReadExactlyAsync(2)).TrimEnd('\n', '\r');
                if (size.Length == 2)
                {
                    // Two digits: the line's end follows.
                    await client.ReadExactlyAsync(1);
                }

                var piece = await client.ReadExactlyAsync(Convert.ToInt32(size.TrimEnd('\r'), 16));
                await client.ReadExactlyAsync(2);
                back.AddRange(Unbase64(Encoding.ASCII.GetString(piece)));
            }

            Assert.That(back, Is.EqualTo(Message(0, i)), $"message {i}");
        }

        await client.SendAsync("0\r\n\r\n");
    }

    [Test]
    public async Task Errors_come_among_the_fields()
    {
        await using var server = await GrpcServer.StartAsync();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        var only = await proxy.PostAsync("", "/trailers-only", fields: "Content-Type: application/grpc-web+proto\r\n");
        Assert.That((only.Status, only.Fields["grpc-status"], only.Fields["content-type"], only.Body.Length), Is.EqualTo((200, "5", "application/grpc-web+proto", 0)));
        var html = await proxy.PostAsync("", "/html", fields: "Content-Type: application/grpc-web+proto\r\n");
        Assert.That((html.Status, html.Fields["content-type"], html.Text), Is.EqualTo((503, "text/html", "<html>")), "no gRPC: as it is");
        var broken = await proxy.PostAsync("AAAA====", "/pay.Payments/Book", fields: "Content-Type: application/grpc-web-text\r\n");
        Assert.That((broken.Status, broken.Fields["grpc-status"], broken.Fields["content-type"]), Is.EqualTo((200, "13", "application/grpc-web-text")));
        Assert.That(broken.Fields["grpc-message"], Does.StartWith("DPE"));

        await using var down = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), ScriptedServer.Closed()));
        var unavailable = await down.PostAsync("", "/a/b", fields: "Content-Type: application/grpc-web\r\n");
        Assert.That((unavailable.Status, unavailable.Fields["grpc-status"], unavailable.Fields["content-type"]), Is.EqualTo((200, "14", "application/grpc-web")));
    }

    [Test]
    public async Task Over_HTTP2_it_is_the_same()
    {
        await using var server = await GrpcServer.StartAsync();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Grpc), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
        var content = new ByteArrayContent(Request);
        content.Headers.ContentType = new("application/grpc-web+proto");
        var response = await client.PostAsync("/pay.Payments/Book", content);
        var (messages, trailers) = Parse(await response.Content.ReadAsByteArrayAsync());
        Assert.That(messages, Is.EqualTo(Request));
        Assert.That(trailers, Does.Contain("grpc-status: 0\r\n"));
        Assert.That(response.TrailingHeaders, Is.Empty);
    }

    [Test]
    public async Task A_backend_that_speaks_HTTP1_gets_gRPC_Web_as_it_came()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Fields["content-type"] + request.Text));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        Assert.That((await proxy.PostAsync("AAAA", fields: "Content-Type: application/grpc-web-text\r\n")).Text, Is.EqualTo("application/grpc-web-textAAAA"));
    }

    private static byte[] Message(byte flag, int length) => [flag, 0, 0, (byte)(length >> 8), (byte)length, .. Enumerable.Repeat((byte)0xa5, length)];

    // What a client does: four characters at a time, padding wherever it stands.
    private static byte[] Unbase64(string text) => [.. text.Chunk(4).SelectMany(four => Convert.FromBase64String(new string(four)))];

    private static (byte[] Messages, string Trailers) Parse(byte[] body)
    {
        for (var at = 0; at < body.Length;)
        {
            var length = BinaryPrimitives.ReadInt32BigEndian(body.AsSpan(at + 1));
            if (body[at] == 0x80)
            {
                Assert.That(body, Has.Length.EqualTo(at + 5 + length), "nothing behind the trailers");
                return (body[..at], Encoding.ASCII.GetString(body, at + 5, length));
            }

            at += 5 + length;
        }

        throw new EndOfStreamException("no trailers");
    }

    /// <summary>A body in pieces of one size, each of which has to be waited for.</summary>
    private sealed class Pieces(byte[] bytes, int size) : HttpBodyReader
    {
        private int _at;
        private bool _isAsked;

        public override FieldMap Trailers { get; } = new();

        public override bool TryRead(out BodyChunk chunk)
        {
            chunk = default;
            if (!_isAsked)
            {
                return false;
            }

            var length = Math.Min(size, bytes.Length - _at);
            chunk = new BodyChunk(new ReadOnlySequence<byte>(bytes, _at, length), _at + length == bytes.Length, default);
            return true;
        }

        public override ValueTask<BodyChunk> ReadAsync()
        {
            _isAsked = true;
            TryRead(out var chunk);
            return new ValueTask<BodyChunk>(chunk);
        }

        public override void Advance(long count)
        {
            _at += (int)count;
            _isAsked = count == 0;
        }
    }

    /// <summary>Kestrel as a gRPC server: what comes goes back, with trailers.</summary>
    private sealed class GrpcServer : IAsyncDisposable
    {
        private ForeignServer _server = null!;

        public IPEndPoint EndPoint => _server.EndPoint;

        public List<string> Seen { get; } = [];

        public static async Task<GrpcServer> StartAsync()
        {
            var server = new GrpcServer();
            server._server = await ForeignServer.StartAsync(HttpProtocols.Http2, server.ServeAsync);
            return server;
        }

        public ValueTask DisposeAsync() => _server.DisposeAsync();

        private async Task ServeAsync(HttpContext context)
        {
            var (request, response) = (context.Request, context.Response);
            response.ContentType = request.Path == "/html" ? "text/html" : "application/grpc+proto";
            if (request.Path == "/html")
            {
                response.StatusCode = 503;
                await response.WriteAsync("<html>");
                return;
            }

            if (request.Path == "/trailers-only")
            {
                response.Headers["grpc-status"] = "5";
                return;
            }

            lock (Seen)
            {
                Seen.Add($"{request.Protocol} {request.ContentType} {request.Headers.TE}");
            }

            context.Features.Get<IHttpMaxRequestBodySizeFeature>()!.MaxRequestBodySize = null;
            var buffer = new byte[4096];
            for (int read; (read = await request.Body.ReadAsync(buffer)) > 0;)
            {
                await response.Body.WriteAsync(buffer.AsMemory(0, read));
                await response.Body.FlushAsync();
            }

            response.AppendTrailer("grpc-status", "0");
            response.AppendTrailer("grpc-message", "fine");
            response.AppendTrailer("x-sum-bin", "AAEC");
        }
    }
}
