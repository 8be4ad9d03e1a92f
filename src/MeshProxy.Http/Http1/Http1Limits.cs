namespace MeshProxy.Http.Http1;

/// <summary>Bounds on an HTTP/1.1 peer. Zero never means unlimited; sizes are bytes.</summary>
public sealed record Http1Limits
{
    /// <summary>The numbers of this file.</summary>
    public static Http1Limits Default { get; } = new();

    /// <summary>A whole head, start line and final empty line included, in bytes. Default 60 KiB (Envoy 60 KiB).
    /// Over it: a request gets 431 and a close, a response is a protocol error.</summary>
    public int MaxHeadBytes { get; init; } = 60 * 1024;

    /// <summary>A request line or status line with its CRLF, in bytes. Default 16 KiB (RFC 9112 section 3 asks for 8,000 at least; HAProxy 16 KiB).
    /// Over it: 414 and a close.</summary>
    public int MaxStartLineBytes { get; init; } = 16 * 1024;

    /// <summary>A method's length, in bytes. Default 32 (the longest registered one has 17). Over it: 501 and a close.</summary>
    public int MaxMethodBytes { get; init; } = 32;

    /// <summary>Field lines in a head, Cookie lines counted as one; also the options that Connection may name. Default 100 (Envoy 100). Over it: 431 and a close.</summary>
    public int MaxFields { get; init; } = 100;

    /// <summary>A trailer section, in bytes. Default 60 KiB, as for heads. Over it: the body breaks off (TrailersTooLarge).</summary>
    public int MaxTrailerBytes { get; init; } = 60 * 1024;

    /// <summary>Hexadecimal digits of a chunk size, leading zeros included. Default 15: more can not be a length that anyone means.
    /// Over it: the body breaks off (ProtocolError).</summary>
    public int MaxChunkSizeDigits { get; init; } = 15;

    /// <summary>Chunk extensions of one chunk, in bytes. Default 256 (they are discarded). Over it: the body breaks off (BodyTooLarge).</summary>
    public int MaxChunkExtensionBytes { get; init; } = 256;

    /// <summary>Chunk extensions of one whole body, in bytes. Default 16 KiB (CVE-2023-39326: bodies made of nothing but extensions).
    /// Over it: the body breaks off (BodyTooLarge).</summary>
    public int MaxChunkExtensionBytesPerBody { get; init; } = 16 * 1024;

    /// <summary>A request body, in bytes. Default none but the type's own: routes bound bodies. Over it: 413 and a close when declared, else the
    /// body breaks off (BodyTooLarge).</summary>
    public long MaxRequestBodyBytes { get; init; } = long.MaxValue;

    /// <summary>How much of a request body nobody read is read and thrown away to keep the connection, in bytes. Default 64 KiB. Over it: the
    /// connection closes after the response.</summary>
    public int MaxDrainBytes { get; init; } = 64 * 1024;

    /// <summary>Informational heads before one final response head. Default 16. Over it: a protocol error.</summary>
    public int MaxInformationalHeads { get; init; } = 16;

    /// <summary>From a request head's first byte to its last. Default 10 s (nginx 60 s, HAProxy as configured; slowloris). Over it: 408 and a close.</summary>
    public TimeSpan HeadTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>No request on an open connection. Default 5 min (Envoy 5 min) towards clients. Over it: a close.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>No progress on a body that we wait for, or on output that the peer does not take. Default 5 min (Envoy's stream idle timeout).
    /// Over it: the exchange ends (TimedOut), the connection with it.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long an unread request body is drained, or waited on before a close so that the peer can read our last response. Default 2 s.</summary>
    public TimeSpan LingerTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long a drained connection with nothing open still takes a request that may be under way. Default 1 s. Then: a close.</summary>
    public TimeSpan DrainGrace { get; init; } = TimeSpan.FromSeconds(1);
}
