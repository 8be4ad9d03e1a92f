using System.Collections.Immutable;

namespace MeshProxy.Api.Documents;

/// <summary>ConfigMap, v1: texts that other documents refer to, such as the authorities of a BackendTLSPolicy.</summary>
public sealed record ConfigMapDocument : Document
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.ConfigMap;

    /// <summary>Texts by key.</summary>
    public ImmutableDictionary<string, string> Data { get; init; } = ImmutableDictionary<string, string>.Empty;
}
