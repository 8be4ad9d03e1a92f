using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using MeshProxy.Http.Http2;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>The other end of a connection, by hand: sends bytes, takes frames apart.</summary>
internal sealed class RawPeer(IDuplexPipe pipe)
{
    /// <summary>GET http://www.example.com/ with static entries and a literal authority, not indexed.</summary>
    public static readonly byte[] Get = Hex("828684010f7777772e6578616d706c652e636f6d");

    /// <summary>The same with POST.</summary>
    public static readonly byte[] Post = Hex("838684010f7777772e6578616d706c652e636f6d");

    public static readonly byte[] Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray();

    public bool IsClosed { get; private set; }

    public static byte[] Hex(string text) => Convert.FromHexString(text.Replace(" ", "", StringComparison.Ordinal));

    public static byte[] Frame(int type, int flags, int id, params byte[] payload) => new Frame(type, flags, id, payload).Write();

    public static byte[] UInt32(long value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)value);
        return bytes;
    }

    public static byte[] Setting(int id, long value) => [(byte)(id >> 8), (byte)id, .. UInt32(value)];

    /// <summary>A literal field line, not indexed, not Huffman-coded.</summary>
    public static byte[] Line(string name, string value) =>
        [0, (byte)name.Length, .. System.Text.Encoding.Latin1.GetBytes(name), (byte)value.Length, .. System.Text.Encoding.Latin1.GetBytes(value)];

    public void Send(params byte[] bytes)
    {
        pipe.Output.Write(bytes);
        _ = pipe.Output.FlushAsync().AsTask();
    }

    public void Send(int type, int flags, int id, params byte[] payload) => Send(Frame(type, flags, id, payload));

    public void Finish(Exception? error = null) => pipe.Output.Complete(error);

    /// <summary>The other side's output breaks; what was sent to it before, and what is sent from here on, can still be read.</summary>
    public void StopReading() => pipe.Input.Complete();

    /// <summary>All whole frames that are there. A preface in front is skipped.</summary>
    public List<Frame> Receive()
    {
        var frames = new List<Frame>();
        while (pipe.Input.TryRead(out var result))
        {
            var bytes = result.Buffer.ToArray();
            var at = bytes.AsSpan().StartsWith(Preface) ? Preface.Length : 0;
            var whole = MeshProxy.Testing.Frame.Split(bytes.AsSpan(at));
            frames.AddRange(whole);
            at += whole.Sum(frame => MeshProxy.Testing.Frame.HeaderSize + frame.Payload.Length);
            pipe.Input.AdvanceTo(result.Buffer.GetPosition(at), result.Buffer.End);
            if (result.IsCompleted)
            {
                IsClosed = true;
                break;
            }
        }

        return frames;
    }
}

/// <summary>A server connection with a raw client in front of it.</summary>
internal sealed class ServerUnderTest : IRejectionObserver
{
    public ServerUnderTest(Func<HttpServerExchange, ValueTask>? handler = null, Http2Options? options = null, bool greet = true, int pause = 1 << 22, bool drainsAtOnce = false)
    {
        // The test framework's context would post continuations elsewhere: here as in production they run inline.
        SynchronizationContext.SetSynchronizationContext(null);
        var duplex = new InMemoryDuplex(pause);
        Errors = [];
        Connection = new Http2ServerConnection(
            duplex.Server.Input, duplex.Server.Output, (options ?? new Http2Options()) with { OnError = (_, code, detail) => Errors.Add((code, detail)), OnAbuse = Abuse.Add })
        {
            RejectionObserver = this,
        };
        Peer = new RawPeer(duplex.Client);
        if (drainsAtOnce)
        {
            Connection.Drain(ConnectionCloseReason.Drain);
        }

        Run = Connection.RunAsync(new DelegateHandler(handler ?? Answer));
        if (greet)
        {
            Peer.Send(RawPeer.Preface);
            Peer.Send(Settings, 0, 0);
            Peer.Send(Settings, 1, 0);
            Peer.Receive();
        }
    }

    public Http2ServerConnection Connection { get; }

    public RawPeer Peer { get; }

    public Task Run { get; }

    public List<(Http2ErrorCode Code, string Detail)> Errors { get; }

    /// <summary>What its guards acted on.</summary>
    public List<string> Abuse { get; } = [];

    /// <summary>What the connection refused by itself: the status it answered (0: reset), and why.</summary>
    public List<(int Status, string Detail)> Rejected { get; } = [];

    /// <summary>The body of its answers to them.</summary>
    public byte[] RejectionBody { get; init; } = [];

    public static async ValueTask Answer(HttpServerExchange exchange)
    {
        exchange.Response.Status = 200;
        exchange.Response.EndsStream = true;
        exchange.WriteHead(exchange.Response);
        await exchange.FlushAsync();
    }

    /// <summary>Reads the whole body, then answers with its length.</summary>
    public static async ValueTask Count(HttpServerExchange exchange)
    {
        long length = 0;
        while (true)
        {
            var chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken)
            {
                return;
            }

            length += chunk.Data.Length;
            exchange.RequestBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                break;
            }
        }

        exchange.Response.Status = 200;
        exchange.WriteHead(exchange.Response);
        await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(System.Text.Encoding.ASCII.GetBytes($"{length}")), true);
        await exchange.FlushAsync();
    }

    public void Request(int id, bool post = false) =>
        Peer.Send(Headers, post ? EndHeaders : EndHeaders | EndStream, id, post ? RawPeer.Post : RawPeer.Get);

    ReadOnlyMemory<byte> IRejectionObserver.OnRejected(HttpServerConnection connection, RequestHead? request, ResponseHead? response, string detail)
    {
        Assert.That(connection, Is.SameAs(Connection));
        response?.Fields.Add("x-why"u8, System.Text.Encoding.ASCII.GetBytes(detail));
        Rejected.Add((response?.Status ?? 0, detail));
        return RejectionBody;
    }

    private sealed class DelegateHandler(Func<HttpServerExchange, ValueTask> handler) : IHttpExchangeHandler
    {
        public ValueTask HandleAsync(HttpServerExchange exchange) => handler(exchange);
    }
}

/// <summary>A client connection with a raw server behind it.</summary>
internal sealed class ClientUnderTest : IClientConnectionObserver
{
    public ClientUnderTest(Http2Options? options = null, bool greet = true, params byte[] settings)
    {
        // The test framework's context would post continuations elsewhere: here as in production they run inline.
        SynchronizationContext.SetSynchronizationContext(null);
        var duplex = new InMemoryDuplex(1 << 22);
        Connection = new Http2ClientConnection(duplex.Client.Input, duplex.Client.Output, options ?? new Http2Options(), this);
        Peer = new RawPeer(duplex.Server);
        Run = Connection.RunAsync();
        if (greet)
        {
            Peer.Send(Settings, 0, 0, settings);
            Peer.Send(Settings, 1, 0);
            Peer.Receive();
            Capacity = 0;
        }
    }

    public Http2ClientConnection Connection { get; }

    public RawPeer Peer { get; }

    public Task Run { get; }

    public int Capacity { get; private set; }

    public int Retired { get; private set; }

    public ConnectionCloseReason? Closed { get; private set; }

    public HttpClientExchange Open(bool endStream = true, string method = "GET", bool flush = true)
    {
        var exchange = Connection.TryOpenExchange()!;
        var head = new RequestHead { EndsStream = endStream };
        head.SetMethod(System.Text.Encoding.ASCII.GetBytes(method));
        head.SetScheme("http"u8);
        head.SetAuthority("a"u8);
        head.SetPath("/"u8);
        Assert.That(exchange.WriteHead(head), Is.True);
        Assert.That(!flush || exchange.FlushAsync().AsTask().IsCompletedSuccessfully, Is.True);
        return exchange;
    }

    void IClientConnectionObserver.OnCapacity(HttpClientConnection connection) => Capacity++;

    void IClientConnectionObserver.OnRetired(HttpClientConnection connection) => Retired++;

    void IClientConnectionObserver.OnClosed(HttpClientConnection connection, ConnectionCloseReason reason)
    {
        Assert.That(Retired, Is.EqualTo(1));
        Assert.That(Closed, Is.Null);
        Closed = reason;
    }
}
