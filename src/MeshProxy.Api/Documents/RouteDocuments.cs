using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>What HTTPRoute, GRPCRoute, TCPRoute and TLSRoute have in common.</summary>
public abstract record RouteDocument : Document
{
    /// <summary>What it attaches to: Gateways (north-south) and Services (east-west).</summary>
    public ImmutableArray<ParentRef> ParentRefs { get; init; } = [];

    /// <summary>Lower case, "*." for a wildcard; empty: any.</summary>
    public ImmutableArray<string> Hostnames { get; init; } = [];

    /// <summary>Rules in document order. Those of a GRPCRoute are already written as matches on HTTP; those of a TCPRoute or TLSRoute have backends alone.</summary>
    public ImmutableArray<RouteRule> Rules { get; init; } = [];
}

/// <summary>HTTPRoute, gateway.networking.k8s.io/v1.</summary>
public sealed record HttpRouteDocument : RouteDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.HttpRoute;
}

/// <summary>GRPCRoute, gateway.networking.k8s.io/v1.</summary>
public sealed record GrpcRouteDocument : RouteDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.GrpcRoute;
}

/// <summary>TCPRoute, gateway.networking.k8s.io/v1alpha2.</summary>
public sealed record TcpRouteDocument : RouteDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.TcpRoute;
}

/// <summary>TLSRoute, gateway.networking.k8s.io/v1: where a TLS connection goes, by its server name.</summary>
public sealed record TlsRouteDocument : RouteDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.TlsRoute;
}

/// <summary>One rule of a route.</summary>
public sealed record RouteRule
{
    /// <summary>Its name, or its index in the document.</summary>
    public required string Name { get; init; }

    /// <summary>Alternatives; empty: everything.</summary>
    public ImmutableArray<HttpMatchConfig> Matches { get; init; } = [];

    /// <summary>Filters in document order.</summary>
    public ImmutableArray<HttpFilterConfig> Filters { get; init; } = [];

    /// <summary>Weighted backends.</summary>
    public ImmutableArray<BackendRef> Backends { get; init; } = [];

    /// <summary>timeouts.request; zero: none.</summary>
    public TimeSpan? RequestTimeout { get; init; }

    /// <summary>timeouts.backendRequest; zero: none.</summary>
    public TimeSpan? BackendRequestTimeout { get; init; }
}

/// <summary>What a route attaches to. Namespace is already filled in.</summary>
public sealed record ParentRef(string Group, string Kind, ResourceName Name, string? SectionName, int? Port, string Field)
{
    /// <summary>"Service shop/payments", with port or section when given.</summary>
    public override string ToString() => $"{Kind} {Name}{(SectionName is null ? "" : "/" + SectionName)}{(Port is null ? "" : ":" + Port)}";
}

/// <summary>Where a share of a rule's requests goes. Namespace is already filled in.</summary>
public sealed record BackendRef(string Group, string Kind, ResourceName Name, int? Port, int Weight, string Field)
{
    /// <summary>Filters that apply to this backend's requests alone.</summary>
    public ImmutableArray<HttpFilterConfig> Filters { get; init; } = [];
}

/// <summary>A RequestMirror filter as it is written; compilation resolves it into a MirrorConfig, or drops it.</summary>
public sealed record MirrorRef(BackendRef Backend, int Numerator, int Denominator) : HttpFilterConfig;

/// <summary>ReferenceGrant, gateway.networking.k8s.io/v1beta1: what other namespaces may name in this one.</summary>
public sealed record ReferenceGrantDocument : Document
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.ReferenceGrant;

    /// <summary>Who may.</summary>
    public ImmutableArray<(string Group, string Kind, string Namespace)> From { get; init; } = [];

    /// <summary>What; Name null: all of that kind.</summary>
    public ImmutableArray<(string Group, string Kind, string? Name)> To { get; init; } = [];
}
