namespace MeshProxy.Http;

/// <summary>Who ended a stream or a connection.</summary>
public enum Initiator : byte
{
    /// <summary>This process.</summary>
    Us,

    /// <summary>The other end of the connection.</summary>
    Peer,

    /// <summary>An operator, through configuration, drain or revocation.</summary>
    Operator,
}

/// <summary>Why a stream (an HTTP/2 stream, or one HTTP/1.1 exchange) ended before its message was complete.</summary>
public enum StreamResetReason : byte
{
    /// <summary>It did not: complete, or still open.</summary>
    None,

    /// <summary>The peer sent RST_STREAM with a code other than REFUSED_STREAM.</summary>
    PeerReset,

    /// <summary>The peer sent RST_STREAM with REFUSED_STREAM: provably unprocessed (RFC 9113 section 8.7).</summary>
    PeerRefused,

    /// <summary>The stream lay beyond the last stream of a GOAWAY: provably unprocessed (RFC 9113 section 6.8).</summary>
    PeerGoAway,

    /// <summary>The peer closed the connection in order (FIN or close_notify) before the message was complete.</summary>
    PeerClosed,

    /// <summary>The connection failed (RST, TLS alert, FIN without close_notify, I/O error).</summary>
    ConnectionReset,

    /// <summary>The peer broke the protocol.</summary>
    ProtocolError,

    /// <summary>The message, or its connection, exceeded a limit of ours.</summary>
    LimitExceeded,

    /// <summary>The message exceeded a limit that the peer announced: it was not sent, or not sent to its end.</summary>
    PeerLimit,

    /// <summary>A body that had begun turned out to be larger than a limit of ours.</summary>
    BodyTooLarge,

    /// <summary>A trailer section was larger than a limit of ours.</summary>
    TrailersTooLarge,

    /// <summary>The peer was silent for longer than a limit of ours allows.</summary>
    TimedOut,

    /// <summary>We gave up the stream: the other side of the exchange went away, a deadline passed, or the proxy is stopping.</summary>
    Cancelled,
}

/// <summary>How a stream ended: exactly one for each stream that did not complete.</summary>
/// <param name="Reason">Why.</param>
/// <param name="Initiator">Who acted.</param>
/// <param name="WireCode">The HTTP/2 error code that was sent or received; 0 in HTTP/1.1.</param>
/// <param name="Detail">A short snake_case detail for logs, such as "content_length_mismatch"; a constant, never peer data.</param>
public readonly record struct StreamEnd(StreamResetReason Reason, Initiator Initiator = Initiator.Us, uint WireCode = 0, string? Detail = null)
{
    /// <summary>True when the peer can not have acted on the request.</summary>
    public bool IsProvablyUnprocessed => Reason is StreamResetReason.PeerRefused or StreamResetReason.PeerGoAway;
}
