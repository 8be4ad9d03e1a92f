using System.Collections.Immutable;
using MeshProxy.Model.Identity;

namespace MeshProxy.Model.Config;

/// <summary>
/// Everything that one data plane has been told, immutable and swapped whole. File mode compiles it from documents; in the mesh the discovery client
/// assembles it from units.
/// </summary>
public sealed record ProxyConfig
{
    /// <summary>Nothing configured yet.</summary>
    public static readonly ProxyConfig Empty = new();

    /// <summary>Which state of the mesh, or of the files, this is; shown by status and logs.</summary>
    public string Revision { get; init; } = "";

    /// <summary>Edges of a gateway.</summary>
    public ImmutableArray<ListenerConfig> Listeners { get; init; } = [];

    /// <summary>Services that traffic from here may go to, each with its routes and every policy on them.</summary>
    public ImmutableDictionary<ResourceName, DestinationConfig> Destinations { get; init; } = ImmutableDictionary<ResourceName, DestinationConfig>.Empty;

    /// <summary>Endpoints by cluster.</summary>
    public ImmutableDictionary<ClusterId, EndpointSetConfig> Endpoints { get; init; } = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty;

    /// <summary>Original destination addresses ("ip:port") and the service port each belongs to.</summary>
    public ImmutableDictionary<string, ClusterId> Addresses { get; init; } = ImmutableDictionary<string, ClusterId>.Empty;

    /// <summary>What the own workload serves; null: none.</summary>
    public InboundConfig? Inbound { get; init; }
}

/// <summary>The unit of acceptance: a service, its routes and every policy on them, taken or refused as one.</summary>
public sealed record DestinationConfig
{
    /// <summary>The service.</summary>
    public required ResourceName Service { get; init; }

    /// <summary>The revision of this unit.</summary>
    public string Revision { get; init; } = "";

    /// <summary>The service's ports. None with <see cref="Refused"/>: nothing may be served, not by an earlier state either.</summary>
    public ImmutableArray<DestinationPortConfig> Ports { get; init; } = [];

    /// <summary>Why the unit is refused: where it has no earlier good state its requests get 500 with this text. Null: in force.</summary>
    public string? Refused { get; init; }

    /// <summary>The routes of this state under the policies of a newer one that is refused: a route that cannot be followed must not take with it what was ordered
    /// of how clusters are dialed and how clients are treated.</summary>
    /// <param name="newer">The newer state.</param>
    /// <param name="clusters">How clusters are dialed now, when more is known of that than <paramref name="newer"/> has.</param>
    public DestinationConfig Under(DestinationConfig newer, Func<ClusterId, ClusterConfig?>? clusters = null)
    {
        var now = clusters ?? ClusterConfig.ById(newer.Ports.SelectMany(port => port.BackendClusters.Append(port.Cluster)));
        return this with
        {
            Ports =
            [
                .. Ports.Select(port => port with
                {
                    Cluster = now(port.Cluster.Id) ?? port.Cluster,
                    BackendClusters = [.. port.BackendClusters.Select(backend => now(backend.Id) ?? backend)],
                    ClientTraffic = newer.Ports.FirstOrDefault(other => other.Cluster.Id == port.Cluster.Id)?.ClientTraffic ?? port.ClientTraffic,
                }),
            ],
        };
    }
}

/// <summary>One port of a destination.</summary>
public sealed record DestinationPortConfig
{
    /// <summary>The service's own cluster; the default backend where no route matches because none is attached.</summary>
    public required ClusterConfig Cluster { get; init; }

    /// <summary>The port's name in the document, or empty.</summary>
    public string Name { get; init; } = "";

    /// <summary>HTTP routes whose parent is this service port. When there is at least one, a request that none matches gets 404.</summary>
    public ImmutableArray<HttpRouteConfig> HttpRoutes { get; init; } = [];

    /// <summary>Backends of the TCPRoute whose parent is this service port; empty: the own cluster.</summary>
    public ImmutableArray<BackendConfig> TcpBackends { get; init; } = [];

    /// <summary>TLSRoutes whose parent is this service port. When there is at least one, a connection whose server name none of them takes is refused.</summary>
    public ImmutableArray<TlsRouteConfig> TlsRoutes { get; init; } = [];

    /// <summary>Every further cluster that the routes name.</summary>
    public ImmutableArray<ClusterConfig> BackendClusters { get; init; } = [];

    /// <summary>How the service's inbound treats its clients, as far as it concerns whoever sends to it.</summary>
    public ClientTrafficConfig ClientTraffic { get; init; } = ClientTrafficConfig.Default;
}

/// <summary>What a gateway listener speaks.</summary>
public enum ListenerProtocol
{
    /// <summary>HTTP in cleartext (HTTP/1.1, and HTTP/2 with prior knowledge).</summary>
    Http,

    /// <summary>HTTP over TLS that ends here.</summary>
    Https,

    /// <summary>Opaque bytes over TLS that ends here.</summary>
    Tls,

    /// <summary>Opaque bytes.</summary>
    Tcp,

    /// <summary>TLS that someone else ends: told apart by SNI, never opened.</summary>
    TlsPassthrough,
}

/// <summary>Facts about <see cref="ListenerProtocol"/>.</summary>
public static class ListenerProtocols
{
    /// <summary>True when a client begins with a ClientHello: such listeners may share a port, because its server name tells them apart.</summary>
    public static bool IsTls(this ListenerProtocol protocol) => protocol is ListenerProtocol.Https or ListenerProtocol.Tls or ListenerProtocol.TlsPassthrough;

    /// <summary>True when two listeners can share a port, given different hostnames.</summary>
    public static bool SharesPortWith(this ListenerProtocol one, ListenerProtocol other) => one == other ? one != ListenerProtocol.Tcp : one.IsTls() && other.IsTls();
}

/// <summary>One listener of a Gateway, with the routes that attach to it.</summary>
public sealed record ListenerConfig
{
    /// <summary>"namespace/gateway/section".</summary>
    public required string Id { get; init; }

    /// <summary>Where to bind; empty: every address.</summary>
    public string Address { get; init; } = "";

    /// <summary>The port. Listeners on one port are told apart by hostname: SNI, then Host.</summary>
    public required int Port { get; init; }

    /// <summary>The protocol; those of one port can be told apart (<see cref="ListenerProtocols.SharesPortWith"/>).</summary>
    public required ListenerProtocol Protocol { get; init; }

    /// <summary>Lower case, "*.example.com" for a wildcard; null: any.</summary>
    public string? Hostname { get; init; }

    /// <summary>Certificates to choose from by SNI, the first is the default.</summary>
    public ImmutableArray<ServerCertificateConfig> Certificates { get; init; } = [];

    /// <summary>HTTP routes.</summary>
    public ImmutableArray<HttpRouteConfig> HttpRoutes { get; init; } = [];

    /// <summary>Backends of the TCPRoute. Of a TLS listener: for connections that none of <see cref="TlsRoutes"/> takes.</summary>
    public ImmutableArray<BackendConfig> TcpBackends { get; init; } = [];

    /// <summary>TLSRoutes, for listeners of opaque bytes over TLS.</summary>
    public ImmutableArray<TlsRouteConfig> TlsRoutes { get; init; } = [];

    /// <summary>Every cluster that the routes name.</summary>
    public ImmutableArray<ClusterConfig> BackendClusters { get; init; } = [];

    /// <summary>How clients are treated.</summary>
    public ClientTrafficConfig ClientTraffic { get; init; } = ClientTrafficConfig.Default;

    /// <summary>As <see cref="DestinationConfig.Under"/>: these listeners with their routes, under the policies of a newer state that is refused.</summary>
    public static ImmutableArray<ListenerConfig> Under(ImmutableArray<ListenerConfig> listeners, ImmutableArray<ListenerConfig> newer)
    {
        var now = ClusterConfig.ById(newer.SelectMany(listener => listener.BackendClusters));
        return
        [
            .. listeners.Select(listener => listener with
            {
                BackendClusters = [.. listener.BackendClusters.Select(backend => now(backend.Id) ?? backend)],
                ClientTraffic = newer.FirstOrDefault(other => other.Id == listener.Id)?.ClientTraffic ?? listener.ClientTraffic,
            }),
        ];
    }
}

/// <summary>A certificate chain and its key, PEM. Never logged: <see cref="ToString"/> shows the name only.</summary>
public sealed record ServerCertificateConfig(ResourceName Secret, string CertificateChainPem, string PrivateKeyPem)
{
    /// <inheritdoc/>
    public override string ToString() => $"Secret {Secret}";
}

/// <summary>Whether the inbound takes plaintext.</summary>
public enum MutualTlsMode
{
    /// <summary>Mutual TLS of the mesh only.</summary>
    Strict,

    /// <summary>Also plaintext, and TLS that is the application's own.</summary>
    Permissive,
}

/// <summary>What a workload serves behind its inbound.</summary>
public sealed record InboundConfig
{
    /// <summary>The workload's "namespace/name".</summary>
    public required ResourceName Workload { get; init; }

    /// <summary>Its identity.</summary>
    public required SpiffeId Identity { get; init; }

    /// <summary>The revision of this unit.</summary>
    public string Revision { get; init; } = "";

    /// <summary>Service ports that may be asked for by SNI, and the declared local port of each. Nothing else is reachable.</summary>
    public ImmutableArray<InboundPortConfig> Ports { get; init; } = [];
}

/// <summary>One service port that the workload serves.</summary>
public sealed record InboundPortConfig(ClusterId Service, int LocalPort, AppProtocol Protocol)
{
    /// <summary>How peers are treated.</summary>
    public ClientTrafficConfig ClientTraffic { get; init; } = ClientTrafficConfig.Default;
}
