using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>What is legal once and an attack in numbers. Each row: a limit, and the frames that pass it.</summary>
public sealed class AbuseTests
{
    public static IEnumerable<TestCaseData> Floods()
    {
        (string Detail, int Count, Func<int, byte[]> Frames)[] rows =
        [
            ("rapid_reset", 1001, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(Reset, 0, (2 * i) + 1, UInt32(8))]),
            ("provoked_resets", 301, i => [.. Frame(Headers, 4, (2 * i) + 1, Post), .. Frame(WindowUpdate, 0, (2 * i) + 1, UInt32(0))]),
            ("provoked_resets", 301, i => Frame(Headers, 5, (2 * i) + 1, [.. Get, .. Line("X", "1")])),
            ("ping_flood", 1001, _ => Frame(Ping, 0, 0, new byte[8])),
            ("settings_flood", 101, _ => Frame(Settings, 0, 0)),
            ("ignored_frame_flood", 1001, _ => Frame(Priority, 0, 9, 0, 0, 0, 3, 1)),
            ("ignored_frame_flood", 1001, _ => Frame(200, 0, 0)),
            ("empty_frame_flood", 102, i => i == 0 ? Frame(Headers, 4, 1, Post) : Frame(Data, 0, 1)),
            ("window_update_flood", 1001, _ => Frame(WindowUpdate, 0, 0, UInt32(1))),
            ("continuation_flood", 34, i => i == 0 ? Frame(Headers, 1, 1, Get) : Frame(Continuation, 0, 1)),
            ("field_block_too_large", 20, i => i == 0 ? Frame(Headers, 1, 1, Get) : Frame(Continuation, 0, 1, new byte[16_000])),
        ];
        return rows.Select((row, index) => new TestCaseData(row.Detail, row.Count, row.Frames).SetName($"flood {index}: {row.Detail}"));
    }

    [TestCaseSource(nameof(Floods))]
    public void Flood_ends_the_connection(string detail, int count, Func<int, byte[]> frames)
    {
        var server = new ServerUnderTest(exchange => exchange.Request.EndsStream ? ServerUnderTest.Answer(exchange) : ServerUnderTest.Count(exchange));
        var sent = 0;
        var received = new List<RawFrame>();
        while (!server.Run.IsCompleted && sent < count)
        {
            server.Peer.Send(frames(sent++));
            if (sent % 50 == 0)
            {
                received = server.Peer.Receive();
            }
        }

        received.AddRange(server.Peer.Receive());
        Assert.That(server.Errors, Is.EqualTo(new[] { (Http2ErrorCode.EnhanceYourCalm, detail) }));
        Assert.That(received[^1].Code, Is.EqualTo((uint)Http2ErrorCode.EnhanceYourCalm));
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.Abuse));
        Assert.That(sent, Is.GreaterThan(count / 2), "and not too early");
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
        for (var i = 0; i < 2500 && !server.Run.IsCompleted; i++)
        {
            server.Peer.Send(WindowUpdate, 0, 1, UInt32(1));
            server.Peer.Receive();
        }

        Assert.That(server.Errors.Single().Detail, Is.EqualTo("tiny_data_frames"));
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
