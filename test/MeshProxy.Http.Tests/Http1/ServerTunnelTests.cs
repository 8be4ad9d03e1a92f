using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Upgrade and CONNECT on a server connection: what accepts a tunnel, what does not, and how each direction ends.</summary>
public sealed class ServerTunnelTests
{
    private const string Upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    private const string Accepted =
        "HTTP/1.1 101 Switching Protocols\r\nx: y\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

    private const string Connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    private const string Date = "date: Fri, 02 Jan 2026 03:04:05 GMT\r\n";
    private const string Ok = "HTTP/1.1 200 OK\r\n" + Date + "content-length: 2\r\n\r\nok";

    private InMemoryDuplex _pipes = null!;
    private Peer _client = null!;
    private Http1ServerConnection _server = null!;
    private Task _run = null!;

    [Test]
    public void AnAcceptedUpgradeIsATunnelBothWaysUntilBothHalvesEnd()
    {
        Start(EchoTunnel);
        _client.Send(Upgrade);
        Assert.That(_client.Take(), Is.EqualTo(Accepted));
        _client.Send("GET / HTTP/1.1\r\n\r\n");
        Assert.That(_client.Take(), Is.EqualTo("GET / HTTP/1.1\r\n\r\n"));
        _server.OnTick(0);
        _server.OnTick(3_600_000);
        Assert.That(_run.IsCompleted, Is.False, "a silent tunnel is its handler's concern");
        _client.Send("\r\n\0");
        _client.Close();
        Assert.That(_client.Take(), Is.EqualTo("\r\n\0"));
        Assert.That(_client.HasEnded);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly, Is.False);
        Assert.That(_server.CloseReason, Is.EqualTo(ConnectionCloseReason.NotReusable));
    }

    [TestCase(Upgrade)]
    [TestCase(Connect)]
    public void WhatFollowsTheHeadBelongsToTheTunnel(string head)
    {
        Start(EchoTunnel);
        _client.Send(head + Get + "more");
        Assert.That(_client.Take(), Does.EndWith("\r\n\r\n" + Get + "more"));
        Assert.That(_server.TotalExchanges, Is.EqualTo(1));
    }

    [Test]
    public void ByteByByteGivesTheSame()
    {
        Start(EchoTunnel);
        _client.SendByteByByte(Upgrade + Get);
        Assert.That(_client.Take(), Is.EqualTo(Accepted + Get));
    }

    [Test]
    public void NothingIsReadBeforeTheAnswer()
    {
        var gate = new TaskCompletionSource();
        var early = true;
        Task<BodyChunk>? reading = null;
        Start(async exchange =>
        {
            Assert.That(exchange.Request.EndsStream, Is.False);
            early = exchange.RequestBody.TryRead(out _);
            reading = exchange.RequestBody.ReadAsync().AsTask();
            await gate.Task;
            Accept(exchange);
            await exchange.FlushAsync();
            var chunk = await reading;
            Assert.That(Encoding.ASCII.GetString(chunk.Data), Is.EqualTo("abc"));
            exchange.RequestBody.Advance(3);
        });
        _client.Send(Upgrade + "abc");
        Assert.That(early, Is.False);
        Assert.That(reading!.IsCompleted, Is.False);
        gate.SetResult();
        Assert.That(reading.IsCompletedSuccessfully);
        Assert.That(_client.Take(), Is.EqualTo(Accepted));
    }

    [Test]
    public void AnotherAnswerLeavesTheConnectionToTheNextRequest()
    {
        BodyChunk read = default;
        Start(async exchange =>
        {
            var reading = exchange.Request.Protocol.IsEmpty ? default : exchange.RequestBody.ReadAsync();
            await ServerConnectionTests.Answer(exchange, "ok");
            read = await reading;
        });
        _client.Send(Upgrade + Get);
        Assert.That(_client.Take(), Is.EqualTo(Ok + Ok));
        Assert.That(_server.TotalExchanges, Is.EqualTo(2));
        Assert.That(_run.IsCompleted, Is.False);
        _client.Send(Upgrade);
        Assert.That(read.IsEnd && read.Data.IsEmpty && !read.IsBroken, "the upgrade request has no body");
        Assert.That(_client.Take(), Is.EqualTo(Ok));
    }

    [Test]
    public void ARefusedConnectClosesSoThatNoByteOfTheTunnelIsReadAsARequest()
    {
        Start(async exchange =>
        {
            exchange.Response.Status = 405;
            exchange.Response.EndsStream = true;
            exchange.WriteHead(exchange.Response);
            await exchange.FlushAsync();
        });
        _client.Send(Connect + Get);
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 405 Method Not Allowed\r\n" + Date + "content-length: 0\r\nconnection: close\r\n\r\n"));
        Assert.That(_client.HasEnded);
        _client.Close();
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.TotalExchanges, Is.EqualTo(1));
    }

    [Test]
    public void ConnectIsAnsweredWithoutLengthAndCoding()
    {
        Start(async exchange =>
        {
            Assert.That(exchange.Request.Path.IsEmpty);
            Assert.That(Encoding.ASCII.GetString(exchange.Request.Authority), Is.EqualTo("a:443"));
            exchange.Response.Status = 200;
            exchange.Response.IsTunnel = true;
            exchange.Response.Fields.Add(KnownField.ContentLength, "5"u8);
            exchange.Response.Fields.Add(KnownField.TransferEncoding, "chunked"u8);
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(ServerConnectionTests.Bytes("hello"), endStream: true);
        });
        _client.Send(Connect);
        Assert.That(_client.Take(), Is.EqualTo("HTTP/1.1 200 OK\r\n" + Date + "\r\nhello"));
        Assert.That(_client.HasEnded);
    }

    [TestCase(Get, 101, true)]
    [TestCase(Get, 200, true)]
    [TestCase(Connect, 101, true)]
    [TestCase(Connect, 404, true)]
    [TestCase(Connect, 200, false)]
    [TestCase(Upgrade, 101, false)]
    public void WhatWouldBeATunnelOnOneSideOnlyIsRefused(string request, int status, bool isTunnel)
    {
        var written = true;
        Start(exchange =>
        {
            exchange.Response.Status = status;
            exchange.Response.IsTunnel = isTunnel;
            written = exchange.WriteHead(exchange.Response);
            return default;
        });
        _client.Send(request);
        Assert.That(written, Is.False);
        Assert.That(_client.Take(), Is.Empty);
        Assert.That(_server.EndedAbruptly);
    }

    [Test]
    public void TheUpstreamsOwnAcceptIsPassedOn()
    {
        Start(exchange =>
        {
            exchange.Response.Status = 101;
            exchange.Response.IsTunnel = true;
            exchange.Response.Fields.Add(KnownField.SecWebSocketAccept, "its own"u8);
            exchange.Response.EndsStream = true;
            exchange.WriteHead(exchange.Response);
            return default;
        });
        _client.Send(Upgrade);
        Assert.That(_client.Take(), Does.Contain("\r\nsec-websocket-accept: its own\r\n").And.Not.Contain("s3pPLMBiTxaQ9kYGzzhZRbK"));
        Assert.That(_client.HasEnded, "a tunnel that the other side ended with its head");
    }

    [Test]
    public void HalfACloseLeavesTheOtherDirectionOpen()
    {
        var gate = new TaskCompletionSource();
        Start(async exchange =>
        {
            Accept(exchange);
            var chunk = await exchange.RequestBody.ReadAsync();
            Assert.That(chunk.IsEnd && chunk.Data.IsEmpty);
            await gate.Task;
            await exchange.WriteBodyAsync(ServerConnectionTests.Bytes("late"), false);
            await exchange.WriteBodyAsync(default, true);
        });
        _client.Send(Upgrade);
        _client.Close();
        Assert.That(_run.IsCompleted, Is.False);
        Assert.That(_client.Take(), Is.Empty);
        Assert.That(_client.HasEnded, Is.False);
        gate.SetResult();
        Assert.That(_client.Take(), Is.EqualTo(Accepted + "late"));
        Assert.That(_client.HasEnded);
        Assert.That(_server.EndedAbruptly, Is.False);
    }

    [Test]
    public void AResetWhileTheAnswerIsAwaitedIsSeen()
    {
        StreamEnd end = default;
        Start(async exchange => end = (await exchange.RequestBody.ReadAsync()).End);
        _client.Send(Upgrade);
        _client.Break();
        Assert.That(end.Reason, Is.EqualTo(StreamResetReason.ConnectionReset));
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void AResetOfTheTunnelIsABreakAndSoIsOurs()
    {
        StreamEnd end = default;
        Start(async exchange =>
        {
            Accept(exchange);
            end = (await exchange.RequestBody.ReadAsync()).End;
        });
        _client.Send(Upgrade);
        _client.Break();
        Assert.That(end.Reason, Is.EqualTo(StreamResetReason.ConnectionReset));
        Assert.That(_server.EndedAbruptly);

        Start(async exchange =>
        {
            Accept(exchange);
            await exchange.WriteBodyAsync(ServerConnectionTests.Bytes("x"), endStream: true);
            exchange.Reset(new StreamEnd(StreamResetReason.Cancelled));
        });
        _client.Send(Upgrade);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly, "one direction had ended in order, the tunnel had not");
    }

    [Test]
    public void AResetByTheHandlerWakesAReaderThatWaitsForTheAnswer()
    {
        StreamEnd end = default;
        Start(async exchange =>
        {
            var reading = exchange.RequestBody.ReadAsync();
            exchange.Reset(new StreamEnd(StreamResetReason.Cancelled, Detail: "given_up"));
            end = (await reading).End;
        });
        _client.Send(Upgrade);
        Assert.That(end.Detail, Is.EqualTo("given_up"));
        Assert.That(_run.IsCompletedSuccessfully);
    }

    [Test]
    public void ASlowReaderMakesTheTunnelWaitAndAStalledOneEndsIt()
    {
        var written = 0;
        Start(async exchange =>
        {
            Accept(exchange);
            while (await exchange.WriteBodyAsync(new(new byte[16 * 1024]), false))
            {
                written++;
            }
        });
        _client.Send(Upgrade);
        Assert.That(written, Is.InRange(1, 20));
        _server.OnTick(0);
        _server.OnTick(300_000);
        Assert.That(_run.IsCompletedSuccessfully);
        Assert.That(_server.EndedAbruptly);
    }

    private static void Accept(HttpServerExchange exchange)
    {
        exchange.Response.Status = 200;
        exchange.Response.IsTunnel = true;
        exchange.Response.Fields.Add("x"u8, "y"u8);
        Assert.That(exchange.WriteHead(exchange.Response));
    }

    private static async ValueTask EchoTunnel(HttpServerExchange exchange)
    {
        Accept(exchange);
        await exchange.FlushAsync();
        while (true)
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken)
            {
                return;
            }

            await exchange.WriteBodyAsync(chunk.Data, chunk.IsEnd);
            exchange.RequestBody.Advance(chunk.Data.Length);
            await exchange.FlushAsync();
            if (chunk.IsEnd)
            {
                return;
            }
        }
    }

    private void Start(Func<HttpServerExchange, ValueTask> handle)
    {
        EventLoop.Imitate();
        _pipes = new InMemoryDuplex();
        _client = new Peer(_pipes.Client);
        _server = new Http1ServerConnection(_pipes.Server.Input, _pipes.Server.Output, new Http1ServerOptions { Date = new DateField(new FixedTime()) });
        _run = _server.RunAsync(new Handler(handle));
    }
}
