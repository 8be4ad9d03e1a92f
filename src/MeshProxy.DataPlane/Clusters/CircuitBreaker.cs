using MeshProxy.DataPlane.Upstream;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>Concurrency limits of one cluster: counters, no queue and no lock. Limits may change while it counts.</summary>
internal sealed class CircuitBreaker(CircuitBreakerConfig config) : IUpstreamLimits
{
    private int _connections;
    private int _pending;
    private int _requests;

    public CircuitBreakerConfig Config { get; set; } = config;

    public int Requests => Volatile.Read(ref _requests);

    public int Connections => Volatile.Read(ref _connections);

    public int Pending => Volatile.Read(ref _pending);

    /// <summary>Takes a place for one request; give it back with <see cref="Leave"/>.</summary>
    public bool TryEnter() => TryAdd(ref _requests, Config.MaxRequests);

    public void Leave() => Interlocked.Decrement(ref _requests);

    public bool TryAddConnection() => TryAdd(ref _connections, Config.MaxConnections);

    public void RemoveConnection() => Interlocked.Decrement(ref _connections);

    public bool TryAddPending() => TryAdd(ref _pending, Config.MaxPendingRequests);

    public void RemovePending() => Interlocked.Decrement(ref _pending);

    // Adds first and takes back when that was too many: under contention it may refuse one that would just have fitted, never admit one too many.
    private static bool TryAdd(ref int counter, int limit)
    {
        if (Interlocked.Increment(ref counter) <= limit)
        {
            return true;
        }

        Interlocked.Decrement(ref counter);
        return false;
    }
}
