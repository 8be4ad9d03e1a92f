using System.Buffers;
using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Listening;

/// <summary>A request to one of the proxy's own pages.</summary>
/// <param name="Method">The method's token.</param>
/// <param name="Path">The path, without query.</param>
/// <param name="Query">The query without its question mark, not decoded; empty: none.</param>
public sealed record LocalRequest(string Method, string Path, string Query)
{
    /// <summary>The value of a parameter; null when it is absent.</summary>
    public string? Parameter(string name)
    {
        foreach (var part in Query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = part.IndexOf('=');
            if (Uri.UnescapeDataString(equals < 0 ? part : part[..equals]) == name)
            {
                return equals < 0 ? "" : Uri.UnescapeDataString(part[(equals + 1)..]);
            }
        }

        return null;
    }
}

/// <summary>The answer of one of the proxy's own pages.</summary>
/// <param name="Status">The status code.</param>
/// <param name="ContentType">The media type.</param>
/// <param name="Body">The body, whole.</param>
public sealed record LocalResponse(int Status, string ContentType, ReadOnlyMemory<byte> Body)
{
    /// <summary>A line of text.</summary>
    public static LocalResponse Text(int status, string text) => new(status, "text/plain; charset=utf-8", Encoding.UTF8.GetBytes(text + "\n"));

    /// <summary>A JSON document.</summary>
    public static LocalResponse Json(int status, ReadOnlyMemory<byte> json) => new(status, "application/json", json);
}

/// <summary>
/// Serves the proxy's own pages (admin, metrics, health) with the proxy's own codec: no second HTTP server in the process. Pages are made on the thread pool,
/// a few at a time, and never on an event loop; a request's body is not read. Bounded: connections beyond <see cref="MaxConnections"/> are closed at once.
/// </summary>
public sealed class LocalHttpServer : IAsyncDisposable
{
    /// <summary>Connections at a time.</summary>
    public const int MaxConnections = 64;

    private readonly Func<LocalRequest, Task<LocalResponse>> _handler;
    private readonly ILogger _log;
    private readonly Http1ServerOptions _options;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<Http1ServerConnection, ConnectionContext> _connections = new();
    private readonly ITimer _tick;
    private Listener? _listener;

    private LocalHttpServer(Func<LocalRequest, Task<LocalResponse>> handler, ILogger log, TimeProvider time)
    {
        _handler = handler;
        _log = log;
        _time = time;
        _options = new Http1ServerOptions { Date = new DateField(time) };
        _tick = time.CreateTimer(static server => ((LocalHttpServer)server!).OnTick(), this, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
    }

    /// <summary>Where it listens.</summary>
    public IPEndPoint EndPoint => _listener!.EndPoint;

    /// <summary>Binds and begins to serve.</summary>
    /// <param name="transport">The network.</param>
    /// <param name="endPoint">Where; port 0: any free one.</param>
    /// <param name="name">For error texts and the log: "admin".</param>
    /// <param name="handler">Makes a page; runs on the thread pool. What it throws is answered 500 and logged.</param>
    /// <param name="log">The proxy's own log.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Gives the start up.</param>
    /// <exception cref="IOException">The port is taken or may not be bound.</exception>
    public static async Task<LocalHttpServer> StartAsync(
        IConnectionListenerFactory transport,
        IPEndPoint endPoint,
        string name,
        Func<LocalRequest, Task<LocalResponse>> handler,
        ILogger log,
        TimeProvider time,
        CancellationToken cancellation)
    {
        var server = new LocalHttpServer(handler, log, time);
        try
        {
            server._listener = await Listener.BindAsync(transport, endPoint, name, server.ServeAsync, log, cancellation);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Stops at once.</summary>
    public async ValueTask DisposeAsync()
    {
        await _tick.DisposeAsync();
        if (_listener is not null)
        {
            await _listener.StopAcceptingAsync();
        }

        foreach (var connection in _connections.Keys)
        {
            connection.Abort(ConnectionCloseReason.Drain);
        }
    }

    private async Task ServeAsync(ConnectionContext transport)
    {
        if (_connections.Count >= MaxConnections)
        {
            transport.Abort(new ConnectionAbortedException("too many connections to the proxy's own pages"));
            await transport.DisposeAsync();
            return;
        }

        var connection = new Http1ServerConnection(transport.Transport.Input, transport.Transport.Output, _options);
        _connections[connection] = transport;
        try
        {
            await connection.RunAsync(new Handler(this));
        }
        finally
        {
            _connections.TryRemove(connection, out _);
            await transport.DisposeAsync();
        }
    }

    private void OnTick()
    {
        var now = _time.GetTimestamp() * 1000 / _time.TimestampFrequency;
        foreach (var connection in _connections.Keys)
        {
            connection.OnTick(now);
        }
    }

    private async Task<LocalResponse> MakeAsync(LocalRequest request)
    {
        // Off the event loop, whatever it takes.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            return await _handler(request).ConfigureAwait(false);
        }
#pragma warning disable CA1031 // a page that fails must not take the proxy with it
        catch (Exception exception)
#pragma warning restore CA1031
        {
            _log.LogError(exception, "The page {Path} failed", request.Path);
            return LocalResponse.Text(500, "the page could not be made; the proxy's log tells why");
        }
    }

    private sealed class Handler(LocalHttpServer server) : IHttpExchangeHandler
    {
        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            var head = exchange.Request;
            var target = head.Path;
            var question = target.IndexOf((byte)'?');
            var request = new LocalRequest(
                Encoding.ASCII.GetString(head.MethodToken),
                Encoding.ASCII.GetString(question < 0 ? target : target[..question]),
                question < 0 ? "" : Encoding.ASCII.GetString(target[(question + 1)..]));
            var isHead = head.Method == RequestMethod.Head;
            var answer = await server.MakeAsync(isHead ? request with { Method = "GET" } : request);

            var response = exchange.Response;
            response.Clear();
            response.Status = answer.Status;
            response.ContentLength = answer.Body.Length;
            response.EndsStream = isHead || answer.Body.IsEmpty;
            response.Fields.Add(KnownField.ContentType, Encoding.ASCII.GetBytes(answer.ContentType));
            response.Fields.Add(KnownField.ContentLength, Encoding.ASCII.GetBytes(answer.Body.Length.ToString(CultureInfo.InvariantCulture)));
            response.Fields.Add(KnownField.CacheControl, "no-store"u8);
            if (exchange.WriteHead(response) && !response.EndsStream)
            {
                await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(answer.Body), endStream: true);
            }

            await exchange.FlushAsync();
        }
    }
}
