using System.Net;
using MeshProxy.DataPlane.Clusters;

namespace MeshProxy.DataPlane;

/// <summary>A cluster as the admin page shows it: a copy, no lock of the data path is held while it is shown. Several of one name share their counts.</summary>
public sealed record ClusterView(
    string Name,
    string Protocol,
    string? Policy,
    int Requests,
    int PendingRequests,
    int Connections,
    int RetryBudgetRemaining,
    IReadOnlyList<string> AllowedServers,
    IReadOnlyList<EndpointView> Endpoints)
{
    internal static ClusterView Of(Cluster cluster) => new(
        cluster.Name,
        cluster.Config.Protocol.ToString(),
        cluster.Config.Tls?.Policy.ToString(),
        cluster.CircuitBreaker.Requests,
        cluster.CircuitBreaker.Pending,
        cluster.CircuitBreaker.Connections,
        cluster.RetryBudget.Remaining,
        [.. cluster.Config.AllowedServers.Select(id => id.ToString())],
        [.. cluster.Endpoints.Select(EndpointView.Of)]);
}

/// <summary>An endpoint as the admin page shows it.</summary>
public sealed record EndpointView(string Id, string Address, string DialedAddress, string? ServerName, bool IsReady, bool IsDraining, bool IsEligible, int Active, int Connections)
{
    internal static EndpointView Of(ClusterEndpoint endpoint) => new(
        endpoint.Config.Id,
        endpoint.Address,
        endpoint.Pool.Key.Address.ToString(),
        endpoint.Pool.Key.ServerName,
        endpoint.Config.IsReady,
        endpoint.Config.IsDraining,
        endpoint.IsEligible,
        endpoint.Active,
        endpoint.Pool.ConnectionCount);
}

/// <summary>A downstream connection as the admin page shows it.</summary>
public sealed record ConnectionView(string Direction, IPEndPoint? Source, string? PeerIdentity, string? ServerName, bool IsTls, int ActiveExchanges, long TotalExchanges)
{
    internal static ConnectionView Of(DownstreamEntry entry) => new(
        entry.Direction.ToString(),
        entry.Info.Source,
        entry.Info.PeerIdentity,
        entry.Info.ServerName,
        entry.Info.IsTls,
        entry.ActiveExchanges,
        entry.TotalExchanges);
}
