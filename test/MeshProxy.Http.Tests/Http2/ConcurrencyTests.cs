using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.Http.Http2;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>Both sides over pipes that hop threads: many writers on one connection, with exchanges given up at every moment.</summary>
public sealed class ConcurrencyTests
{
    [TestCase(1)]
    [TestCase(2)]
    public async Task Many_exchanges_at_once(int seed)
    {
        var options = new PipeOptions(pauseWriterThreshold: 64 * 1024, resumeWriterThreshold: 32 * 1024, useSynchronizationContext: false);
        var up = new Pipe(options);
        var down = new Pipe(options);
        var errors = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var http = new Http2Options { OnError = (_, _, detail) => errors.Enqueue(detail), Limits = new Http2Limits { MaxPeerResets = 1_000_000 } };
        var server = new Http2ServerConnection(up.Reader, down.Writer, http);
        var client = new Http2ClientConnection(down.Reader, up.Writer, http, new NoObserver());
        var serving = server.RunAsync(new Echo());
        var running = client.RunAsync();
        var whole = 0;
        await Task.WhenAll(Enumerable.Range(0, 16).Select(worker => Task.Run(() => Work(new Random((seed * 1000) + worker))))).WaitAsync(TimeSpan.FromSeconds(40));
        Assert.That(errors, Is.Empty);
        Assert.That(whole, Is.GreaterThan(500));
        Assert.That(client.ActiveExchanges, Is.Zero);
        client.Retire(ConnectionCloseReason.Drain);
        await running.WaitAsync(TimeSpan.FromSeconds(30));
        await up.Writer.CompleteAsync();
        await serving.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.That(server.ActiveExchanges, Is.Zero);

        async Task Work(Random random)
        {
            for (var i = 0; i < 100; i++)
            {
                var exchange = client.TryOpenExchange()!;
                var body = new byte[random.Next(3) == 0 ? random.Next(300_000) : random.Next(2000)];
                random.NextBytes(body);
                var head = new RequestHead();
                head.SetMethod("POST"u8);
                head.SetScheme("http"u8);
                head.SetAuthority("a"u8);
                head.SetPath("/"u8);
                Assert.That(exchange.WriteHead(head), Is.True);
                var giveUpAt = random.Next(4) == 0 ? random.Next(body.Length + 1) : int.MaxValue;
                var writing = Write(exchange, body, giveUpAt, random.Next(1000, 40_000));
                var ok = await Read(exchange, body, giveUpAt);
                await writing;
                if (giveUpAt == int.MaxValue)
                {
                    Assert.That(ok, Is.True);
                    Interlocked.Increment(ref whole);
                }

                exchange.Complete();
            }
        }
    }

    private static async Task Write(HttpClientExchange exchange, byte[] body, int giveUpAt, int step)
    {
        for (var at = 0; ; at += step)
        {
            if (at > giveUpAt)
            {
                exchange.Reset(new StreamEnd(StreamResetReason.Cancelled));
                return;
            }

            var count = Math.Min(step, body.Length - at);
            var isLast = at + count >= body.Length;
            if (!await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(body, at, count), isLast) || !await exchange.FlushAsync() || isLast)
            {
                return;
            }
        }
    }

    private static async Task<bool> Read(HttpClientExchange exchange, byte[] body, int giveUpAt)
    {
        if (!await exchange.ReadHeadAsync())
        {
            return false;
        }

        var at = 0;
        while (true)
        {
            var chunk = await exchange.ResponseBody.ReadAsync();
            if (chunk.IsBroken)
            {
                return false;
            }

            foreach (var memory in chunk.Data)
            {
                if (!memory.Span.SequenceEqual(body.AsSpan(at, memory.Length)))
                {
                    throw new InvalidOperationException("bytes of another exchange");
                }

                at += memory.Length;
            }

            exchange.ResponseBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                return at == body.Length;
            }

            if (at > giveUpAt)
            {
                exchange.Reset(new StreamEnd(StreamResetReason.Cancelled));
                return false;
            }
        }
    }

    private sealed class Echo : IHttpExchangeHandler
    {
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.FlushAsync();
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
