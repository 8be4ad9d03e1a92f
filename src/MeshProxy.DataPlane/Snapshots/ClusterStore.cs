using System.Collections.Concurrent;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The live clusters of a data plane, by stable ID: what survives from snapshot to snapshot. Changed by the configuration thread only.</summary>
internal sealed class ClusterStore(ClusterServices services, string applicationAddress)
{
    /// <summary>How long a cluster that no snapshot names any more is kept whole, for exchanges that were routed by the snapshot before.</summary>
    private const long GraceMilliseconds = 1000;

    /// <summary>Below any server's own idle limit: the application is on this machine, a new connection costs next to nothing.</summary>
    private static readonly TimeSpan LocalIdleTimeout = TimeSpan.FromSeconds(3);

    private readonly ConcurrentDictionary<ClusterId, Cluster> _clusters = new();
    private readonly ConcurrentDictionary<(ClusterId Service, int LocalPort, AppProtocol Protocol), Cluster> _local = new();
    private readonly ConcurrentQueue<(Cluster Cluster, long At)> _dropped = new();

    /// <summary>From the data plane's source of randomness.</summary>
    public int NextRandom() => services.Random.Next();

    public IEnumerable<Cluster> Clusters => _clusters.Values;

    public IEnumerable<Cluster> LocalClusters => _local.Values;

    /// <summary>The cluster of that ID, made or brought up to date.</summary>
    public Cluster Bring(ClusterConfig config, ProxyConfig whole)
    {
        var cluster = _clusters.GetOrAdd(config.Id, _ => new Cluster(config, services));
        if (!ReferenceEquals(cluster.Config, config))
        {
            cluster.Update(config);
        }

        if (whole.Endpoints.TryGetValue(config.Id, out var endpoints))
        {
            cluster.Update(endpoints);
        }

        return cluster;
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
        if (_clusters.TryGetValue(endpoints.Cluster, out var cluster))
        {
            cluster.Update(endpoints);
        }
    }

    /// <summary>Lets go of what the snapshot in force does not name; to be called after the swap. An exchange that has just been routed by the snapshot
    /// before still finds endpoints; the tick retires them a second later. Exchanges under way finish on the connections they have.</summary>
    public void Keep(IReadOnlySet<Cluster> named, long nowMilliseconds)
    {
        foreach (var (id, cluster) in _clusters)
        {
            if (!named.Contains(cluster) && _clusters.TryRemove(id, out _))
            {
                _dropped.Enqueue((cluster, nowMilliseconds));
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
        foreach (var cluster in _clusters.Values)
        {
            cluster.OnTrustChanged(removed);
        }

        foreach (var (cluster, _) in _dropped)
        {
            cluster.OnTrustChanged(removed);
        }
    }

    public void OnTick(long nowMilliseconds)
    {
        foreach (var (_, cluster) in _clusters)
        {
            cluster.OnTick(nowMilliseconds);
        }

        foreach (var (_, cluster) in _local)
        {
            cluster.OnTick(nowMilliseconds);
        }

        RetireDropped(nowMilliseconds - GraceMilliseconds);
    }

    // Ticks never overlap, so one thread at a time takes from the queue.
    private void RetireDropped(long droppedUpTo)
    {
        while (_dropped.TryPeek(out var oldest) && oldest.At <= droppedUpTo && _dropped.TryDequeue(out oldest))
        {
            oldest.Cluster.Retire();
        }
    }
}
