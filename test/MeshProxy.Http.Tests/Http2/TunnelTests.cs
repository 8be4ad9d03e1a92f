using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>CONNECT (RFC 9113 section 8.5) and extended CONNECT (RFC 8441), both sides, driven by bytes.</summary>
public sealed class TunnelTests
{
    private static readonly Http2Options s_extended = new() { AllowExtendedConnect = true };
    private static readonly byte[] s_webSocket =
        [.. Line(":method", "CONNECT"), .. Line(":protocol", "websocket"), 0x86, .. Line(":path", "/chat"), .. Line(":authority", "a.example"), .. Line("sec-websocket-version", "13")];

    private static readonly byte[] s_connect = [.. Line(":method", "CONNECT"), .. Line(":authority", "a.example:443")];

    [TestCase(true, 1)]
    [TestCase(false, 0)]
    public void Announced_in_settings_when_allowed(bool allowed, int count)
    {
        var server = new ServerUnderTest(options: new Http2Options { AllowExtendedConnect = allowed }, greet: false);
        var settings = server.Peer.Receive().First(frame => frame.Type == Settings).Payload;
        Assert.That(settings.Chunk(6).Count(setting => setting.SequenceEqual(Setting(8, 1))), Is.EqualTo(count));
    }

    [Test]
    public void Extended_connect_reads_as_an_upgrade_and_carries_bytes_both_ways()
    {
        var seen = "";
        var server = new ServerUnderTest(
            async exchange =>
            {
                var request = exchange.Request;
                seen = $"{Encoding.ASCII.GetString(request.MethodToken)} {Encoding.ASCII.GetString(request.Protocol)} {Encoding.ASCII.GetString(request.Path)} {request.EndsStream}";
                Assert.That(exchange.RequestBody.TryRead(out _), Is.False, "nothing to read before the tunnel is accepted");
                exchange.Response.Status = 101;
                exchange.Response.IsTunnel = true;
                exchange.Response.Fields.Add(KnownField.Connection, "Upgrade"u8);
                exchange.Response.Fields.Add(KnownField.Upgrade, "websocket"u8);
                exchange.Response.Fields.Add("sec-websocket-accept"u8, "x"u8);
                exchange.Response.Fields.Add("sec-websocket-protocol"u8, "p"u8);
                exchange.WriteHead(exchange.Response);
                await exchange.FlushAsync();
                await Echo(exchange);
            },
            s_extended);
        server.Peer.Send([.. Frame(Headers, 4, 1, s_webSocket), .. Frame(Data, 0, 1, 1, 2)]);
        Assert.That(seen, Is.EqualTo("GET websocket /chat False"));
        var frames = server.Peer.Receive();
        Assert.That((frames[0].Type, frames[0].Flags, frames[0].Payload[0]), Is.EqualTo((Headers, EndHeaders, (byte)0x88)));
        var fields = Encoding.ASCII.GetString(frames[0].Payload);
        Assert.That(fields, Does.Contain("sec-websocket-protocol"));
        Assert.That(fields, Does.Not.Contain("sec-websocket-accept").And.Not.Contain("upgrade"));
        Assert.That((frames[1].Type, frames[1].Payload), Is.EqualTo((Data, new byte[] { 1, 2 })));
        server.Peer.Send(Data, EndStream, 1, 3);
        Assert.That(server.Peer.Receive().Last().Flags, Is.EqualTo(EndStream));
        Assert.That(server.Errors, Is.Empty);
        Assert.That(server.Connection.ActiveExchanges, Is.Zero);
    }

    [Test]
    public void Refused_tunnel_is_an_ordinary_answer()
    {
        var server = new ServerUnderTest(options: s_extended);
        server.Peer.Send(Headers, 4, 1, s_webSocket);
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Reset }), "the response is whole, and no more of the request is wanted");
        Assert.That(frames[1].Code, Is.EqualTo((uint)Http2ErrorCode.NoError));
    }

    [Test]
    public void Plain_connect_has_neither_path_nor_protocol()
    {
        var seen = "";
        var server = new ServerUnderTest(async exchange =>
        {
            var request = exchange.Request;
            seen = $"{request.Method} {Encoding.ASCII.GetString(request.Authority)} {request.Path.Length} {request.Protocol.Length} {request.AsksForTunnel} {request.EndsStream}";
            exchange.Response.Status = 200;
            exchange.Response.IsTunnel = true;
            exchange.WriteHead(exchange.Response);
            await Echo(exchange);
        });
        server.Peer.Send([.. Frame(Headers, 5, 1, s_connect)]);
        Assert.That(seen, Is.EqualTo("Connect a.example:443 0 0 True False"));
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => (frame.Type, frame.Flags)), Is.EqualTo(new[] { (Headers, EndHeaders), (Data, EndStream) }), "half-closed at once, and closed in answer");
    }

    public static IEnumerable<TestCaseData> Malformed()
    {
        byte[] method = Line(":method", "CONNECT");
        byte[] protocol = Line(":protocol", "websocket");
        byte[] authority = Line(":authority", "a:1");
        (string Name, bool Extended, byte[] Block)[] rows =
        [
            ("CONNECT with :scheme", true, [.. method, 0x86, .. authority]),
            ("CONNECT with :path", true, [.. method, 0x84, .. authority]),
            ("CONNECT without :authority", true, method),
            ("CONNECT with Host for :authority", true, [.. method, .. Line("host", "a:1")]),
            ("CONNECT without port", true, [.. method, .. Line(":authority", "a")]),
            ("CONNECT with an empty port", true, [.. method, .. Line(":authority", "a:")]),
            ("CONNECT with content-length", true, [.. s_connect, .. Line("content-length", "5")]),
            ("extended CONNECT without :scheme", true, [.. method, .. protocol, 0x84, .. authority]),
            ("extended CONNECT without :path", true, [.. method, .. protocol, 0x86, .. authority]),
            ("extended CONNECT without :authority", true, [.. method, .. protocol, 0x86, 0x84]),
            ("extended CONNECT with content-length", true, [.. s_webSocket, .. Line("content-length", "5")]),
            ("extended CONNECT with upgrade", true, [.. s_webSocket, .. Line("upgrade", "websocket")]),
            (":protocol with GET", true, [.. protocol, .. Get]),
            (":protocol that is no token", true, [.. method, .. Line(":protocol", "web socket"), 0x86, 0x84, .. authority]),
            (":protocol empty", true, [.. method, .. Line(":protocol", ""), 0x86, 0x84, .. authority]),
            (":protocol that was not announced", false, s_webSocket),
        ];
        return rows.Select(row => new TestCaseData(row.Extended, row.Block).SetName($"malformed: {row.Name}"));
    }

    [TestCaseSource(nameof(Malformed))]
    public void Malformed_connect_is_a_stream_error(bool extended, byte[] block)
    {
        var server = new ServerUnderTest(options: extended ? s_extended : null);
        server.Peer.Send(Headers, 4, 1, block);
        var frame = server.Peer.Receive().Single();
        Assert.That((frame.Type, frame.Stream, frame.Code), Is.EqualTo((Reset, 1, (uint)Http2ErrorCode.ProtocolError)));
        Assert.That(server.Connection.TotalExchanges, Is.Zero);
    }

    [Test]
    public void No_second_headers_in_a_tunnel()
    {
        var server = new ServerUnderTest(AcceptAndEcho);
        server.Peer.Send(Headers, 4, 1, s_connect);
        server.Peer.Receive();
        server.Peer.Send(Headers, 5, 1, Line("a", "b"));
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.ProtocolError));
        Assert.That(server.Connection.ActiveExchanges, Is.Zero);
    }

    [Test]
    public void Broken_tunnel_is_a_connect_error()
    {
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.Response.IsTunnel = true;
            exchange.WriteHead(exchange.Response);
            await exchange.RequestBody.ReadAsync();
            exchange.Reset(new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer));
        });
        server.Peer.Send([.. Frame(Headers, 4, 1, s_connect), .. Frame(Data, 0, 1, 1)]);
        Assert.That(server.Peer.Receive().Last().Code, Is.EqualTo((uint)Http2ErrorCode.ConnectError));
    }

    [Test]
    public void Trailers_written_to_a_tunnel_are_its_end_alone()
    {
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.Response.IsTunnel = true;
            exchange.WriteHead(exchange.Response);
            var trailers = new FieldMap();
            trailers.Add("a"u8, "b"u8);
            Assert.That(exchange.WriteTrailers(trailers), Is.True);
            await exchange.FlushAsync();
            await exchange.RequestBody.ReadAsync();
        });
        server.Peer.Send(Headers, 4, 1, s_connect);
        var last = server.Peer.Receive().Last();
        Assert.That((last.Type, last.Flags, last.Payload.Length), Is.EqualTo((Data, EndStream, 0)));
    }

    [Test]
    public void Client_sends_an_upgrade_as_extended_connect()
    {
        var client = new ClientUnderTest(null, true, Setting(8, 1));
        Assert.That(client.Connection.AllowsExtendedConnect, Is.True);
        var exchange = client.Connection.TryOpenExchange()!;
        Assert.That(exchange.WriteHead(WebSocketHead()), Is.True);
        _ = exchange.FlushAsync().AsTask();
        var sent = client.Peer.Receive().Single();
        Assert.That((sent.Type, sent.Flags), Is.EqualTo((Headers, EndHeaders)));
        var text = Encoding.ASCII.GetString(sent.Payload);
        Assert.That(text, Does.Contain("CONNECT").And.Contain(":protocol").And.Contain("websocket").And.Contain("/chat").And.Contain("sec-websocket-version"));
        Assert.That(text, Does.Not.Contain("sec-websocket-key").And.Not.Contain("upgrade").And.Not.Contain("connection"));

        // A length in the head that accepts means nothing.
        client.Peer.Send([.. Frame(Headers, 4, 1, [0x88, .. Line("content-length", "0")]), .. Frame(Data, 0, 1, 1, 2)]);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        var head = exchange.Response;
        Assert.That((head.Status, head.IsTunnel, head.EndsStream, head.ContentLength, head.Fields.Count), Is.EqualTo((200, true, false, -1L, 0)));
        Assert.That(exchange.ResponseBody.TryRead(out var chunk) && chunk.Data.Length == 2 && !chunk.IsEnd, Is.True);
        Assert.That(exchange.WriteBodyAsync(new ReadOnlySequence<byte>([7]), true).AsTask().Result, Is.True);
        _ = exchange.FlushAsync().AsTask();
        Assert.That(client.Peer.Receive().Single().ToString(), Is.EqualTo("type 0 flags 1 stream 1 [07]"));
        exchange.Complete();
    }

    [Test]
    public void Client_does_not_try_what_the_peer_does_not_allow()
    {
        var client = new ClientUnderTest();
        var exchange = client.Connection.TryOpenExchange()!;
        Assert.That(exchange.WriteHead(WebSocketHead()), Is.False);
        Assert.That((exchange.End.Detail, exchange.End.IsProvablyUnprocessed, exchange.IsSent), Is.EqualTo(("no_extended_connect", true, false)));
        exchange.Complete();
        Assert.That((client.Peer.Receive().Count, client.Connection.ActiveExchanges, client.Closed), Is.EqualTo((0, 0, (ConnectionCloseReason?)null)));
        client.Open().Complete();
    }

    [Test]
    public void Client_is_refused_like_any_request()
    {
        var client = new ClientUnderTest(null, true, Setting(8, 1));
        var exchange = client.Connection.TryOpenExchange()!;
        exchange.WriteHead(WebSocketHead());
        client.Peer.Send([.. Frame(Headers, 4, 1, [.. Line(":status", "403"), .. Line("content-length", "1")]), .. Frame(Data, 1, 1, 9)]);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That((exchange.Response.Status, exchange.Response.IsTunnel, exchange.Response.ContentLength), Is.EqualTo((403, false, 1L)));
        exchange.Complete();
    }

    [Test]
    public void Client_sends_a_plain_connect()
    {
        var client = new ClientUnderTest();
        var exchange = client.Connection.TryOpenExchange()!;
        var head = new RequestHead();
        head.SetMethod("CONNECT"u8);
        head.SetAuthority("a:443"u8);
        exchange.WriteHead(head);
        _ = exchange.FlushAsync().AsTask();
        var sent = client.Peer.Receive().Single();
        Assert.That(Encoding.ASCII.GetString(sent.Payload), Does.Contain("CONNECT").And.Contain("a:443").And.Not.Contain(":protocol"));
        Assert.That(sent.Payload, Has.None.EqualTo((byte)0x84).And.None.EqualTo((byte)0x86), "neither :path nor :scheme");
        client.Peer.Send(Headers, 4, 1, 0x88);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result && exchange.Response.IsTunnel, Is.True);
        client.Peer.Send(Headers, 5, 1, Line("a", "b"));
        Assert.That((exchange.End.Reason, exchange.End.Detail), Is.EqualTo((StreamResetReason.ProtocolError, "headers_in_tunnel")));
        exchange.Complete();
    }

    [Test]
    public void What_was_allowed_is_not_taken_back()
    {
        var client = new ClientUnderTest(null, true, Setting(8, 1));
        client.Peer.Send(Settings, 0, 0, Setting(8, 0));
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.ProtocolError));
    }

    private static RequestHead WebSocketHead()
    {
        var head = new RequestHead();
        head.SetMethod("GET"u8);
        head.SetProtocol("websocket"u8);
        head.SetScheme("http"u8);
        head.SetAuthority("a"u8);
        head.SetPath("/chat"u8);
        head.Fields.Add(KnownField.Connection, "Upgrade"u8);
        head.Fields.Add(KnownField.Upgrade, "websocket"u8);
        head.Fields.Add("sec-websocket-key"u8, "dGhlIHNhbXBsZSBub25jZQ=="u8);
        head.Fields.Add("sec-websocket-version"u8, "13"u8);
        return head;
    }

    private static async ValueTask AcceptAndEcho(HttpServerExchange exchange)
    {
        exchange.Response.Status = 200;
        exchange.Response.IsTunnel = true;
        exchange.WriteHead(exchange.Response);
        await exchange.FlushAsync();
        await Echo(exchange);
    }

    private static async ValueTask Echo(HttpServerExchange exchange)
    {
        while (true)
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken || !await exchange.WriteBodyAsync(chunk.Data, chunk.IsEnd))
            {
                return;
            }

            exchange.RequestBody.Advance(chunk.Data.Length);
            await exchange.FlushAsync();
            if (chunk.IsEnd)
            {
                return;
            }
        }
    }
}
