using System.Buffers;
using System.Text;
using MeshProxy.DataPlane.Tests.Transport;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;

namespace MeshProxy.DataPlane.Tests.Upstream;

/// <summary>An endpoint answers and resets the connection, because it closes it on bytes that it has not read; we write before we read. What it has answered it
/// has done: the answer, which lies in the kernel, is not to be thrown away.</summary>
internal sealed class BrokenOutputTests
{
    private const int Length = 60_000;

    [Test]
    public async Task An_answer_in_HTTP2_comes_whole_though_our_output_breaks_before_it_is_read()
    {
        await using var pair = await OpenAsync();
        var client = new Http2ClientConnection(pair.Input, pair.Output, new Http2Options(), new NoObserver());
        var answered = await BeginAsync(client);
        var unanswered = await BeginAsync(client);
        var answer = new List<byte>([.. new Frame(Frame.Settings, 0, 0, []).Write(), .. new Frame(Frame.Headers, 4, 1, [0x88]).Write()]);
        for (var i = 0; i < 4; i++)
        {
            answer.AddRange(new Frame(Frame.Data, i == 3 ? 1 : 0, 1, new byte[Length / 4]).Write());
        }

        await AnswerAndResetAsync(pair, [.. answer]);
        await BreakAsync(answered);
        var running = client.RunAsync();
        Assert.That(await answered.ReadHeadAsync().AsTask().WaitAsync(Pipes.Patience), Is.True);
        Assert.That(await ReadAsync(answered), Is.EqualTo((Length, true)));
        Assert.That(await unanswered.ReadHeadAsync().AsTask().WaitAsync(Pipes.Patience), Is.False);
        Assert.That((unanswered.IsSent, unanswered.End), Is.EqualTo((true, new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer))));
        answered.Complete();
        unanswered.Complete();
        await running.WaitAsync(Pipes.Patience);
        Assert.That(client.CloseReason, Is.EqualTo(ConnectionCloseReason.TransportError));
    }

    [TestCase("Content-Length: 60000\r\n", true)]
    [TestCase("Content-Length: 60001\r\n", false)]
    [TestCase("", false, Description = "A body that ends with the connection ends with a FIN alone")]
    public async Task An_answer_in_HTTP1_comes_whole_or_broken_though_our_output_breaks_before_it_is_read(string framing, bool isWhole)
    {
        await using var pair = await OpenAsync();
        var client = new Http1ClientConnection(pair.Input, pair.Output, new Http1ClientOptions(), new NoObserver());
        var exchange = await BeginAsync(client);
        await AnswerAndResetAsync(pair, [.. Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\n{framing}\r\n"), .. new byte[Length]]);
        await BreakAsync(exchange);
        var running = client.RunAsync();
        Assert.That(await exchange.ReadHeadAsync().AsTask().WaitAsync(Pipes.Patience), Is.True);
        Assert.That(await ReadAsync(exchange), Is.EqualTo((Length, isWhole)));
        Assert.That(exchange.End.Reason, Is.EqualTo(isWhole ? StreamResetReason.None : StreamResetReason.ConnectionReset));
        exchange.Complete();
        await running.WaitAsync(Pipes.Patience);
    }

    private static Task<ConnectedPair> OpenAsync() => ConnectedPair.OpenAsync(new SocketTransport(new SocketTransportOptions { Pool = new BlockPool() }));

    private static async Task<HttpClientExchange> BeginAsync(HttpClientConnection client)
    {
        var exchange = client.TryOpenExchange()!;
        var head = new RequestHead();
        head.SetMethod("POST"u8);
        head.SetScheme("http"u8);
        head.SetAuthority("a"u8);
        head.SetPath("/"u8);
        Assert.That(exchange.WriteHead(head) && await exchange.FlushAsync(), Is.True);
        return exchange;
    }

    private static async Task AnswerAndResetAsync(ConnectedPair pair, byte[] answer)
    {
        Assert.That(SpinWait.SpinUntil(() => pair.Peer.Available > 0, Pipes.Patience));
        await pair.Peer.SendAsync(answer);
        var reset = new TaskCompletionSource();
        using var registration = pair.Connection.ConnectionClosed.Register(reset.SetResult);
        pair.Peer.Close();
        await reset.Task.WaitAsync(Pipes.Patience);
    }

    private static async Task BreakAsync(HttpClientExchange exchange)
    {
        await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[10]), endStream: false);
        await exchange.FlushAsync();
        Assert.That(await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(new byte[10]), endStream: false), Is.False);
    }

    private static async Task<(int Length, bool IsWhole)> ReadAsync(HttpClientExchange exchange)
    {
        var length = 0;
        while (true)
        {
            var chunk = await exchange.ResponseBody.ReadAsync().AsTask().WaitAsync(Pipes.Patience);
            length += (int)chunk.Data.Length;
            exchange.ResponseBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd || chunk.IsBroken)
            {
                return (length, chunk.IsEnd);
            }
        }
    }

    private sealed class NoObserver : IClientConnectionObserver
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
}
