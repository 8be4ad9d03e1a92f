using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.Api.Documents;

/// <summary>The kinds that MeshProxy reads, and the names people call them by.</summary>
public static class DocumentKinds
{
#pragma warning disable CS1591 // each is its own name
    public const string Service = "Service";
    public const string EndpointSlice = "EndpointSlice";
    public const string Secret = "Secret";
    public const string ConfigMap = "ConfigMap";
    public const string GatewayClass = "GatewayClass";
    public const string Gateway = "Gateway";
    public const string HttpRoute = "HTTPRoute";
    public const string GrpcRoute = "GRPCRoute";
    public const string TcpRoute = "TCPRoute";
    public const string TlsRoute = "TLSRoute";
    public const string ReferenceGrant = "ReferenceGrant";
    public const string BackendTlsPolicy = "BackendTLSPolicy";
    public const string Workload = "Workload";
    public const string ClientTrafficPolicy = "ClientTrafficPolicy";
    public const string BackendTrafficPolicy = "BackendTrafficPolicy";
    public const string AuthorizationPolicy = "AuthorizationPolicy";
    public const string RateLimitPolicy = "RateLimitPolicy";
#pragma warning restore CS1591

    /// <summary>Every kind, in the order in which help lists them.</summary>
    public static readonly IReadOnlyList<string> All =
    [
        Service, EndpointSlice, Secret, ConfigMap, GatewayClass, Gateway, HttpRoute, GrpcRoute, TcpRoute, TlsRoute, ReferenceGrant, BackendTlsPolicy, Workload,
        ClientTrafficPolicy, BackendTrafficPolicy, AuthorizationPolicy, RateLimitPolicy,
    ];

    private static readonly FrozenDictionary<string, string> Names = MakeNames();

    /// <summary>The kind that a person means: case does not matter, plurals and the usual short names are taken ("svc", "gtw", "httproutes").</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out string? kind)
    {
        kind = null;
        return text is not null && Names.TryGetValue(text, out kind);
    }

    /// <summary>True for kinds that live in a namespace.</summary>
    public static bool IsNamespaced(string kind) => kind != GatewayClass;

    private static FrozenDictionary<string, string> MakeNames()
    {
        var names = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var kind in All)
        {
            names[kind] = kind;
            names[kind.EndsWith('y') && kind != Gateway ? kind[..^1] + "ies" : kind.EndsWith('s') ? kind + "es" : kind + "s"] = kind;
        }

        names["svc"] = Service;
        names["cm"] = ConfigMap;
        names["gc"] = GatewayClass;
        names["gtw"] = Gateway;
        names["refgrant"] = ReferenceGrant;
        names["btlspolicy"] = BackendTlsPolicy;
        names["wl"] = Workload;
        return names.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase);
    }
}
