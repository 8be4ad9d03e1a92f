using System.Collections.Immutable;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Telemetry;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One choice of a route: a cluster, or the reason why its share of requests is refused. A rule that redirects has one, with no cluster.</summary>
internal sealed record RouteBackend(Cluster? Cluster, int Weight, string? Invalid, MessageFilters Filters, RouteMeters Meters)
{
    /// <summary>Who gets copies of requests that go here.</summary>
    public ImmutableArray<RouteMirror> Mirrors { get; init; } = [];
}

/// <summary>Chooses among weighted backends, spread evenly: the n-th request takes the n-th point of a Weyl sequence (golden ratio), so that the shares are
/// right already after a few dozen requests, without a random number and without a shared lock.</summary>
internal sealed class WeightedBackends
{
    private const uint GoldenRatio = 2654435769;

    private readonly RouteBackend[] _backends;
    private readonly uint[] _upTo;
    private readonly uint _total;
    private uint _count;

    public WeightedBackends(IEnumerable<RouteBackend> backends)
    {
        _backends = [.. backends.Where(backend => backend.Weight > 0)];
        _upTo = new uint[_backends.Length];
        for (var i = 0; i < _backends.Length; i++)
        {
            _total += (uint)_backends[i].Weight;
            _upTo[i] = _total;
        }
    }

    public IReadOnlyList<RouteBackend> All => _backends;

    /// <summary>One backend, or null when there is none (or all have weight zero).</summary>
    public RouteBackend? Pick()
    {
        if (_backends.Length <= 1)
        {
            return _backends.Length == 0 ? null : _backends[0];
        }

        var point = (uint)(((ulong)(Interlocked.Increment(ref _count) * GoldenRatio) * _total) >> 32);
        var index = 0;
        while (point >= _upTo[index])
        {
            index++;
        }

        return _backends[index];
    }
}
