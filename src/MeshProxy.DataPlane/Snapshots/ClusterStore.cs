using System.Collections.Concurrent;
using System.Collections.Immutable;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The live clusters of a data plane: what survives from snapshot to snapshot. Changed by the configuration thread only.</summary>
/// <remarks>
/// Units carry copies of the clusters that they use, and copies may differ: a unit that is refused keeps its last good one beside those of units that were taken.
/// Copies that are dialed alike are one cluster. Of copies that differ each is a cluster of its own, with its own pools and endpoints, so that no unit's policy is
/// undone by another's; circuit breaker, retry budget and metrics they share, so that the bounds stay those of the service.
/// </remarks>
internal sealed class ClusterStore(ClusterServices services, string applicationAddress)
{
    /// <summary>How long a cluster that no snapshot names any more is kept whole, for exchanges that were routed by the snapshot before.</summary>
    private const long GraceMilliseconds = 1000;

    /// <summary>Below any server's own idle limit: the application is on this machine, a new connection costs next to nothing.</summary>
    private static readonly TimeSpan LocalIdleTimeout = TimeSpan.FromSeconds(3);

    private readonly ConcurrentDictionary<ClusterId, ImmutableArray<Cluster>> _clusters = new();
    private readonly ConcurrentDictionary<(ClusterId Service, int LocalPort, AppProtocol Protocol), Cluster> _local = new();
    private readonly ConcurrentQueue<(Cluster Cluster, long At)> _dropped = new();
    private readonly ConcurrentQueue<Cluster> _leaving = new();

    /// <summary>From the data plane's source of randomness.</summary>
    public int NextRandom() => services.Random.Next();

    public IEnumerable<Cluster> Clusters => _clusters.Values.SelectMany(copies => copies);

    public IEnumerable<Cluster> LocalClusters => _local.Values;

    /// <summary>The cluster that is dialed like that, found or made.</summary>
    /// <exception cref="System.Security.Cryptography.CryptographicException">It can not be dialed like that.</exception>
    public Cluster Bring(ClusterConfig config, EndpointSetConfig? endpoints)
    {
        var copies = _clusters.GetValueOrDefault(config.Id, []);
        if (copies.FirstOrDefault(copy => copy.Config.Equals(config)) is { } found)
        {
            return found;
        }

        var made = new Cluster(config, services, sibling: copies.FirstOrDefault());
        if (endpoints is not null)
        {
            made.Update(endpoints);
        }

        _clusters[config.Id] = copies.Add(made);
        return made;
    }

    /// <summary>The cluster in front of the own application: one endpoint, plaintext, on loopback.</summary>
    public Cluster BringLocal(InboundPortConfig port, AppProtocol protocol) => _local.GetOrAdd((port.Service, port.LocalPort, protocol), key =>
    {
        var cluster = new Cluster(new ClusterConfig { Id = key.Service, Protocol = key.Protocol }, services, LocalIdleTimeout);
        cluster.Update(new EndpointSetConfig(key.Service,
            [new EndpointConfig { Id = $"{applicationAddress}:{key.LocalPort}", Address = applicationAddress, Port = key.LocalPort }]));
        return cluster;
    });

    public void Update(EndpointSetConfig endpoints)
    {
        foreach (var cluster in _clusters.GetValueOrDefault(endpoints.Cluster, []))
        {
            cluster.Update(endpoints);
        }
    }

    /// <summary>Lets go of what the snapshot in force does not name; to be called after the swap. An exchange that has just been routed by the snapshot
    /// before still finds endpoints; the tick retires them a second later. Exchanges under way finish on the connections they have.</summary>
    public void Keep(IReadOnlySet<Cluster> named, long nowMilliseconds)
    {
        foreach (var (id, copies) in _clusters)
        {
            foreach (var cluster in copies.Where(copy => !named.Contains(copy)))
            {
                _dropped.Enqueue((cluster, nowMilliseconds));
            }

            _clusters[id] = copies.RemoveAll(copy => !named.Contains(copy));
            if (_clusters[id].IsEmpty)
            {
                _clusters.TryRemove(id, out _);
            }
        }

        foreach (var (key, cluster) in _local)
        {
            if (!named.Contains(cluster) && _local.TryRemove(key, out _))
            {
                _dropped.Enqueue((cluster, nowMilliseconds));
            }
        }
    }

    /// <summary>Retires everything at once.</summary>
    public void Stop()
    {
        Keep(new HashSet<Cluster>(), 0);
        RetireDropped(long.MaxValue);
    }

    public void OnTrustChanged(bool removed)
    {
        foreach (var cluster in Clusters)
        {
            cluster.OnTrustChanged(removed);
        }

        foreach (var cluster in _dropped.Select(dropped => dropped.Cluster).Concat(_leaving))
        {
            cluster.OnTrustChanged(removed);
        }
    }

    public void OnTick(long nowMilliseconds)
    {
        foreach (var (_, copies) in _clusters)
        {
            foreach (var cluster in copies)
            {
                cluster.OnTick(nowMilliseconds);
            }
        }

        foreach (var (_, cluster) in _local)
        {
            cluster.OnTick(nowMilliseconds);
        }

        foreach (var (cluster, _) in _dropped)
        {
            cluster.OnTick(nowMilliseconds);
        }

        for (var i = _leaving.Count; i > 0 && _leaving.TryDequeue(out var cluster); i--)
        {
            cluster.OnTick(nowMilliseconds);
            if (!cluster.IsGone)
            {
                _leaving.Enqueue(cluster);
            }
        }

        RetireDropped(nowMilliseconds - GraceMilliseconds);
    }

    // Ticks never overlap, so one thread at a time takes from the queue.
    private void RetireDropped(long droppedUpTo)
    {
        while (_dropped.TryPeek(out var oldest) && oldest.At <= droppedUpTo && _dropped.TryDequeue(out oldest))
        {
            oldest.Cluster.Retire();
            _leaving.Enqueue(oldest.Cluster);
        }
    }
}
