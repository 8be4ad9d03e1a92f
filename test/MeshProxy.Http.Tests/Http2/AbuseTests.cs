using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>What is legal once and an attack in numbers. Each row: the attack, the guard that ends it, and the frames that pass its limit.</summary>
public sealed class AbuseTests
{
    private static readonly (string Attack, string Kind, int Count, Func<int, byte[]> Frames)[] s_floods =
    [
        ("CVE-2023-44487, rapid reset", "rapid_reset", 1001, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(Reset, 0, (2 * i) + 1, UInt32(8))]),
        ("CVE-2025-8671, WINDOW_UPDATE 0", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(WindowUpdate, 0, (2 * i) + 1, UInt32(0))]),
        ("CVE-2025-8671, WINDOW_UPDATE overflow", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(WindowUpdate, 0, (2 * i) + 1, UInt32(0x7fffffff))]),
        ("CVE-2025-8671, DATA after END_STREAM", "provoked_resets", 301, i => [.. Frame(Headers, 5, (2 * i) + 1, Get), .. Frame(Data, 0, (2 * i) + 1, 1)]),
        ("CVE-2025-8671, HEADERS after END_STREAM", "provoked_resets", 301, i => [.. Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Line("x-hold", "1")]), .. Frame(Headers, 5, (2 * i) + 1, Line("a", "b"))]),
        ("CVE-2025-8671, PRIORITY on itself", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(Priority, 0, (2 * i) + 1, [.. UInt32((2 * i) + 1), 1])]),
        ("CVE-2025-8671, PRIORITY of another size", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(Priority, 0, (2 * i) + 1, 1)]),
        ("CVE-2025-8671, DATA beyond content-length", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, [.. Post, .. Line("content-length", "1")]), .. Frame(Data, 0, (2 * i) + 1, 1, 2)]),
        ("CVE-2025-8671, trailers without END_STREAM", "provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(Headers, 4, (2 * i) + 1, Line("a", "b"))]),
        ("malformed requests", "provoked_resets", 301, i => Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Line("X", "1")])),
        ("CVE-2019-9516, empty field blocks and names", "provoked_resets", 301, i => i % 2 == 0 ? Frame(Headers, 5, (2 * i) + 1) : Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Line("", "")])),
        ("requests with too many fields", "provoked_resets", 301, i => Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Enumerable.Range(0, 101).SelectMany(_ => Line("a", ""))])),
        ("CVE-2019-9512, PING", "ping_flood", 1001, _ => Frame(Ping, 0, 0, new byte[8])),
        ("answers to no PING", "ping_flood", 1001, _ => Frame(Ping, 1, 0, new byte[8])),
        ("CVE-2019-9515, SETTINGS", "settings_flood", 101, _ => Frame(Settings, 0, 0)),
        ("acknowledgements of no SETTINGS", "settings_flood", 101, _ => Frame(Settings, 1, 0)),
        ("a SETTINGS frame of many settings", "settings_list_too_long", 1, _ => Frame(Settings, 0, 0, [.. Enumerable.Range(0, 33).SelectMany(i => Setting(4, i))])),
        ("CVE-2019-9513, PRIORITY", "ignored_frame_flood", 1001, _ => Frame(Priority, 0, 9, 0, 0, 0, 3, 1)),
        ("unknown frames", "ignored_frame_flood", 1001, _ => Frame(200, 0, 0)),
        ("PRIORITY_UPDATE", "ignored_frame_flood", 1001, _ => Frame(0x10, 0, 0, [.. UInt32(1), .. "u=1"u8])),
        ("GOAWAY", "ignored_frame_flood", 1001, _ => Frame(GoAway, 0, 0, new byte[8])),
        ("RST_STREAM of a closed stream", "ignored_frame_flood", 1002, i => i == 0 ? Frame(Headers, 5, 1, Get) : Frame(Reset, 0, 1, UInt32(8))),
        ("CVE-2019-9518, empty DATA", "empty_frame_flood", 102, i => i == 0 ? Frame(Headers, 4, 1, Post) : Frame(Data, 0, 1)),
        ("DATA of nothing but padding", "empty_frame_flood", 102, i => i == 0 ? Frame(Headers, 4, 1, Post) : Frame(Data, 8, 1, [3, 0, 0, 0])),
        ("WINDOW_UPDATE", "window_update_flood", 1001, _ => Frame(WindowUpdate, 0, 0, UInt32(1))),
        ("WINDOW_UPDATE of a closed stream", "window_update_flood", 1012, i => i == 0 ? Frame(Headers, 5, 1, Get) : Frame(WindowUpdate, 0, 1, UInt32(1))),
        ("CVE-2024-27316, CONTINUATION", "continuation_flood", 34, i => i == 0 ? Frame(Headers, 1, 1, Get) : Frame(Continuation, 0, 1)),
        ("CONTINUATION of much", "field_block_too_large", 20, i => i == 0 ? Frame(Headers, 1, 1, Get) : Frame(Continuation, 0, 1, new byte[16_000])),
        ("HPACK bomb", "field_block_too_large", 3, i => i == 0
            ? Frame(Headers, 5, 1, [.. Get, 0x40, 1, (byte)'k', 0x7f, 0x81, 0x1d, .. Enumerable.Repeat((byte)'v', 3840)])
            : Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Enumerable.Repeat((byte)0xbe, 100)])),
    ];

    public static IEnumerable<TestCaseData> Floods() =>
        s_floods.Select(row => new TestCaseData(row.Kind, row.Count, row.Frames).SetName($"{row.Attack}: {row.Kind}"));

    [TestCaseSource(nameof(Floods))]
    public void Flood_ends_the_connection(string detail, int count, Func<int, byte[]> frames)
    {
        var server = new ServerUnderTest(exchange => exchange.Request.Fields.Count > 0 ? new ValueTask(new TaskCompletionSource().Task)
            : exchange.Request.EndsStream ? ServerUnderTest.Answer(exchange) : ServerUnderTest.Count(exchange));
        var sent = 0;
        var received = new List<Frame>();
        while (server.Errors.Count == 0 && sent < count)
        {
            server.Peer.Send(frames(sent++));
            if (sent % 50 == 0)
            {
                received = server.Peer.Receive();
            }
        }

        received.AddRange(server.Peer.Receive());
        Assert.That(server.Errors, Is.EqualTo(new[] { (Http2ErrorCode.EnhanceYourCalm, detail) }));
        Assert.That(server.Abuse, Is.EqualTo(new[] { detail }));
        Assert.That(received[^1].Code, Is.EqualTo((uint)Http2ErrorCode.EnhanceYourCalm));
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.Abuse));
        Assert.That(sent, Is.GreaterThan(count / 2), "and not too early");
    }

    // Each PING comes with DATA that pays for it, so that no bucket fills.
    [Test]
    public void A_peer_that_asks_and_does_not_read_is_kept_little_for()
    {
        var limits = new Http2Limits { MaxUnsentBytes = 4096, MaxUnsentReplies = 200 };
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { Limits = limits }, pause: 4096);
        server.Request(1, post: true);
        var sent = 0;
        for (; sent < 100_000 && server.Errors.Count == 0; sent++)
        {
            server.Peer.Send([.. Frame(Data, 0, 1, 1), .. Frame(Ping, 0, 0, new byte[8])]);
        }

        Assert.That(server.Errors, Is.EqualTo(new[] { (Http2ErrorCode.EnhanceYourCalm, "unsent_flood") }));
        Assert.That(server.Abuse, Is.EqualTo(new[] { "unsent_flood" }));
        Assert.That(sent, Is.GreaterThan(200), "and not too early");
        var received = 0;
        while (server.Peer.Receive() is { Count: > 0 } frames)
        {
            received += frames.Sum(frame => 9 + frame.Payload.Length);
        }

        Assert.That(received, Is.LessThan(4096 + 4096 + (200 * 17) + 1000));
    }

    [Test]
    public void Tiny_windows_end_the_connection()
    {
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(new System.Buffers.ReadOnlySequence<byte>(new byte[1_000_000]), true);
        });
        server.Peer.Send(Settings, 0, 0, Setting(4, 1));
        server.Request(1);
        for (var i = 0; i < 2500 && server.Errors.Count == 0; i++)
        {
            server.Peer.Send(WindowUpdate, 0, 1, UInt32(1));
            server.Peer.Receive();
        }

        Assert.That(server.Errors.Single().Detail, Is.EqualTo("tiny_data_frames"));
        Assert.That(server.Abuse, Is.EqualTo(new[] { "tiny_data_frames" }));
    }

    [Test]
    public void Refused_streams_do_not_put_off_the_acknowledgement_of_settings()
    {
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { Limits = new Http2Limits { MaxConcurrentStreams = 1 } }, greet: false);
        server.Peer.Send([.. Preface, .. Frame(Settings, 0, 0)]);
        server.Request(1, post: true);
        var id = 3;
        for (var second = 0; second < 9; second++)
        {
            // Never charged before the peer can know the limit, and always in the middle of a frame when the clock looks.
            for (var i = 0; i < 100; i++, id += 2)
            {
                server.Request(id);
            }

            var frame = Frame(Headers, 5, id, Get);
            id += 2;
            server.Peer.Send(frame[..10]);
            server.Connection.OnTick(second * 1000L);
            server.Peer.Send(frame[10..]);
            server.Peer.Receive();
        }

        Assert.That(server.Errors, Is.Empty);
        server.Connection.OnTick(10_000);
        Assert.That(server.Errors.Single(), Is.EqualTo((Http2ErrorCode.SettingsTimeout, "settings_timeout")));
    }

    [Test]
    public void Every_kind_is_attacked_here() => Assert.That(
        s_floods.Select(row => row.Kind).Concat(["tiny_data_frames", "unsent_flood", "too_many_streams", "too_much_unread", "stream_stalled", "connection_stalled"]).Distinct(),
        Is.EquivalentTo(Http2AbuseKinds.All));

    [Test]
    public void Too_many_streams_are_refused_and_told()
    {
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { Limits = new Http2Limits { MaxConcurrentStreams = 1 } });
        server.Request(1, post: true);
        server.Request(3);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.RefusedStream));
        Assert.That(server.Abuse, Is.EqualTo(new[] { "too_many_streams" }));
    }

    [TestCase(0, true, TestName = "a window that stays shut")]
    [TestCase(1, true, TestName = "a window of a byte now and then")]
    [TestCase(512, false, TestName = "a slow reader that goes on")]
    public void A_stream_whose_peer_does_not_take_its_data_ends(int bytesEachMinute, bool ends)
    {
        StreamEnd end = default;
        bool? wrote = null;
        var server = new ServerUnderTest(async exchange =>
        {
            if (exchange.Request.EndsStream)
            {
                exchange.Response.Status = 200;
                exchange.WriteHead(exchange.Response);
                wrote = await exchange.WriteBodyAsync(new System.Buffers.ReadOnlySequence<byte>(new byte[100_000]), true);
                end = exchange.End;
            }
        });
        server.Peer.Send([.. Frame(Settings, 0, 0, Setting(4, 0)), .. Frame(Headers, 5, 1, Get)]);
        server.Peer.Receive();
        for (var minute = 0; minute < 10; minute++)
        {
            for (var second = 0; second < 60; second++)
            {
                server.Connection.OnTick(((minute * 60) + second) * 1000L);
            }

            if (bytesEachMinute > 0)
            {
                server.Peer.Send(WindowUpdate, 0, 1, UInt32(bytesEachMinute));
            }
        }

        var reset = server.Peer.Receive().SingleOrDefault(frame => frame.Type == Reset);
        Assert.That(server.Errors, Is.Empty, "its connection lives");
        if (ends)
        {
            Assert.That((reset?.Stream, reset?.Code), Is.EqualTo((1, (uint)Http2ErrorCode.EnhanceYourCalm)));
            Assert.That((wrote, end.Reason, end.Detail), Is.EqualTo(((bool?)false, StreamResetReason.TimedOut, "stream_stalled")));
            Assert.That(server.Abuse, Is.EqualTo(new[] { "stream_stalled" }));
            Assert.That(server.Connection.ActiveExchanges, Is.Zero);
        }
        else
        {
            Assert.That((reset, wrote, server.Abuse.Count), Is.EqualTo(((Frame?)null, (bool?)null, 0)));
        }
    }

    [Test]
    public void A_connection_whose_peer_reads_nothing_ends()
    {
        var server = new ServerUnderTest(
            async exchange =>
            {
                exchange.Response.Status = 200;
                exchange.WriteHead(exchange.Response);
                await exchange.WriteBodyAsync(new System.Buffers.ReadOnlySequence<byte>(new byte[1_000_000]), true);
            },
            pause: 4096);
        server.Peer.Send([.. Frame(Settings, 0, 0, Setting(4, 1_000_000)), .. Frame(WindowUpdate, 0, 0, UInt32(1_000_000)), .. Frame(Headers, 5, 1, Get)]);
        for (var second = 0; second <= 400 && !server.Run.IsCompleted; second++)
        {
            server.Connection.OnTick(second * 1000L);
        }

        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
        Assert.That(server.Errors, Is.EqualTo(new[] { (Http2ErrorCode.EnhanceYourCalm, "connection_stalled") }));
        Assert.That(server.Abuse, Is.EqualTo(new[] { "connection_stalled" }));
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.KeepAliveTimeout));
    }

    [Test]
    public void An_upload_that_the_server_does_not_take_ends()
    {
        var client = new ClientUnderTest(null, true, Setting(4, 0));
        var exchange = client.Open(endStream: false, method: "POST");
        var written = exchange.WriteBodyAsync(new System.Buffers.ReadOnlySequence<byte>(new byte[10]), true).AsTask();
        for (var second = 0; second <= 400; second++)
        {
            client.Connection.OnTick(second * 1000L);
        }

        Assert.That((written.Result, exchange.End.Reason, exchange.End.Detail), Is.EqualTo((false, StreamResetReason.TimedOut, "stream_stalled")));
        Assert.That(client.Peer.Receive().Single(frame => frame.Type == Reset).Stream, Is.EqualTo(1));
        exchange.Complete();
        Assert.That(client.Closed, Is.Null);
    }

    [Test]
    public void A_busy_connection_is_not_abuse()
    {
        var server = new ServerUnderTest(ServerUnderTest.Count);
        for (var i = 0; i < 20_000; i++)
        {
            var id = (2 * i) + 1;
            server.Peer.Send(
            [
                .. Frame(Headers, 4, id, Post), .. Frame(Data, 0, id, 1), .. Frame(Ping, 0, 0, new byte[8]), .. Frame(Data, 1, id),
                .. Frame(WindowUpdate, 0, 0, UInt32(5)),
            ]);
            server.Peer.Receive();
        }

        Assert.That(server.Errors, Is.Empty);
        Assert.That(server.Connection.TotalExchanges, Is.EqualTo(20_000));
    }

    [Test]
    public void Hedged_requests_are_not_abuse()
    {
        var server = new ServerUnderTest(exchange => exchange.Request.EndsStream ? ServerUnderTest.Answer(exchange) : ServerUnderTest.Count(exchange));
        for (var i = 0; i < 10_000; i += 2)
        {
            server.Peer.Send(
            [
                .. Frame(Headers, 5, (2 * i) + 1, Get), .. Frame(Headers, 4, (2 * i) + 3, Post),
                .. Frame(Reset, 0, (2 * i) + 3, UInt32(8)),
            ]);
            server.Peer.Receive();
        }

        Assert.That(server.Errors, Is.Empty);
    }

    [Test]
    public void Buckets_leak_with_time()
    {
        var server = new ServerUnderTest();
        server.Connection.OnTick(0);
        for (var round = 0; round < 5; round++)
        {
            for (var i = 0; i < 900; i++)
            {
                server.Peer.Send(Ping, 0, 0, new byte[8]);
            }

            server.Peer.Receive();
            server.Connection.OnTick((round + 1) * 30_000);
        }

        Assert.That(server.Errors, Is.Empty);
    }

    [Test]
    public void Reset_streams_whose_handlers_linger_are_bounded()
    {
        var hanging = 0;
        var server = new ServerUnderTest(
            _ =>
            {
                hanging++;
                return new ValueTask(new TaskCompletionSource().Task);
            },
            new Http2Options { Limits = new Http2Limits { MaxConcurrentStreams = 10 } });
        for (var i = 0; i < 100; i++)
        {
            server.Peer.Send([.. Frame(Headers, 5, (2 * i) + 1, Get), .. Frame(Reset, 0, (2 * i) + 1, UInt32(8))]);
        }

        Assert.That(hanging, Is.EqualTo(20));
    }
}
