using System.Collections.Immutable;
using MeshProxy.Model.Identity;

namespace MeshProxy.Model.Config;

/// <summary>A group of endpoints that serve one port of one service, and how they are spoken to. Every unit that sends traffic there carries a copy; equal by
/// content, because equal copies are one live cluster.</summary>
public sealed record ClusterConfig
{
    /// <summary>Which service port it is; stable over updates, so that live state survives them.</summary>
    public required ClusterId Id { get; init; }

    /// <summary>What the application behind it speaks.</summary>
    public AppProtocol Protocol { get; init; }

    /// <summary>Who may serve it: the outbound demands one of these from the peer's certificate. Empty: no mesh endpoint is acceptable.</summary>
    public ImmutableArray<SpiffeId> AllowedServers { get; init; } = [];

    /// <summary>How long a dial (TCP, TLS, first byte) may take.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How endpoints outside the mesh are dialed with TLS; null: in plaintext.</summary>
    public UpstreamTlsConfig? Tls { get; init; }

    /// <summary>Concurrency limits.</summary>
    public CircuitBreakerConfig CircuitBreaker { get; init; } = new();

    /// <summary>Copies of one unit, which are equal for each ID, ready to be looked up.</summary>
    public static Func<ClusterId, ClusterConfig?> ById(IEnumerable<ClusterConfig> clusters) => clusters.DistinctBy(cluster => cluster.Id).ToDictionary(cluster => cluster.Id).GetValueOrDefault;

    /// <inheritdoc/>
    public bool Equals(ClusterConfig? other) => other is not null && Id == other.Id && Protocol == other.Protocol && ConnectTimeout == other.ConnectTimeout
        && Equals(Tls, other.Tls) && CircuitBreaker == other.CircuitBreaker && AllowedServers.AsSpan().SequenceEqual(other.AllowedServers.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Id, Protocol, Tls);
}

/// <summary>Concurrency limits of one cluster, Envoy's numbers.</summary>
public sealed record CircuitBreakerConfig
{
    /// <summary>Connections to all endpoints together.</summary>
    public int MaxConnections { get; init; } = 1024;

    /// <summary>Requests that wait for a connection.</summary>
    public int MaxPendingRequests { get; init; } = 1024;

    /// <summary>Requests (or opaque connections) in flight.</summary>
    public int MaxRequests { get; init; } = 1024;
}

/// <summary>The endpoints of one cluster. Travels apart from routes: endpoint updates stand alone.</summary>
public sealed record EndpointSetConfig(ClusterId Cluster, ImmutableArray<EndpointConfig> Endpoints)
{
    /// <inheritdoc/>
    public bool Equals(EndpointSetConfig? other) => other is not null && Cluster == other.Cluster && Endpoints.AsSpan().SequenceEqual(other.Endpoints.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Cluster, Endpoints.Length);
}

/// <summary>One instance of a service.</summary>
public sealed record EndpointConfig
{
    /// <summary>Stable identity over updates: the workload's "namespace/name", or "address:port" of a static endpoint.</summary>
    public required string Id { get; init; }

    /// <summary>An IP address.</summary>
    public required string Address { get; init; }

    /// <summary>The application's port.</summary>
    public required int Port { get; init; }

    /// <summary>The port of the sidecar in front of it, spoken to in mesh protocol 1; null outside the mesh (plaintext, or TLS by BackendTLSPolicy).</summary>
    public int? InboundPort { get; init; }

    /// <summary>What the registry says: up and willing.</summary>
    public bool IsReady { get; init; } = true;

    /// <summary>Finishing what it has; takes nothing new.</summary>
    public bool IsDraining { get; init; }

    /// <summary>Relative share, at least 1.</summary>
    public int Weight { get; init; } = 1;

    /// <summary>"region/zone/sub-zone", each part optional.</summary>
    public string Locality { get; init; } = "";
}
