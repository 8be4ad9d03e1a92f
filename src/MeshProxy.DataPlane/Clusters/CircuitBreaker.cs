using MeshProxy.DataPlane.Upstream;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>Concurrency limits of one cluster: counters, no queue and no lock.</summary>
/// <param name="config">The limits.</param>
/// <param name="sibling">Counts the same: the breaker of the same service port under other limits.</param>
internal sealed class CircuitBreaker(CircuitBreakerConfig config, CircuitBreaker? sibling = null) : IUpstreamLimits
{
    private readonly Counters _count = sibling?._count ?? new Counters();

    public CircuitBreakerConfig Config { get; } = config;

    public int Requests => Volatile.Read(ref _count.Requests);

    public int Connections => Volatile.Read(ref _count.Connections);

    public int Pending => Volatile.Read(ref _count.Pending);

    /// <summary>Takes a place for one request; give it back with <see cref="Leave"/>.</summary>
    public bool TryEnter() => TryAdd(ref _count.Requests, Config.MaxRequests);

    public void Leave() => Interlocked.Decrement(ref _count.Requests);

    public bool TryAddConnection() => TryAdd(ref _count.Connections, Config.MaxConnections);

    public bool TryAddSpareConnection() => TryAdd(ref _count.Connections, Config.MaxConnections / 2);

    public void RemoveConnection() => Interlocked.Decrement(ref _count.Connections);

    public bool TryAddPending() => TryAdd(ref _count.Pending, Config.MaxPendingRequests);

    public void RemovePending() => Interlocked.Decrement(ref _count.Pending);

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

    private sealed class Counters
    {
        public int Connections;
        public int Pending;
        public int Requests;
    }
}
