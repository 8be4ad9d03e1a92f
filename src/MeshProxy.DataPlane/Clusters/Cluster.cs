using System.Collections.Immutable;
using System.Net;
using MeshProxy.DataPlane.Clusters.Balancing;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>What every cluster of a data plane shares.</summary>
internal sealed record ClusterServices(
    UpstreamConnector Connector, ITrustView? Trust, TrustDomain? TrustDomain, Meters Meters, TimeProvider Time, Random Random, Func<bool>? IsMemoryShort = null)
{
    /// <summary>The clock of whatever is counted for each request.</summary>
    public RoundClock Clock { get; } = new(Time);
}

/// <summary>
/// A live group of endpoints: its circuit breaker, its balancer, its endpoints' pools. Snapshots come and go, it stays as long as one names it. How it is dialed
/// never changes: other settings are another cluster, so that a route uses the copy that it was compiled with and no other.
/// Written by one configuration thread at a time under <see cref="_gate"/>; read by every event loop through two volatile references.
/// </summary>
internal sealed class Cluster
{
    private readonly Lock _gate = new();
    private readonly ClusterServices _services;
    private readonly TimeSpan _idleTimeout;
    private readonly UpstreamTls? _tls;
    private volatile ClusterEndpoint[] _endpoints = [];
    private volatile IBalancer _balancer;
    private EndpointSetConfig? _set;

    // Pools of endpoints that are no more, until their last connection has closed.
    private ImmutableArray<UpstreamPool> _leaving = [];

    /// <summary>Makes a cluster without endpoints.</summary>
    /// <param name="config">How it is dialed.</param>
    /// <param name="services">What clusters share.</param>
    /// <param name="idleTimeout">For connections without a request.</param>
    /// <param name="metersName">Where it is counted, when not under its own name.</param>
    /// <param name="sibling">The cluster of the same ID that is dialed in another way: concurrency and retries of both are bounded together.</param>
    public Cluster(ClusterConfig config, ClusterServices services, TimeSpan? idleTimeout = null, string? metersName = null, Cluster? sibling = null)
    {
        Config = config;
        Name = config.Id.ToString();
        ServiceName = config.Id.Service.ToString();
        CircuitBreaker = new CircuitBreaker(config.CircuitBreaker, sibling?.CircuitBreaker);
        RetryBudget = sibling?.RetryBudget ?? new RetryBudget(services.Clock);
        Meters = services.Meters.ForCluster(metersName ?? Name);
        _tls = UpstreamTls.Of(config.Tls);
        _services = services;
        _idleTimeout = idleTimeout ?? new UpstreamPoolOptions().IdleTimeout;
        _balancer = new RoundRobinBalancer([], 0);
    }

    public ClusterConfig Config { get; }

    /// <summary>"namespace/name:port", for logs and metrics.</summary>
    public string Name { get; }

    /// <summary>"namespace/name".</summary>
    public string ServiceName { get; }

    public CircuitBreaker CircuitBreaker { get; }

    public RetryBudget RetryBudget { get; }

    /// <summary>Where attempts and connections are counted.</summary>
    public ClusterMeters Meters { get; }

    public IReadOnlyList<ClusterEndpoint> Endpoints => _endpoints;

    /// <summary>Whether it was retired and its last connection has closed.</summary>
    public bool IsGone
    {
        get
        {
            lock (_gate)
            {
                return _endpoints.Length == 0 && _leaving.IsEmpty;
            }
        }
    }

    /// <summary>An eligible endpoint, other than the one tried before when there is another.</summary>
    public ClusterEndpoint? Pick(ClusterEndpoint? tried) => _balancer.Pick(tried);

    /// <summary>Takes a new endpoint set; endpoints are kept where their connections may be.</summary>
    public void Update(EndpointSetConfig set)
    {
        List<ClusterEndpoint> gone = [];
        lock (_gate)
        {
            if (!set.Equals(_set))
            {
                _set = set;
                gone = Rebuild();
            }
        }

        Retire(gone);
    }

    /// <summary>The roots changed: new connections are judged by the new ones. When roots were removed, connections judged by them end now, else they drain.</summary>
    public void OnTrustChanged(bool removed)
    {
        List<ClusterEndpoint> gone;
        lock (_gate)
        {
            gone = Rebuild();
        }

        Retire(gone, removed);
    }

    /// <summary>Ends what it has; for a cluster that no snapshot names any more.</summary>
    public void Retire()
    {
        List<ClusterEndpoint> gone;
        lock (_gate)
        {
            _set = null;
            gone = Rebuild();
        }

        Retire(gone);
    }

    public void OnTick(long nowMilliseconds)
    {
        foreach (var endpoint in _endpoints)
        {
            endpoint.Pool.OnTick(nowMilliseconds);
        }

        ImmutableArray<UpstreamPool> leaving;
        lock (_gate)
        {
            _leaving = leaving = _leaving.RemoveAll(static pool => pool.IsEmpty);
        }

        foreach (var pool in leaving)
        {
            pool.OnTick(nowMilliseconds);
        }
    }

    /// <summary>The key under which connections to an endpoint are made now.</summary>
    public PoolKey KeyOf(EndpointConfig endpoint)
    {
        var address = IPAddress.Parse(endpoint.Address);
        return endpoint.InboundPort is { } inboundPort && _services.TrustDomain is { } trustDomain
            ? new PoolKey(
                new IPEndPoint(address, inboundPort),
                HttpProtocolVersion.Http2,
                Config.Id.ToMeshServerName(trustDomain.Name),
                Config.AllowedServers,
                _services.Trust?.Bundle?.Revision ?? "")
            : new PoolKey(
                new IPEndPoint(address, endpoint.Port),
                VersionOf(Config.Protocol, _tls is not null),
                null,
                ImmutableArray<SpiffeId>.Empty,
                "",
                _tls);
    }

    /// <summary>What an endpoint outside the mesh is spoken to in; null: what it chooses by ALPN.</summary>
    private static HttpProtocolVersion? VersionOf(AppProtocol protocol, bool isTls) => protocol switch
    {
        AppProtocol.Http2 or AppProtocol.Grpc => HttpProtocolVersion.Http2,
        AppProtocol.Https or AppProtocol.Undeclared when isTls => null,
        _ => HttpProtocolVersion.Http11,
    };

    private void Retire(List<ClusterEndpoint> gone, bool revoked = false)
    {
        ImmutableArray<UpstreamPool> leaving;
        lock (_gate)
        {
            _leaving = leaving = [.. _leaving, .. gone.Select(endpoint => endpoint.Pool)];
        }

        // Outside the lock: whoever waits in a pool goes on inside these calls.
        if (revoked)
        {
            foreach (var pool in leaving.Where(pool => pool.Key.IsMesh))
            {
                pool.Abort(ConnectionCloseReason.Revoked);
            }
        }

        foreach (var endpoint in gone)
        {
            endpoint.Pool.Retire(ConnectionCloseReason.Drain);
        }
    }

    /// <summary>Makes endpoints and balancer anew. Under the lock.</summary>
    /// <returns>The endpoints that are no more; their pools are to be retired.</returns>
    private List<ClusterEndpoint> Rebuild()
    {
        var before = _endpoints.ToDictionary(endpoint => endpoint.Config.Id);
        var after = new List<ClusterEndpoint>();
        var seen = new HashSet<string>();
        foreach (var config in _set?.Endpoints ?? [])
        {
            // Addresses are checked where documents are read; what is none all the same must not take the other endpoints with it.
            if (!seen.Add(config.Id) || !IPAddress.TryParse(config.Address, out _))
            {
                continue;
            }

            var key = KeyOf(config);
            if (before.TryGetValue(config.Id, out var kept) && kept.Pool.Key.Equals(key))
            {
                kept.Config = config;
                before.Remove(config.Id);
                after.Add(kept);
            }
            else
            {
                after.Add(new ClusterEndpoint(config, NewPool(key)));
            }
        }

        _endpoints = [.. after];
        _balancer = new RoundRobinBalancer([.. after.Where(endpoint => endpoint.IsEligible)], (uint)_services.Random.Next());
        return [.. before.Values];
    }

    private UpstreamPool NewPool(PoolKey key)
    {
        var options = new UpstreamPoolOptions
        {
            ConnectTimeout = Config.ConnectTimeout,
            IdleTimeout = _idleTimeout,
            KeepAlive = key.IsMesh,
        };
        return new UpstreamPool(key, _services.Connector, options, CircuitBreaker, Meters, _services.Time, (uint)_services.Random.Next(), _services.IsMemoryShort);
    }
}
