using MeshProxy.Model.Config;

namespace MeshProxy.Api.Mapping;

/// <summary>What a data plane must understand of a unit so as not to enforce less than it says: fields that a version without the capability would pass over in
/// silence. (An unknown enum value or filter it refuses by itself.)</summary>
public static class Capabilities
{
    /// <summary><see cref="ClusterConfig.Tls"/>: passed over, endpoints would be spoken to in plaintext.</summary>
    public const string BackendTls = "backend-tls";

    /// <summary>TLSRoutes: passed over, connections would go to the wrong place.</summary>
    public const string TlsRoute = "tls-route";

    /// <summary><see cref="ClientTrafficConfig"/>: passed over, clients could do what a policy forbids.</summary>
    public const string ClientTraffic = "client-traffic";

    /// <summary>True for those that a unit can need; others that a sidecar lists are nobody's business.</summary>
    public static bool AreKnown(string capability) => capability is BackendTls or TlsRoute or ClientTraffic;

    /// <summary>What a destination needs.</summary>
    public static IEnumerable<string> NeededBy(DestinationConfig destination) =>
        Needed(
            destination.Ports.SelectMany(port => port.BackendClusters.Prepend(port.Cluster)),
            destination.Ports.Any(port => !port.TlsRoutes.IsEmpty),
            destination.Ports.Select(port => port.ClientTraffic));

    /// <summary>What listeners need.</summary>
    public static IEnumerable<string> NeededBy(IReadOnlyCollection<ListenerConfig> listeners) =>
        Needed(
            listeners.SelectMany(listener => listener.BackendClusters),
            listeners.Any(listener => !listener.TlsRoutes.IsEmpty),
            listeners.Select(listener => listener.ClientTraffic));

    /// <summary>What an inbound needs.</summary>
    public static IEnumerable<string> NeededBy(InboundConfig inbound) => Needed([], hasTlsRoutes: false, inbound.Ports.Select(port => port.ClientTraffic));

    private static IEnumerable<string> Needed(IEnumerable<ClusterConfig> clusters, bool hasTlsRoutes, IEnumerable<ClientTrafficConfig> traffic)
    {
        if (clusters.Any(cluster => cluster.Tls is not null))
        {
            yield return BackendTls;
        }

        if (hasTlsRoutes)
        {
            yield return TlsRoute;
        }

        if (traffic.Any(each => each != ClientTrafficConfig.Default))
        {
            yield return ClientTraffic;
        }
    }
}
