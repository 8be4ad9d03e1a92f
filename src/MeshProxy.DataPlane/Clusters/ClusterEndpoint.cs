using System.Net;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>One live endpoint of a cluster. It survives updates that keep its <see cref="EndpointConfig.Id"/> and its pools' key.</summary>
internal sealed class ClusterEndpoint(EndpointConfig config, UpstreamPool pool)
{
    private int _active;

    public EndpointConfig Config { get; set; } = config;

    public UpstreamPool Pool { get; } = pool;

    /// <summary>"address:port" of the application, for logs.</summary>
    public string Address { get; } = new IPEndPoint(IPAddress.Parse(config.Address), config.Port).ToString();

    /// <summary>Requests and opaque connections in flight.</summary>
    public int Active => Volatile.Read(ref _active);

    /// <summary>May be chosen: ready and not draining. What comes later (active checks, ejection) is added here.</summary>
    public bool IsEligible => Config is { IsReady: true, IsDraining: false };

    public void Enter() => Interlocked.Increment(ref _active);

    public void Leave() => Interlocked.Decrement(ref _active);
}
