namespace MeshProxy.DataPlane.Clusters.Balancing;

/// <summary>
/// Weighted round robin. The order is worked out once for each endpoint set, spread as evenly as the weights allow ("smooth" weighted round robin, as nginx
/// does it: each turn every endpoint gains its weight, the richest is chosen and pays the total). Choosing is then one atomic increment.
/// </summary>
internal sealed class RoundRobinBalancer : IBalancer
{
    /// <summary>The longest order; larger totals of weights are scaled down to it.</summary>
    public const int MaxTurns = 4096;

    private readonly ClusterEndpoint[] _turns;
    private uint _next;

    /// <param name="eligible">The endpoints to choose from.</param>
    /// <param name="start">Where to begin: differs from proxy to proxy, so that they do not all begin with the same endpoint.</param>
    public RoundRobinBalancer(IReadOnlyList<ClusterEndpoint> eligible, uint start)
    {
        _turns = Order(eligible);
        _next = start;
    }

    public ClusterEndpoint? Pick(ClusterEndpoint? tried)
    {
        var turns = _turns;
        if (turns.Length == 0)
        {
            return null;
        }

        // A second choice takes no turn: else, of two endpoints, every first choice would fall on the one that fails.
        var index = tried is null ? Interlocked.Increment(ref _next) : Volatile.Read(ref _next) + 1;
        ClusterEndpoint? last = null;
        for (var i = 0u; i < turns.Length; i++)
        {
            var endpoint = turns[(index + i) % (uint)turns.Length];
            if (endpoint == tried)
            {
                continue;
            }

            if (!endpoint.Pool.IsBackingOff)
            {
                return endpoint;
            }

            last ??= endpoint;
        }

        return last ?? tried;
    }

    private static ClusterEndpoint[] Order(IReadOnlyList<ClusterEndpoint> eligible)
    {
        var weights = eligible.Select(endpoint => (long)Math.Max(1, endpoint.Config.Weight)).ToArray();
        var divisor = weights.Aggregate(0L, GreatestCommonDivisor);
        if (divisor > 1)
        {
            weights = [.. weights.Select(weight => weight / divisor)];
        }

        if (weights.Sum() > MaxTurns)
        {
            var scale = (double)MaxTurns / weights.Sum();
            weights = [.. weights.Select(weight => Math.Max(1L, (long)(weight * scale)))];
        }

        var turns = new ClusterEndpoint[weights.Sum()];
        var credit = new long[weights.Length];
        for (var turn = 0; turn < turns.Length; turn++)
        {
            var richest = 0;
            for (var i = 0; i < weights.Length; i++)
            {
                credit[i] += weights[i];
                richest = credit[i] > credit[richest] ? i : richest;
            }

            credit[richest] -= turns.Length;
            turns[turn] = eligible[richest];
        }

        return turns;
    }

    private static long GreatestCommonDivisor(long a, long b) => b == 0 ? a : GreatestCommonDivisor(b, a % b);
}
