using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>
/// RFC 9113, RFC 7541 and RFC 8441 as a table, for the server side: what a raw client sends, and all that must come back. Each row runs whole and in pieces, byte by byte if it is short. What
/// came back reads as one line: "answer 1" (a whole response), "reset 1 CODE", "goaway CODE", each with our own detail for it; a connection that is not said to
/// go away must still answer a PING. The cases of section 6.9 that look into the answer are in <see cref="FlowControlTests"/>.
/// </summary>
public sealed class ConformanceTests
{
    private const int Padded = 8, Prioritized = 0x20;
    private const string Alive = "";

    private static readonly byte[] s_noAuthority = Hex("828684");
    private static readonly byte[] s_ping = [1, 2, 3, 4, 5, 6, 7, 8];

    public static IEnumerable<TestCaseData> Rows() => Preface().Concat(Framing()).Concat(States()).Concat(Frames()).Concat(Messages()).Concat(Hpack())
        .Select(row => new TestCaseData(row.Sent, row.Expected).SetName($"{row.Section}: {row.Name}"));

    [TestCaseSource(nameof(Rows))]
    public void Row(byte[] sent, string expected)
    {
        Assert.That(Play(sent, sent.Length), Is.EqualTo(expected));
        Assert.That(Play(sent, sent.Length < 1000 ? 1 : 997), Is.EqualTo(expected), "in pieces");
    }

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> Preface() =>
    [
        ("3.4", "preface and SETTINGS", [], Alive),
        ("3.4", "not the preface", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray(), "goaway PROTOCOL_ERROR invalid_preface"),
        ("3.4", "first frame is not SETTINGS", [.. RawPeer.Preface, .. Frame(Ping, 0, 0, s_ping)], "goaway PROTOCOL_ERROR settings_expected"),
        ("3.4", "first frame is an acknowledgement", [.. RawPeer.Preface, .. Frame(Settings, 1, 0)], "goaway PROTOCOL_ERROR settings_expected"),
        ("3.4", "first frame is DATA", [.. RawPeer.Preface, .. Frame(Data, 0, 1, 1)], "goaway PROTOCOL_ERROR settings_expected"),
    ];

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> Framing() =>
    [
        ("4.1", "unknown frame type", Frame(0x16, 0xff, 0, s_ping), Alive),
        ("4.1", "unknown frame type on a stream", [.. Frame(Headers, 4, 1, Post), .. Frame(0x16, 0, 1, s_ping), .. Frame(Data, 1, 1, 1)], "answer 1"),
        ("4.1", "undefined flags", Frame(Ping, 0x16, 0, s_ping), Alive),
        ("4.1", "reserved bit of the stream", Frame(Ping, 0, unchecked((int)0x80000000), s_ping), Alive),
        ("4.1", "reserved bit of a request", Frame(Headers, 5, unchecked((int)0x80000001), Get), "answer 1"),
        ("4.2", "DATA of 2^14 bytes", [.. Frame(Headers, 4, 1, Post), .. Frame(Data, 1, 1, new byte[16_384])], "answer 1"),
        ("4.2", "DATA above SETTINGS_MAX_FRAME_SIZE", [.. Frame(Headers, 4, 1, Post), .. Frame(Data, 1, 1, new byte[16_385])], "goaway FRAME_SIZE_ERROR frame_too_large"),
        ("4.2", "HEADERS above SETTINGS_MAX_FRAME_SIZE", Frame(Headers, 5, 1, [.. Get, .. new byte[16_385]]), "goaway FRAME_SIZE_ERROR frame_too_large"),
        ("4.2", "unknown frame above SETTINGS_MAX_FRAME_SIZE", Frame(0x16, 0, 0, new byte[16_385]), "goaway FRAME_SIZE_ERROR frame_too_large"),
        ("4.3", "invalid field block", Frame(Headers, 5, 1, 0xff, 0xff, 0xff, 0xff, 0xff), "goaway COMPRESSION_ERROR invalid_field_block"),
        ("4.3", "PRIORITY inside a field block", [.. Frame(Headers, 1, 1, Get), .. Frame(Priority, 0, 1, 0, 0, 0, 0, 15)], "goaway PROTOCOL_ERROR continuation_expected"),
        ("4.3", "HEADERS of another stream inside a field block", [.. Frame(Headers, 1, 1, Get), .. Frame(Headers, 5, 3, Get)], "goaway PROTOCOL_ERROR continuation_expected"),
        ("4.3", "empty fragments", [.. Frame(Headers, 1, 1), .. Frame(Continuation, 0, 1, Get), .. Frame(Continuation, 4, 1)], "answer 1"),
    ];

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> States()
    {
        byte[] answered = Frame(Headers, 5, 1, Get);
        byte[] open = Frame(Headers, 4, 1, Post);
        byte[] reset = [.. open, .. Frame(Reset, 0, 1, UInt32(8))];

        // The server's answer ends with the window: the stream stays half-closed (remote).
        byte[] halfClosed = [.. Frame(Settings, 0, 0, Setting(4, 0)), .. Frame(Headers, 5, 1, Get)];
        return
        [
            ("5.1", "idle: DATA", Frame(Data, 1, 1, 1), "goaway PROTOCOL_ERROR data_on_idle_stream"),
            ("5.1", "idle: RST_STREAM", Frame(Reset, 0, 1, UInt32(8)), "goaway PROTOCOL_ERROR rst_stream_on_idle_stream"),
            ("5.1", "idle: WINDOW_UPDATE", Frame(WindowUpdate, 0, 1, UInt32(100)), "goaway PROTOCOL_ERROR window_update_on_idle_stream"),
            ("5.1", "idle: CONTINUATION", Frame(Continuation, 4, 1, Get), "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("5.1", "idle: PRIORITY", Frame(Priority, 0, 1, 0, 0, 0, 0, 15), Alive),
            ("5.1", "half-closed (remote): DATA", [.. halfClosed, .. Frame(Data, 1, 1, 1)], "reset 1 STREAM_CLOSED data_after_end"),
            ("5.1", "half-closed (remote): HEADERS", [.. halfClosed, .. Frame(Headers, 5, 1, Line("a", "b"))], "reset 1 STREAM_CLOSED headers_after_end"),
            ("5.1", "half-closed (remote): CONTINUATION", [.. halfClosed, .. Frame(Continuation, 4, 1, Line("a", "b"))], "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("5.1", "half-closed (remote): WINDOW_UPDATE", [.. halfClosed, .. Frame(WindowUpdate, 0, 1, UInt32(100))], "answer 1"),
            ("5.1", "half-closed (remote): PRIORITY", [.. halfClosed, .. Frame(Priority, 0, 1, 0, 0, 0, 0, 15), .. Frame(WindowUpdate, 0, 1, UInt32(100))], "answer 1"),
            ("5.1", "half-closed (remote): RST_STREAM", [.. halfClosed, .. Frame(Reset, 0, 1, UInt32(8))], Alive),
            ("5.1", "closed by the peer's RST_STREAM: DATA", [.. reset, .. Frame(Data, 0, 1, 1)], "reset 1 STREAM_CLOSED"),
            ("5.1", "closed by the peer's RST_STREAM: HEADERS", [.. reset, .. Frame(Headers, 5, 1, Get)], "goaway STREAM_CLOSED headers_on_closed_stream"),
            ("5.1", "closed by the peer's RST_STREAM: CONTINUATION", [.. reset, .. Frame(Continuation, 4, 1, Get)], "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("5.1", "closed by END_STREAM: DATA", [.. answered, .. Frame(Data, 1, 1, 1)], "answer 1, reset 1 STREAM_CLOSED"),
            ("5.1", "closed by END_STREAM: HEADERS", [.. answered, .. Frame(Headers, 5, 1, Get)], "answer 1, goaway STREAM_CLOSED headers_on_closed_stream"),
            ("5.1", "closed by END_STREAM: CONTINUATION", [.. answered, .. Frame(Continuation, 4, 1, Get)], "answer 1, goaway PROTOCOL_ERROR unexpected_continuation"),
            ("5.1", "closed by END_STREAM: WINDOW_UPDATE", [.. answered, .. Frame(WindowUpdate, 0, 1, UInt32(1))], "answer 1"),
            ("5.1", "closed by END_STREAM: RST_STREAM", [.. answered, .. Frame(Reset, 0, 1, UInt32(0))], "answer 1"),
            ("5.1", "closed by END_STREAM: PRIORITY", [.. answered, .. Frame(Priority, 0, 1, 0, 0, 0, 0, 15)], "answer 1"),
            ("5.1", "closed by our RST_STREAM: DATA, HEADERS and the like are on their way", [
                .. open, .. Frame(WindowUpdate, 0, 1, UInt32(0)), .. Frame(Data, 0, 1, 1), .. Frame(WindowUpdate, 0, 1, UInt32(1)), .. Frame(Reset, 0, 1, UInt32(8)), .. Frame(Headers, 5, 1, Line("a", "b"))],
                "reset 1 PROTOCOL_ERROR window_update_0"),
            ("5.1.1", "even number", Frame(Headers, 5, 2, Get), "goaway PROTOCOL_ERROR even_stream_from_client"),
            ("5.1.1", "lower number that was never used", [.. Frame(Headers, 5, 5, Get), .. Frame(Headers, 5, 3, Get)], "answer 5, goaway PROTOCOL_ERROR lower_stream_number"),
            ("5.1.1", "lower number that was used", [.. answered, .. Frame(Headers, 5, 3, Get), .. Frame(Headers, 5, 1, Get)], "answer 1, answer 3, goaway STREAM_CLOSED headers_on_closed_stream"),
            ("5.1.1", "numbers left out", [.. answered, .. Frame(Headers, 5, 101, Get), .. Frame(Headers, 5, 0x7fffffff, Get)], "answer 1, answer 101, answer 2147483647"),
            ("5.1.2", "more streams than SETTINGS_MAX_CONCURRENT_STREAMS", [.. Enumerable.Range(0, 4).SelectMany(i => Frame(Headers, 4, (2 * i) + 1, Post))], "reset 7 REFUSED_STREAM"),
            ("5.3.1", "HEADERS depend on their own stream", Frame(Headers, 5 | Prioritized, 1, [0, 0, 0, 1, 0, .. Get]), "reset 1 PROTOCOL_ERROR stream_depends_on_itself"),
            ("5.3.1", "HEADERS depend on their own stream, and go on in CONTINUATION", [
                .. Frame(Headers, 1 | Prioritized, 1, [0, 0, 0, 1, 0, .. Get[..5]]), .. Frame(Continuation, 4, 1, Get[5..]), .. Frame(Headers, 5, 3, Get)],
                "reset 1 PROTOCOL_ERROR stream_depends_on_itself, answer 3"),
            ("5.3.1", "trailers depend on their own stream", [.. open, .. Frame(Headers, 5 | Prioritized, 1, [0, 0, 0, 1, 0, .. Line("a", "b")])],
                "reset 1 PROTOCOL_ERROR stream_depends_on_itself"),
            ("5.3.1", "PRIORITY of an idle stream depends on itself", Frame(Priority, 0, 3, 0, 0, 0, 3, 15), "goaway PROTOCOL_ERROR stream_depends_on_itself"),
            ("5.3.1", "PRIORITY depends on its own stream", [.. open, .. Frame(Priority, 0, 1, 0, 0, 0, 1, 15)], "reset 1 PROTOCOL_ERROR stream_depends_on_itself"),
            ("5.4.1", "an error ends the connection", [.. Frame(Ping, 0, 0, new byte[6]), .. Frame(Headers, 5, 1, Get)], "goaway FRAME_SIZE_ERROR ping_size"),
            ("5.5", "unknown frame inside a field block", [.. Frame(Headers, 1, 1, Get), .. Frame(0x16, 0, 1, s_ping)], "goaway PROTOCOL_ERROR continuation_expected"),
            ("RFC 9218 7.1", "PRIORITY_UPDATE", Frame(0x10, 0, 0, [.. UInt32(1), .. "u=3, i"u8]), Alive),
        ];
    }

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> Frames()
    {
        byte[] open = Frame(Headers, 4, 1, Post);
        return
        [
            ("6.1", "DATA, several and padded", [.. open, .. Frame(Data, 0, 1, 1, 2), .. Frame(Data, Padded, 1, [3, 9, 0, 0, 0]), .. Frame(Data, 1 | Padded, 1, [0])], "answer 1"),
            ("6.1", "DATA on stream 0", Frame(Data, 1, 0, 1), "goaway PROTOCOL_ERROR data_on_stream_0"),
            ("6.1", "DATA padded beyond its payload", [.. open, .. Frame(Data, 1 | Padded, 1, 6, 1, 2, 3, 4, 5)], "goaway PROTOCOL_ERROR invalid_padding"),
            ("6.1", "DATA padded, without pad length", [.. open, .. Frame(Data, 1 | Padded, 1)], "goaway FRAME_SIZE_ERROR invalid_padding"),
            ("6.2", "HEADERS padded, with priority", Frame(Headers, 5 | Padded | Prioritized, 1, [2, 0x80, 0, 0, 3, 255, .. Get, 0, 0]), "answer 1"),
            ("6.2", "HEADERS on stream 0", Frame(Headers, 5, 0, Get), "goaway PROTOCOL_ERROR headers_on_stream_0"),
            ("6.2", "HEADERS padded beyond their payload", Frame(Headers, 5 | Padded, 1, [(byte)(Get.Length + 1), .. Get]), "goaway PROTOCOL_ERROR invalid_padding"),
            ("6.2", "HEADERS padded, without pad length", Frame(Headers, 5 | Padded, 1), "goaway FRAME_SIZE_ERROR invalid_padding"),
            ("6.2", "HEADERS too short for their priority", Frame(Headers, 5 | Prioritized, 1, 0, 0, 0, 3), "goaway FRAME_SIZE_ERROR invalid_padding"),
            ("6.3", "PRIORITY of every kind", [
                .. Frame(Priority, 0, 5, 0, 0, 0, 3, 0), .. Frame(Priority, 0, 5, 0x80, 0, 0, 7, 255), .. Frame(Headers, 5, 1, Get), .. Frame(Priority, 0, 1, 0, 0, 0, 0, 1)], "answer 1"),
            ("6.3", "PRIORITY on stream 0", Frame(Priority, 0, 0, 0, 0, 0, 1, 15), "goaway PROTOCOL_ERROR priority_on_stream_0"),
            ("6.3", "PRIORITY of another size", [.. open, .. Frame(Priority, 0, 1, 0x80, 0, 0, 1)], "reset 1 FRAME_SIZE_ERROR priority_size"),
            ("6.4", "RST_STREAM", [.. open, .. Frame(Reset, 0, 1, UInt32(8))], Alive),
            ("6.4", "RST_STREAM on stream 0", Frame(Reset, 0, 0, UInt32(8)), "goaway PROTOCOL_ERROR rst_stream_on_idle_stream"),
            ("6.4", "RST_STREAM of another size", [.. open, .. Frame(Reset, 0, 1, 0, 0, 8)], "goaway FRAME_SIZE_ERROR rst_stream_size"),
            ("6.5", "SETTINGS", Frame(Settings, 0, 0, [.. Setting(3, 100), .. Setting(4, 70_000), .. Setting(5, 20_000), .. Setting(6, 1000)]), Alive),
            ("6.5", "acknowledgement with a payload", Frame(Settings, 1, 0, Setting(3, 1)), "goaway FRAME_SIZE_ERROR settings_ack_size"),
            ("6.5", "acknowledgement that nobody asked for", [.. Frame(Settings, 1, 0), .. Frame(Settings, 1, 0)], Alive),
            ("6.5", "SETTINGS on a stream", Frame(Settings, 0, 1, Setting(3, 1)), "goaway PROTOCOL_ERROR settings_on_stream"),
            ("6.5", "SETTINGS of another size", Frame(Settings, 0, 0, 0, 3, 0), "goaway FRAME_SIZE_ERROR settings_size"),
            ("6.5.2", "SETTINGS_ENABLE_PUSH 2", Frame(Settings, 0, 0, Setting(2, 2)), "goaway PROTOCOL_ERROR invalid_enable_push"),
            ("6.5.2", "SETTINGS_ENABLE_PUSH 1 and 0", Frame(Settings, 0, 0, [.. Setting(2, 1), .. Setting(2, 0)]), Alive),
            ("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE 2^31", Frame(Settings, 0, 0, Setting(4, 0x80000000)), "goaway FLOW_CONTROL_ERROR invalid_initial_window"),
            ("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE 2^31-1", Frame(Settings, 0, 0, Setting(4, 0x7fffffff)), Alive),
            ("6.5.2", "SETTINGS_MAX_FRAME_SIZE below 2^14", Frame(Settings, 0, 0, Setting(5, 16_383)), "goaway PROTOCOL_ERROR invalid_max_frame_size"),
            ("6.5.2", "SETTINGS_MAX_FRAME_SIZE above 2^24-1", Frame(Settings, 0, 0, Setting(5, 16_777_216)), "goaway PROTOCOL_ERROR invalid_max_frame_size"),
            ("6.5.2", "SETTINGS_MAX_FRAME_SIZE at both ends", Frame(Settings, 0, 0, [.. Setting(5, 16_384), .. Setting(5, 16_777_215)]), Alive),
            ("6.5.2", "SETTINGS_HEADER_TABLE_SIZE 0, then 2^32-1", [
                .. Frame(Settings, 0, 0, Setting(1, 0)), .. Frame(Headers, 5, 1, Get), .. Frame(Settings, 0, 0, Setting(1, 0xffffffff)), .. Frame(Headers, 5, 3, Get)], "answer 1, answer 3"),
            ("6.5.2", "unknown setting", Frame(Settings, 0, 0, Setting(0xff, 1)), Alive),
            ("RFC 8441 3", "SETTINGS_ENABLE_CONNECT_PROTOCOL 2", Frame(Settings, 0, 0, Setting(8, 2)), "goaway PROTOCOL_ERROR invalid_enable_connect_protocol"),
            ("RFC 9218 2.1", "SETTINGS_NO_RFC7540_PRIORITIES 2", Frame(Settings, 0, 0, Setting(9, 2)), "goaway PROTOCOL_ERROR invalid_no_rfc7540_priorities"),
            ("6.6", "PUSH_PROMISE from a client", [.. open, .. Frame(Push, 4, 1, [0, 0, 0, 2, .. Get])], "goaway PROTOCOL_ERROR push_refused"),
            ("6.7", "PING with acknowledgement", Frame(Ping, 1, 0, s_ping), Alive),
            ("6.7", "PING on a stream", Frame(Ping, 0, 1, s_ping), "goaway PROTOCOL_ERROR ping_on_stream"),
            ("6.7", "PING of another size", Frame(Ping, 0, 0, 1, 2, 3, 4, 5, 6), "goaway FRAME_SIZE_ERROR ping_size"),
            ("6.8", "GOAWAY", Frame(GoAway, 0, 0, [.. UInt32(0), .. UInt32(0), .. "bye"u8]), Alive),
            ("6.8", "GOAWAY on a stream", Frame(GoAway, 0, 1, new byte[8]), "goaway PROTOCOL_ERROR goaway_on_stream"),
            ("6.8", "GOAWAY too short", Frame(GoAway, 0, 0, new byte[7]), "goaway FRAME_SIZE_ERROR goaway_size"),
            ("6.9", "WINDOW_UPDATE of the connection and of a stream", [.. open, .. Frame(WindowUpdate, 0, 0, UInt32(1)), .. Frame(WindowUpdate, 0, 1, UInt32(1)), .. Frame(Data, 1, 1, 1)], "answer 1"),
            ("6.9", "WINDOW_UPDATE 0 of the connection", Frame(WindowUpdate, 0, 0, UInt32(0)), "goaway PROTOCOL_ERROR window_update_0"),
            ("6.9", "WINDOW_UPDATE 0 of a stream", [.. open, .. Frame(WindowUpdate, 0, 1, UInt32(0))], "reset 1 PROTOCOL_ERROR window_update_0"),
            ("6.9", "WINDOW_UPDATE of another size", Frame(WindowUpdate, 0, 0, 0, 0, 1), "goaway FRAME_SIZE_ERROR window_update_size"),
            ("6.9", "WINDOW_UPDATE with the reserved bit", Frame(WindowUpdate, 0, 0, UInt32(0x80000001)), Alive),
            ("6.9.1", "connection window above 2^31-1", [.. Frame(WindowUpdate, 0, 0, UInt32(0x7fffffff)), .. Frame(WindowUpdate, 0, 0, UInt32(0x7fffffff))], "goaway FLOW_CONTROL_ERROR connection_window_overflow"),
            ("6.9.1", "stream window above 2^31-1", [.. open, .. Frame(WindowUpdate, 0, 1, UInt32(0x7fffffff)), .. Frame(WindowUpdate, 0, 1, UInt32(0x7fffffff))], "reset 1 FLOW_CONTROL_ERROR stream_window_overflow"),
            ("6.9.1", "DATA beyond the stream's window", [.. Frame(Headers, 4, 1, [.. Post, .. Line("x-hold", "1")]), .. Enumerable.Range(0, 5).SelectMany(_ => Frame(Data, 0, 1, new byte[16_000]))],
                "reset 1 FLOW_CONTROL_ERROR stream_window_exceeded"),
            ("6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE lifts a stream's window above 2^31-1", [
                .. open, .. Frame(WindowUpdate, 0, 1, UInt32(0x7fff0000)), .. Frame(Settings, 0, 0, Setting(4, 0x7fffffff))], "goaway FLOW_CONTROL_ERROR stream_window_overflow"),
            ("6.9.2", "a window below zero, and up again", [
                .. Frame(Settings, 0, 0, Setting(4, 3)), .. Frame(Headers, 5, 1, Get), .. Frame(Settings, 0, 0, Setting(4, 0)), .. Frame(WindowUpdate, 0, 1, UInt32(3)),
                .. Frame(Settings, 0, 0, [.. Setting(4, 1), .. Setting(4, 2)])], "answer 1"),
            ("6.10", "CONTINUATION, several", [.. Frame(Headers, 1, 1, Get[..2]), .. Frame(Continuation, 0, 1, Get[2..9]), .. Frame(Continuation, 4, 1, Get[9..])], "answer 1"),
            ("6.10", "CONTINUATION followed by DATA", [.. Frame(Headers, 0, 1, Post), .. Frame(Continuation, 0, 1, Line("a", "b")), .. Frame(Data, 1, 1, 1)], "goaway PROTOCOL_ERROR continuation_expected"),
            ("6.10", "CONTINUATION on stream 0", [.. Frame(Headers, 1, 1, Get), .. Frame(Continuation, 4, 0, Line("a", "b"))], "goaway PROTOCOL_ERROR continuation_expected"),
            ("6.10", "CONTINUATION on another stream", [.. Frame(Headers, 1, 1, Get), .. Frame(Continuation, 4, 3, Line("a", "b"))], "goaway PROTOCOL_ERROR continuation_expected"),
            ("6.10", "CONTINUATION after END_HEADERS", [.. open, .. Frame(Continuation, 4, 1, Line("a", "b"))], "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("6.10", "CONTINUATION after CONTINUATION with END_HEADERS", [
                .. Frame(Headers, 0, 1, Post), .. Frame(Continuation, 4, 1, Line("a", "b")), .. Frame(Continuation, 4, 1, Line("a", "b"))], "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("6.10", "CONTINUATION after DATA", [.. open, .. Frame(Data, 0, 1, 1), .. Frame(Continuation, 4, 1, Line("a", "b"))], "goaway PROTOCOL_ERROR unexpected_continuation"),
            ("7", "GOAWAY with an unknown code", Frame(GoAway, 0, 0, [.. UInt32(0), .. UInt32(0xff)]), Alive),
            ("7", "RST_STREAM with an unknown code", [.. open, .. Frame(Reset, 0, 1, UInt32(0xff))], Alive),
        ];
    }

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> Messages()
    {
        byte[] open = Frame(Headers, 4, 1, Post);
        byte[] method = Hex("82"), scheme = Hex("86"), path = Hex("84"), authority = Get[3..];
        (string Section, string Name, byte[] Sent, string Detail)[] malformed =
        [
            ("8.2.1", "upper case in a name", [.. Get, .. Line("X-Up", "1")], "invalid_field_name"),
            ("8.2.1", "upper case in a name that is known", [.. Get, .. Line("Accept", "1")], "invalid_field_name"),
            ("8.2.1", "empty name", [.. Get, .. Line("", "1")], "invalid_field_name"),
            ("8.2.1", "name with a space", [.. Get, .. Line("a b", "1")], "invalid_field_name"),
            ("8.2.1", "name with a colon", [.. Get, .. Line("a:", "1")], "invalid_field_name"),
            ("8.2.1", "name with DEL", [.. Get, .. Line("a\x7f", "1")], "invalid_field_name"),
            ("8.2.1", "name beyond ASCII", [.. Get, .. Line("a\xe9", "1")], "invalid_field_name"),
            ("8.2.1", "value with NUL", [.. Get, .. Line("a", "x\0y")], "invalid_field_value"),
            ("8.2.1", "value with CR", [.. Get, .. Line("a", "x\ry")], "invalid_field_value"),
            ("8.2.1", "value with LF", [.. Get, .. Line("a", "x\ny")], "invalid_field_value"),
            ("8.2.1", "value with space in front", [.. Get, .. Line("a", " x")], "invalid_field_value"),
            ("8.2.1", "value with tab behind", [.. Get, .. Line("a", "x\t")], "invalid_field_value"),
            ("8.2.2", "connection", [.. Get, .. Line("connection", "keep-alive")], "connection_specific_field"),
            ("8.2.2", "keep-alive", [.. Get, .. Line("keep-alive", "1")], "connection_specific_field"),
            ("8.2.2", "proxy-connection", [.. Get, .. Line("proxy-connection", "close")], "connection_specific_field"),
            ("8.2.2", "transfer-encoding", [.. Get, .. Line("transfer-encoding", "chunked")], "connection_specific_field"),
            ("8.2.2", "upgrade", [.. Get, .. Line("upgrade", "h2c")], "connection_specific_field"),
            ("8.2.2", "te other than trailers", [.. Get, .. Line("te", "trailers, deflate;q=0.5")], "connection_specific_field"),
            ("8.3", "unknown pseudo-field", [.. Line(":test", "ok"), .. Get], "invalid_pseudo_field"),
            ("8.3", ":status in a request", [.. Get, 0x88], "invalid_pseudo_field"),
            ("8.3", "pseudo-field after a field", [.. s_noAuthority, .. Line("a", "b"), .. authority], "pseudo_field_after_field"),
            ("8.3", ":method twice", [.. method, .. Get], "duplicate_pseudo_field"),
            ("8.3", ":scheme twice", [.. scheme, .. Get], "duplicate_pseudo_field"),
            ("8.3", ":path twice", [.. path, .. Get], "duplicate_pseudo_field"),
            ("8.3", ":authority twice", [.. Get, .. authority], "duplicate_pseudo_field"),
            ("8.3.1", "no :method", [.. scheme, .. path, .. authority], "missing_method"),
            ("8.3.1", "no :scheme", [.. method, .. path, .. authority], "missing_pseudo_field"),
            ("8.3.1", "no :path", [.. method, .. scheme, .. authority], "missing_pseudo_field"),
            ("8.3.1", "empty :path", [.. method, .. scheme, .. Line(":path", ""), .. authority], "invalid_pseudo_field"),
            ("8.3.1", ":path without slash", [.. method, .. scheme, .. Line(":path", "a"), .. authority], "invalid_pseudo_field"),
            ("8.3.1", ":path with a space", [.. method, .. scheme, .. Line(":path", "/a b"), .. authority], "invalid_pseudo_field"),
            ("8.3.1", ":path beyond ASCII", [.. method, .. scheme, .. Line(":path", "/\xe9"), .. authority], "invalid_pseudo_field"),
            ("8.3.1", ":path with a fragment", [.. method, .. scheme, .. Line(":path", "/a#b"), .. authority], "invalid_pseudo_field"),
            ("8.3.1", "asterisk without OPTIONS", [.. method, .. scheme, .. Line(":path", "*"), .. authority], "invalid_path"),
            ("8.3.1", ":method that is no token", [.. Line(":method", "G T"), .. scheme, .. path, .. authority], "invalid_pseudo_field"),
            ("8.3.1", "empty :authority", [.. s_noAuthority, .. Line(":authority", "")], "invalid_pseudo_field"),
            ("8.3.1", ":authority with user information", [.. s_noAuthority, .. Line(":authority", "u@x")], "invalid_pseudo_field"),
            ("8.3.1", ":authority with a port too large", [.. s_noAuthority, .. Line(":authority", "x:65536")], "invalid_pseudo_field"),
            ("8.3.1", ":authority without host", [.. s_noAuthority, .. Line(":authority", ":80")], "invalid_pseudo_field"),
            ("8.3.1", "neither :authority nor Host", s_noAuthority, "missing_authority"),
            ("8.3.1", "Host disagrees with :authority", [.. Get, .. Line("host", "other")], "host_disagrees_with_authority"),
            ("8.3.1", "Host twice", [.. s_noAuthority, .. Line("host", "a"), .. Line("host", "a")], "host_disagrees_with_authority"),
            ("8.1.1", "content-length signed", [.. Post, .. Line("content-length", "+1")], "invalid_content_length"),
            ("8.1.1", "content-length twice", [.. Post, .. Line("content-length", "1"), .. Line("content-length", "2")], "invalid_content_length"),
            ("8.1.1", "content-length overlong", [.. Post, .. Line("content-length", "1000000000000000000")], "invalid_content_length"),
            ("8.1.1", "content-length with END_STREAM", [.. Post, .. Line("content-length", "1")], "content_length_mismatch"),
        ];
        byte[] length3 = Frame(Headers, 4, 1, [.. Post, .. Line("content-length", "3")]);
        return
        [
            .. malformed.Select(row => (row.Section, row.Name, Frame(Headers, 5, 1, row.Sent), $"reset 1 PROTOCOL_ERROR {row.Detail}")),
            ("8.1", "trailers", [.. open, .. Frame(Data, 0, 1, 1), .. Frame(Headers, 5, 1, Line("a", "b"))], "answer 1"),
            ("8.1", "second HEADERS without END_STREAM", [.. open, .. Frame(Headers, 4, 1, Line("a", "b"))], "reset 1 PROTOCOL_ERROR trailers_without_end"),
            ("8.1", "trailers after trailers", [
                .. Frame(Settings, 0, 0, Setting(4, 0)), .. open, .. Frame(Headers, 5, 1, Line("a", "b")), .. Frame(Headers, 5, 1, Line("a", "c"))], "reset 1 STREAM_CLOSED headers_after_end"),
            ("8.1", "pseudo-field in trailers", [.. open, .. Frame(Data, 0, 1, 1), .. Frame(Headers, 5, 1, 0x82)], "reset 1 PROTOCOL_ERROR invalid_pseudo_field"),
            ("8.1", "upper case in trailers", [.. open, .. Frame(Headers, 5, 1, Line("A", "b"))], "reset 1 PROTOCOL_ERROR invalid_field_name"),
            ("8.1.1", "body longer than content-length", [.. length3, .. Frame(Data, 1, 1, 1, 2, 3, 4)], "reset 1 PROTOCOL_ERROR content_length_mismatch"),
            ("8.1.1", "body longer than content-length, in pieces", [.. length3, .. Frame(Data, 0, 1, 1, 2), .. Frame(Data, 1, 1, 1, 2)], "reset 1 PROTOCOL_ERROR content_length_mismatch"),
            ("8.1.1", "body shorter than content-length", [.. length3, .. Frame(Data, 1, 1, 1)], "reset 1 PROTOCOL_ERROR content_length_mismatch"),
            ("8.1.1", "body shorter than content-length, with trailers", [.. length3, .. Frame(Data, 0, 1, 1), .. Frame(Headers, 5, 1, Line("a", "b"))], "reset 1 PROTOCOL_ERROR content_length_mismatch"),
            ("8.1.1", "body as long as content-length, padded", [.. length3, .. Frame(Data, Padded, 1, [4, 1, 2, 0, 0, 0, 0]), .. Frame(Data, 1, 1, 3)], "answer 1"),
            ("8.2.1", "HTAB and obs-text inside a value", Frame(Headers, 5, 1, [.. Get, .. Line("a", "x\ty\xe9")]), "answer 1"),
            ("8.2.2", "te: trailers", Frame(Headers, 5, 1, [.. Get, .. Line("te", "trailers")]), "answer 1"),
            ("8.2.3", "cookie crumbs", Frame(Headers, 5, 1, [.. Get, .. Line("cookie", "a=1"), .. Line("b", "c"), .. Line("cookie", "d=2")]), "answer 1"),
            ("8.3.1", "Host agrees after case and default port", Frame(Headers, 5, 1, [.. Get, .. Line("host", "WWW.example.com:80")]), "answer 1"),
            ("8.3.1", "Host alone", Frame(Headers, 5, 1, [.. s_noAuthority, .. Line("host", "a")]), "answer 1"),
            ("8.3.1", "OPTIONS *", Frame(Headers, 5, 1, [.. Line(":method", "OPTIONS"), .. scheme, .. Line(":path", "*"), .. authority]), "answer 1"),
            ("8.1", "HEAD", Frame(Headers, 5, 1, [.. Line(":method", "HEAD"), .. scheme, .. path, .. authority]), "answer 1"),
        ];
    }

    private static IEnumerable<(string Section, string Name, byte[] Sent, string Expected)> Hpack()
    {
        const string Broken = "goaway COMPRESSION_ERROR invalid_field_block";
        (string Section, string Name, string Block, string Expected)[] rows =
        [
            ("2.3.3", "index beyond both tables", "c6", Broken),
            ("2.3.3", "literal with a name beyond both tables", "7f 07 01 61", Broken),
            ("4.2", "size update after a line", "20", Broken),
            ("5.1", "integer without end", "ff ff ff ff ff", Broken),
            ("5.1", "integer in more octets than it needs", "0f 80 00 01 62", "answer 1"),
            ("5.1", "length beyond 2^32", "00 7f ff ff ff ff 7f 61", Broken),
            ("5.1", "integer too large", "7f ff ff ff ff 0f 01 61", Broken),
            ("5.2", "string truncated", "00 05 61", Broken),
            ("5.2", "length truncated", "00 7f", Broken),
            ("5.2", "Huffman, in name and value", "00 85 f2b24a84ff 83 49509f", "answer 1"),
            ("5.2", "Huffman, padded with more than 7 bits", "00 85 f2b24a84ff 84 49509fff", Broken),
            ("5.2", "Huffman, padded with zeros", "00 85 f2b24a84ff 83 495090", Broken),
            ("5.2", "Huffman with EOS", "00 85 f2b24a84ff 87 49509fffffffff", Broken),
            ("6.1", "index 0", "80", Broken),
            ("6.1", "indexed line", "90", "answer 1"),
            ("6.2.1", "literal with indexing, then its index", "40 01 61 01 62 be", "answer 1"),
            ("6.2.1", "literal with indexing, name of the static table", "53 03 6f 6e 65", "answer 1"),
            ("6.2.2", "literal without indexing", "00 01 61 01 62", "answer 1"),
            ("6.2.2", "literal without indexing is not indexed", "00 01 61 01 62 be", Broken),
            ("6.2.3", "literal never indexed", "10 01 61 01 62", "answer 1"),
        ];
        return
        [
            .. rows.Select(row => ($"RFC 7541 {row.Section}", row.Name, Frame(Headers, 5, 1, [.. Get, .. Hex(row.Block)]), row.Expected)),
            ("RFC 7541 6.3", "size updates in front", Frame(Headers, 5, 1, [0x20, .. Hex("3f e1 1f"), .. Get]), "answer 1"),
            ("RFC 7541 6.3", "size update above SETTINGS_HEADER_TABLE_SIZE", Frame(Headers, 5, 1, [.. Hex("3f e2 1f"), .. Get]), Broken),
            ("RFC 7541 6.3", "three size updates in front", Frame(Headers, 5, 1, [0x20, .. Hex("3f e1 1f"), 0x20, .. Get]), "answer 1"),
            ("RFC 7541 6.3", "size update in trailers", [.. Frame(Headers, 4, 1, Post), .. Frame(Headers, 5, 1, [0x20, .. Line("a", "b")])], "answer 1"),
            ("RFC 7541 6.3", "size update without end", Frame(Headers, 5, 1, 0x3f, 0x80, 0x80, 0x80, 0x80, 0x80), Broken),
            ("RFC 7541 6.3", "size update to 0 evicts", [.. Frame(Headers, 5, 1, [.. Get, .. Hex("40 01 61 01 62")]), .. Frame(Headers, 5, 3, [0x20, .. Get, 0xbe])], $"answer 1, {Broken}"),
            ("RFC 7541 4.2", "size update at the end", Frame(Headers, 5, 1, [.. Get, 0x3f, 0xe1, 0x1f]), Broken),
            ("RFC 7541 4.1", "the table lives on from block to block", [.. Frame(Headers, 5, 1, [.. Get, .. Hex("40 01 61 01 62")]), .. Frame(Headers, 5, 3, [.. Get, 0xbe])], "answer 1, answer 3"),
            ("RFC 7541 4.1", "a refused block keeps the table in step", [
                .. Frame(Headers, 5, 1, [.. Get, .. Line("A", "b"), .. Hex("40 01 61 01 62")]), .. Frame(Headers, 5, 3, [.. Get, 0xbe])], "reset 1 PROTOCOL_ERROR invalid_field_name, answer 3"),
        ];
    }

    private static string Play(byte[] sent, int pieceBytes)
    {
        var details = new List<string>();
        var server = new ServerUnderTest(
            exchange => Serve(exchange, details), new Http2Options { Limits = new Http2Limits { MaxConcurrentStreams = 3 } }, greet: !IsGreeting(sent));
        for (var at = 0; at < sent.Length; at += pieceBytes)
        {
            server.Peer.Send(sent[at..Math.Min(at + pieceBytes, sent.Length)]);
        }

        if (!server.Run.IsCompleted)
        {
            server.Peer.Send(Ping, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8);
        }

        var frames = server.Peer.Receive();
        var alive = frames.Count > 0 && frames[^1] is { Type: Ping, Flags: 1 } last && last.Payload.SequenceEqual(Enumerable.Repeat((byte)8, 8));
        details.AddRange(server.Errors.Select(error => error.Detail));
        details.AddRange(server.Rejected.Select(rejected => rejected.Detail));
        var lines = frames.Select(frame => Describe(frame, details)).Where(line => line.Length > 0).ToArray();
        Assert.That(alive, Is.EqualTo(!lines.Any(line => line.StartsWith("goaway", StringComparison.Ordinal))), "a PING is answered unless the connection went away");
        Assert.That(server.Peer.IsClosed, Is.EqualTo(!alive));
        return string.Join(", ", lines);
    }

    private static bool IsGreeting(byte[] sent) => sent.AsSpan().StartsWith("PRI"u8) || sent.AsSpan().StartsWith("GET"u8);

    private static string Describe(Frame frame, List<string> details)
    {
        switch (frame.Type)
        {
            case Headers or Data:
                return (frame.Flags & EndStream) != 0 ? $"answer {frame.Stream}" : "";
            case Reset or GoAway:
                var code = Name((Http2ErrorCode)frame.Code);
                var detail = details.Count > 0 ? " " + details[0] : "";
                details.Clear();
                return frame.Type == Reset ? $"reset {frame.Stream} {code}{detail}" : $"goaway {code}{detail}";
            default:
                return "";
        }
    }

    private static string Name(Http2ErrorCode code) =>
        string.Concat(code.ToString().Select((c, i) => i > 0 && char.IsUpper(c) ? $"_{c}" : $"{char.ToUpperInvariant(c)}"));

    // Reads the body, unless the request asks it not to, and answers with five bytes.
    private static async ValueTask Serve(HttpServerExchange exchange, List<string> details)
    {
        var isHeld = exchange.Request.Fields.TryGet("x-hold"u8, out _);
        while (true)
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken)
            {
                Note(chunk.End);
                return;
            }

            if (isHeld && !chunk.IsEnd)
            {
                exchange.Observer = new Observer(Note);
                await new TaskCompletionSource().Task;
            }

            exchange.RequestBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                break;
            }
        }

        exchange.Observer = new Observer(Note);
        exchange.Response.Status = 200;
        exchange.Response.EndsStream = exchange.Request.Method == RequestMethod.Head;
        exchange.WriteHead(exchange.Response);
        if (!exchange.Response.EndsStream)
        {
            await exchange.WriteBodyAsync(new ReadOnlySequence<byte>("hello"u8.ToArray()), true);
        }

        await exchange.FlushAsync();

        void Note(StreamEnd end)
        {
            if (end is { Reason: StreamResetReason.ProtocolError, Detail: { } detail })
            {
                details.Add(detail);
            }
        }
    }

    private sealed class Observer(Action<StreamEnd> note) : IExchangeObserver
    {
        public void OnAborted(StreamEnd end) => note(end);
    }
}
