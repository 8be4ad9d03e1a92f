using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Upgrade and CONNECT towards an upstream: what is asked, which answer is believed, and that such a connection is never used again.</summary>
public sealed class ClientTunnelTests
{
    private const string Key = "dGhlIHNhbXBsZSBub25jZQ==";
    private const string Switching = "HTTP/1.1 101 Switching Protocols\r\n";
    private const string Accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    private readonly RequestHead _head = new();
    private InMemoryDuplex _pipes = null!;
    private Peer _upstream = null!;
    private Http1ClientConnection _client = null!;
    private ClientConnectionTests.Recorder _events = null!;
    private HttpClientExchange _exchange = null!;

    [SetUp]
    public void Start()
    {
        EventLoop.Imitate();
        _pipes = new InMemoryDuplex();
        _upstream = new Peer(_pipes.Server);
        _events = new ClientConnectionTests.Recorder();
        _client = new Http1ClientConnection(_pipes.Client.Input, _pipes.Client.Output, new Http1ClientOptions(), _events);
        _ = _client.RunAsync();
        _exchange = _client.TryOpenExchange()!;
        _head.Clear();
    }

    [Test]
    public void AsksSwitchesAndEndsEachDirectionByItself()
    {
        var reading = Ask("websocket", Key);
        Assert.That(_upstream.Take(), Is.EqualTo(
            $"GET /p HTTP/1.1\r\nhost: a\r\nsec-websocket-key: {Key}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"));
        Assert.That(_exchange.WriteBodyAsync(ServerConnectionTests.Bytes("early"), false).AsTask().Result, Is.False, "there is no tunnel yet");
        _upstream.Send(Switching + "Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n" + Accept + "\r\nhello");
        Assert.That(reading.Result);
        Assert.That(_exchange.Response.IsTunnel && !_exchange.Response.IsInformational && !_exchange.Response.EndsStream);
        Assert.That(Read(), Is.EqualTo("hello"));
        Assert.That(Write("abc"));
        Assert.That(_upstream.Take(), Is.EqualTo("abc"));
        _client.OnTick(0);
        _client.OnTick(3_600_000);
        Assert.That(_exchange.End.Reason, Is.EqualTo(StreamResetReason.None), "a silent tunnel is its owner's concern");

        Assert.That(Write("bye", endStream: true));
        Assert.That(_upstream.Take(), Is.EqualTo("bye"));
        Assert.That(_upstream.HasEnded);
        _upstream.Send("still here");
        Assert.That(Read(), Is.EqualTo("still here"));
        _upstream.Close();
        Assert.That(_exchange.ResponseBody.ReadAsync().AsTask().Result.IsEnd);
        _exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "retired", "closed NotReusable" }));
        Assert.That(_client.EndedAbruptly, Is.False);
    }

    [Test]
    public void MakesAKeyWhereTheRequestHasNoneAndVerifiesItsAnswer()
    {
        var reading = Ask("websocket", key: null);
        var sent = _upstream.Take();
        var key = sent.Split("sec-websocket-key: ")[1].Split("\r\n")[0];
        Assert.That(Convert.FromBase64String(key), Has.Length.EqualTo(16));
        Span<byte> accept = stackalloc byte[WebSocketHandshake.AcceptBytes];
        WebSocketHandshake.MakeAccept(Encoding.ASCII.GetBytes(key), accept);
        _upstream.Send($"{Switching}Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {Encoding.ASCII.GetString(accept)}\r\n\r\n");
        Assert.That(reading.Result);
        Assert.That(_exchange.Response.IsTunnel);
    }

    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: websocket\r\n", "wrong_websocket_accept")]
    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n", "wrong_websocket_accept")]
    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: websocket\r\n" + Accept + Accept, "wrong_websocket_accept")]
    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: h2c\r\n" + Accept, "wrong_upgrade")]
    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n" + Accept, "wrong_upgrade")]
    [TestCase("websocket", "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n" + Accept, "wrong_upgrade")]
    [TestCase("websocket", "Upgrade: websocket\r\n" + Accept, "wrong_upgrade")]
    [TestCase("websocket", "Connection: upgrade\r\n" + Accept, "wrong_upgrade")]
    [TestCase("websocket", "", "wrong_upgrade")]
    [TestCase("foo", "Connection: upgrade\r\nUpgrade: foo/2\r\n", "wrong_upgrade")]
    [TestCase("foo", "Connection: upgrade\r\nUpgrade: foo\r\n", null)]
    [TestCase("foo/2", "Connection: upgrade\r\nUpgrade: FOO/2\r\nContent-Length: 5\r\n", null)]
    [TestCase(null, "Connection: upgrade\r\nUpgrade: websocket\r\n", "unasked_upgrade")]
    public void Judges101(string? asked, string fields, string? wrong)
    {
        var reading = Ask(asked, asked == "websocket" ? Key : null);
        _upstream.Send(Switching + fields + "\r\n");
        Assert.That(reading.Result, Is.EqualTo(wrong is null));
        Assert.That(_exchange.End.Detail, Is.EqualTo(wrong));
        Assert.That(_exchange.End.Reason, Is.EqualTo(wrong is null ? StreamResetReason.None : StreamResetReason.ProtocolError));
    }

    [Test]
    public void A101InHttp10IsNone()
    {
        var reading = Ask("foo");
        _upstream.Send("HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n");
        Assert.That(reading.Result, Is.False);
        Assert.That(_exchange.End.Detail, Is.EqualTo("wrong_upgrade"));
    }

    [Test]
    public void AnotherAnswerIsAPlainResponseAndTheConnectionLivesOn()
    {
        var reading = Ask("websocket", Key);
        _upstream.Send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\nno");
        Assert.That(reading.Result);
        Assert.That(_exchange.ReadHeadAsync().AsTask().Result);
        Assert.That(_exchange.Response.Status, Is.EqualTo(426));
        Assert.That(_exchange.Response.IsTunnel, Is.False);
        Assert.That(Read(), Is.EqualTo("no"));
        Assert.That(Write("bytes of no tunnel"), Is.False);
        _exchange.Complete();
        Assert.That(_events.All, Is.EqualTo(new[] { "capacity" }));
    }

    [Test]
    public void ConnectIsSentInAuthorityFormAndA2xxIsATunnel()
    {
        Fill("CONNECT");
        var reading = Send();
        Assert.That(_upstream.Take(), Is.EqualTo("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"));
        _upstream.Send("HTTP/1.1 204 Sure\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\nraw");
        Assert.That(reading.Result);
        Assert.That(_exchange.Response.IsTunnel);
        Assert.That(_exchange.Response.Fields.Count, Is.Zero);
        Assert.That(Read(), Is.EqualTo("raw"));
        Assert.That(Write("abc"));
        Assert.That(_upstream.Take(), Is.EqualTo("abc"));
    }

    [Test]
    public void ARefusedConnectIsAPlainResponse()
    {
        Fill("CONNECT");
        var reading = Send();
        _upstream.Send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        Assert.That(reading.Result);
        Assert.That(_exchange.Response.IsTunnel, Is.False);
        Assert.That(Read(), Is.EqualTo("no"));
    }

    [TestCase("CONNECT", "a", null, null, false)]
    [TestCase("CONNECT", "a:0", null, null, false)]
    [TestCase("CONNECT", "a:443", null, null, true)]
    [TestCase("GET", "a", "foo", null, true)]
    [TestCase("POST", "a", "foo", null, false)]
    [TestCase("GET", "a", "foo bar", null, false)]
    [TestCase("GET", "a", "foo\r\nx: y", null, false)]
    [TestCase("GET", "a", "websocket", "not a key", false)]
    public void RefusesToAskForWhatIsNone(string method, string authority, string? protocol, string? key, bool endsStream)
    {
        _head.SetMethod(Encoding.ASCII.GetBytes(method));
        _head.SetAuthority(Encoding.ASCII.GetBytes(authority));
        _head.SetPath(method == "CONNECT" ? default : "/p"u8);
        _head.SetProtocol(Encoding.ASCII.GetBytes(protocol ?? ""));
        _head.EndsStream = endsStream;
        if (key is not null)
        {
            _head.Fields.Add(KnownField.SecWebSocketKey, Encoding.ASCII.GetBytes(key));
        }

        Assert.That(_exchange.WriteHead(_head), Is.False);
        Assert.That(_exchange.End.Detail, Is.EqualTo("invalid_request_head"));
        Assert.That(_upstream.Take(), Is.Empty);
    }

    [TestCase(true)]
    [TestCase(false)]
    public void ABrokenTunnelMustNotEndInOrder(bool byReset)
    {
        var reading = Ask("foo");
        _upstream.Send(Switching + "Connection: upgrade\r\nUpgrade: foo\r\n\r\n");
        Assert.That(reading.Result);
        if (byReset)
        {
            _exchange.Reset(new StreamEnd(StreamResetReason.Cancelled));
        }
        else
        {
            _upstream.Close();
            Assert.That(_exchange.ResponseBody.ReadAsync().AsTask().Result.IsEnd);
        }

        _exchange.Complete();
        Assert.That(_client.EndedAbruptly);
        Assert.That(_events.All[^1], Is.EqualTo("closed NotReusable"));
    }

    private Task<bool> Ask(string? protocol, string? key = null)
    {
        Fill("GET");
        _head.SetProtocol(Encoding.ASCII.GetBytes(protocol ?? ""));
        _head.EndsStream = protocol is null;
        if (key is not null)
        {
            _head.Fields.Add(KnownField.SecWebSocketKey, Encoding.ASCII.GetBytes(key));
        }

        return Send();
    }

    private void Fill(string method)
    {
        _head.SetMethod(Encoding.ASCII.GetBytes(method));
        _head.SetAuthority(method == "CONNECT" ? "a:443"u8 : "a"u8);
        _head.SetPath(method == "CONNECT" ? default : "/p"u8);
    }

    private Task<bool> Send()
    {
        Assert.That(_exchange.WriteHead(_head));
        var reading = _exchange.ReadHeadAsync().AsTask();
        Assert.That(_exchange.FlushAsync().AsTask().Result);
        return reading;
    }

    private bool Write(string text, bool endStream = false) =>
        _exchange.WriteBodyAsync(ServerConnectionTests.Bytes(text), endStream).AsTask().Result && _exchange.FlushAsync().AsTask().Result;

    private string Read()
    {
        var chunk = _exchange.ResponseBody.ReadAsync().AsTask().Result;
        Assert.That(chunk.IsBroken, Is.False);
        var text = Encoding.Latin1.GetString(chunk.Data);
        _exchange.ResponseBody.Advance(chunk.Data.Length);
        return text;
    }
}
