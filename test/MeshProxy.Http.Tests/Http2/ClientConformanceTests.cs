using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>
/// RFC 9113 as a table, for the client side: what a raw server sends while a request is open on stream 1, and what must come of it: the status or the end of that
/// exchange, then what the server got. A connection that is not said to go away must still answer a PING.
/// </summary>
public sealed class ClientConformanceTests
{
    private static readonly byte[] s_ok = [0x88];

    public static IEnumerable<TestCaseData> Rows()
    {
        byte[] head = Frame(Headers, 4, 1, s_ok);
        byte[] whole = Frame(Headers, 5, 1, s_ok);
        const string Died = "ProtocolError -> goaway";
        (string Section, string Name, byte[] Sent, string Expected)[] rows =
        [
            ("3.4", "first frame is not SETTINGS", [.. Frame(Ping, 0, 0, new byte[8])], $"{Died} ProtocolError"),
            ("4.1", "unknown frame type", [.. Frame(0x16, 0xff, 1, 1, 2), .. whole], "200"),
            ("4.2", "frame too large", Frame(Data, 0, 1, new byte[16_385]), $"{Died} FrameSizeError"),
            ("4.3", "invalid field block", Frame(Headers, 5, 1, 0x80), $"{Died} CompressionError"),
            ("4.3", "field block interrupted", [.. Frame(Headers, 1, 1, s_ok), .. Frame(Ping, 0, 0, new byte[8])], $"{Died} ProtocolError"),
            ("5.1", "idle: DATA", Frame(Data, 1, 3, 1), $"{Died} ProtocolError"),
            ("5.1", "idle: HEADERS", Frame(Headers, 5, 3, s_ok), $"{Died} ProtocolError"),
            ("5.1", "idle: WINDOW_UPDATE", Frame(WindowUpdate, 0, 3, UInt32(1)), $"{Died} ProtocolError"),
            ("5.1", "idle: RST_STREAM", Frame(Reset, 0, 3, UInt32(8)), $"{Died} ProtocolError"),
            ("5.1", "closed: HEADERS", [.. whole, .. whole], "200 -> goaway StreamClosed"),
            ("5.1", "closed: DATA", [.. whole, .. Frame(Data, 1, 1, 1)], "200 -> reset 1 StreamClosed"),
            ("5.1", "closed: WINDOW_UPDATE, RST_STREAM, PRIORITY", [
                .. whole, .. Frame(WindowUpdate, 0, 1, UInt32(1)), .. Frame(Reset, 0, 1, UInt32(0)), .. Frame(Priority, 0, 1, 0, 0, 0, 0, 1)], "200"),
            ("5.1.1", "stream of the server's", Frame(Headers, 5, 2, s_ok), $"{Died} ProtocolError"),
            ("6.1", "DATA on stream 0", Frame(Data, 0, 0, 1), $"{Died} ProtocolError"),
            ("6.1", "DATA padded beyond its payload", [.. head, .. Frame(Data, 8, 1, 5, 0)], "200 -> goaway ProtocolError"),
            ("6.4", "RST_STREAM", Frame(Reset, 0, 1, UInt32(2)), "PeerReset"),
            ("6.4", "RST_STREAM REFUSED_STREAM", Frame(Reset, 0, 1, UInt32(7)), "PeerRefused"),
            ("6.4", "RST_STREAM of another size", Frame(Reset, 0, 1, 8), $"{Died} FrameSizeError"),
            ("6.5", "SETTINGS on a stream", Frame(Settings, 0, 1), $"{Died} ProtocolError"),
            ("6.5", "SETTINGS of another size", Frame(Settings, 0, 0, 1, 2), $"{Died} FrameSizeError"),
            ("6.5.2", "SETTINGS_ENABLE_PUSH 1 from a server", Frame(Settings, 0, 0, Setting(2, 1)), $"{Died} ProtocolError"),
            ("6.5.2", "SETTINGS_ENABLE_PUSH 0 from a server", [.. Frame(Settings, 0, 0, Setting(2, 0)), .. whole], "200"),
            ("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE too large", Frame(Settings, 0, 0, Setting(4, 0x80000000)), $"{Died} FlowControlError"),
            ("6.5.2", "SETTINGS_MAX_FRAME_SIZE too small", Frame(Settings, 0, 0, Setting(5, 1)), $"{Died} ProtocolError"),
            ("6.6", "PUSH_PROMISE", Frame(Push, 4, 1, [0, 0, 0, 2, 0x82, 0x84, 0x86, 0x01, 1, (byte)'a']), $"{Died} ProtocolError"),
            ("6.7", "PING of another size", Frame(Ping, 0, 0, 1), $"{Died} FrameSizeError"),
            ("6.8", "GOAWAY that includes the stream", [.. Frame(GoAway, 0, 0, [.. UInt32(1), .. UInt32(0)]), .. whole], "200"),
            ("6.8", "GOAWAY that excludes the stream", Frame(GoAway, 0, 0, [.. UInt32(0), .. UInt32(0)]), "PeerGoAway"),
            ("6.8", "GOAWAY too short", Frame(GoAway, 0, 0, 1), $"{Died} FrameSizeError"),
            ("6.9", "WINDOW_UPDATE 0 of the connection", Frame(WindowUpdate, 0, 0, UInt32(0)), $"{Died} ProtocolError"),
            ("6.9", "WINDOW_UPDATE overflow of the connection", Frame(WindowUpdate, 0, 0, UInt32(0x7fffffff)), $"{Died} FlowControlError"),
            ("6.10", "CONTINUATION alone", Frame(Continuation, 4, 1, s_ok), $"{Died} ProtocolError"),
            ("6.10", "CONTINUATION, several", [.. Frame(Headers, 1, 1), .. Frame(Continuation, 0, 1, s_ok), .. Frame(Continuation, 4, 1, Line("a", "b"))], "200"),
            ("8.1", "1xx, head, trailers", [.. Frame(Headers, 4, 1, Line(":status", "103")), .. head, .. Frame(Headers, 5, 1, Line("a", "b"))], "103 200"),
            ("8.1", "1xx with END_STREAM", Frame(Headers, 5, 1, Line(":status", "103")), "ProtocolError -> reset 1 ProtocolError"),
            ("8.1", "DATA before the head", Frame(Data, 0, 1, 1), "ProtocolError -> reset 1 ProtocolError"),
            ("8.1", "trailers without END_STREAM", [.. head, .. Frame(Headers, 4, 1, Line("a", "b"))], "200 -> reset 1 ProtocolError"),
            ("8.1", "second head", [.. head, .. Frame(Headers, 5, 1, s_ok)], "200 -> reset 1 ProtocolError"),
            ("8.2.1", "upper case in a name", Frame(Headers, 5, 1, [0x88, .. Line("A", "b")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.2.1", "value with LF", Frame(Headers, 5, 1, [0x88, .. Line("a", "x\ny")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.2.2", "connection", Frame(Headers, 5, 1, [0x88, .. Line("connection", "x")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.2.2", "transfer-encoding", Frame(Headers, 4, 1, [0x88, .. Line("transfer-encoding", "chunked")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.3", "pseudo-field of requests", Frame(Headers, 5, 1, [0x88, 0x84]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.3.2", "no :status", Frame(Headers, 5, 1, Line("a", "b")), "ProtocolError -> reset 1 ProtocolError"),
            ("8.3.2", ":status twice", Frame(Headers, 5, 1, [0x88, 0x88]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.3.2", ":status of two digits", Frame(Headers, 5, 1, Line(":status", "20")), "ProtocolError -> reset 1 ProtocolError"),
            ("8.3.2", ":status 600", Frame(Headers, 5, 1, Line(":status", "600")), "ProtocolError -> reset 1 ProtocolError"),
            ("8.6", ":status 101", Frame(Headers, 4, 1, Line(":status", "101")), "ProtocolError -> reset 1 ProtocolError"),
            ("8.1.1", "body longer than content-length", [.. Frame(Headers, 4, 1, [0x88, .. Line("content-length", "1")]), .. Frame(Data, 1, 1, 1, 2)], "200 -> reset 1 ProtocolError"),
            ("8.1.1", "body shorter than content-length", [.. Frame(Headers, 4, 1, [0x88, .. Line("content-length", "5")]), .. Frame(Data, 1, 1, 1)], "200 -> reset 1 ProtocolError"),
            ("8.1.1", "no body for content-length", Frame(Headers, 5, 1, [0x88, .. Line("content-length", "5")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.1.1", "304 with DATA", [.. Frame(Headers, 4, 1, [.. Line(":status", "304"), .. Line("content-length", "1")]), .. Frame(Data, 1, 1, 1)], "304 -> reset 1 ProtocolError"),
            ("8.1.1", "204 with DATA", [.. Frame(Headers, 4, 1, Line(":status", "204")), .. Frame(Data, 1, 1, 1)], "204 -> reset 1 ProtocolError"),
            ("8.1.1", "204 with a length", Frame(Headers, 5, 1, [.. Line(":status", "204"), .. Line("content-length", "1")]), "ProtocolError -> reset 1 ProtocolError"),
            ("8.1.1", "204 that ends with empty DATA", [.. Frame(Headers, 4, 1, Line(":status", "204")), .. Frame(Data, 1, 1)], "204"),
            ("8.1.1", "304 may name a length", Frame(Headers, 5, 1, [.. Line(":status", "304"), .. Line("content-length", "5")]), "304"),
        ];
        return rows.Select(row => new TestCaseData(row.Sent, row.Expected).SetName($"client {row.Section}: {row.Name}"));
    }

    [TestCaseSource(nameof(Rows))]
    public void Row(byte[] sent, string expected)
    {
        Assert.That(Play(sent, sent.Length), Is.EqualTo(expected));
        Assert.That(Play(sent, sent.Length < 1000 ? 1 : 997), Is.EqualTo(expected), "in pieces");
    }

    [TestCase(new byte[0], "")]
    [TestCase(new byte[] { 1 }, "reset 1 ProtocolError")]
    public void The_answer_to_HEAD_has_no_content(byte[] data, string expected)
    {
        var client = new ClientUnderTest();
        var exchange = client.Open(method: "HEAD");
        client.Peer.Receive();
        client.Peer.Send([.. Frame(Headers, 4, 1, [0x88, .. Line("content-length", "5")]), .. Frame(Data, 1, 1, data)]);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(string.Join(' ', client.Peer.Receive().Select(frame => $"reset {frame.Stream} {(Http2ErrorCode)frame.Code}")), Is.EqualTo(expected));
    }

    private static string Play(byte[] sent, int pieceBytes)
    {
        var isFirst = sent[3] == Ping && sent.Length == 17 && sent[9..].All(b => b == 0);
        var client = new ClientUnderTest(greet: !isFirst);
        var exchange = client.Open();
        client.Peer.Receive();
        for (var at = 0; at < sent.Length; at += pieceBytes)
        {
            client.Peer.Send(sent[at..Math.Min(at + pieceBytes, sent.Length)]);
        }

        var lines = new List<string>();
        while (exchange.ReadHeadAsync() is { IsCompleted: true } read && read.AsTask().Result)
        {
            lines.Add($"{exchange.Response.Status}");
        }

        if (lines.Count == 0)
        {
            lines.Add($"{exchange.End.Reason}");
        }

        if (client.Closed is null)
        {
            client.Peer.Send(Ping, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8);
        }

        var frames = client.Peer.Receive();
        Assert.That(frames.Any(frame => frame is { Type: Ping, Flags: 1 } && frame.Payload[0] == 8), Is.EqualTo(client.Closed is null));
        var told = frames.Where(frame => frame.Type is Reset or GoAway)
            .Select(frame => frame.Type == Reset ? $"reset {frame.Stream} {(Http2ErrorCode)frame.Code}" : $"goaway {(Http2ErrorCode)frame.Code}").ToArray();
        exchange.Complete();
        return string.Join(' ', lines) + (told.Length > 0 ? " -> " + string.Join(", ", told) : "");
    }
}
