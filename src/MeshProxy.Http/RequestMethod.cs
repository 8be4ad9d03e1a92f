namespace MeshProxy.Http;

/// <summary>The methods of RFC 9110 section 9.3 and RFC 5789; anything else is <see cref="Other"/> and kept as bytes.</summary>
public enum RequestMethod : byte
{
#pragma warning disable CS1591 // the names are the documentation
    Other,
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
#pragma warning restore CS1591
}

/// <summary>Facts about methods.</summary>
public static class RequestMethods
{
    /// <summary>The method named by <paramref name="token"/> (case-sensitive, RFC 9110 section 9.1).</summary>
    public static RequestMethod Parse(ReadOnlySpan<byte> token) => token.Length switch
    {
        3 when token.SequenceEqual("GET"u8) => RequestMethod.Get,
        3 when token.SequenceEqual("PUT"u8) => RequestMethod.Put,
        4 when token.SequenceEqual("POST"u8) => RequestMethod.Post,
        4 when token.SequenceEqual("HEAD"u8) => RequestMethod.Head,
        5 when token.SequenceEqual("PATCH"u8) => RequestMethod.Patch,
        5 when token.SequenceEqual("TRACE"u8) => RequestMethod.Trace,
        6 when token.SequenceEqual("DELETE"u8) => RequestMethod.Delete,
        7 when token.SequenceEqual("OPTIONS"u8) => RequestMethod.Options,
        7 when token.SequenceEqual("CONNECT"u8) => RequestMethod.Connect,
        _ => RequestMethod.Other,
    };

    /// <summary>The token of <paramref name="method"/>; empty for <see cref="RequestMethod.Other"/>.</summary>
    public static ReadOnlySpan<byte> Token(RequestMethod method) => method switch
    {
        RequestMethod.Get => "GET"u8,
        RequestMethod.Head => "HEAD"u8,
        RequestMethod.Post => "POST"u8,
        RequestMethod.Put => "PUT"u8,
        RequestMethod.Delete => "DELETE"u8,
        RequestMethod.Connect => "CONNECT"u8,
        RequestMethod.Options => "OPTIONS"u8,
        RequestMethod.Trace => "TRACE"u8,
        RequestMethod.Patch => "PATCH"u8,
        _ => default,
    };

    /// <summary>Whether a proxy may send the request again by itself (RFC 9110 section 9.2.2).</summary>
    public static bool IsIdempotent(RequestMethod method) => method is RequestMethod.Get or RequestMethod.Head or RequestMethod.Put
        or RequestMethod.Delete or RequestMethod.Options or RequestMethod.Trace;
}
