namespace MeshProxy.Http;

/// <summary>Hears of requests that a server connection refuses by itself, before any handler saw them, and says why to the peer. The same for every HTTP
/// version.</summary>
public interface IRejectionObserver
{
    /// <summary>Called on the connection's reading thread, outside every lock, before the answer is written: return at once.</summary>
    /// <param name="connection">Where.</param>
    /// <param name="request">What was understood of the request; null when that is nothing.</param>
    /// <param name="response">The answer, with its status; fields may be added, but none that frames it. Null: there is none, the stream is reset (RFC 9113
    /// section 8.1.1).</param>
    /// <param name="detail">A short snake_case detail, a constant.</param>
    /// <returns>The answer's body; empty: none.</returns>
    ReadOnlyMemory<byte> OnRejected(HttpServerConnection connection, RequestHead? request, ResponseHead? response, string detail);
}
