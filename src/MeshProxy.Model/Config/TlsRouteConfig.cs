using System.Collections.Immutable;

namespace MeshProxy.Model.Config;

/// <summary>One TLSRoute as it attaches to one parent, already checked and resolved.</summary>
public sealed record TlsRouteConfig
{
    /// <summary>"namespace/name" of the document.</summary>
    public required string Id { get; init; }

    /// <summary>Server names it takes: lower case, "*.example.com" for a wildcard; empty: any, also none. No two routes of one parent have a name in common.</summary>
    public ImmutableArray<string> Hostnames { get; init; } = [];

    /// <summary>Weighted choices. Empty: refused.</summary>
    public ImmutableArray<BackendConfig> Backends { get; init; } = [];
}
