using System.Buffers;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>The client side, driven by bytes.</summary>
public sealed class Http2ClientConnectionTests
{
    private static readonly byte[] s_ok = [0x88];

    [Test]
    public void Ready_with_the_first_settings()
    {
        var client = new ClientUnderTest(greet: false);
        var ready = client.Connection.WaitReadyAsync().AsTask();
        Assert.That(client.Peer.Receive()[0].Type, Is.EqualTo(Settings));
        Assert.That(ready.IsCompleted, Is.False);
        client.Peer.Send(Settings, 0, 0);
        Assert.That(ready.Result, Is.True);
    }

    [Test]
    public void Not_ready_when_the_peer_closes_first()
    {
        var client = new ClientUnderTest(greet: false);
        client.Peer.Finish();
        Assert.That(client.Connection.WaitReadyAsync().AsTask().Result, Is.False);
        Assert.That((client.Retired, client.Closed), Is.EqualTo((1, (ConnectionCloseReason?)ConnectionCloseReason.PeerClosed)));
        Assert.That(client.Connection.TryOpenExchange(), Is.Null);
    }

    [Test]
    public void Informational_heads_head_body_trailers()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        Assert.That(exchange.IsSent, Is.True);
        var head = exchange.ReadHeadAsync().AsTask();

        // All in one read: the second informational head must not overwrite the first one.
        client.Peer.Send(
        [
            .. Frame(Headers, 4, 1, Line(":status", "103")), .. Frame(Headers, 4, 1, Line(":status", "102")), .. Frame(Headers, 4, 1, s_ok),
            .. Frame(Data, 0, 1, 1, 2, 3), .. Frame(Headers, 5, 1, Line("t", "v")),
        ]);
        Assert.That((head.Result, exchange.Response.Status), Is.EqualTo((true, 103)));
        Assert.That((exchange.ReadHeadAsync().AsTask().Result, exchange.Response.Status), Is.EqualTo((true, 102)));
        Assert.That((exchange.ReadHeadAsync().AsTask().Result, exchange.Response.Status), Is.EqualTo((true, 200)));
        Assert.That(exchange.ResponseBody.TryRead(out var chunk), Is.True);
        Assert.That((chunk.Data.ToArray(), chunk.IsEnd), Is.EqualTo((new byte[] { 1, 2, 3 }, true)));
        Assert.That(exchange.ResponseBody.Trailers.Count, Is.EqualTo(1));
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.None));
        exchange.ResponseBody.Advance(3);
        exchange.Complete();
        Assert.That(client.Capacity, Is.EqualTo(1));
        Assert.That(client.Peer.Receive().Any(frame => frame.Type == Reset), Is.False);
    }

    [Test]
    public void A_flush_beside_a_writer_that_is_held_back_takes_nothing_from_it()
    {
        const int Length = 6 << 20;
        var client = new ClientUnderTest(null, true, Setting(4, 2 * Length));
        client.Peer.Send(WindowUpdate, 0, 0, UInt32(2 * Length));
        var exchange = client.Open(endStream: false, method: "POST");
        var writing = exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[Length]), endStream: true).AsTask();
        Assert.That(writing.IsCompleted, Is.False, "the peer reads nothing");
        Assert.That(exchange.FlushAsync().AsTask().IsCompletedSuccessfully);
        var received = 0;
        while (client.Peer.Receive() is { Count: > 0 } frames)
        {
            received += frames.Where(frame => frame.Type == Data).Sum(frame => frame.Payload.Length);
        }

        Assert.That(writing.IsCompletedSuccessfully && writing.Result);
        Assert.That(received, Is.EqualTo(Length));
    }

    [Test]
    public async Task A_writer_beside_a_flush_is_held_back_and_goes_on()
    {
        const int Piece = 16_000;
        const int Pieces = 400;
        var client = new ClientUnderTest(null, true, Setting(4, 2 * Piece * Pieces));
        client.Peer.Send(WindowUpdate, 0, 0, UInt32(2 * Piece * Pieces));
        var exchange = client.Open(endStream: false, method: "POST");
        var received = 0;

        // Somebody flushes the head while another reads the body and writes it: the forwarder and its pump. On a thread of its own, because what went wrong here never came back.
        var all = Task.Factory.StartNew(
            () =>
            {
                for (var i = 0; i < Pieces; i++)
                {
                    var flushing = exchange.FlushAsync().AsTask();
                    var writing = exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[Piece]), endStream: i == Pieces - 1).AsTask();
                    while (!writing.IsCompleted)
                    {
                        received += Receive();
                    }

                    Assert.That(flushing.IsCompletedSuccessfully && flushing.Result && writing.Result);
                }

                _ = exchange.FlushAsync();
                received += Receive();
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        await all.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.That(received, Is.EqualTo(Piece * Pieces));

        int Receive() => client.Peer.Receive().Where(frame => frame.Type == Data).Sum(frame => frame.Payload.Length);
    }

    [Test]
    public void Stream_limit_of_the_peer()
    {
        var client = new ClientUnderTest(null, true, Setting(3, 1));
        var first = client.Open();
        Assert.That(client.Connection.TryOpenExchange(), Is.Null);
        Assert.That((client.Connection.ActiveExchanges, client.Connection.MaxConcurrentExchanges), Is.EqualTo((1, 1)));
        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(client.Capacity, Is.EqualTo(1));
        var second = client.Connection.TryOpenExchange();
        Assert.That(second, Is.Not.Null, "a stream ends on the wire, not when its reader is done");
        Assert.That(second!.IsSent, Is.False);
        second.Complete();
        first.Complete();
        client.Peer.Send(Settings, 0, 0, Setting(3, 5));
        Assert.That(client.Capacity, Is.EqualTo(3));
    }

    [TestCase("protocol error")]
    [TestCase("end")]
    [TestCase("transport error")]
    public void A_request_that_counts_as_unsent_when_its_connection_ends_is_never_sent(string how)
    {
        var client = new ClientUnderTest();
        Task<bool> sent;
        using (FlushBatch.Enter())
        {
            // Its flush is put off to the end of the round, and the connection ends within it.
            sent = IsSentWhenToldAsync(client.Open(method: "POST"));
            switch (how)
            {
                case "protocol error":
                    client.Peer.Send(Data, 0, 0, 1);
                    break;
                case "end":
                    client.Peer.Finish();
                    break;
                default:
                    client.Peer.Finish(new IOException("reset"));
                    break;
            }

            Assert.That(sent.IsCompleted);
        }

        Assert.That(client.Peer.Receive().Any(frame => frame.Type == Headers), Is.EqualTo(sent.Result), "who may send it again must be the only one who does");
        Assert.That(client.Connection.EndedAbruptly, Is.Not.EqualTo(sent.Result), "nor does the transport send it when it is closed");

        static async Task<bool> IsSentWhenToldAsync(HttpClientExchange exchange)
        {
            Assert.That(await exchange.ReadHeadAsync(), Is.False);
            return exchange.IsSent;
        }
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Whole_answers_that_are_still_to_be_read_when_the_output_breaks_are_delivered(bool isReset)
    {
        var client = new ClientUnderTest();
        var whole = client.Open();
        var cutShort = client.Open();
        var unanswered = client.Open();
        var early = client.Open(endStream: false, method: "POST");
        var reserved = client.Connection.TryOpenExchange()!;
        BreakOutput(client, early);
        Assert.That((client.Retired, client.Closed), Is.EqualTo((1, (ConnectionCloseReason?)null)));
        Assert.That(client.Connection.TryOpenExchange(), Is.Null);
        Assert.That(reserved.WriteHead(new RequestHead()), Is.False);
        Assert.That((reserved.IsSent, reserved.End.IsProvablyUnprocessed), Is.EqualTo((false, true)));
        reserved.Complete();
        Assert.That(early.WriteBodyAsync(new ReadOnlySequence<byte>([1]), endStream: true).AsTask().Result, Is.False);
        Assert.That(early.WriteTrailers(new Http.Fields.FieldMap()), Is.False);
        Assert.That(early.End.Reason, Is.EqualTo(StreamResetReason.None));

        client.Peer.Send([.. Frame(Headers, 4, 1, s_ok), .. Frame(Data, 0, 1, 1, 2), .. Frame(Headers, 5, 1, Line("t", "v"))]);
        client.Peer.Send([.. Frame(Headers, 4, 3, s_ok), .. Frame(Data, 0, 3, 3)]);
        client.Peer.Send([.. Frame(Headers, 4, 7, s_ok), .. Frame(Data, 1, 7, 4)]);
        Assert.That(cutShort.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(cutShort.ResponseBody.TryRead(out var chunk) && chunk is { IsEnd: false, Data.Length: 1 });
        cutShort.ResponseBody.Advance(1);
        Assert.That(client.Closed, Is.Null);
        client.Peer.Finish(isReset ? new IOException("reset") : null);
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.TransportError));
        Assert.That((client.Retired, client.Connection.EndedAbruptly), Is.EqualTo((1, false)));

        Assert.That(whole.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(whole.ResponseBody.TryRead(out chunk), Is.True);
        Assert.That((chunk.Data.ToArray(), chunk.IsEnd, whole.ResponseBody.Trailers.Count), Is.EqualTo((new byte[] { 1, 2 }, true, 1)));
        Assert.That(early.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(early.ResponseBody.TryRead(out chunk) && chunk is { IsEnd: true, IsBroken: false, Data.Length: 1 });
        Assert.That(cutShort.ResponseBody.TryRead(out chunk) && chunk.IsBroken);
        Assert.That(unanswered.ReadHeadAsync().AsTask().Result, Is.False);
        var broken = new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer);
        Assert.That(new[] { whole.End, early.End, cutShort.End, unanswered.End }, Is.EqualTo(new[] { default, default, broken, broken }));
        Assert.That(unanswered.IsSent, Is.True);
        Array.ForEach([whole, early, cutShort, unanswered], exchange => exchange.Complete());
    }

    [Test]
    public void Requests_that_no_flush_has_taken_are_told_at_once_when_the_output_breaks()
    {
        const int Length = 6 << 20;
        var client = new ClientUnderTest(null, true, Setting(4, 2 * Length));
        client.Peer.Send(WindowUpdate, 0, 0, UInt32(2 * Length));
        var sent = client.Open(endStream: false, method: "POST");
        var writing = sent.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[Length]), endStream: true).AsTask();
        var unsent = client.Open(method: "POST", flush: false);
        var head = unsent.ReadHeadAsync().AsTask();
        Assert.That((writing.IsCompleted, head.IsCompleted), Is.EqualTo((false, false)), "the flush waits for the peer");
        client.Peer.StopReading();
        Assert.That(head.IsCompletedSuccessfully && !head.Result);
        Assert.That((unsent.IsSent, unsent.End), Is.EqualTo((false, new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer))));
        unsent.Complete();
        Assert.That(writing.IsCompletedSuccessfully && !writing.Result, "nor does the writer wait");
        Assert.That((sent.IsSent, sent.End.Reason, client.Closed), Is.EqualTo((true, StreamResetReason.None, (ConnectionCloseReason?)null)));
        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(sent.ReadHeadAsync().AsTask().Result, Is.True);
        sent.Complete();
        Assert.That((client.Closed, client.Connection.EndedAbruptly), Is.EqualTo(((ConnectionCloseReason?)ConnectionCloseReason.TransportError, true)));
    }

    [Test]
    public void With_nothing_to_wait_for_a_broken_output_ends_the_connection()
    {
        var client = new ClientUnderTest();
        client.Peer.StopReading();
        client.Peer.Send(Ping, 0, 0, new byte[8]);
        Assert.That((client.Retired, client.Closed), Is.EqualTo((1, (ConnectionCloseReason?)ConnectionCloseReason.TransportError)));
    }

    [Test]
    public void What_can_not_be_sent_any_more_is_no_flood()
    {
        var client = new ClientUnderTest(new Http2Options { Limits = new Http2Limits { MaxUnsentReplies = 3 } });
        var exchange = client.Open(endStream: false, method: "POST");
        BreakOutput(client, exchange);
        for (var i = 0; i < 10; i++)
        {
            client.Peer.Send(Ping, 0, 0, new byte[8]);
        }

        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        exchange.Complete();
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.TransportError));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Answers_after_a_broken_output_are_waited_for_within_limits(bool talks)
    {
        var client = new ClientUnderTest(new Http2Options { PingAfterSilence = TimeSpan.FromSeconds(1) });
        var exchange = client.Open(endStream: false, method: "POST");
        client.Connection.OnTick(0);
        BreakOutput(client, exchange);
        var limit = talks ? 300_000 : 10_000;
        for (var now = 1000; now <= limit; now += 1000)
        {
            Assert.That(client.Closed, Is.Null);
            if (talks)
            {
                client.Peer.Send(Ping, 1, 0, new byte[8]);
            }

            client.Connection.OnTick(now);
        }

        client.Connection.OnTick(limit + 1000);
        client.Connection.OnTick(limit + 2000);
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.TransportError));
        Assert.That(exchange.End, Is.EqualTo(new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer)));
        exchange.Complete();
    }

    [Test]
    public void Goaway_ends_what_lies_beyond_and_retires()
    {
        var client = new ClientUnderTest();
        var processed = client.Open();
        var unprocessed = client.Open();
        var unsent = client.Connection.TryOpenExchange()!;
        var head = unprocessed.ReadHeadAsync().AsTask();
        client.Peer.Send(GoAway, 0, 0, [.. UInt32(1), .. UInt32(0)]);
        Assert.That(head.Result, Is.False);
        Assert.That((unprocessed.End.Reason, unprocessed.End.IsProvablyUnprocessed), Is.EqualTo((StreamResetReason.PeerGoAway, true)));
        Assert.That(unsent.WriteHead(new RequestHead()), Is.False);
        Assert.That((unsent.IsSent, unsent.End.IsProvablyUnprocessed), Is.EqualTo((false, true)));
        Assert.That(client.Retired, Is.EqualTo(1));
        Assert.That(client.Connection.TryOpenExchange(), Is.Null);
        unprocessed.Complete();
        unsent.Complete();
        Assert.That(client.Closed, Is.Null);

        // The one within is still served; then the connection closes by itself.
        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(processed.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.PeerClosed));
        processed.Complete();
    }

    [Test]
    public void Goaway_in_two_steps_lets_streams_finish()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        client.Peer.Send(GoAway, 0, 0, [.. UInt32(0x7fffffff), .. UInt32(0)]);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.None));
        client.Peer.Send(GoAway, 0, 0, [.. UInt32(1), .. UInt32(0)]);
        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
    }

    [TestCase(7u, StreamResetReason.PeerRefused)]
    [TestCase(2u, StreamResetReason.PeerReset)]
    public void Reset_by_the_peer(uint code, StreamResetReason reason)
    {
        var client = new ClientUnderTest();
        var exchange = client.Open(endStream: false);
        var head = exchange.ReadHeadAsync().AsTask();
        client.Peer.Send(Reset, 0, 1, UInt32(code));
        Assert.That(head.Result, Is.False);
        Assert.That(exchange.End, Is.EqualTo(new StreamEnd(reason, Initiator.Peer, code)));
        Assert.That(exchange.WriteBodyAsync(new ReadOnlySequence<byte>([1]), true).AsTask().Result, Is.False);
        exchange.Complete();
        Assert.That(client.Capacity, Is.EqualTo(1));
    }

    [Test]
    public void Refused_after_a_head_is_no_proof()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        client.Peer.Send([.. Frame(Headers, 4, 1, s_ok), .. Frame(Reset, 0, 1, UInt32(7))]);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.PeerReset));
        exchange.Complete();
    }

    [Test]
    public void Early_response_with_no_error_stays_readable()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open(endStream: false, method: "POST");
        client.Peer.Send([.. Frame(Headers, 4, 1, s_ok), .. Frame(Data, 1, 1, 9), .. Frame(Reset, 0, 1, UInt32(0))]);
        Assert.That(exchange.WriteBodyAsync(new ReadOnlySequence<byte>([1]), false).AsTask().Result, Is.False);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        Assert.That(exchange.ResponseBody.TryRead(out var chunk) && chunk.IsEnd && chunk.Data.Length == 1, Is.True);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.None));
        exchange.Complete();
    }

    [Test]
    public void Connection_loss_breaks_exchanges_before_it_is_told()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        var head = exchange.ReadHeadAsync().AsTask();
        _ = head.ContinueWith(_ => Assert.That(client.Closed, Is.Null), TaskContinuationOptions.ExecuteSynchronously);
        client.Peer.Finish();
        Assert.That(head.Result, Is.False);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.PeerClosed));
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.PeerClosed));
        exchange.Complete();
    }

    [Test]
    public void Held_chunk_outlives_the_stream()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        client.Peer.Send([.. Frame(Headers, 4, 1, s_ok), .. Frame(Data, 0, 1, 1, 2, 3)]);
        Assert.That(exchange.ResponseBody.TryRead(out var chunk), Is.True);
        client.Peer.Send(Reset, 0, 1, UInt32(2));
        var other = client.Open();
        client.Peer.Send([.. Frame(Headers, 4, 3, s_ok), .. Frame(Data, 0, 3, 7, 7, 7)]);
        Assert.That(chunk.Data.ToArray(), Is.EqualTo(new byte[] { 1, 2, 3 }));
        exchange.ResponseBody.Advance(3);
        Assert.That(exchange.ResponseBody.TryRead(out chunk) && chunk.IsBroken, Is.True);
        exchange.Complete();
        other.Complete();
    }

    [Test]
    public void Head_response_may_declare_a_length()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open(method: "HEAD");
        client.Peer.Send(Headers, 5, 1, [0x88, .. Line("content-length", "5")]);
        Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.True);
        exchange.Complete();
    }

    [Test]
    public void Complete_of_an_open_stream_cancels_it()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        client.Peer.Receive();
        exchange.Complete();
        Assert.That(client.Peer.Receive().Single().Code, Is.EqualTo((uint)Http2ErrorCode.Cancel));
        client.Peer.Send([.. Frame(Headers, 4, 1, s_ok), .. Frame(Data, 1, 1, 1, 2)]);
        Assert.That((client.Closed, client.Connection.ActiveExchanges), Is.EqualTo(((ConnectionCloseReason?)null, 0)));
    }

    [Test]
    public void Retire_waits_for_open_exchanges()
    {
        var client = new ClientUnderTest();
        var exchange = client.Open();
        client.Connection.Retire(ConnectionCloseReason.MaxAge);
        Assert.That((client.Retired, client.Closed), Is.EqualTo((1, (ConnectionCloseReason?)null)));
        client.Peer.Send(Headers, 5, 1, s_ok);
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.MaxAge));
        exchange.Complete();
    }

    [Test]
    public void The_first_request_after_a_pause_carries_a_ping()
    {
        var client = new ClientUnderTest(new Http2Options { PingOnReuseAfter = TimeSpan.FromSeconds(1) });
        client.Open().Complete();
        Assert.That(client.Peer.Receive().Any(frame => frame.Type == Ping), Is.False, "it is new");
        client.Connection.OnTick(0);
        client.Connection.OnTick(900);
        client.Open().Complete();
        Assert.That(client.Peer.Receive().Any(frame => frame.Type == Ping), Is.False, "it was used a moment ago");
        client.Connection.OnTick(1000);
        client.Connection.OnTick(60_000);
        var exchange = client.Open();
        var frames = client.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Ping }));
        client.Peer.Send(Ping, 1, 0, frames[1].Payload);
        client.Connection.OnTick(61_000);
        client.Connection.OnTick(90_000);
        Assert.That(client.Closed, Is.Null, "a slow answer is no dead connection");
        client.Peer.Send(Headers, 5, 5, s_ok);
        client.Connection.OnTick(91_000);
        exchange.Complete();

        client.Connection.OnTick(120_000);
        exchange = client.Open();
        Assert.That(client.Peer.Receive().Last().Type, Is.EqualTo(Ping));
        client.Connection.OnTick(121_900);
        Assert.That(client.Closed, Is.Null);
        client.Connection.OnTick(122_000);
        Assert.That((client.Closed, exchange.End.Reason), Is.EqualTo(((ConnectionCloseReason?)ConnectionCloseReason.KeepAliveTimeout, StreamResetReason.TimedOut)));
    }

    [Test]
    public void A_lowered_stream_limit_is_honoured()
    {
        var client = new ClientUnderTest(null, true, Setting(3, 3));
        var exchanges = new[] { client.Open(), client.Open(), client.Open() };
        client.Peer.Send(Settings, 0, 0, Setting(3, 1));
        Assert.That(client.Connection.MaxConcurrentExchanges, Is.EqualTo(1));
        client.Peer.Send([.. Frame(Headers, 5, 1, s_ok), .. Frame(Headers, 5, 3, s_ok)]);
        Assert.That(client.Connection.TryOpenExchange(), Is.Null, "one is still open");
        client.Peer.Send(Headers, 5, 5, s_ok);
        var next = client.Connection.TryOpenExchange();
        Assert.That((next is not null, client.Connection.TryOpenExchange()), Is.EqualTo((true, (HttpClientExchange?)null)));
        client.Peer.Send(Settings, 0, 0, Setting(3, 0));
        next!.Complete();
        Assert.That(client.Connection.TryOpenExchange(), Is.Null, "none at all");
        Array.ForEach(exchanges, exchange => exchange.Complete());
        Assert.That(client.Closed, Is.Null);
    }

    [Test]
    public void Silence_is_answered_with_ping_then_death()
    {
        var client = new ClientUnderTest(new Http2Options { PingAfterSilence = TimeSpan.FromSeconds(1) });
        client.Connection.OnTick(0);
        client.Connection.OnTick(5000);
        Assert.That(client.Peer.Receive(), Is.Empty, "no request is open");
        var exchange = client.Open();
        client.Peer.Receive();
        client.Connection.OnTick(5500);
        var ping = client.Peer.Receive().Single();
        client.Peer.Send(Ping, 1, 0, ping.Payload);
        client.Connection.OnTick(6000);
        client.Connection.OnTick(7000);
        Assert.That(client.Peer.Receive().Single().Type, Is.EqualTo(Ping));
        client.Connection.OnTick(8900);
        Assert.That(client.Closed, Is.Null);
        client.Connection.OnTick(9000);
        Assert.That(client.Closed, Is.EqualTo(ConnectionCloseReason.KeepAliveTimeout));
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.TimedOut));
    }

    // The peer takes nothing more, and the exchange's next bytes find that out.
    private static void BreakOutput(ClientUnderTest client, HttpClientExchange exchange)
    {
        client.Peer.StopReading();
        _ = exchange.WriteBodyAsync(new ReadOnlySequence<byte>([0]), endStream: false).AsTask();
        _ = exchange.FlushAsync().AsTask();
    }
}
