namespace MeshProxy.DataPlane.Clusters.Balancing;

/// <summary>Chooses an endpoint. Built anew for each endpoint set; called from every event loop at once.</summary>
internal interface IBalancer
{
    /// <summary>An eligible endpoint, other than <paramref name="tried"/> when there is another, and none that has just failed to be dialed while there is
    /// another; null when there is none at all.</summary>
    ClusterEndpoint? Pick(ClusterEndpoint? tried);
}
