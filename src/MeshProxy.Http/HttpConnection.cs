namespace MeshProxy.Http;

/// <summary>Why a connection ended: exactly one for each connection.</summary>
public enum ConnectionCloseReason : byte
{
    /// <summary>Still open.</summary>
    None,

    /// <summary>The peer closed in order with nothing open.</summary>
    PeerClosed,

    /// <summary>The connection failed: RST, broken TLS, I/O error.</summary>
    TransportError,

    /// <summary>The peer broke the protocol.</summary>
    ProtocolError,

    /// <summary>The peer exceeded an abuse limit.</summary>
    Abuse,

    /// <summary>No head, or the rest of one, in time.</summary>
    HeadTimeout,

    /// <summary>Idle for longer than allowed.</summary>
    IdleTimeout,

    /// <summary>The peer did not answer a PING or a SETTINGS in time.</summary>
    KeepAliveTimeout,

    /// <summary>Older than the maximum age.</summary>
    MaxAge,

    /// <summary>The proxy drains or stops.</summary>
    Drain,

    /// <summary>Identity, trust or policy no longer allow it.</summary>
    Revoked,

    /// <summary>A message ended in a way after which the connection can not be used again (HTTP/1.1).</summary>
    NotReusable,

    /// <summary>Memory is over budget.</summary>
    Overload,
}

/// <summary>Hears about a client connection. Called on its reading thread: return at once, take no lock that a caller of the connection holds.</summary>
public interface IClientConnectionObserver
{
    /// <summary>A place for an exchange became free (an exchange completed, or the peer raised its stream limit).</summary>
    void OnCapacity(HttpClientConnection connection);

    /// <summary>The connection takes no new exchange any more (GOAWAY, close, or error). Told once.</summary>
    void OnRetired(HttpClientConnection connection);

    /// <summary>The connection has ended; all its exchanges have ended before. Told once, after <see cref="OnRetired"/>.</summary>
    void OnClosed(HttpClientConnection connection, ConnectionCloseReason reason);
}

/// <summary>A connection to an upstream, seen by a pool. <see cref="RunAsync"/> is started once by its owner.</summary>
public abstract class HttpClientConnection
{
    /// <summary>Exchanges open now.</summary>
    public abstract int ActiveExchanges { get; }

    /// <summary>How many exchanges the peer allows at once; 1 for HTTP/1.1.</summary>
    public abstract int MaxConcurrentExchanges { get; }

    /// <summary>The version it speaks.</summary>
    public abstract HttpProtocolVersion Version { get; }

    /// <summary>Runs the connection until it has ended. Never throws.</summary>
    public abstract Task RunAsync();

    /// <summary>Completes when the peer's first bytes are in (HTTP/2: its SETTINGS): true; false when the connection ended first.
    /// At once true for HTTP/1.1.</summary>
    public abstract ValueTask<bool> WaitReadyAsync();

    /// <summary>Opens an exchange, or answers null when there is no place or the connection is retired. Thread-safe.</summary>
    public abstract HttpClientExchange? TryOpenExchange();

    /// <summary>No new exchanges; closes when the open ones have ended.</summary>
    public abstract void Retire(ConnectionCloseReason reason);

    /// <summary>Ends the connection and everything on it now.</summary>
    public abstract void Abort(ConnectionCloseReason reason);

    /// <summary>Judges timeouts; called about once a second, and at most every 100 ms, by the owner's coarse tick. Thread-safe.</summary>
    public abstract void OnTick(long nowMilliseconds);
}

/// <summary>A connection from a downstream.</summary>
public abstract class HttpServerConnection
{
    /// <summary>Why it ended.</summary>
    public abstract ConnectionCloseReason CloseReason { get; }

    /// <summary>Exchanges open now.</summary>
    public abstract int ActiveExchanges { get; }

    /// <summary>Exchanges ever begun.</summary>
    public abstract long TotalExchanges { get; }

    /// <summary>Serves the connection until it has ended and every handler has returned. Never throws. Does not close the transport itself.</summary>
    public abstract Task RunAsync(IHttpExchangeHandler handler);

    /// <summary>Finishes what is open, takes nothing new: GOAWAY in two steps, or Connection: close. Thread-safe, repeatable.</summary>
    public abstract void Drain(ConnectionCloseReason reason);

    /// <summary>Ends the connection and everything on it now. Thread-safe.</summary>
    public abstract void Abort(ConnectionCloseReason reason);

    /// <summary>Judges timeouts; called about once a second, and at most every 100 ms. Thread-safe.</summary>
    public abstract void OnTick(long nowMilliseconds);
}
