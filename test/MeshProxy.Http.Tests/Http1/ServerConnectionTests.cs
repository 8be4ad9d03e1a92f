using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

public sealed class ServerConnectionTests
{
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    private const string Date = "date: Fri, 02 Jan 2026 03:04:05 GMT\r\n";
    private const string Ok = "HTTP/1.1 200 OK\r\n" + Date + "content-length: 2\r\n\r\nok";

    private readonly List<string> _seen = [];
    private InMemoryDuplex _pipes = null!;
    private Peer _client = null!;
    private Http1ServerConnection _server = null!;
    private Task _run = null!;

    [Test]
    public void AnswersAndKeepsAlive()
    {
        Start(Echo);
        _client.Send(Get);
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        _client.Send("GET /2 HTTP/1.1\r\nHost: b\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        Assert.That(_run.IsCompleted, Is.False);
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.PeerClosed));
        Assert.That(_server.TotalExchanges, Is.EqualTo(2));
        Assert.That(_seen, Is.EqualTo(new[] { "GET a / ", "GET b /2 " }));
    }

    [Test]
    public void AnswersPipelinedRequestsInOrder()
    {
        var gate = new TaskCompletionSource();
        Start(async exchange =>
        {
            var path = Encoding.ASCII.GetString(exchange.Request.Path);
            if (path == "/0")
            {
                await gate.Task;
            }

            await Answer(exchange, path);
        });
        var all = string.Concat(Enumerable.Range(0, 20).Select(i => $"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"));
        _client.Send(all);
        Assert.That(_client.Take(), Is.Empty);
        gate.SetResult();
        var expected = string.Concat(Enumerable.Range(0, 20)
            .Select(i => $"HTTP/1.1 200 OK\r\n{Date}content-length: {$"/{i}".Length}\r\n\r\n/{i}"));
        Assert.That(_client.Take(), Is.EqualTo(expected));
    }

    [Test]
    public void ByteByByteGivesTheSame()
    {
        Start(Echo);
        _client.SendByteByByte("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n" + Get);
        Assert.That(_client.Take(), Is.EqualTo(Ok + Ok));
        Assert.That(_seen, Is.EqualTo(new[] { "POST a /x abcde t=1", "GET a / " }));
    }

    [Test]
    public void FramesWithoutLengthAsChunked()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(Bytes("hello"), false);
            var trailers = new FieldMap();
            trailers.Add("x-sum"u8, "1"u8);
            exchange.WriteTrailers(trailers);
        });
        _client.Send(Get);
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 200 OK\r\n" + Date + "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"));
        Assert.That(_run.IsCompleted, Is.False);
    }

    [Test]
    public void Http10GetsTheBodyUntilClose()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(Bytes("hello"), true);
        });
        _client.Send("GET / HTTP/1.0\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 200 OK\r\n" + Date + "connection: close\r\n\r\nhello"));
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly, Is.False);
    }

    [Test]
    public void Http10KeepAlive()
    {
        Start(Echo);
        _client.Send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 200 OK\r\n" + Date + "content-length: 2\r\nconnection: keep-alive\r\n\r\nok"));
        Assert.That(_run.IsCompleted, Is.False);
    }

    [TestCase("HEAD", 200, "content-length: 2\r\n")]
    [TestCase("GET", 204, "")]
    [TestCase("GET", 304, "content-length: 2\r\n")]
    public void SendsNoBodyWhereNoneIsAllowed(string method, int status, string length)
    {
        Start(async exchange =>
        {
            exchange.Response.Status = status;
            exchange.Response.Fields.Add(KnownField.ContentLength, "2"u8);
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(Bytes("ok"), true);
        });
        _client.Send($"{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        var text = _client.Take();
        Assert.That(text, Does.EndWith(Date + length + "\r\n"));
        Assert.That(_run.IsCompleted, Is.False);
    }

    [Test]
    public void SendsContinueWhenTheHandlerSaysSoAndNotBefore()
    {
        Start(async exchange =>
        {
            Assert.That(exchange.AwaitsContinue, Is.True);
            var reading = exchange.RequestBody.ReadAsync();
            Assert.That((_client.Take(), reading.IsCompleted), Is.EqualTo(("", false)));
            exchange.Response.Status = 100;
            exchange.WriteInformational(exchange.Response);
            Assert.That(exchange.AwaitsContinue, Is.False);
            await exchange.FlushAsync();
            exchange.RequestBody.Advance((await reading).Data.Length);
            await Answer(exchange, "ok");
        });
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 100 Continue\r\n\r\n"));
        _client.Send("abc");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        Assert.That(_run.IsCompleted, Is.False);
    }

    [Test]
    public void AFinalResponseInsteadOfContinueClosesTheConnection()
    {
        Start(exchange => Answer(exchange, "no"));
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        Assert.That(_client.Take(), Does.Not.Contain("100 Continue").And.Contain("connection: close"));
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void ABodyThatCameWithoutWaitingKeepsTheConnection()
    {
        Start(Echo);
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + Get);
        Assert.That(_client.Take(), Is.EqualTo(Ok + Ok));
    }

    [Test]
    public void RelaysAnotherContinueOnlyOnce()
    {
        Start(async exchange =>
        {
            var reading = exchange.RequestBody.ReadAsync();
            exchange.Response.Status = 100;
            exchange.WriteInformational(exchange.Response);
            exchange.WriteInformational(exchange.Response);
            await exchange.FlushAsync();
            var chunk = await reading;
            exchange.RequestBody.Advance(chunk.Data.Length);
            await Answer(exchange, "ok");
        });
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 100 Continue\r\n\r\n"));
        _client.Send("abc");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
    }

    [Test]
    public void DrainsASmallUnreadBodyAndKeepsTheConnection()
    {
        Start(exchange => Answer(exchange, "ok"));
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        _client.Send("abc" + Get);
        Assert.That(_client.Take(), Is.EqualTo(Ok));
    }

    [Test]
    public void ClosesInsteadOfDrainingALargeBody()
    {
        Start(exchange => Answer(exchange, "ok"));
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        for (var i = 0; i < 40; i++)
        {
            _client.Send(new byte[8192]);
        }

        _client.Take();
        Assert.That(_client.HasEnded && !_run.IsCompleted, "it has said its last and reads on, so that no reset overtakes that");
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.NotReusable));
    }

    [TestCase("Content-Length: 1000000", "", true)]
    [TestCase("Transfer-Encoding: chunked", "1\r\na\r\n", true)]
    [TestCase("Content-Length: 10", "", false)]
    [TestCase("Content-Length: 10", "0123456789", false)]
    public void AnErrorBeforeTheRequestIsReadSaysWhetherTheConnectionGoesOn(string framing, string body, bool closes)
    {
        Start(exchange => Answer(exchange, "no", 413));
        _client.Send($"POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        Assert.That(_client.Take(), Does.StartWith("HTTP/1.1 413 ").And.EndWith(closes ? "connection: close\r\n\r\nno" : "content-length: 2\r\n\r\nno"));
        Assert.That(_client.HasEnded, Is.EqualTo(closes));
    }

    [Test]
    public void HalfCloseStillGetsItsResponse()
    {
        var gate = new TaskCompletionSource();
        Start(async exchange =>
        {
            await gate.Task;
            await Answer(exchange, "ok");
        });
        _client.Send(Get);
        _client.Close();
        gate.SetResult();
        Assert.That(_client.Take(), Is.EqualTo(Ok));
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.PeerClosed));
    }

    [Test]
    public void AResetIsToldToTheObserverOnce()
    {
        var gate = new TaskCompletionSource();
        var observer = new Observer();
        var answered = true;
        Start(async exchange =>
        {
            exchange.Observer = observer;
            await gate.Task;
            answered = await exchange.FlushAsync();
        });
        _client.Send(Get);
        _client.Break();
        Assert.That(observer.Ends, Has.Count.EqualTo(1));
        Assert.That(observer.Ends[0].Reason, Is.EqualTo(StreamResetReason.ConnectionReset));
        gate.SetResult();
        Assert.That(answered, Is.False);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.TransportError));
        Assert.That(observer.Ends, Has.Count.EqualTo(1));
    }

    [Test]
    public void AnObserverThatComesLateIsToldAtOnce()
    {
        var gate = new TaskCompletionSource();
        var observer = new Observer();
        Start(async exchange =>
        {
            await gate.Task;
            exchange.Observer = observer;
        });
        _client.Send(Get);
        _client.Break();
        gate.SetResult();
        Assert.That(observer.Ends, Has.Count.EqualTo(1));
    }

    [Test]
    public void AbortEndsEverything()
    {
        var observer = new Observer();
        var gate = new TaskCompletionSource();
        Start(async exchange =>
        {
            exchange.Observer = observer;
            await gate.Task;
        });
        _client.Send(Get);
        _server.Abort(ConnectionCloseReason.Revoked);
        Assert.That(observer.Ends.Single().Initiator, Is.EqualTo(Initiator.Operator));
        gate.SetResult();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.Revoked));
        Assert.That(_server.EndedAbruptly);
    }

    [Test]
    public void AbortOfAnIdleConnection()
    {
        Start(Echo);
        _server.Abort(ConnectionCloseReason.MaxAge);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.MaxAge));
    }

    [Test]
    public void AnIncompleteResponseEndsAbruptly()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.Response.Fields.Add(KnownField.ContentLength, "10"u8);
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(Bytes("half"), false);
        });
        _client.Send(Get + Get);
        Assert.That(_client.Take(), Does.EndWith("\r\n\r\nhalf"));
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly);
    }

    [Test]
    public void MoreBodyThanDeclaredIsNeverSent()
    {
        var written = true;
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.Response.Fields.Add(KnownField.ContentLength, "2"u8);
            exchange.WriteHead(exchange.Response);
            written = await exchange.WriteBodyAsync(Bytes("okHTTP/1.1 200 OK"), true);
        });
        _client.Send(Get);
        Assert.That(written, Is.False);
        Assert.That(_client.Take(), Does.Not.Contain("okHTTP"));
        Assert.That(_server.EndedAbruptly);
    }

    [Test]
    public void AFieldThatWouldSplitTheResponseIsRefused()
    {
        Start(exchange =>
        {
            exchange.Response.Status = 200;
            exchange.Response.Fields.Add("x"u8, "a\r\nb: c"u8);
            exchange.Response.EndsStream = true;
            Assert.That(exchange.WriteHead(exchange.Response), Is.False);
            return default;
        });
        _client.Send(Get);
        Assert.That(_client.Take(), Is.Empty);
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void DrainClosesAfterTheNextResponseAndIdleOnesAfterTheGrace()
    {
        Start(Echo);
        _server.OnTick(0);
        _server.Drain(ConnectionCloseReason.Drain);
        _server.OnTick(10_000);
        Assert.That(_run.IsCompleted, Is.False, "the grace begins with the drain");
        _client.Send(Get);
        Assert.That(_client.Take(), Does.Contain("connection: close"));
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.Drain));

        Start(Echo);
        _server.Drain(ConnectionCloseReason.Drain);
        _server.OnTick(0);
        _server.OnTick(999);
        Assert.That(_run.IsCompleted, Is.False);
        _server.OnTick(1000);
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void TimeoutsOfHeadAndIdle()
    {
        Start(Echo);
        _client.Send("GET / HT");
        _server.OnTick(0);
        _client.Send("T");
        _server.OnTick(9_999);
        Assert.That(_client.Take(), Is.Empty);
        _server.OnTick(10_000);
        Assert.That(_client.Take(), Does.StartWith("HTTP/1.1 408 ").And.Contain("connection: close"));
        _client.Close();
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.HeadTimeout));

        Start(Echo);
        _server.OnTick(0);
        _server.OnTick(299_999);
        Assert.That(_run.IsCompleted, Is.False);
        _server.OnTick(300_000);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.IdleTimeout));
        Assert.That(_client.Take(), Is.Empty);
    }

    [Test]
    public void AStalledBodyTimesOut()
    {
        StreamEnd end = default;
        Start(async exchange => end = (await exchange.RequestBody.ReadAsync()).End);
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        _server.OnTick(0);
        _server.OnTick(300_000);
        Assert.That(end.Reason, Is.EqualTo(StreamResetReason.TimedOut));
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void AMalformedChunkCanStillBeAnswered()
    {
        StreamEnd end = default;
        Start(async exchange =>
        {
            end = (await exchange.RequestBody.ReadAsync()).End;
            exchange.Response.Status = 400;
            exchange.Response.EndsStream = true;
            exchange.WriteHead(exchange.Response);
        });
        _client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        Assert.That(end.Reason, Is.EqualTo(StreamResetReason.ProtocolError));
        Assert.That(_client.Take(), Does.StartWith("HTTP/1.1 400 ").And.Contain("connection: close"));
    }

    [Test]
    public void ASlowReaderMakesTheWriterWait()
    {
        var written = 0;
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            for (var i = 0; i < 1000; i++)
            {
                if (!await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[16 * 1024]), i == 999))
                {
                    return;
                }

                written++;
            }
        });
        _client.Send(Get);
        Assert.That(written, Is.InRange(1, 20));
        long total = 0;
        for (var i = 0; i < 100_000 && written < 1000; i++)
        {
            total += _client.Take().Length;
        }

        Assert.That(written, Is.EqualTo(1000));
        Assert.That(total + _client.Take().Length, Is.GreaterThan(16 * 1024 * 1000));
        Assert.That(_run.IsCompleted, Is.False);
    }

    [Test]
    public void ASlowReaderStillGetsTheLastResponse()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            while (await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[100_000]), true))
            {
                return;
            }
        });
        _client.Send("GET / HTTP/1.0\r\n\r\n");
        _server.OnTick(0);
        _server.OnTick(60_000);
        Assert.That(_run.IsCompleted, Is.False);
        Assert.That(_client.Take(), Has.Length.GreaterThan(100_000));
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly, Is.False);
    }

    [Test]
    public void TheLastResponseIsFollowedByAFinWhileTheRestIsReadAway()
    {
        Start(Echo);
        _client.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + Get);
        Assert.That(_client.Take(), Does.EndWith("connection: close\r\n\r\nok"));
        Assert.That(_client.HasEnded);
        Assert.That(_run.IsCompleted, Is.False, "a reset for the second request would overtake the response");
        _client.Send(Get);
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.TotalExchanges, Is.EqualTo(1));
        Assert.That(_server.EndedAbruptly, Is.False);
    }

    [Test]
    public void TheLastResponseOfADrainOutlivesTheNextRequest()
    {
        Start(Echo);
        _server.Drain(ConnectionCloseReason.Drain);
        _client.Send(Get);
        Assert.That(_client.Take(), Does.EndWith("connection: close\r\n\r\nok"));
        Assert.That(_client.HasEnded);
        _client.Send(Get);
        Assert.That(_run.IsCompleted, Is.False, "a reset for what the client has sent meanwhile would overtake the response");
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.TotalExchanges, Is.EqualTo(1));
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.Drain));
    }

    [Test]
    public void LingeringEnds()
    {
        Start(Echo);
        _client.Send("nonsense\r\n");
        _server.OnTick(0);
        _server.OnTick(1_999);
        Assert.That(_run.IsCompleted, Is.False);
        _server.OnTick(2_000);
        Assert.That(_run.IsCompletedSuccessfully);
        _server.Abort(ConnectionCloseReason.MaxAge);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.ProtocolError));
    }

    [Test]
    public void AStalledReaderIsCutOff()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            while (await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[16 * 1024]), false))
            {
            }
        });
        _client.Send(Get);
        _server.OnTick(0);
        _server.OnTick(300_000);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly);
    }

    [Test]
    public void ManyPipelinedRequestsAreOneFlush()
    {
        Start(Echo);
        _client.Send(string.Concat(Enumerable.Repeat(Get, 100)));
        Assert.That(_client.Take(), Is.EqualTo(string.Concat(Enumerable.Repeat(Ok, 100))));
    }

    [TestCase("GET / HTTP/1.1\r\n\r\n", 400, "missing_host")]
    [TestCase("GET / HTTP/2.0\r\n\r\n", 505, "unsupported_version")]
    [TestCase("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "unknown_transfer_coding")]
    public void RefusesAndReports(string request, int status, string detail)
    {
        var rejections = new Rejections();
        Start(Echo, new Http1ServerOptions { Date = new DateField(new FixedTime()), RejectionObserver = rejections });
        _client.Send(Get + request + Get);
        Assert.That(_client.Take(), Does.StartWith(Ok + $"HTTP/1.1 {status} ").And.EndWith("content-length: 0\r\nconnection: close\r\n\r\n"));
        Assert.That(rejections.All, Is.EqualTo(new[] { (status, detail) }));
        Assert.That(_run.IsCompleted, Is.False, "waits for the client to read the answer");
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.ProtocolError));
        Assert.That(_seen, Has.Count.EqualTo(1));
    }

    internal static ReadOnlySequence<byte> Bytes(string text) => new(Encoding.Latin1.GetBytes(text));

    internal static async ValueTask Answer(HttpServerExchange exchange, string body, int status = 200)
    {
        exchange.Response.Status = status;
        exchange.Response.ContentLength = body.Length;
        exchange.WriteHead(exchange.Response);
        await exchange.WriteBodyAsync(Bytes(body), true);
        await exchange.FlushAsync();
    }

    private void Start(Func<HttpServerExchange, ValueTask> handle, Http1ServerOptions? options = null)
    {
        EventLoop.Imitate();
        _seen.Clear();
        _pipes = new InMemoryDuplex();
        _client = new Peer(_pipes.Client);
        _server = new Http1ServerConnection(
            _pipes.Server.Input, _pipes.Server.Output, options ?? new Http1ServerOptions { Date = new DateField(new FixedTime()) });
        _run = _server.RunAsync(new Handler(handle));
    }

    private async ValueTask Echo(HttpServerExchange exchange)
    {
        var seen = $"{Encoding.ASCII.GetString(exchange.Request.MethodToken)} {Encoding.ASCII.GetString(exchange.Request.Authority)} "
            + $"{Encoding.ASCII.GetString(exchange.Request.Path)} ";
        while (true)
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken)
            {
                return;
            }

            seen += Encoding.Latin1.GetString(chunk.Data);
            exchange.RequestBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                break;
            }
        }

        for (var i = 0; i < exchange.RequestBody.Trailers.Count; i++)
        {
            var line = exchange.RequestBody.Trailers[i];
            seen += $" {Encoding.ASCII.GetString(line.Name)}={Encoding.ASCII.GetString(line.Value)}";
        }

        _seen.Add(seen);
        await Answer(exchange, "ok");
    }

    private sealed class Observer : IExchangeObserver
    {
        public List<StreamEnd> Ends { get; } = [];

        public void OnAborted(StreamEnd end) => Ends.Add(end);
    }

    private sealed class Rejections : IRejectionObserver
    {
        public List<(int Status, string Detail)> All { get; } = [];

        public ReadOnlyMemory<byte> OnRejected(HttpServerConnection connection, RequestHead? request, ResponseHead? response, string detail)
        {
            All.Add((response!.Status, detail));
            return default;
        }
    }
}
