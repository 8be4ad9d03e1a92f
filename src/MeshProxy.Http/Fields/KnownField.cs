namespace MeshProxy.Http.Fields;

/// <summary>Field names that the proxy itself reads or that occur in nearly every message. At most 63: <see cref="FieldMap"/> keeps a bit for each.</summary>
public enum KnownField : byte
{
#pragma warning disable CS1591 // the names are the documentation
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Date,
    Server,
    Cookie,
    SetCookie,
    Authorization,
    ProxyAuthorization,
    ProxyAuthenticate,
    ContentType,
    ContentEncoding,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    UserAgent,
    Referer,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedClientCert,
    XRequestId,
    XRequestTimeout,
    TraceParent,
    TraceState,
    Baggage,
    GrpcTimeout,
    GrpcStatus,
    GrpcMessage,
    GrpcEncoding,
    GrpcAcceptEncoding,
    RetryAfter,
    MeshFailure,
    IdempotencyKey,
    Http2Settings,
    Origin,
    Location,
    CacheControl,
    ETag,
    LastModified,
    Vary,
    IfNoneMatch,
    IfModifiedSince,
    Priority,
    AltSvc,
    Link,
    Allow,
    AccessControlRequestMethod,
    Range,
    SecWebSocketKey,
    SecWebSocketAccept,
#pragma warning restore CS1591
}

/// <summary>Facts about <see cref="KnownField"/>.</summary>
public static class KnownFields
{
    /// <summary>The name in lower case.</summary>
    public static ReadOnlySpan<byte> Name(KnownField field) => field switch
    {
        KnownField.Host => "host"u8,
        KnownField.ContentLength => "content-length"u8,
        KnownField.TransferEncoding => "transfer-encoding"u8,
        KnownField.Connection => "connection"u8,
        KnownField.KeepAlive => "keep-alive"u8,
        KnownField.ProxyConnection => "proxy-connection"u8,
        KnownField.Te => "te"u8,
        KnownField.Trailer => "trailer"u8,
        KnownField.Upgrade => "upgrade"u8,
        KnownField.Expect => "expect"u8,
        KnownField.Date => "date"u8,
        KnownField.Server => "server"u8,
        KnownField.Cookie => "cookie"u8,
        KnownField.SetCookie => "set-cookie"u8,
        KnownField.Authorization => "authorization"u8,
        KnownField.ProxyAuthorization => "proxy-authorization"u8,
        KnownField.ProxyAuthenticate => "proxy-authenticate"u8,
        KnownField.ContentType => "content-type"u8,
        KnownField.ContentEncoding => "content-encoding"u8,
        KnownField.Accept => "accept"u8,
        KnownField.AcceptEncoding => "accept-encoding"u8,
        KnownField.AcceptLanguage => "accept-language"u8,
        KnownField.UserAgent => "user-agent"u8,
        KnownField.Referer => "referer"u8,
        KnownField.Via => "via"u8,
        KnownField.Forwarded => "forwarded"u8,
        KnownField.XForwardedFor => "x-forwarded-for"u8,
        KnownField.XForwardedProto => "x-forwarded-proto"u8,
        KnownField.XForwardedHost => "x-forwarded-host"u8,
        KnownField.XForwardedClientCert => "x-forwarded-client-cert"u8,
        KnownField.XRequestId => "x-request-id"u8,
        KnownField.XRequestTimeout => "x-request-timeout"u8,
        KnownField.TraceParent => "traceparent"u8,
        KnownField.TraceState => "tracestate"u8,
        KnownField.Baggage => "baggage"u8,
        KnownField.GrpcTimeout => "grpc-timeout"u8,
        KnownField.GrpcStatus => "grpc-status"u8,
        KnownField.GrpcMessage => "grpc-message"u8,
        KnownField.GrpcEncoding => "grpc-encoding"u8,
        KnownField.GrpcAcceptEncoding => "grpc-accept-encoding"u8,
        KnownField.RetryAfter => "retry-after"u8,
        KnownField.MeshFailure => "x-meshproxy-failure"u8,
        KnownField.IdempotencyKey => "idempotency-key"u8,
        KnownField.Http2Settings => "http2-settings"u8,
        KnownField.Origin => "origin"u8,
        KnownField.Location => "location"u8,
        KnownField.CacheControl => "cache-control"u8,
        KnownField.ETag => "etag"u8,
        KnownField.LastModified => "last-modified"u8,
        KnownField.Vary => "vary"u8,
        KnownField.IfNoneMatch => "if-none-match"u8,
        KnownField.IfModifiedSince => "if-modified-since"u8,
        KnownField.Priority => "priority"u8,
        KnownField.AltSvc => "alt-svc"u8,
        KnownField.Link => "link"u8,
        KnownField.Allow => "allow"u8,
        KnownField.AccessControlRequestMethod => "access-control-request-method"u8,
        KnownField.Range => "range"u8,
        KnownField.SecWebSocketKey => "sec-websocket-key"u8,
        KnownField.SecWebSocketAccept => "sec-websocket-accept"u8,
        _ => default,
    };

    /// <summary>Fields whose values are secrets: never-indexed in HPACK (RFC 7541 section 7.1.3), never logged.</summary>
    public static bool IsSensitive(KnownField field) => field is KnownField.Authorization or KnownField.ProxyAuthorization or KnownField.Cookie
        or KnownField.SetCookie or KnownField.IdempotencyKey;

    /// <summary>As <see cref="IsSensitive(KnownField)"/>, for names that are no <see cref="KnownField"/>; any case.</summary>
    public static bool IsSensitive(ReadOnlySpan<byte> name) => name.Length switch
    {
        7 => EqualsIgnoringCase(name, "api-key"u8),
        9 => EqualsIgnoringCase(name, "x-api-key"u8),
        12 => EqualsIgnoringCase(name, "x-auth-token"u8) || EqualsIgnoringCase(name, "x-csrf-token"u8) || EqualsIgnoringCase(name, "x-xsrf-token"u8),
        14 => EqualsIgnoringCase(name, "x-access-token"u8) || EqualsIgnoringCase(name, "x-goog-api-key"u8),
        17 => EqualsIgnoringCase(name, "x-idempotency-key"u8),
        19 => EqualsIgnoringCase(name, "authentication-info"u8),
        20 => EqualsIgnoringCase(name, "x-amz-security-token"u8),
        25 => EqualsIgnoringCase(name, "proxy-authentication-info"u8) || EqualsIgnoringCase(name, "x-forwarded-authorization"u8),
        _ => false,
    };

    /// <summary>The field named by <paramref name="name"/>, in any case, or <see cref="KnownField.Other"/>.</summary>
    public static KnownField Parse(ReadOnlySpan<byte> name)
    {
        var candidate = Candidate(name);
        return candidate != KnownField.Other && EqualsIgnoringCase(name, Name(candidate)) ? candidate : KnownField.Other;
    }

    // By length, then by one letter that tells the names of that length apart; the caller compares the whole name.
    private static KnownField Candidate(ReadOnlySpan<byte> name) => name.Length switch
    {
        2 => KnownField.Te,
        3 => KnownField.Via,
        4 => Lower(name[0]) switch
        {
            (byte)'h' => KnownField.Host,
            (byte)'d' => KnownField.Date,
            (byte)'e' => KnownField.ETag,
            (byte)'v' => KnownField.Vary,
            (byte)'l' => KnownField.Link,
            _ => KnownField.Other,
        },
        5 => Lower(name[0]) switch
        {
            (byte)'a' => KnownField.Allow,
            (byte)'r' => KnownField.Range,
            _ => KnownField.Other,
        },
        6 => Lower(name[0]) switch
        {
            (byte)'e' => KnownField.Expect,
            (byte)'s' => KnownField.Server,
            (byte)'c' => KnownField.Cookie,
            (byte)'a' => KnownField.Accept,
            (byte)'o' => KnownField.Origin,
            _ => KnownField.Other,
        },
        7 => Lower(name[0]) switch
        {
            (byte)'t' => KnownField.Trailer,
            (byte)'u' => KnownField.Upgrade,
            (byte)'r' => KnownField.Referer,
            (byte)'b' => KnownField.Baggage,
            (byte)'a' => KnownField.AltSvc,
            _ => KnownField.Other,
        },
        8 => Lower(name[0]) switch
        {
            (byte)'l' => KnownField.Location,
            (byte)'p' => KnownField.Priority,
            _ => KnownField.Other,
        },
        9 => KnownField.Forwarded,
        10 => Lower(name[0]) switch
        {
            (byte)'c' => KnownField.Connection,
            (byte)'k' => KnownField.KeepAlive,
            (byte)'s' => KnownField.SetCookie,
            (byte)'u' => KnownField.UserAgent,
            (byte)'t' => KnownField.TraceState,
            _ => KnownField.Other,
        },
        11 => Lower(name[0]) switch
        {
            (byte)'t' => KnownField.TraceParent,
            (byte)'g' => KnownField.GrpcStatus,
            (byte)'r' => KnownField.RetryAfter,
            _ => KnownField.Other,
        },
        12 => Lower(name[5]) switch
        {
            (byte)'n' => KnownField.ContentType,
            (byte)'u' => KnownField.XRequestId,
            (byte)'t' => KnownField.GrpcTimeout,
            (byte)'m' => KnownField.GrpcMessage,
            _ => KnownField.Other,
        },
        13 => Lower(name[0]) switch
        {
            (byte)'a' => KnownField.Authorization,
            (byte)'g' => KnownField.GrpcEncoding,
            (byte)'c' => KnownField.CacheControl,
            (byte)'l' => KnownField.LastModified,
            (byte)'i' => KnownField.IfNoneMatch,
            _ => KnownField.Other,
        },
        14 => Lower(name[0]) switch
        {
            (byte)'c' => KnownField.ContentLength,
            (byte)'h' => KnownField.Http2Settings,
            _ => KnownField.Other,
        },
        15 => Lower(name[10]) switch
        {
            (byte)'o' => KnownField.AcceptEncoding,
            (byte)'g' => KnownField.AcceptLanguage,
            (byte)'d' => KnownField.XForwardedFor,
            (byte)'y' => KnownField.IdempotencyKey,
            _ => KnownField.Other,
        },
        16 => Lower(name[0]) switch
        {
            (byte)'p' => KnownField.ProxyConnection,
            (byte)'c' => KnownField.ContentEncoding,
            (byte)'x' => KnownField.XForwardedHost,
            _ => KnownField.Other,
        },
        17 => Lower(name[2]) switch
        {
            (byte)'a' => KnownField.TransferEncoding,
            (byte)'f' => KnownField.XForwardedProto,
            (byte)'r' => KnownField.XRequestTimeout,
            (byte)'c' => KnownField.SecWebSocketKey,
            (byte)'-' => KnownField.IfModifiedSince,
            _ => KnownField.Other,
        },
        18 => KnownField.ProxyAuthenticate,
        19 => Lower(name[0]) switch
        {
            (byte)'p' => KnownField.ProxyAuthorization,
            (byte)'x' => KnownField.MeshFailure,
            _ => KnownField.Other,
        },
        20 => Lower(name[0]) switch
        {
            (byte)'g' => KnownField.GrpcAcceptEncoding,
            (byte)'s' => KnownField.SecWebSocketAccept,
            _ => KnownField.Other,
        },
        23 => KnownField.XForwardedClientCert,
        29 => KnownField.AccessControlRequestMethod,
        _ => KnownField.Other,
    };

    private static byte Lower(byte b) => (uint)(b - 'A') <= 'Z' - 'A' ? (byte)(b | 0x20) : b;

    private static bool EqualsIgnoringCase(ReadOnlySpan<byte> name, ReadOnlySpan<byte> lower) =>
        name.SequenceEqual(lower) || System.Text.Ascii.EqualsIgnoreCase(name, lower);
}
