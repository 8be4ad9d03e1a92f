using MeshProxy.DataPlane.Clusters;

namespace MeshProxy.DataPlane.Routing;

/// <summary>A RequestMirror filter, compiled: which share of requests a cluster gets a copy of. The share is spread evenly, like that of
/// <see cref="WeightedBackends"/>: a Weyl sequence that starts at random.</summary>
/// <param name="cluster">Where copies go.</param>
/// <param name="numerator">So many...</param>
/// <param name="denominator">...of so many requests.</param>
/// <param name="filters">What else changes a copy: a rule's own filters, and a backend's where the mirror is a backend's.</param>
/// <param name="start">Where the sequence starts.</param>
internal sealed class RouteMirror(Cluster cluster, int numerator, int denominator, MessageFilters filters, int start)
{
    private const uint GoldenRatio = 2654435769;

    private uint _count = (uint)start;

    public Cluster Cluster => cluster;

    public MessageFilters Filters => filters;

    /// <summary>Whether the request at hand is one of the share.</summary>
    public bool Samples() =>
        numerator >= denominator || (numerator > 0 && (((ulong)(Interlocked.Increment(ref _count) * GoldenRatio) * (uint)denominator) >> 32) < (uint)numerator);
}
