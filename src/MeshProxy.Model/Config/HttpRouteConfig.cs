using System.Collections.Immutable;

namespace MeshProxy.Model.Config;

/// <summary>One HTTPRoute or GRPCRoute as it attaches to one parent, already checked and resolved.</summary>
public sealed record HttpRouteConfig
{
    /// <summary>"namespace/name" of the document; the <c>route</c> label of metrics and logs.</summary>
    public required string Id { get; init; }

    /// <summary>Lower-case hostnames, "*.example.com" for a wildcard; empty: any.</summary>
    public ImmutableArray<string> Hostnames { get; init; } = [];

    /// <summary>Rules in document order.</summary>
    public ImmutableArray<HttpRouteRuleConfig> Rules { get; init; } = [];

    /// <summary>When the document was first created: the older route wins a tie (Gateway API precedence).</summary>
    public DateTimeOffset CreatedAt { get; init; }
}

/// <summary>One rule: any of its matches, all of its filters, one of its backends.</summary>
public sealed record HttpRouteRuleConfig
{
    /// <summary>The rule's name, or its index in the document.</summary>
    public required string Name { get; init; }

    /// <summary>Alternatives; empty: everything (path prefix "/").</summary>
    public ImmutableArray<HttpMatchConfig> Matches { get; init; } = [];

    /// <summary>Applied in order.</summary>
    public ImmutableArray<HttpFilterConfig> Filters { get; init; } = [];

    /// <summary>Weighted choices. Empty, with no redirect: 500.</summary>
    public ImmutableArray<BackendConfig> Backends { get; init; } = [];

    /// <summary>Bounds the whole exchange; null: the default (15 s to the response head), zero: none.</summary>
    public TimeSpan? RequestTimeout { get; init; }

    /// <summary>Bounds one attempt; null or zero: none.</summary>
    public TimeSpan? BackendRequestTimeout { get; init; }
}

/// <summary>Conditions that must all hold.</summary>
public sealed record HttpMatchConfig
{
    /// <summary>On the path; null: any.</summary>
    public PathMatchConfig? Path { get; init; }

    /// <summary>On the gRPC method, for matches of a GRPCRoute; path and method are null then.</summary>
    public GrpcMatchConfig? Grpc { get; init; }

    /// <summary>Exact method token; null: any.</summary>
    public string? Method { get; init; }

    /// <summary>On fields, names in lower case.</summary>
    public ImmutableArray<ValueMatchConfig> Headers { get; init; } = [];

    /// <summary>On query parameters.</summary>
    public ImmutableArray<ValueMatchConfig> QueryParameters { get; init; } = [];
}

/// <summary>How a path is matched.</summary>
public enum PathMatchKind
{
    /// <summary>The whole path, case-sensitive.</summary>
    Exact,

    /// <summary>Whole leading path elements.</summary>
    Prefix,

    /// <summary>A regular expression that matches the full path, without backtracking.</summary>
    RegularExpression,
}

/// <summary>A condition on the path.</summary>
public sealed record PathMatchConfig(PathMatchKind Kind, string Value);

/// <summary>A condition on a gRPC request, which is POST to "/service/method"; null parts: any.</summary>
public sealed record GrpcMatchConfig(string? Service, string? Method, bool IsRegularExpression);

/// <summary>A condition on a named value.</summary>
public sealed record ValueMatchConfig(string Name, string Value, bool IsRegularExpression);

/// <summary>One weighted backend. <see cref="Cluster"/> is null when the reference does not resolve: its share of requests gets 500 with <see cref="Invalid"/> as the reason.</summary>
public sealed record BackendConfig(ClusterId? Cluster, int Weight, string? Invalid = null)
{
    /// <summary>Filters that apply to requests sent to this backend alone.</summary>
    public ImmutableArray<HttpFilterConfig> Filters { get; init; } = [];
}

/// <summary>A change to a message, or an answer.</summary>
public abstract record HttpFilterConfig;

/// <summary>Gateway API HeaderModifier; names in lower case. Order: remove, set, add.</summary>
public sealed record HeaderModifierConfig(
    bool OnResponse,
    ImmutableArray<KeyValuePair<string, string>> Set,
    ImmutableArray<KeyValuePair<string, string>> Add,
    ImmutableArray<string> Remove) : HttpFilterConfig;

/// <summary>Gateway API RequestRedirect; null parts keep the request's.</summary>
public sealed record RedirectConfig(string? Scheme, string? Hostname, PathRewriteConfig? Path, int? Port, int Status) : HttpFilterConfig
{
    /// <summary>The port is the listener's own, because the filter names none: a client that came through a trusted proxy has dialed another one.</summary>
    public bool IsListenerPort { get; init; }
}

/// <summary>Gateway API URLRewrite.</summary>
public sealed record UrlRewriteConfig(string? Hostname, PathRewriteConfig? Path) : HttpFilterConfig;

/// <summary>Gateway API RequestMirror: a cluster gets a copy of so many of so many requests, and its answers are thrown away.</summary>
public sealed record MirrorConfig(ClusterId Cluster, int Numerator, int Denominator) : HttpFilterConfig;

/// <summary>Gateway API CORS. Origins as "scheme://host" with an optional port, the host with an optional "*" at its beginning, or "*" alone; methods and
/// field names as written, or "*" alone; the age in seconds.</summary>
public sealed record CorsConfig(
    ImmutableArray<string> AllowOrigins,
    bool AllowCredentials,
    ImmutableArray<string> AllowMethods,
    ImmutableArray<string> AllowHeaders,
    ImmutableArray<string> ExposeHeaders,
    int MaxAge) : HttpFilterConfig;

/// <summary>A new path: the whole of it, or in place of the matched prefix.</summary>
public sealed record PathRewriteConfig(bool ReplacesPrefixOnly, string Value);
