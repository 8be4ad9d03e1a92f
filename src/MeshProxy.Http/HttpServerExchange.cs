using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>Hears that the peer of an exchange is gone. Called at most once, on the connection's reading thread: return at once.</summary>
public interface IExchangeObserver
{
    /// <summary>The exchange ended before its response was complete.</summary>
    void OnAborted(StreamEnd end);
}

/// <summary>
/// One request and its response, on the server side of a connection, any HTTP version.
/// Write methods copy what they are given before they return (or complete), buffer it, and send nothing until <see cref="FlushAsync"/> or until
/// the buffer is full. Order: any number of informational heads, one head, body, trailers. One writer at a time. Once the exchange has ended
/// (<see cref="End"/>), writes do nothing and answer false.
/// </summary>
public abstract class HttpServerExchange : IHttpBodyWriter
{
    /// <summary>A place for the handler's own state; it stays with the object when the exchange is reused on its connection.</summary>
    public object? State { get; set; }

    /// <summary>The request. Owned by the exchange.</summary>
    public RequestHead Request { get; } = new();

    /// <summary>A head for the caller to fill and pass to <see cref="WriteHead"/>; saves an allocation per exchange.</summary>
    public ResponseHead Response { get; } = new();

    /// <summary>The request's body. Ends at once when <see cref="RequestHead.EndsStream"/>.</summary>
    public abstract HttpBodyReader RequestBody { get; }

    /// <summary>True while the client may be keeping its body back until it hears 100 (RFC 9110 section 10.1.1). No codec says it by itself: whoever wants the body
    /// writes an informational 100, once. One that nobody waits for is not sent.</summary>
    public abstract bool AwaitsContinue { get; }

    /// <summary>How the exchange ended, when it did not complete.</summary>
    public abstract StreamEnd End { get; }

    /// <summary>True once a final response head was written.</summary>
    public abstract bool HasResponseStarted { get; }

    /// <summary>Told when the peer resets the stream or its connection dies. Set before the first await of the handler; an end that came earlier is
    /// told at once, inside the setter.</summary>
    public abstract IExchangeObserver? Observer { get; set; }

    /// <summary>Whether the peer announced that it takes a head of this size (SETTINGS_MAX_HEADER_LIST_SIZE in HTTP/2). One that it does not take is never sent:
    /// writing it breaks the exchange off.</summary>
    public virtual bool Takes(ResponseHead head) => true;

    /// <summary>Writes a 1xx head (not sent to HTTP/1.0 peers).</summary>
    public abstract bool WriteInformational(ResponseHead head);

    /// <summary>Writes the final head. With <see cref="ResponseHead.EndsStream"/> the response is complete. Content-Length among the fields is
    /// believed; without it the codec frames the body (chunked, or until close for HTTP/1.0).</summary>
    public abstract bool WriteHead(ResponseHead head);

    /// <summary>Changes whenever some of what was written has gone out: a body of which a slow peer takes a little now and then is not idle. Any thread.</summary>
    public abstract long Progress { get; }

    /// <summary>Copies body bytes out, waiting for window and buffer space.</summary>
    /// <returns>False when the exchange has ended: nobody will read it.</returns>
    public abstract ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream);

    /// <summary>Ends the response with trailer fields.</summary>
    public abstract bool WriteTrailers(FieldMap trailers);

    /// <summary>Sends what was written. Inside a <see cref="FlushBatch"/> the sending is put off to the end of the batch.</summary>
    public abstract ValueTask<bool> FlushAsync();

    /// <summary>Breaks the exchange off: RST_STREAM, or in HTTP/1.1 the end of the connection.</summary>
    public abstract void Reset(StreamEnd end);
}

/// <summary>Serves the exchanges of one connection. An implementation never throws; it runs inline on the connection's reading thread until its
/// first incomplete await, so it must not block.</summary>
public interface IHttpExchangeHandler
{
    /// <summary>Serves one exchange; the exchange may be reused for the next one when the task completes.</summary>
    ValueTask HandleAsync(HttpServerExchange exchange);
}
