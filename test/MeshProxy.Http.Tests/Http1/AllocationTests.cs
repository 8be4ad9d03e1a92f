using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>In steady state an exchange allocates nothing, on either side of a connection.</summary>
[NonParallelizable]
public sealed class AllocationTests
{
    private const int Exchanges = 2_000;
    private const int Window = 200;

    [Test]
    public void AnExchangeThroughServerAndClientAllocatesNothing()
    {
        EventLoop.Imitate();
        var downstream = new InMemoryDuplex();
        var upstream = new InMemoryDuplex();
        var client = new Http1ClientConnection(upstream.Client.Input, upstream.Client.Output, new Http1ClientOptions(), new Silent());
        var clientRun = client.RunAsync();
        var server = new Http1ServerConnection(downstream.Server.Input, downstream.Server.Output,
            new Http1ServerOptions { Date = new DateField(new FixedTime()) });
        var forwarder = new Relay(client);
        var serverRun = server.RunAsync(forwarder);
        var request = "POST /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nx-custom: 1\r\nContent-Length: 11\r\n\r\nhello world"u8.ToArray();
        var response = "HTTP/1.1 200 OK\r\nServer: x\r\nx-other: 1\r\nContent-Length: 5\r\n\r\nhello"u8.ToArray();
        long first = 0;
        var allocated = long.MaxValue;
        for (var i = 0; i < Exchanges * 2; i++)
        {
            // The pipes of the test take their memory from a pool that the collector trims at any time: the least window is what the exchanges need.
            if (i >= Exchanges && i % Window == 0)
            {
                var now = GC.GetAllocatedBytesForCurrentThread();
                allocated = i == Exchanges ? allocated : Math.Min(allocated, now - first);
                first = now;
            }

            Write(downstream.Client.Output, request);
            Drop(upstream.Server.Input);
            Write(upstream.Server.Output, response);
            Drop(downstream.Client.Input);
        }

        Assert.That(server.TotalExchanges, Is.EqualTo(Exchanges * 2));
        Assert.That(forwarder.Completed, Is.EqualTo(Exchanges * 2));
        Assert.That(serverRun.IsCompleted, Is.False);
        Assert.That(clientRun.IsCompleted, Is.False);
        Assert.That(allocated, Is.Zero);
    }

    private static void Write(PipeWriter writer, byte[] bytes)
    {
        writer.Write(bytes);
#pragma warning disable CA2012 // it has completed
        if (!writer.FlushAsync().IsCompletedSuccessfully)
#pragma warning restore CA2012
        {
            throw new InvalidOperationException("nobody reads");
        }
    }

    private static void Drop(PipeReader reader)
    {
        if (!reader.TryRead(out var result) || result.Buffer.IsEmpty)
        {
            throw new InvalidOperationException("nothing came");
        }

        reader.AdvanceTo(result.Buffer.End);
    }

    // What a forwarder does, on a pooled state machine.
    private sealed class Relay(Http1ClientConnection client) : IHttpExchangeHandler
    {
        public int Completed { get; private set; }

        [System.Runtime.CompilerServices.AsyncMethodBuilder(typeof(System.Runtime.CompilerServices.PoolingAsyncValueTaskMethodBuilder))]
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            var attempt = client.TryOpenExchange()!;
            HopByHopFields.Remove(exchange.Request.Fields);
            attempt.WriteHead(exchange.Request);
            await Pump(exchange.RequestBody, attempt);
            await attempt.FlushAsync();
            await attempt.ReadHeadAsync();
            exchange.WriteHead(attempt.Response);
            await Pump(attempt.ResponseBody, exchange);
            await exchange.FlushAsync();
            attempt.Complete();
            Completed++;
        }

        [System.Runtime.CompilerServices.AsyncMethodBuilder(typeof(System.Runtime.CompilerServices.PoolingAsyncValueTaskMethodBuilder))]
        private static async ValueTask Pump(HttpBodyReader from, IHttpBodyWriter to)
        {
            while (true)
            {
                var chunk = await from.ReadAsync();
                var length = chunk.Data.Length;
                await to.WriteBodyAsync(chunk.Data, chunk.IsEnd);
                from.Advance(length);
                if (chunk.IsEnd)
                {
                    return;
                }
            }
        }
    }

    private sealed class Silent : IClientConnectionObserver
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
