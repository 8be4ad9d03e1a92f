namespace MeshProxy.Http;

/// <summary>The version a message was received in, or is to be sent in.</summary>
public enum HttpProtocolVersion : byte
{
    /// <summary>HTTP/1.0 (RFC 1945, as RFC 9112 treats it).</summary>
    Http10,

    /// <summary>HTTP/1.1 (RFC 9112).</summary>
    Http11,

    /// <summary>HTTP/2 (RFC 9113).</summary>
    Http2,
}
