using System.Collections.Immutable;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Documents;

/// <summary>Workload, meshproxy.io/v1alpha1: one instance that an operator declares. Registered instances become <c>LiveWorkload</c>s instead.</summary>
public sealed record WorkloadDocument : Document
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.Workload;

    /// <summary>An IP address.</summary>
    public string Address { get; init; } = "";

    /// <summary>The port of its sidecar; null: it has none and is spoken to in plaintext.</summary>
    public int? InboundPort { get; init; }

    /// <summary>The service account it runs as, in its own namespace; null exactly when it has no sidecar.</summary>
    public string? ServiceAccount { get; init; }

    /// <summary>The whole identity when the document writes it; its trust domain must be the mesh's.</summary>
    public SpiffeId? Identity { get; init; }

    /// <summary>Its ports.</summary>
    public ImmutableArray<(string Name, int Port)> Ports { get; init; } = [];

    /// <summary>"region/zone/sub-zone", each part optional.</summary>
    public string Locality { get; init; } = "";

    /// <summary>At least 1.</summary>
    public int Weight { get; init; } = 1;
}
