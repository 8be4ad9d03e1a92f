using System.Collections.Frozen;
using System.Collections.Immutable;
using System.Text;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>A service as this data plane reaches it, compiled.</summary>
internal sealed class Destination
{
    public Destination(DestinationConfig config, IReadOnlyCollection<DestinationPort> ports, IReadOnlyCollection<Cluster> clusters)
    {
        Config = config;
        Clusters = clusters;
        Ports = ports.ToFrozenDictionary(port => port.Cluster.Port);
        var http = Ports.Values.Where(port => port.TakesRequests).ToArray();
        DefaultHttpPort = http.FirstOrDefault(port => port.Cluster.Port == 80) ?? (http.Length == 1 ? http[0] : null);
        OnlyPort = Ports.Count == 1 ? Ports.Values[0] : null;
    }

    public DestinationConfig Config { get; }

    public FrozenDictionary<int, DestinationPort> Ports { get; }

    /// <summary>Every cluster that it may send to.</summary>
    public IReadOnlyCollection<Cluster> Clusters { get; }

    /// <summary>The port of an authority that names none: 80, or the only one that speaks HTTP.</summary>
    public DestinationPort? DefaultHttpPort { get; }

    /// <summary>The port, when there is just one.</summary>
    public DestinationPort? OnlyPort { get; }
}

/// <summary>One port of a destination.</summary>
/// <param name="Cluster">The service's own cluster.</param>
/// <param name="Protocol">What is declared.</param>
/// <param name="TakesRequests">Whether the proxy may speak HTTP to it: not where it is opaque; to https where a policy says how its server is judged.</param>
/// <param name="Routes">For requests.</param>
/// <param name="TcpBackends">For opaque bytes.</param>
/// <param name="TlsRoutes">For TLS connections; empty: all of them are opaque bytes.</param>
/// <param name="Traffic">What a request must look like.</param>
internal sealed record DestinationPort(
    ClusterId Cluster, AppProtocol Protocol, bool TakesRequests, RouteTable Routes, WeightedBackends TcpBackends, ServerNameTable TlsRoutes, ClientTraffic Traffic)
{
    /// <summary>Whether some endpoint outside the mesh is dialed with TLS.</summary>
    public bool OriginatesTls { get; } = TcpBackends.All.Any(backend => backend.Cluster?.Config.Tls is not null);
}

/// <summary>One service port that the own workload serves, and the local clusters in front of the application. Which of the two HTTP clusters is used
/// is declared; where it is not, gRPC goes by HTTP/2 and everything else by HTTP/1.1.</summary>
internal sealed record InboundTarget(
    ClusterId Service, int LocalPort, AppProtocol Protocol, RouteRule Http1, RouteRule Http2, RouteBackend Opaque, ClientTraffic Traffic)
{
    /// <summary>The local clusters.</summary>
    public IEnumerable<Cluster> Clusters => Http1.Backends.All.Concat(Http2.Backends.All).Append(Opaque).Select(backend => backend.Cluster!);
}

/// <summary>A listener section of a gateway port: one hostname, its certificates, its routes.</summary>
internal sealed record GatewaySection(
    ListenerConfig Config,
    string Id,
    ListenerProtocol Protocol,
    string? Hostname,
    RouteTable Routes,
    WeightedBackends TcpBackends,
    ServerNameTable TlsRoutes,
    ServerCertificates? Certificates,
    ImmutableArray<Cluster> Clusters,
    ClientTraffic Traffic);

/// <summary>A port of a gateway, with its sections from the most to the least specific hostname.</summary>
internal sealed record GatewayPort(string Address, int Port, ImmutableArray<GatewaySection> Sections)
{
    /// <summary>The protocol of its sections; where they differ, the server name decides first (<see cref="NeedsServerName"/>).</summary>
    public ListenerProtocol Protocol { get; } = Sections[0].Protocol;

    /// <summary>Whether the server name must be known before anything is answered: TLS passes through here, or ends in different ways.</summary>
    public bool NeedsServerName { get; } = Sections.Any(section => section.Protocol == ListenerProtocol.TlsPassthrough || section.Protocol != Sections[0].Protocol);

    /// <summary>What connections go by whose listener is not known (yet): that of the least specific hostname.</summary>
    public ClientTraffic Traffic => Sections[^1].Traffic;

    /// <summary>The most specific section for a hostname; null when none takes it.</summary>
    public GatewaySection? Find(ReadOnlySpan<byte> host)
    {
        foreach (var section in Sections)
        {
            if (Takes(section.Hostname, host))
            {
                return section;
            }
        }

        return null;
    }

    private static bool Takes(string? pattern, ReadOnlySpan<byte> host)
    {
        if (pattern is null)
        {
            return true;
        }

        if (!pattern.StartsWith("*.", StringComparison.Ordinal))
        {
            return Ascii.EqualsIgnoreCase(host, pattern);
        }

        var suffix = pattern.AsSpan(1);
        return host.Length > suffix.Length && Ascii.EqualsIgnoreCase(host[^suffix.Length..], suffix);
    }
}

/// <summary>
/// Everything a request is judged by, compiled and immutable. Taken once per exchange and never read again: routes and the policies on them change
/// together, or not at all. Live objects in it (clusters) are shared with the snapshots before and after.
/// </summary>
internal sealed class ProxySnapshot
{
    public static readonly ProxySnapshot Empty = new(ProxyConfig.Empty, [], [], [], "");

    private readonly Dictionary<byte[], Destination> _byHost = new(AsciiComparer.Instance);
    private readonly Dictionary<byte[], Destination>.AlternateLookup<ReadOnlySpan<byte>> _hostLookup;

    public ProxySnapshot(
        ProxyConfig config,
        IReadOnlyCollection<Destination> destinations,
        IReadOnlyCollection<InboundTarget> inbound,
        ImmutableArray<GatewayPort> gatewayPorts,
        string ownNamespace)
    {
        Config = config;
        Destinations = destinations.ToFrozenDictionary(destination => destination.Config.Service);
        Inbound = inbound.ToFrozenDictionary(target => target.Service);
        GatewayPorts = gatewayPorts;
        _hostLookup = _byHost.GetAlternateLookup<ReadOnlySpan<byte>>();
        foreach (var destination in destinations)
        {
            foreach (var name in ServiceNames.Of(destination.Config.Service, ownNamespace))
            {
                _byHost[Encoding.ASCII.GetBytes(name)] = destination;
            }
        }
    }

    public ProxyConfig Config { get; }

    /// <summary>Every live cluster that it names.</summary>
    public IEnumerable<Cluster> Clusters => Destinations.Values.SelectMany(destination => destination.Clusters)
        .Concat(Inbound.Values.SelectMany(target => target.Clusters))
        .Concat(GatewayPorts.SelectMany(port => port.Sections).SelectMany(section => section.Clusters));

    public FrozenDictionary<ResourceName, Destination> Destinations { get; }

    public FrozenDictionary<ClusterId, InboundTarget> Inbound { get; }

    public ImmutableArray<GatewayPort> GatewayPorts { get; }

    /// <summary>The destination that an authority names; its port is ignored.</summary>
    public Destination? FindByHost(ReadOnlySpan<byte> authority) =>
        _hostLookup.TryGetValue(Authorities.WithoutPort(authority), out var destination) ? destination : null;
}
