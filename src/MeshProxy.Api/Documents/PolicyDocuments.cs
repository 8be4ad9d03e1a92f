using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>A policy that attaches by targetRefs. Those that are not implemented are recognised, refused with UnsupportedValue, and refuse their targets with
/// them, because a policy that looks applied and is not would be worse.</summary>
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

/// <summary>BackendTLSPolicy, gateway.networking.k8s.io/v1: endpoints outside the mesh are dialed with TLS.</summary>
public sealed record BackendTlsPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.BackendTlsPolicy;

    /// <summary>validation.hostname: the SNI, and what the certificate must be for when no other names are listed.</summary>
    public string ServerName { get; init; } = "";

    /// <summary>validation.caCertificateRefs.</summary>
    public ImmutableArray<AuthorityRef> Authorities { get; init; } = [];

    /// <summary>validation.wellKnownCACertificates: System.</summary>
    public bool UsesSystemAuthorities { get; init; }

    /// <summary>validation.subjectAltNames of type Hostname.</summary>
    public ImmutableArray<string> Hostnames { get; init; } = [];

    /// <summary>validation.subjectAltNames of type URI.</summary>
    public ImmutableArray<string> Uris { get; init; } = [];
}

/// <summary>An object of the policy's own namespace that holds certificates of authorities.</summary>
public sealed record AuthorityRef(string Group, string Kind, ResourceName Name, string Field);

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
