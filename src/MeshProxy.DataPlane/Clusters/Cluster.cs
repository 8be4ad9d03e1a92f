using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>A live group of endpoints.</summary>
public sealed class Cluster
{
    internal Cluster(ClusterConfig config) => Config = config;

    /// <summary>What it was last told.</summary>
    public ClusterConfig Config { get; private set; }
}
