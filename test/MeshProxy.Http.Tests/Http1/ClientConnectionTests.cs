using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

public sealed class ClientConnectionTests
{
    private readonly RequestHead _head = new();
    private InMemoryDuplex _pipes = null!;
    private Peer _upstream = null!;
    private Http1ClientConnection _client = null!;
    private Recorder _events = null!;
    private Task _run = null!;
    private Task<bool>? _reading;

    [SetUp]
    public void Start()
    {
        EventLoop.Imitate();
        _pipes = new InMemoryDuplex();
        _upstream = new Peer(_pipes.Server);
        _reading = null;
        _events = new Recorder();
        _client = new Http1ClientConnection(_pipes.Client.Input, _pipes.Client.Output, new Http1ClientOptions(), _events);
        _run = _client.RunAsync();
    }

    [Test]
    public void SendsAndReceivesAndIsReusable()
    {
        for (var i = 0; i < 3; i++)
        {
            var exchange = (Http1ClientExchange)_client.TryOpenExchange()!;
            Assert.That(exchange.IsReused, Is.EqualTo(i > 0));
            Assert.That(_client.TryOpenExchange(), Is.Null);
            Assert.That(exchange.IsSent, Is.False);
            var reading = Request(exchange);
            Assert.That(exchange.IsSent);
            Assert.That(_upstream.Take(), Is.EqualTo("GET /p HTTP/1.1\r\nhost: a\r\nx-y: 1\r\n\r\n"));
            _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            Assert.That(reading.Result);
            Assert.That(exchange.Response.Status, Is.EqualTo(200));
            Assert.That(ReadAll(exchange), Is.EqualTo("hello"));
            exchange.Complete();
        }

        Assert.That(_events.All, Is.EqualTo(new[] { "capacity", "capacity", "capacity" }));
    }

    [Test]
    public void ResponseByteByByte()
    {
        var exchange = _client.TryOpenExchange()!;
        var reading = Request(exchange);
        _upstream.SendByteByByte("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
        Assert.That(reading.Result);
        Assert.That(exchange.Response.Status, Is.EqualTo(103));
        var final = _reading = exchange.ReadHeadAsync().AsTask();
        _upstream.SendByteByByte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        Assert.That(final.Result);
        var chunk = exchange.ResponseBody.ReadAsync().AsTask();
        _upstream.SendByteByByte("a\r\n0123456789\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 3\r\n\r\n");
        Assert.That(chunk.Result.Data.Length, Is.EqualTo(1));
        Assert.That(ReadAll(exchange), Is.EqualTo("0123456789"));
        Assert.That(exchange.ResponseBody.Trailers.Count, Is.EqualTo(1));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "capacity" }));
    }

    [Test]
    public void WritesBodiesChunkedOrCounted()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        Assert.That(exchange.WriteHead(_head));
        Assert.That(exchange.WriteBodyAsync(ServerConnectionTests.Bytes("abc"), false).AsTask().Result);
        var trailers = new FieldMap();
        trailers.Add("x-t"u8, "1"u8);
        Assert.That(exchange.WriteTrailers(trailers));
        Assert.That(_upstream.Take(), Is.Empty, "nothing is sent before a flush");
        _ = exchange.FlushAsync().AsTask().Result;
        Assert.That(_upstream.Take(), Does.EndWith("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"));
        _upstream.Send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        Assert.That(exchange.ReadHeadAsync().AsTask().Result);
        Assert.That(exchange.Response.EndsStream);
        Assert.That(exchange.Response.Fields.Count, Is.Zero);
        exchange.Complete();

        exchange = _client.TryOpenExchange()!;
        Fill("PUT");
        _head.Fields.Add(KnownField.ContentLength, "3"u8);
        Assert.That(exchange.WriteHead(_head));
        Assert.That(exchange.WriteBodyAsync(ServerConnectionTests.Bytes("abc"), true).AsTask().Result);
        _ = exchange.FlushAsync().AsTask().Result;
        Assert.That(_upstream.Take(), Does.EndWith("content-length: 3\r\n\r\nabc"));
    }

    [TestCase("GET", "")]
    [TestCase("POST", "content-length: 0\r\n")]
    public void ABodylessRequestSaysSoWhereItMatters(string method, string expected)
    {
        var exchange = _client.TryOpenExchange()!;
        Fill(method);
        _head.EndsStream = true;
        exchange.WriteHead(_head);
        _ = exchange.FlushAsync().AsTask().Result;
        Assert.That(_upstream.Take(), Is.EqualTo($"{method} /p HTTP/1.1\r\nhost: a\r\nx-y: 1\r\n{expected}\r\n"));
    }

    [Test]
    public void JoinsCookiesAndNamesTe()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("GET");
        _head.EndsStream = true;
        _head.Fields.Add(KnownField.Cookie, "a=1"u8);
        _head.Fields.Add(KnownField.Te, "trailers"u8);
        _head.Fields.Add(KnownField.Cookie, "b=2"u8);
        _head.Fields.Add(KnownField.Connection, "x-y"u8);
        _head.Fields.Add(KnownField.TransferEncoding, "gzip"u8);
        exchange.WriteHead(_head);
        _ = exchange.FlushAsync().AsTask().Result;
        Assert.That(_upstream.Take(), Is.EqualTo("GET /p HTTP/1.1\r\nhost: a\r\nx-y: 1\r\ncookie: a=1; b=2\r\nte: trailers\r\nconnection: te\r\n\r\n"));
    }

    [TestCase("/a b")]
    [TestCase("/a\r\nx: y")]
    [TestCase("a")]
    [TestCase("")]
    [TestCase("/#f")]
    public void RefusesAPathThatIsNone(string path)
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("GET");
        _head.SetPath(Encoding.Latin1.GetBytes(path));
        _head.EndsStream = true;
        Assert.That(exchange.WriteHead(_head), Is.False);
        Assert.That(exchange.IsSent, Is.False);
        Assert.That(_upstream.Take(), Is.Empty);
    }

    [Test]
    public void RefusesAFieldThatWouldSplitTheRequest()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("GET");
        _head.Fields.Add("x"u8, "a\r\n\r\nGET /admin HTTP/1.1"u8);
        _head.EndsStream = true;
        Assert.That(exchange.WriteHead(_head), Is.False);
        Assert.That(exchange.End.Detail, Is.EqualTo("invalid_request_head"));
    }

    [Test]
    public void UntilCloseEndsWithTheConnection()
    {
        var exchange = _client.TryOpenExchange()!;
        var reading = Request(exchange);
        _upstream.Send("HTTP/1.1 200 OK\r\n\r\nall of it");
        Assert.That(reading.Result);
        _upstream.Close();
        Assert.That(ReadAll(exchange), Is.EqualTo("all of it"));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void AnAnswerThatIsStillToBeReadWhenTheOutputBreaksIsDelivered(bool isReset)
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        Assert.That(exchange.WriteHead(_head));
        Assert.That(exchange.FlushAsync().AsTask().Result);
        _upstream.StopReading();
        exchange.WriteBodyAsync(ServerConnectionTests.Bytes("abc"), false).AsTask();
        exchange.FlushAsync().AsTask();
        Assert.That(exchange.WriteBodyAsync(ServerConnectionTests.Bytes("abc"), true).AsTask().Result, Is.False);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.None));
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        if (isReset)
        {
            _upstream.Break();
        }
        else
        {
            _upstream.Close();
        }

        Assert.That(ReadAll(exchange), Is.EqualTo("done"));
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.None));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
    }

    [Test]
    public void ACutOffUntilCloseBodyIsBroken()
    {
        var exchange = _client.TryOpenExchange()!;
        _ = Request(exchange);
        _upstream.Send("HTTP/1.1 200 OK\r\n\r\npart");
        _upstream.Break();
        Assert.That(ReadAll(exchange), Is.Null);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.ConnectionReset));
        exchange.Complete();
    }

    [Test]
    public void BytesWithoutARequestEndTheConnection()
    {
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed ProtocolError" }));
        Assert.That(_client.TryOpenExchange(), Is.Null);
    }

    [Test]
    public void BytesBehindAResponseEndTheConnection()
    {
        var exchange = _client.TryOpenExchange()!;
        _ = Request(exchange);
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 Poisoned\r\n");
        Assert.That(ReadAll(exchange), Is.Empty);
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed ProtocolError" }));
    }

    [Test]
    public void AResponseBeforeTheRequestIsNotTaken()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("GET");
        _head.EndsStream = true;
        exchange.WriteHead(_head);
        var reading = exchange.ReadHeadAsync().AsTask();
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Assert.That(reading.Result, Is.False);
        Assert.That(exchange.IsSent, Is.False);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.ProtocolError));
        exchange.Complete();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_upstream.Take(), Is.Empty);
        Assert.That(_client.EndedAbruptly, "closed in order, the transport would send it, and it may be sent elsewhere");
    }

    [TestCase(false)]
    [TestCase(true)]
    public void AnIdleCloseRetires(bool isReset)
    {
        if (isReset)
        {
            _upstream.Break();
        }
        else
        {
            _upstream.Close();
        }

        Assert.That(_events.All, Is.EqualTo(new[] { "retired", isReset ? "closed TransportError" : "closed PeerClosed" }));
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [TestCase(false, StreamResetReason.PeerClosed)]
    [TestCase(true, StreamResetReason.ConnectionReset)]
    public void TheCloseRaceIsToldApart(bool isReset, StreamResetReason reason)
    {
        var exchange = _client.TryOpenExchange()!;
        _ = Request(exchange);
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Assert.That(ReadAll(exchange), Is.Empty);
        exchange.Complete();
        exchange = _client.TryOpenExchange()!;
        var reading = Request(exchange);
        if (isReset)
        {
            _upstream.Break();
        }
        else
        {
            _upstream.Close();
        }

        Assert.That(reading.Result, Is.False);
        Assert.That(exchange.End, Is.EqualTo(new StreamEnd(reason, Initiator.Peer, Detail: "reused_connection_closed")));
        Assert.That(exchange.IsSent);
        exchange.Complete();
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void ACloseBeforeTheFlushIsProvablyUnsent()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        Assert.That(exchange.WriteHead(_head));
        _upstream.Close();
        Assert.That(exchange.FlushAsync().AsTask().Result, Is.False);
        Assert.That(exchange.IsSent, Is.False);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.PeerClosed));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed PeerClosed" }));
        Assert.That(_client.EndedAbruptly, "closed in order, the transport would send it, and it may be sent elsewhere");
    }

    [Test]
    public void AFlushBesideAWriterThatIsHeldBackTakesNothingFromIt()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        exchange.WriteHead(_head);
        var writing = exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[200_000]), false).AsTask();
        var flushing = exchange.FlushAsync().AsTask();
        Assert.That((writing.IsCompleted, flushing.IsCompleted), Is.EqualTo((false, true)));
        while (!writing.IsCompleted && _upstream.Take().Length > 0)
        {
        }

        Assert.That(writing.IsCompletedSuccessfully && writing.Result);
    }

    [Test]
    public void AWriterThatIsHeldBackIsWokenByAResetAlsoWithAFlushBesideIt()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        exchange.WriteHead(_head);
        var writing = exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[200_000]), false).AsTask();
        _ = exchange.FlushAsync().AsTask();
        exchange.Reset(new StreamEnd(StreamResetReason.Cancelled));
        Assert.That(writing.IsCompletedSuccessfully);
        Assert.That(writing.Result, Is.False);
    }

    [Test]
    public void AResponseBeforeTheRequestIsCompleteIsReadButTheConnectionIsNotUsedAgain()
    {
        var exchange = _client.TryOpenExchange()!;
        Fill("POST");
        exchange.WriteHead(_head);
        _ = exchange.WriteBodyAsync(ServerConnectionTests.Bytes("part"), false).AsTask().Result;
        _ = exchange.FlushAsync().AsTask().Result;
        _upstream.Send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
        Assert.That(ReadAll(exchange), Is.EqualTo("no"));
        Assert.That(exchange.Response.Status, Is.EqualTo(413));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
    }

    [TestCase("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")]
    [TestCase("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")]
    public void HonoursClose(string response)
    {
        var exchange = _client.TryOpenExchange()!;
        _ = Request(exchange);
        _upstream.Send(response);
        Assert.That(ReadAll(exchange), Is.Empty);
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
    }

    [Test]
    public void EveryTruncationIsAnError()
    {
        const string Response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: 1\r\n\r\n";
        for (var length = 0; length < Response.Length; length++)
        {
            Start();
            var exchange = _client.TryOpenExchange()!;
            _ = Request(exchange);
            _upstream.Send(Response[..length]);
            _upstream.Close();
            Assert.That(ReadAll(exchange), Is.Null, $"after {length} bytes");
            Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.PeerClosed), $"after {length} bytes");
            exchange.Complete();
            Assert.That(_run.IsCompletedSuccessfully);
        }
    }

    [Test]
    public void ResetWakesTheReader()
    {
        var exchange = _client.TryOpenExchange()!;
        var reading = Request(exchange);
        exchange.Reset(new StreamEnd(StreamResetReason.Cancelled, Detail: "downstream_gone"));
        Assert.That(reading.IsCompleted);
        Assert.That(reading.Result, Is.False);
        Assert.That(exchange.End.Detail, Is.EqualTo("downstream_gone"));
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
    }

    [Test]
    public void IdleTimeoutAndRetire()
    {
        _client.OnTick(0);
        _client.OnTick(2_999);
        Assert.That(_run.IsCompleted, Is.False);
        _client.OnTick(3_000);
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed IdleTimeout" }));

        Start();
        var exchange = _client.TryOpenExchange()!;
        _ = Request(exchange);
        _client.Retire(ConnectionCloseReason.MaxAge);
        Assert.That(_events.All, Is.EqualTo(new[] { "retired" }));
        _upstream.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Assert.That(ReadAll(exchange), Is.Empty);
        exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed MaxAge" }));
    }

    [Test]
    public void TooManyInformationalHeads()
    {
        var exchange = _client.TryOpenExchange()!;
        var reading = Request(exchange);
        _upstream.Send(string.Concat(Enumerable.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 17)));
        var count = 0;
        while (reading.Result)
        {
            count++;
            reading = exchange.ReadHeadAsync().AsTask();
        }

        Assert.That(count, Is.EqualTo(16));
        Assert.That(exchange.End.Detail, Is.EqualTo("too_many_informational_heads"));
    }

    private Task<bool> Request(HttpClientExchange exchange)
    {
        Fill("GET");
        _head.EndsStream = true;
        Assert.That(exchange.WriteHead(_head));
        _reading = exchange.ReadHeadAsync().AsTask();
        Assert.That(exchange.FlushAsync().AsTask().Result);
        return _reading;
    }

    private void Fill(string method)
    {
        _head.Clear();
        _head.SetMethod(Encoding.ASCII.GetBytes(method));
        _head.SetAuthority("a"u8);
        _head.SetPath("/p"u8);
        _head.Fields.Add("x-y"u8, "1"u8);
    }

    // Null when the response broke off.
    private string? ReadAll(HttpClientExchange exchange)
    {
        if (!(_reading ?? exchange.ReadHeadAsync().AsTask()).Result)
        {
            return null;
        }

        _reading = null;

        var text = "";
        while (true)
        {
            var chunk = exchange.ResponseBody.ReadAsync().AsTask().Result;
            if (chunk.IsBroken)
            {
                return null;
            }

            text += Encoding.Latin1.GetString(chunk.Data);
            exchange.ResponseBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                return text;
            }
        }
    }

    internal sealed class Recorder : IClientConnectionObserver
    {
        public List<string> All { get; } = [];

        public void OnCapacity(HttpClientConnection connection) => All.Add("capacity");

        public void OnRetired(HttpClientConnection connection) => All.Add("retired");

        public void OnClosed(HttpClientConnection connection, ConnectionCloseReason reason) => All.Add("closed " + reason);
    }
}
