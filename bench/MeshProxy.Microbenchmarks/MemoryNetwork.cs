using System.Buffers;
using System.Net;
using System.Threading.Channels;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.Microbenchmarks;

/// <summary>Connections in memory for a whole proxy. Whoever dials <see cref="Http1Port"/> or <see cref="Http2Port"/> finds a server that answers every request with the same bytes.
/// Everything runs inline on the thread that writes.</summary>
internal sealed class MemoryNetwork : IConnectionListenerFactory, IConnectionFactory
{
    internal const int Http1Port = 1;
    internal const int Http2Port = 2;

    private readonly Channel<ConnectionContext> _accepted = Channel.CreateUnbounded<ConnectionContext>();

    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) => new(new Listener(endpoint, _accepted.Reader));

    public ValueTask<ConnectionContext> ConnectAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        var duplex = new InMemoryDuplex();
        HttpServerConnection server = ((IPEndPoint)endpoint).Port == Http2Port
            ? new Http2ServerConnection(duplex.Server.Input, duplex.Server.Output, new Http2Options())
            : new Http1ServerConnection(duplex.Server.Input, duplex.Server.Output, new Http1ServerOptions { Date = new DateField(TimeProvider.System) });
        _ = server.RunAsync(new Answers());
        return new ValueTask<ConnectionContext>(new DefaultConnectionContext("upstream", duplex.Client, duplex.Client));
    }

    /// <summary>A client's connection to the proxy, once it has carried a first exchange.</summary>
    internal HttpClientConnection Dial(HttpProtocolVersion version)
    {
        var duplex = new InMemoryDuplex();
        _accepted.Writer.TryWrite(new DefaultConnectionContext("downstream", duplex.Server, duplex.Server)
        {
            LocalEndPoint = new IPEndPoint(IPAddress.Loopback, 80),
            RemoteEndPoint = new IPEndPoint(IPAddress.Loopback, 50_000),
        });
        HttpClientConnection client = version == HttpProtocolVersion.Http2
            ? new Http2ClientConnection(duplex.Client.Input, duplex.Client.Output, new Http2Options(), new NoObserver())
            : new Http1ClientConnection(duplex.Client.Input, duplex.Client.Output, new Http1ClientOptions(), new NoObserver());
        _ = client.RunAsync();
        return client;
    }

    private sealed class Listener(EndPoint endPoint, ChannelReader<ConnectionContext> accepted) : IConnectionListener
    {
        public EndPoint EndPoint => endPoint;

        public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default) => await accepted.ReadAsync(cancellationToken);

        public ValueTask UnbindAsync(CancellationToken cancellationToken = default) => default;

        public ValueTask DisposeAsync() => default;
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

    /// <summary>Reads the request, answers 44 bytes of JSON. In memory a request is whole when its handler is called, or when the next write of its client has returned.</summary>
    private sealed class Answers : IHttpExchangeHandler
    {
        private static readonly ReadOnlySequence<byte> s_body = new(new byte[44]);

        [System.Runtime.CompilerServices.AsyncMethodBuilder(typeof(System.Runtime.CompilerServices.PoolingAsyncValueTaskMethodBuilder))]
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            while (!exchange.Request.EndsStream)
            {
                var chunk = await exchange.RequestBody.ReadAsync();
                exchange.RequestBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd || chunk.IsBroken)
                {
                    break;
                }
            }

            var head = exchange.Response;
            head.Clear();
            head.Status = 200;
            head.ContentLength = s_body.Length;
            head.Fields.Add(KnownField.ContentType, "application/json"u8);
            head.Fields.Add(KnownField.ContentLength, "44"u8);
            exchange.WriteHead(head);
            await exchange.WriteBodyAsync(s_body, endStream: true);
            await exchange.FlushAsync();
        }
    }
}
