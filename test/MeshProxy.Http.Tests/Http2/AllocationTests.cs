using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>The gate on allocations: an exchange costs none once pools are warm, on either side.</summary>
#pragma warning disable CA2012 // in memory everything has completed when it is asked
public sealed class AllocationTests
{
    [Test]
    public void An_exchange_allocates_nothing()
    {
        SynchronizationContext.SetSynchronizationContext(null);
        var duplex = new InMemoryDuplex();
        var server = new Http2ServerConnection(duplex.Server.Input, duplex.Server.Output, new Http2Options());
        var client = new Http2ClientConnection(duplex.Client.Input, duplex.Client.Output, new Http2Options(), new NoObserver());
        _ = server.RunAsync(new Handler());
        _ = client.RunAsync();
        var head = new RequestHead();
        head.SetMethod("POST"u8);
        head.SetScheme("http"u8);
        head.SetAuthority("payments.default"u8);
        head.SetPath("/v1/payments/4711"u8);
        head.Fields.Add(KnownField.ContentType, "application/json"u8);
        head.Fields.Add(KnownField.TraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"u8);
        head.Fields.Add("x-own"u8, "value"u8);
        var body = new ReadOnlySequence<byte>(new byte[500]);
        for (var i = 0; i < 5000; i++)
        {
            Exchange(client, head, body);
        }

        // The pipes of the test take their memory from a pool that the collector trims at any time: the least window is what the exchanges need.
        var least = long.MaxValue;
        for (var window = 0; window < 10; window++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 1000; i++)
            {
                Exchange(client, head, body);
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.That(least, Is.Zero);
        Assert.That(server.TotalExchanges, Is.EqualTo(15_000));
    }

    private static void Exchange(Http2ClientConnection client, RequestHead head, ReadOnlySequence<byte> body)
    {
        var exchange = client.TryOpenExchange()!;
        exchange.WriteHead(head);
        var written = exchange.WriteBodyAsync(body, true).GetAwaiter().GetResult();
        written &= exchange.FlushAsync().GetAwaiter().GetResult();

        // In memory the flush has run the server and read its answer.
        written &= exchange.ReadHeadAsync().GetAwaiter().GetResult();
        if (!written || !exchange.ResponseBody.TryRead(out var chunk) || !chunk.IsEnd || chunk.Data.Length != 500)
        {
            throw new InvalidOperationException("no answer");
        }

        exchange.ResponseBody.Advance(chunk.Data.Length);
        exchange.Complete();
    }

    private sealed class Handler : IHttpExchangeHandler
    {
        [System.Runtime.CompilerServices.AsyncMethodBuilder(typeof(System.Runtime.CompilerServices.PoolingAsyncValueTaskMethodBuilder))]
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            exchange.Response.Status = 200;
            exchange.Response.Fields.Add(KnownField.ContentType, "application/json"u8);
            exchange.WriteHead(exchange.Response);
            while (true)
            {
                var chunk = await exchange.RequestBody.ReadAsync();
                if (!await exchange.WriteBodyAsync(chunk.Data, chunk.IsEnd))
                {
                    return;
                }

                exchange.RequestBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    await exchange.FlushAsync();
                    return;
                }
            }
        }
    }
}
