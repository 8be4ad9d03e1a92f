using System.Collections.Concurrent;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The live clusters of a data plane, by stable ID: what survives from snapshot to snapshot. Changed by the configuration thread only.</summary>
internal sealed class ClusterStore(ClusterServices services, string applicationAddress)
{
    /// <summary>Below any server's own idle limit: the application is on this machine, a new connection costs next to nothing.</summary>
    private static readonly TimeSpan LocalIdleTimeout = TimeSpan.FromSeconds(3);

    private readonly ConcurrentDictionary<ClusterId, Cluster> _clusters = new();
    private readonly ConcurrentDictionary<(ClusterId Service, int LocalPort, AppProtocol Protocol), Cluster> _local = new();

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

    /// <summary>Retires what a new snapshot does not name. Exchanges of older snapshots finish on the connections they have.</summary>
    public void Keep(IReadOnlySet<Cluster> named)
    {
        foreach (var (id, cluster) in _clusters)
        {
            if (!named.Contains(cluster) && _clusters.TryRemove(id, out _))
            {
                cluster.Retire();
            }
        }

        foreach (var (key, cluster) in _local)
        {
            if (!named.Contains(cluster) && _local.TryRemove(key, out _))
            {
                cluster.Retire();
            }
        }
    }

    public void OnTrustChanged(bool removed)
    {
        foreach (var cluster in _clusters.Values)
        {
            cluster.OnTrustChanged(removed);
        }
    }

    public void OnTick(long nowMilliseconds)
    {
        foreach (var cluster in _clusters.Values.Concat(_local.Values))
        {
            cluster.OnTick(nowMilliseconds);
        }
    }
}
