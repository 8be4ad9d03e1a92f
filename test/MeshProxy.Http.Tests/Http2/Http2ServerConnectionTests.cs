using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>The server side, driven by bytes.</summary>
public sealed class Http2ServerConnectionTests
{
    [TestCase(0u)]
    [TestCase(8u)]
    public void A_response_that_is_whole_is_not_taken_back_by_a_stop(uint code)
    {
        var server = new ServerUnderTest(async exchange =>
        {
            await ServerUnderTest.Answer(exchange);
            exchange.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, code, "stopped"));
        });
        server.Peer.Send(Headers, 4, 1, Post);
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Reset }));
        Assert.That(frames[1].Payload, Is.EqualTo(UInt32(0)), "NO_ERROR: no more of the request, please");
    }

    [Test]
    public void Answers_a_request()
    {
        var server = new ServerUnderTest(exchange =>
        {
            Assert.That(exchange.Request.Method, Is.EqualTo(RequestMethod.Get));
            Assert.That(Encoding.ASCII.GetString(exchange.Request.Authority), Is.EqualTo("www.example.com"));
            Assert.That(exchange.Request.EndsStream, Is.True);
            return ServerUnderTest.Answer(exchange);
        });
        server.Request(1);
        var frame = server.Peer.Receive().Single();
        Assert.That((frame.Type, frame.Flags, frame.Stream), Is.EqualTo((Headers, EndHeaders | EndStream, 1)));
        Assert.That(frame.Payload, Is.EqualTo(new byte[] { 0x88 }));
    }

    [Test]
    public void Byte_by_byte_is_the_same_as_whole()
    {
        byte[] script =
        [
            .. Preface, .. Frame(Settings, 0, 0, Setting(4, 100_000)), .. Frame(Settings, 1, 0),
            .. Frame(Headers, EndHeaders | 8 | 0x20, 1, [3, 0, 0, 0, 0, 9, .. Post, 0, 0, 0]),
            .. Frame(Data, 8, 1, [2, .. "hello"u8, 0, 0]), .. Frame(99, 0, 1, 1, 2, 3), .. Frame(Priority, 0, 7, 0, 0, 0, 3, 1),
            .. Frame(Data, EndStream, 1, [.. " world"u8]),
            .. Frame(Headers, EndStream, 3, Get[..7]), .. Frame(Continuation, 0, 3, Get[7..9]), .. Frame(Continuation, EndHeaders, 3, Get[9..]),
            .. Frame(Ping, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
        ];
        var whole = new ServerUnderTest(ServerUnderTest.Count, greet: false);
        whole.Peer.Send(script);
        var expected = whole.Peer.Receive().Select(frame => frame.ToString()).ToArray();
        Assert.That(whole.Errors, Is.Empty);
        Assert.That(expected, Has.Some.Contain("3131"), "the length of the body, 11");

        var slow = new ServerUnderTest(ServerUnderTest.Count, greet: false);
        foreach (var b in script)
        {
            slow.Peer.Send(b);
        }

        Assert.That(slow.Peer.Receive().Select(frame => frame.ToString()), Is.EqualTo(expected));
    }

    [Test]
    public void Truncated_anywhere_is_never_a_clean_request()
    {
        byte[] request = [.. Frame(Headers, EndHeaders, 1, [.. Post, .. Line("content-length", "5")]), .. Frame(Data, EndStream, 1, [.. "hello"u8])];
        for (var length = 1; length < request.Length; length++)
        {
            var ended = false;
            var server = new ServerUnderTest(async exchange =>
            {
                while (true)
                {
                    var chunk = await exchange.RequestBody.ReadAsync();
                    if (chunk.IsBroken)
                    {
                        Assert.That(chunk.End.Reason, Is.EqualTo(StreamResetReason.PeerClosed));
                        return;
                    }

                    ended |= chunk.IsEnd;
                    exchange.RequestBody.Advance(chunk.Data.Length);
                }
            });
            server.Peer.Send(request[..length]);
            server.Peer.Finish();
            Assert.That(ended, Is.False, $"cut at {length}");
            Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
            Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.PeerClosed));
        }
    }

    [Test]
    public void Host_becomes_authority_and_cookie_crumbs_one_line()
    {
        var seen = "";
        var server = new ServerUnderTest(exchange =>
        {
            var fields = exchange.Request.Fields;
            seen = $"{Encoding.ASCII.GetString(exchange.Request.Authority)} {fields.Contains(KnownField.Host)} {fields.CountOf(KnownField.Cookie)} ";
            fields.TryGet(KnownField.Cookie, out var cookie);
            seen += Encoding.ASCII.GetString(cookie);
            return ServerUnderTest.Answer(exchange);
        });
        server.Peer.Send(Headers, 5, 1, [.. Hex("828684"), .. Line("cookie", "a=1"), .. Line("host", "h:80"), .. Line("cookie", "b=2")]);
        Assert.That(seen, Is.EqualTo("h:80 False 1 a=1; b=2"));
        server.Peer.Send(Headers, 5, 3, [.. Get, .. Line("host", "WWW.example.com:80")]);
        Assert.That(seen, Does.StartWith("www.example.com"));
    }

    [Test]
    public void Extended_connect_when_allowed()
    {
        var protocol = "";
        var server = new ServerUnderTest(
            exchange =>
            {
                protocol = Encoding.ASCII.GetString(exchange.Request.Protocol);
                return ServerUnderTest.Answer(exchange);
            },
            new Http2Options { AllowExtendedConnect = true });
        server.Peer.Send(Headers, 4, 1, [.. Line(":method", "CONNECT"), .. Line(":protocol", "websocket"), .. Get[1..]]);
        Assert.That(protocol, Is.EqualTo("websocket"));
    }

    [Test]
    public void Trailers_arrive_after_the_body_and_are_sent()
    {
        var server = new ServerUnderTest(async exchange =>
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            exchange.RequestBody.Advance(chunk.Data.Length);
            chunk = chunk.IsEnd ? chunk : await exchange.RequestBody.ReadAsync();
            Assert.That(chunk.IsEnd, Is.True);
            exchange.Response.Status = 103;
            exchange.WriteInformational(exchange.Response);
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(new ReadOnlySequence<byte>("x"u8.ToArray()), false);
            Assert.That(exchange.WriteTrailers(exchange.RequestBody.Trailers), Is.True);
            await exchange.FlushAsync();
        });
        server.Request(1, post: true);
        server.Peer.Send(Data, 0, 1, 1, 2, 3);
        server.Peer.Send(Headers, 5, 1, Line("grpc-status", "0"));
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Headers, Data, Headers }));
        Assert.That(frames[^1].Flags, Is.EqualTo(EndStream | EndHeaders));
        Assert.That(Encoding.ASCII.GetString(frames[^1].Payload), Does.Contain("grpc-status"));
    }

    [Test]
    public void Too_large_a_head_is_answered_431_and_hpack_stays_in_step()
    {
        var options = new Http2Options { Limits = new Http2Limits { MaxFieldListBytes = 2000, MaxFieldCount = 20 } };
        var server = new ServerUnderTest(options: options);

        // An indexed line in the middle of the oversized block: dropping the block would lose it.
        byte[] indexed = [0x40, 1, (byte)'k', 1, (byte)'v'];
        server.Peer.Send(Headers, 5, 1, [.. Get, .. Line("a", new string('x', 120)), .. indexed, .. Enumerable.Range(0, 12).SelectMany(_ => Line("a", new string('x', 120)))]);
        Assert.That(Encoding.ASCII.GetString(server.Peer.Receive().Single().Payload), Does.Contain("431"));
        server.Peer.Send(Headers, 5, 3, [.. Get, 0xbe]);
        Assert.That(server.Peer.Receive().Single().Payload[0], Is.EqualTo(0x88));
        server.Peer.Send(Headers, 5, 5, [.. Get, .. Enumerable.Range(0, 21).SelectMany(_ => Line("a", "b"))]);
        Assert.That(Encoding.ASCII.GetString(server.Peer.Receive().Single().Payload), Does.Contain("431"));

        // One byte each, but 4 KiB decoded: beyond four times the limit the connection ends.
        server.Peer.Send(Headers, 5, 7, [.. Get, .. Enumerable.Repeat((byte)0xbe, 300)]);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.EnhanceYourCalm));
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.Abuse));
    }

    [TestCase(5, "GET", 65_535, "type 1 flags 4, type 0 flags 1")]
    [TestCase(4, "GET", 65_535, "type 1 flags 4, type 0 flags 1, type 3 flags 0")]
    [TestCase(5, "HEAD", 65_535, "type 1 flags 5")]
    [TestCase(5, "GET", 3, "type 1 flags 5")]
    public void An_oversized_head_is_answered_as_the_observer_says(int flags, string method, int window, string expected)
    {
        var server = new ServerUnderTest(options: new Http2Options { Limits = new Http2Limits { MaxFieldCount = 3 } }) { RejectionBody = "why\n"u8.ToArray() };
        server.Peer.Send(Settings, 0, 0, Setting(4, window));
        server.Peer.Receive();
        server.Peer.Send(Headers, flags, 1, [.. Line(":method", method), .. Get[1..], .. Enumerable.Range(0, 4).SelectMany(_ => Line("a", "b"))]);
        var frames = server.Peer.Receive();
        Assert.That(string.Join(", ", frames.Select(frame => $"type {frame.Type} flags {frame.Flags}")), Is.EqualTo(expected));
        Assert.That(Encoding.ASCII.GetString(frames[0].Payload), Does.Contain("431").And.Contain("too_many_fields"));
        Assert.That(frames.Where(frame => frame.Type == Data).Sum(frame => frame.Payload.Length), Is.EqualTo(expected.Contains("type 0", StringComparison.Ordinal) ? 4 : 0));
        Assert.That(server.Rejected, Is.EqualTo(new[] { (431, "too_many_fields") }));
        Assert.That(server.Connection.TotalExchanges, Is.Zero);
    }

    [Test]
    public void More_streams_than_allowed_are_refused()
    {
        var server = new ServerUnderTest(ServerUnderTest.Count, new Http2Options { Limits = new Http2Limits { MaxConcurrentStreams = 2 } });
        server.Request(1, post: true);
        server.Request(3, post: true);
        server.Request(5);
        var refused = server.Peer.Receive().Single();
        Assert.That((refused.Type, refused.Stream, refused.Code), Is.EqualTo((Reset, 5, (uint)Http2ErrorCode.RefusedStream)));
        server.Peer.Send(Data, EndStream, 1, 1);
        server.Peer.Receive();
        server.Request(7);
        Assert.That(server.Peer.Receive().First().Stream, Is.EqualTo(7));
        Assert.That(server.Connection.TotalExchanges, Is.EqualTo(3));
    }

    [Test]
    public void Peer_reset_is_told_and_breaks_the_body()
    {
        var observer = new Observer();
        StreamEnd end = default;
        var wrote = true;
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Observer = observer;
            var chunk = await exchange.RequestBody.ReadAsync();
            end = chunk.End;
            wrote = exchange.WriteHead(exchange.Response);
        });
        server.Request(1, post: true);
        server.Peer.Send(Reset, 0, 1, UInt32(8));
        Assert.That(end, Is.EqualTo(new StreamEnd(StreamResetReason.PeerReset, Initiator.Peer, 8)));
        Assert.That(observer.Ends, Is.EqualTo(new[] { end }));
        Assert.That(wrote, Is.False);
        Assert.That(server.Connection.ActiveExchanges, Is.Zero);
    }

    [Test]
    public void A_whole_response_to_a_half_request_stops_the_upload()
    {
        var server = new ServerUnderTest();
        server.Request(1, post: true);
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Reset }));
        Assert.That(frames[1].Code, Is.EqualTo((uint)Http2ErrorCode.NoError));
        server.Peer.Send(Data, 0, 1, 1, 2, 3);
        server.Peer.Send(Headers, 5, 1, Line("a", "b"));
        Assert.That(server.Peer.Receive(), Is.Empty, "late frames of a stream that we reset are ignored");
    }

    [Test]
    public void Drain_goes_away_in_two_steps()
    {
        var gates = new List<TaskCompletionSource>();
        var server = new ServerUnderTest(async exchange =>
        {
            var gate = new TaskCompletionSource();
            gates.Add(gate);
            await gate.Task;
            await ServerUnderTest.Answer(exchange);
        });
        server.Request(1);
        server.Connection.Drain(ConnectionCloseReason.Drain);
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { GoAway, Ping }));
        Assert.That(frames[0].Payload[..4], Is.EqualTo(UInt32(0x7fffffff)));
        server.Request(3);
        server.Peer.Send(Ping, 1, 0, frames[1].Payload);
        var last = server.Peer.Receive().Single();
        Assert.That((last.Type, last.Payload[3]), Is.EqualTo((GoAway, (byte)3)));
        server.Request(5);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.RefusedStream));
        server.Peer.Send([.. Frame(Headers, 4, 7, Post), .. Frame(Data, 0, 7, 1), .. Frame(WindowUpdate, 0, 7, UInt32(1)), .. Frame(Data, 1, 7, 1)]);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.RefusedStream), "what was on its way is discarded (RFC 9113 section 6.8)");
        Assert.That(server.Run.IsCompleted, Is.False);
        gates.ForEach(gate => gate.SetResult());
        var rest = server.Peer.Receive();
        Assert.That(rest.Select(frame => frame.Stream), Is.EquivalentTo(new[] { 1, 3 }), string.Join("; ", rest));
        Assert.That(server.Peer.IsClosed, Is.True, "FIN follows the last response");
        Assert.That(server.Run.IsCompleted, Is.False, "it waits for the client to close");
        server.Peer.Finish();
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.Drain));
    }

    // A client that stands still (a starved machine, a line that loses packets) goes on where it stopped: what it sends then is served, and what was answered
    // meanwhile is still there to be read. A close would be answered by a reset, and take both from it.
    [Test]
    public void A_drain_waits_for_a_client_that_stands_still()
    {
        var server = new ServerUnderTest();
        server.Connection.OnTick(0);
        server.Connection.Drain(ConnectionCloseReason.Drain);
        var ping = server.Peer.Receive().Single(frame => frame.Type == Ping);
        Ticks(server.Connection, 9900);
        Assert.That(server.Peer.Receive(), Is.Empty);
        server.Request(1);
        server.Peer.Send(Ping, 1, 0, ping.Payload);
        var frames = server.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, GoAway }));
        Assert.That(frames[1].Payload[3], Is.EqualTo(1));
        Ticks(server.Connection, 19_800, 10_000);
        Assert.That(server.Run.IsCompleted, Is.False, "it stood still again before it could close");
        server.Peer.Finish();
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
    }

    [Test]
    public void A_drain_waits_for_a_client_no_longer_than_that()
    {
        var server = new ServerUnderTest();
        server.Connection.OnTick(0);
        server.Connection.Drain(ConnectionCloseReason.Drain);
        Ticks(server.Connection, 10_100);
        Assert.That(server.Peer.Receive().Select(frame => frame.Type), Is.EqualTo(new[] { GoAway, Ping, GoAway }));
        Ticks(server.Connection, 20_100, 10_200);
        Assert.That(server.Run.IsCompletedSuccessfully, Is.False);
        Ticks(server.Connection, 20_300, 20_200);
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
    }

    // Its windows, or its PINGs, show that it reads; but not for ever.
    [Test]
    public void A_client_that_reads_on_after_the_end_gets_five_minutes()
    {
        var server = new ServerUnderTest();
        server.Connection.Drain(ConnectionCloseReason.Drain);
        server.Peer.Send(Ping, 1, 0, server.Peer.Receive()[1].Payload);
        Assert.That(server.Peer.Receive().Single().Type, Is.EqualTo(GoAway));
        for (var now = 0; now < 300_000; now += 5000)
        {
            server.Peer.Send(WindowUpdate, 0, 0, UInt32(1));
            server.Connection.OnTick(now);
            Assert.That(server.Run.IsCompleted, Is.False, $"after {now} ms");
        }

        server.Peer.Send(WindowUpdate, 0, 0, UInt32(1));
        server.Connection.OnTick(300_000);
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
    }

    // A connection is known to the drain before its loop runs. Nothing may come in front of SETTINGS (RFC 9113 section 3.4).
    [Test]
    public void A_drain_that_comes_before_the_loop_runs_lets_SETTINGS_be_first()
    {
        var server = new ServerUnderTest(greet: false, drainsAtOnce: true);
        Assert.That(server.Peer.Receive().Select(frame => frame.Type), Is.EqualTo(new[] { Settings, WindowUpdate, GoAway, Ping }));
    }

    // The client sends a request again elsewhere when the last GOAWAY does not name it: then it must not have been served here.
    [Test]
    public async Task A_request_that_comes_with_the_last_GOAWAY_is_named_there_or_not_served()
    {
        var (served, refused) = (0, 0);
        for (var round = 0; round < 1500; round++)
        {
            var wasServed = false;
            var server = new ServerUnderTest(
                exchange =>
                {
                    wasServed = true;
                    return ServerUnderTest.Answer(exchange);
                },
                new Http2Options { Limits = new Http2Limits { DrainPingTimeout = TimeSpan.FromSeconds(1) } });
            server.Connection.Drain(ConnectionCloseReason.Drain);
            server.Connection.OnTick(0);
            var ready = 0;
            var delay = round % 100;
            var ticking = Task.Run(() =>
            {
                Volatile.Write(ref ready, 1);
                while (Volatile.Read(ref ready) < 2)
                {
                    Thread.SpinWait(1);
                }

                Thread.SpinWait(delay);
                server.Connection.OnTick(1000);
            });
            while (Volatile.Read(ref ready) < 1)
            {
                Thread.SpinWait(1);
            }

            Volatile.Write(ref ready, 2);
            server.Request(1);
            await ticking;
            var frames = server.Peer.Receive();
            var last = frames.Last(frame => frame.Type == GoAway).Payload[3];
            Assert.That(wasServed && last == 0, Is.False, $"round {round}: {string.Join("; ", frames)}");
            served += wasServed ? 1 : 0;
            refused += wasServed ? 0 : 1;
            server.Peer.Finish();
        }

        TestContext.Out.WriteLine($"{served} served, {refused} refused");
    }

    [Test]
    public void Trailers_that_come_a_second_time_do_not_change_the_first()
    {
        FieldMap? trailers = null;
        var server = new ServerUnderTest(async exchange =>
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            Assert.That(chunk.IsEnd);
            trailers = exchange.RequestBody.Trailers;
            await new TaskCompletionSource().Task;
        });
        server.Request(1, post: true);
        server.Peer.Send(Headers, 5, 1, Line("a", "judged"));
        Assert.That(trailers![0].Value.ToArray(), Is.EqualTo("judged"u8.ToArray()));
        server.Peer.Send(Headers, 5, 1, [.. Line("a", "other"), .. Line("b", "new")]);
        Assert.That(server.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.StreamClosed));
        Assert.That((trailers.Count, trailers[0].Value.ToArray()), Is.EqualTo((1, "judged"u8.ToArray())));
    }

    // Bytes that nobody reads make a reset of the close, and the reset destroys the GOAWAY.
    [TestCase("peer closes")]
    [TestCase("time passes")]
    [TestCase("too many bytes")]
    [TestCase("transport fails")]
    [TestCase("aborted")]
    public void After_its_last_words_it_reads_on_until(string what)
    {
        var options = new Http2Options { Limits = new Http2Limits { MaxLingerBytes = 10_000 } };
        var server = new ServerUnderTest(options: options);
        server.Connection.OnTick(1000);
        server.Peer.Send([.. Frame(Headers, 5, 2, Get), .. Frame(Data, 0, 1, new byte[3000])]);
        Assert.That(server.Peer.Receive().Single().Type, Is.EqualTo(GoAway));
        Assert.That(server.Peer.IsClosed, Is.True);
        server.Connection.OnTick(2000);
        server.Peer.Send(Data, 0, 1, new byte[3000]);
        server.Connection.OnTick(3900);
        server.Connection.OnTick(13_800);
        Assert.That(server.Run.IsCompleted, Is.False);
        switch (what)
        {
            case "peer closes":
                server.Peer.Finish();
                break;
            case "time passes":
                server.Connection.OnTick(13_900);
                break;
            case "too many bytes":
                server.Peer.Send(Data, 0, 1, new byte[4000]);
                break;
            case "transport fails":
                server.Peer.Finish(new IOException("reset"));
                break;
            case "aborted":
                server.Connection.Abort(ConnectionCloseReason.Drain);
                break;
        }

        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.ProtocolError));
    }

    [Test]
    public void An_abort_waits_for_nobody()
    {
        var server = new ServerUnderTest();
        server.Peer.Send(Data, 0, 1, 1);
        Assert.That(server.Run.IsCompleted, Is.False);
        var aborted = new ServerUnderTest();
        aborted.Connection.Abort(ConnectionCloseReason.Revoked);
        Assert.That(aborted.Run.IsCompletedSuccessfully, Is.True);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void An_abort_tells_which_requests_were_not_processed(bool drains)
    {
        var server = new ServerUnderTest(async exchange => await exchange.RequestBody.ReadAsync());
        server.Request(1, post: true);
        server.Request(3, post: true);
        if (drains)
        {
            server.Connection.Drain(ConnectionCloseReason.Drain);
        }

        server.Peer.Receive();
        server.Connection.Abort(ConnectionCloseReason.Drain);
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
        Assert.That(server.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.Drain));
        var last = server.Peer.Receive().Single();
        Assert.That((last.Type, last.Payload), Is.EqualTo((GoAway, new byte[] { 0, 0, 0, 3, 0, 0, 0, 0 })));

        // Once is enough.
        var drained = new ServerUnderTest(async exchange => await exchange.RequestBody.ReadAsync());
        drained.Request(1, post: true);
        drained.Connection.Drain(ConnectionCloseReason.Drain);
        drained.Peer.Send(Ping, 1, 0, drained.Peer.Receive().Last().Payload);
        Assert.That(drained.Peer.Receive().Single().Type, Is.EqualTo(GoAway));
        drained.Connection.Abort(ConnectionCloseReason.Drain);
        Assert.That((drained.Run.IsCompletedSuccessfully, drained.Peer.Receive().Count), Is.EqualTo((true, 0)));
    }

    [Test]
    public void Abort_ends_handlers()
    {
        StreamEnd end = default;
        var server = new ServerUnderTest(async exchange => end = (await exchange.RequestBody.ReadAsync()).End);
        server.Request(1, post: true);
        server.Connection.Abort(ConnectionCloseReason.Revoked);
        Assert.That(end.Reason, Is.EqualTo(StreamResetReason.Cancelled));
        Assert.That(end.Initiator, Is.EqualTo(Initiator.Operator));
        Assert.That(server.Run.IsCompletedSuccessfully, Is.True);
    }

    [Test]
    public void Timeouts_by_ticks()
    {
        var silent = new ServerUnderTest(greet: false);
        Ticks(silent.Connection, 12_000);
        Assert.That(silent.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.HeadTimeout));

        var block = new ServerUnderTest();
        block.Peer.Send(Headers, 1, 1, Get);
        Ticks(block.Connection, 12_000);
        Assert.That(block.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.HeadTimeout));

        var partial = new ServerUnderTest();
        partial.Peer.Send(Frame(Headers, 5, 1, Get)[..15]);
        Ticks(partial.Connection, 12_000);
        Assert.That(partial.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.HeadTimeout));

        var unacknowledged = new ServerUnderTest(greet: false);
        unacknowledged.Peer.Send([.. Preface, .. Frame(Settings, 0, 0)]);
        Ticks(unacknowledged.Connection, 12_000);
        Assert.That(unacknowledged.Peer.Receive().Last().Code, Is.EqualTo((uint)Http2ErrorCode.SettingsTimeout));

        var idle = new ServerUnderTest();
        Ticks(idle.Connection, 299_000);
        Assert.That(idle.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.None));
        Ticks(idle.Connection, 302_000, 299_000);
        Assert.That(idle.Connection.CloseReason, Is.EqualTo(ConnectionCloseReason.IdleTimeout));
    }

    private static void Ticks(HttpServerConnection connection, long until, long from = 0)
    {
        for (var now = from; now <= until; now += 1000)
        {
            connection.OnTick(now);
        }
    }

    private sealed class Observer : IExchangeObserver
    {
        public List<StreamEnd> Ends { get; } = [];

        public void OnAborted(StreamEnd end) => Ends.Add(end);
    }
}
