using System.Collections.Immutable;

namespace MeshProxy.Model.Config;

/// <summary>
/// How a listener of a gateway, or the inbound of a service, treats its clients: a ClientTrafficPolicy as it applies there. What is null, or not there, has the
/// listener's own default. A caller's outbound takes <see cref="Path"/> and <see cref="UpgradeProtocols"/> of the service it sends to, because the request
/// enters the mesh there; everything else is the inbound's business.
/// </summary>
public sealed record ClientTrafficConfig
{
    /// <summary>What "upgrade.protocols" is when no policy sets it.</summary>
    public static ImmutableArray<string> DefaultUpgradeProtocols { get; } = ["websocket"];

    /// <summary>No policy. Stands behind the members that its properties begin with.</summary>
    public static ClientTrafficConfig Default { get; } = new();

    /// <summary>How request paths are normalised.</summary>
    public PathTrafficConfig Path { get; init; } = new();

    /// <summary>What becomes of fields whose names have underscores.</summary>
    public UnderscorePolicy Underscores { get; init; }

    /// <summary>What becomes of X-Forwarded-* and Forwarded; null: replaced at a gateway, untouched in the mesh.</summary>
    public ForwardedConfig? Forwarded { get; init; }

    /// <summary>Whether Via names this proxy in requests and responses (RFC 9110 section 7.6.3).</summary>
    public bool AddsVia { get; init; }

    /// <summary>Lower-case protocols that Upgrade or extended CONNECT may ask for.</summary>
    public ImmutableArray<string> UpgradeProtocols { get; init; } = DefaultUpgradeProtocols;

    /// <summary>Whether grpc-timeout and x-request-timeout of clients are believed; null: in the mesh they are, at a gateway not.</summary>
    public bool? BelievesDeadlines { get; init; }

    /// <summary>How long clients may take.</summary>
    public ClientTimeoutsConfig Timeouts { get; init; } = new();

    /// <summary>Streams that one HTTP/2 connection may have open; null: 100 at a gateway, 1024 in the mesh.</summary>
    public int? MaxConcurrentStreams { get; init; }

    /// <summary>Largest request body in bytes; null: any.</summary>
    public long? MaxRequestBodyBytes { get; init; }

    /// <inheritdoc/>
    public bool Equals(ClientTrafficConfig? other) => other is not null
        && Path == other.Path && Underscores == other.Underscores && Forwarded == other.Forwarded && AddsVia == other.AddsVia
        && UpgradeProtocols.AsSpan().SequenceEqual(other.UpgradeProtocols.AsSpan()) && BelievesDeadlines == other.BelievesDeadlines
        && Timeouts == other.Timeouts && MaxConcurrentStreams == other.MaxConcurrentStreams && MaxRequestBodyBytes == other.MaxRequestBodyBytes;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Path, Underscores, Forwarded, AddsVia, BelievesDeadlines, Timeouts, MaxConcurrentStreams, MaxRequestBodyBytes);
}

/// <summary>How paths are normalised, and what that would refuse and may not.</summary>
/// <param name="MergesSlashes">"//" becomes "/".</param>
/// <param name="AllowsEncodedSlash">"%2F" passes.</param>
/// <param name="AllowsBackslash">"\" and "%5C" pass.</param>
/// <param name="AllowsEncodedNull">"%00" passes.</param>
public sealed record PathTrafficConfig(bool MergesSlashes = false, bool AllowsEncodedSlash = false, bool AllowsBackslash = false, bool AllowsEncodedNull = false);

/// <summary>What becomes of fields whose names have underscores: CGI, WSGI and their like can not tell them from those with hyphens.</summary>
public enum UnderscorePolicy
{
    /// <summary>They pass.</summary>
    Allow,

    /// <summary>400.</summary>
    Reject,

    /// <summary>The field is left out.</summary>
    Drop,
}

/// <summary>What becomes of the fields that tell where a request came from.</summary>
public enum ForwardedMode
{
    /// <summary>Untouched.</summary>
    Pass,

    /// <summary>Removed, and nothing added.</summary>
    Remove,

    /// <summary>What trusted proxies did not say is removed; our own element is added.</summary>
    Replace,

    /// <summary>Our own element is added to whatever came.</summary>
    Append,
}

/// <summary>Which fields tell it.</summary>
public enum ForwardedFormat
{
    /// <summary>X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host.</summary>
    XForwarded,

    /// <summary>Forwarded (RFC 7239).</summary>
    Forwarded,

    /// <summary>All of them.</summary>
    Both,
}

/// <summary>How X-Forwarded-* and Forwarded are treated.</summary>
/// <param name="Mode">What becomes of them.</param>
/// <param name="Format">Which are written.</param>
/// <param name="TrustedHops">How many proxies in front of this one are ours: so many elements from the right are believed, and the leftmost of them is the client.</param>
public sealed record ForwardedConfig(ForwardedMode Mode, ForwardedFormat Format = ForwardedFormat.XForwarded, int TrustedHops = 0);

/// <summary>How long clients may take; null: the default of the limit that stands at each.</summary>
public sealed record ClientTimeoutsConfig
{
    /// <summary>For a request head, from its first byte to its last, and for the first bytes of a connection (Http1Limits.HeadTimeout, Http2Limits.HeadTimeout).</summary>
    public TimeSpan? RequestHead { get; init; }

    /// <summary>Without an open request (Http1Limits.IdleTimeout, Http2Limits.IdleTimeout).</summary>
    public TimeSpan? Idle { get; init; }

    /// <summary>Without a byte in either direction of one exchange (ForwardingLimits.StreamIdleTimeout).</summary>
    public TimeSpan? StreamIdle { get; init; }

    /// <summary>For a TLS handshake (ProxyServerOptions.HandshakeTimeout).</summary>
    public TimeSpan? TlsHandshake { get; init; }

    /// <summary>After which a connection is asked to end: GOAWAY, or Connection: close on the next response.</summary>
    public TimeSpan? MaxConnectionAge { get; init; }
}
