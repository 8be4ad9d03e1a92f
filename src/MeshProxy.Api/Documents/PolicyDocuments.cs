using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>A policy that attaches by targetRefs. None is implemented yet: each is recognised, refused with UnsupportedValue, and refuses its targets with
/// it, because a policy that looks applied and is not would be worse.</summary>
public abstract record PolicyDocument : Document
{
    /// <summary>What it is about; empty: everything in its namespace.</summary>
    public ImmutableArray<TargetRef> TargetRefs { get; init; } = [];
}

/// <summary>What a policy is about, in its own namespace.</summary>
public sealed record TargetRef(string Group, string Kind, ResourceName Name, string? SectionName, string Field)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Kind} {Name}{(SectionName is null ? "" : "/" + SectionName)}";
}

/// <summary>BackendTLSPolicy, gateway.networking.k8s.io.</summary>
public sealed record BackendTlsPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.BackendTlsPolicy;
}

/// <summary>BackendTrafficPolicy, meshproxy.io.</summary>
public sealed record BackendTrafficPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.BackendTrafficPolicy;
}

/// <summary>AuthorizationPolicy, meshproxy.io.</summary>
public sealed record AuthorizationPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.AuthorizationPolicy;
}

/// <summary>RateLimitPolicy, meshproxy.io.</summary>
public sealed record RateLimitPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.RateLimitPolicy;
}
