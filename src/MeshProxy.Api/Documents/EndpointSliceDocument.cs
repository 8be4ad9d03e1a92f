using System.Collections.Immutable;

namespace MeshProxy.Api.Documents;

/// <summary>EndpointSlice, discovery.k8s.io/v1: static endpoints outside the mesh.</summary>
public sealed record EndpointSliceDocument : Document
{
    /// <summary>The label that names the Service.</summary>
    public const string ServiceLabel = "kubernetes.io/service-name";

    /// <inheritdoc/>
    public override string Kind => DocumentKinds.EndpointSlice;

    /// <summary>The Service, of the same namespace, that the endpoints belong to.</summary>
    public string ServiceName { get; init; } = "";

    /// <summary>Ports by the name of the service's port.</summary>
    public ImmutableArray<(string Name, int Port)> Ports { get; init; } = [];

    /// <summary>The endpoints.</summary>
    public ImmutableArray<SliceEndpoint> Endpoints { get; init; } = [];
}

/// <summary>One endpoint of an EndpointSlice.</summary>
public sealed record SliceEndpoint(ImmutableArray<string> Addresses, bool Ready, bool Terminating, string Zone);
