using System.Buffers;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>Windows, both ways (RFC 9113 section 5.2).</summary>
public sealed class FlowControlTests
{
    [Test]
    public void Writer_stops_at_the_stream_window_and_goes_on()
    {
        var done = false;
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            done = await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(Pattern(100_000)), true);
            await exchange.FlushAsync();
        });
        server.Request(1);
        var received = Body(server.Peer.Receive(), 1);
        Assert.That((received.Length, done), Is.EqualTo((65_535, false)));
        server.Peer.Send(WindowUpdate, 0, 1, UInt32(100_000));
        Assert.That(server.Peer.Receive(), Is.Empty, "the connection's window is used up as well");
        server.Peer.Send(WindowUpdate, 0, 0, UInt32(1));
        received = [.. received, .. Body(server.Peer.Receive(), 1)];
        Assert.That(received, Has.Length.EqualTo(65_536));
        server.Peer.Send(WindowUpdate, 0, 0, UInt32(100_000));
        var rest = server.Peer.Receive();
        Assert.That(rest[^1].Flags, Is.EqualTo(EndStream));
        received = [.. received, .. Body(rest, 1)];
        Assert.That(received.AsSpan().SequenceEqual(Pattern(100_000)), Is.True);
        Assert.That(done, Is.True);
    }

    [Test]
    public void Streams_share_the_connection_window_frame_by_frame()
    {
        var server = new ServerUnderTest(Large);
        server.Peer.Send(Settings, 0, 0, Setting(4, 1_000_000));
        server.Request(1);
        server.Request(3);
        server.Peer.Receive();
        server.Peer.Send(WindowUpdate, 0, 0, UInt32(16_384 * 6));
        var order = server.Peer.Receive().Where(frame => frame.Type == Data).Select(frame => frame.Stream).ToArray();
        Assert.That(order, Is.EqualTo(new[] { 1, 3, 1, 3, 1, 3 }).Or.EqualTo(new[] { 3, 1, 3, 1, 3, 1 }));
    }

    [Test]
    public void Initial_window_changes_apply_to_open_streams_and_may_go_negative()
    {
        var server = new ServerUnderTest(Large);
        server.Peer.Send(WindowUpdate, 0, 0, UInt32(1_000_000));
        server.Request(1);
        Assert.That(Body(server.Peer.Receive(), 1), Has.Length.EqualTo(65_535));
        server.Peer.Send(Settings, 0, 0, Setting(4, 0));
        server.Peer.Send(WindowUpdate, 0, 1, UInt32(65_535));
        Assert.That(Body(server.Peer.Receive(), 1), Is.Empty);
        server.Peer.Send(Settings, 0, 0, Setting(4, 10));
        Assert.That(Body(server.Peer.Receive(), 1), Has.Length.EqualTo(10));
    }

    public static IEnumerable<TestCaseData> Windows()
    {
        (string Name, (byte[] Sent, int Received)[] Steps)[] rows =
        [
            ("6.5.3: settings apply in order", [([.. Frame(Settings, 0, 0, [.. Setting(4, 100), .. Setting(4, 1)]), .. Frame(Headers, 5, 1, Get)], 1)]),
            ("6.9.1: a window of one byte", [([.. Frame(Settings, 0, 0, Setting(4, 1)), .. Frame(Headers, 5, 1, Get)], 1), (Frame(WindowUpdate, 0, 1, UInt32(2)), 2)]),
            ("6.9.2: a window that opens after HEADERS", [([.. Frame(Settings, 0, 0, Setting(4, 0)), .. Frame(Headers, 5, 1, Get)], 0), (Frame(Settings, 0, 0, Setting(4, 1)), 1)]),
            ("6.9.2: a negative window", [
                ([.. Frame(Settings, 0, 0, Setting(4, 3)), .. Frame(Headers, 5, 1, Get)], 3), (Frame(Settings, 0, 0, Setting(4, 2)), 0), (Frame(WindowUpdate, 0, 1, UInt32(1)), 0),
                (Frame(WindowUpdate, 0, 1, UInt32(1)), 1)]),
            ("6.9.2: a negative window that grows by settings", [
                ([.. Frame(Settings, 0, 0, Setting(4, 100)), .. Frame(Headers, 5, 1, Get)], 100), (Frame(Settings, 0, 0, Setting(4, 0)), 0), (Frame(Settings, 0, 0, Setting(4, 107)), 7)]),
            ("6.9.2: streams that are opened later have the new window", [
                ([.. Frame(Settings, 0, 0, Setting(4, 5)), .. Frame(Headers, 5, 1, Get)], 5), ([.. Frame(Settings, 0, 0, Setting(4, 9)), .. Frame(Headers, 5, 3, Get)], 4 + 9)]),
        ];
        return rows.Select(row => new TestCaseData((object)row.Steps).SetName(row.Name));
    }

    [TestCaseSource(nameof(Windows))]
    public void Window((byte[] Sent, int Received)[] steps)
    {
        var server = new ServerUnderTest(Large);
        foreach (var (sent, received) in steps)
        {
            server.Peer.Send(sent);
            var frames = server.Peer.Receive();
            Assert.That(frames.Where(frame => frame.Type == Data).Sum(frame => frame.Payload.Length), Is.EqualTo(received));
            Assert.That(frames.Any(frame => frame.Type is Reset or GoAway), Is.False);
        }
    }

    [Test]
    public void A_stalled_reader_does_not_stall_its_neighbours()
    {
        var server = new ServerUnderTest(exchange => exchange.Request.Fields.Count > 0 ? new ValueTask(new TaskCompletionSource().Task) : ServerUnderTest.Count(exchange));
        for (var id = 1; id < 200; id += 2)
        {
            server.Peer.Send(Headers, 4, id, [.. Post, .. Line("stall", "1")]);
        }

        // A hundred streams full to their windows, unread: more than the connection's first window in all.
        var frame = new byte[16_383];
        for (var id = 1; id < 100; id += 2)
        {
            for (var i = 0; i < 4; i++)
            {
                server.Peer.Send(Data, 0, id, frame);
            }
        }

        var frames = server.Peer.Receive();
        Assert.That(frames.Any(f => f.Type == WindowUpdate && f.Stream != 0), Is.False, "what is not read is not given back");
        server.Request(201, post: true);
        for (var i = 0; i < 100; i++)
        {
            server.Peer.Send(Data, i == 99 ? EndStream : 0, 201, new byte[10_000]);
        }

        frames = server.Peer.Receive();
        Assert.That(frames.Any(f => f.Type is GoAway or Reset), Is.False);
        Assert.That(Body(frames, 201), Is.EqualTo("1000000"u8.ToArray()));

        // One byte too many for a window is the sender's error, on its stream alone.
        server.Peer.Send(Data, 0, 1, 1, 2, 3, 4);
        Assert.That(server.Peer.Receive().Single(f => f.Type == Reset).Code, Is.EqualTo((uint)Http2ErrorCode.FlowControlError));
    }

    [Test]
    public void Above_the_unread_limit_new_bodies_are_refused_but_not_what_has_none()
    {
        var reads = true;
        var server = new ServerUnderTest(
            async exchange =>
            {
                if (exchange.Request.EndsStream)
                {
                    await ServerUnderTest.Answer(exchange);
                    return;
                }

                while (reads)
                {
                    exchange.RequestBody.Advance((await exchange.RequestBody.ReadAsync()).Data.Length);
                }

                await new TaskCompletionSource().Task;
            },
            new Http2Options { TimeProvider = new Clock(), Limits = new Http2Limits { MaxUnreadBytes = 50_000 } });
        server.Request(1, post: true);
        var window = 65_535L;
        GrowWindow(server, ref window);
        reads = false;
        for (; window >= 1000; window -= 1000)
        {
            server.Peer.Send(Data, 0, 1, new byte[1000]);
        }

        server.Peer.Receive();
        server.Request(3, post: true);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.RefusedStream));
        Assert.That(server.Abuse, Is.EqualTo(new[] { "too_much_unread" }));
        server.Request(5);
        Assert.That(server.Peer.Receive().Any(frame => frame is { Type: Headers, Stream: 5 }), "it brings nothing that would have to be kept");
    }

    [Test]
    public void What_first_windows_allow_refuses_nobody()
    {
        var server = new ServerUnderTest(
            exchange => exchange.Request.EndsStream ? ServerUnderTest.Answer(exchange) : new ValueTask(new TaskCompletionSource().Task),
            new Http2Options { Limits = new Http2Limits { MaxUnreadBytes = 50_000 } });
        for (var stream = 1; stream < 20; stream += 2)
        {
            server.Request(stream, post: true);
            for (var i = 0; i < 4; i++)
            {
                server.Peer.Send(Data, 0, stream, new byte[15_000]);
            }
        }

        Assert.That(server.Peer.Receive().Any(frame => frame.Type == Reset), Is.False);
        Assert.That(server.Abuse, Is.Empty);
    }

    [Test]
    public void Windows_grow_with_the_bandwidth_delay_product()
    {
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { TimeProvider = new Clock() });
        server.Request(1, post: true);
        var window = 65_535L;
        Assert.That(GrowWindow(server, ref window), Is.GreaterThan(60_000u));
    }

    [Test]
    public void Windows_do_not_grow_while_the_process_is_short_of_memory()
    {
        var isShort = true;
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { TimeProvider = new Clock(), IsMemoryShort = () => isShort });
        server.Request(1, post: true);
        var window = 65_535L;
        Assert.That(GrowWindow(server, ref window), Is.LessThan(60_000u), "what was read is given back, and no more");
        isShort = false;
        Assert.That(GrowWindow(server, ref window), Is.GreaterThan(60_000u));
    }

    /// <summary>Sends on stream 1 as if over a long and wide path.</summary>
    /// <returns>The largest WINDOW_UPDATE.</returns>
    private static uint GrowWindow(ServerUnderTest server, ref long window)
    {
        var largest = 0u;
        for (var i = 0; i < 400; i++)
        {
            Send(15_000, ref window);
            foreach (var frame in server.Peer.Receive())
            {
                if (frame is { Type: WindowUpdate, Stream: 1 })
                {
                    largest = Math.Max(largest, frame.Code);
                    window += frame.Code;
                }
                else if (frame is { Type: Ping, Flags: 0 })
                {
                    // The answer takes a round trip's worth of data.
                    for (var j = 0; j < 4; j++)
                    {
                        Send(8_000, ref window);
                    }

                    Send(16_000, ref window);
                    server.Peer.Send(Ping, 1, 0, frame.Payload);
                }
            }
        }

        return largest;

        void Send(int count, ref long window)
        {
            server.Peer.Send(Data, 0, 1, new byte[count]);
            window -= count;
        }
    }

    [Test]
    public void A_peer_that_does_not_read_stops_the_writer()
    {
        var written = 0;
        var server = new ServerUnderTest(
            async exchange =>
            {
                exchange.Response.Status = 200;
                exchange.WriteHead(exchange.Response);
                var block = new ReadOnlySequence<byte>(new byte[10_000]);
                for (var i = 0; i < 1000 && await exchange.WriteBodyAsync(block, false) && await exchange.FlushAsync(); i++)
                {
                    written += 10_000;
                }
            },
            pause: 64 * 1024);
        server.Peer.Send([.. Frame(Settings, 0, 0, Setting(4, 100_000_000)), .. Frame(WindowUpdate, 0, 0, UInt32(100_000_000))]);
        server.Request(1);
        Assert.That(written, Is.LessThan(400_000).And.GreaterThan(100_000));
        for (var i = 0; i < 2000; i++)
        {
            server.Peer.Receive();
        }

        Assert.That(written, Is.EqualTo(10_000_000));
    }

    [Test]
    public void A_flush_that_waits_is_released_when_the_connection_dies()
    {
        var server = new ServerUnderTest(
            async exchange =>
            {
                exchange.Response.Status = 200;
                exchange.WriteHead(exchange.Response);
                await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[255_000]), true);
                Assert.That(await exchange.FlushAsync(), Is.True.Or.False);
            },
            pause: 16 * 1024);
        server.Peer.Send([.. Frame(Settings, 0, 0, Setting(4, 100_000_000)), .. Frame(WindowUpdate, 0, 0, UInt32(100_000_000))]);

        // Both responses are framed whole, so their streams are closed; the second one's flush waits for room.
        server.Request(1);
        server.Request(3);
        Assert.That(server.Connection.ActiveExchanges, Is.Positive);
        server.Connection.Abort(ConnectionCloseReason.Revoked);
        Assert.That((server.Connection.ActiveExchanges, server.Run.IsCompletedSuccessfully), Is.EqualTo((0, true)));
    }

    [Test]
    public async Task Large_bodies_both_ways()
    {
        SynchronizationContext.SetSynchronizationContext(null);
        var duplex = new InMemoryDuplex();
        var server = new Http2ServerConnection(duplex.Server.Input, duplex.Server.Output, new Http2Options());
        var client = new Http2ClientConnection(duplex.Client.Input, duplex.Client.Output, new Http2Options(), new NoObserver());
        var serving = server.RunAsync(new Echo());
        var running = client.RunAsync();
        var exchange = client.TryOpenExchange()!;
        var head = new RequestHead();
        head.SetMethod("POST"u8);
        head.SetScheme("http"u8);
        head.SetAuthority("a"u8);
        head.SetPath("/"u8);
        exchange.WriteHead(head);
        var body = Pattern(5_000_000);
        var writing = Write();
        Assert.That(await exchange.ReadHeadAsync(), Is.True);
        var received = new MemoryStream();
        while (true)
        {
            var chunk = await exchange.ResponseBody.ReadAsync();
            Assert.That(chunk.IsBroken, Is.False);
            foreach (var memory in chunk.Data)
            {
                received.Write(memory.Span);
            }

            exchange.ResponseBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                break;
            }
        }

        await writing;
        Assert.That(received.GetBuffer().AsSpan(0, (int)received.Length).SequenceEqual(body), Is.True);
        exchange.Complete();
        client.Retire(ConnectionCloseReason.Drain);
        await running;
        duplex.Client.Output.Complete();
        await serving;

        async Task Write()
        {
            for (var at = 0; at < body.Length; at += 50_000)
            {
                Assert.That(await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(body, at, 50_000), at + 50_000 == body.Length), Is.True);
                await exchange.FlushAsync();
            }
        }
    }

    private static async ValueTask Large(HttpServerExchange exchange)
    {
        exchange.Response.Status = 200;
        exchange.WriteHead(exchange.Response);
        await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[1_000_000]), true);
        await exchange.FlushAsync();
    }

    private static byte[] Pattern(int length)
    {
        var bytes = new byte[length];
        new Random(3).NextBytes(bytes);
        return bytes;
    }

    private static byte[] Body(List<Frame> frames, int id) =>
        [.. frames.Where(frame => frame.Type == Data && frame.Stream == id).SelectMany(frame => frame.Payload)];

    private sealed class Clock : TimeProvider
    {
        private long _now;

        public override long GetTimestamp() => _now += 10;
    }

    private sealed class Echo : IHttpExchangeHandler
    {
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
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
}

/// <summary>Hears nothing.</summary>
internal sealed class NoObserver : IClientConnectionObserver
{
    public void OnCapacity(HttpClientConnection connection)
    {
    }

    public void OnRetired(HttpClientConnection connection)
    {
    }

    public void OnClosed(HttpClientConnection connection, ConnectionCloseReason reason)
    {
    }
}
