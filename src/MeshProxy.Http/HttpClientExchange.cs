using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>
/// One request and its response, on the client side of a connection, any HTTP version. Writing and reading may run on two threads; each alone
/// is single-threaded. <see cref="Complete"/> must be called exactly once, when neither side is in use any more.
/// </summary>
public abstract class HttpClientExchange : IHttpBodyWriter
{
    /// <summary>The response head that <see cref="ReadHeadAsync"/> filled. Owned by the exchange; overwritten by the next head.</summary>
    public ResponseHead Response { get; } = new();

    /// <summary>The response's body, after the final head.</summary>
    public abstract HttpBodyReader ResponseBody { get; }

    /// <summary>How the exchange ended, when it did not complete.</summary>
    public abstract StreamEnd End { get; }

    /// <summary>True once at least one byte of the request was handed to the transport. While false, sending it again elsewhere is always safe.</summary>
    public abstract bool IsSent { get; }

    /// <summary>Writes the request head; fields must be free of hop-by-hop fields. With <see cref="RequestHead.EndsStream"/> the request is complete.</summary>
    public abstract bool WriteHead(RequestHead head);

    /// <summary>Changes whenever some of what was written has gone out: a body of which a slow peer takes a little now and then is not idle. Any thread.</summary>
    public abstract long Progress { get; }

    /// <summary>Copies body bytes out, waiting for window and buffer space.</summary>
    /// <returns>False when the exchange has ended, the peer wants no more of the body (RST_STREAM NO_ERROR), or the output has failed: read the response.</returns>
    public abstract ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream);

    /// <summary>Ends the request with trailer fields.</summary>
    public abstract bool WriteTrailers(FieldMap trailers);

    /// <summary>Sends what was written; inside a <see cref="FlushBatch"/> at its end.</summary>
    public abstract ValueTask<bool> FlushAsync();

    /// <summary>Waits for the next head: informational ones one by one, then the final one.</summary>
    /// <returns>False when the exchange ended first (<see cref="End"/>).</returns>
    public abstract ValueTask<bool> ReadHeadAsync();

    /// <summary>Gives the exchange up: RST_STREAM, or in HTTP/1.1 the end of the connection. Wakes a pending <see cref="ReadHeadAsync"/> and
    /// body read or write. May be called from any thread, also after <see cref="End"/>.</summary>
    public abstract void Reset(StreamEnd end);

    /// <summary>Hands the exchange back. An HTTP/1.1 connection becomes reusable only when both messages were complete; an HTTP/2 stream that is
    /// still open is reset with CANCEL.</summary>
    public abstract void Complete();
}
