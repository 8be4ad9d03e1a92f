using MeshProxy.DataPlane.Failures;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>What is counted for one cluster. Kept by the live cluster.</summary>
internal sealed class ClusterMeters
{
    private readonly StripedCounter?[] _attempts = new StripedCounter?[FlagNames.Count];
    private int _connectionsOpen;

    public ClusterMeters(string cluster) => Cluster = cluster;

    public string Cluster { get; }

    /// <summary>Connections to its endpoints that are open now.</summary>
    public int ConnectionsOpen => Volatile.Read(ref _connectionsOpen);

    /// <summary>Counts a connection that opened.</summary>
    public void OnConnectionOpened() => Interlocked.Increment(ref _connectionsOpen);

    /// <summary>Counts a connection that ended.</summary>
    public void OnConnectionClosed() => Interlocked.Decrement(ref _connectionsOpen);

    /// <summary>Counts one attempt; <see cref="ResponseFlag.None"/> is one that brought a response head.</summary>
    public void OnAttempt(ResponseFlag result)
    {
        var counter = Volatile.Read(ref _attempts[(int)result]);
        if (counter is null)
        {
            Interlocked.CompareExchange(ref _attempts[(int)result], new StripedCounter(), null);
            counter = _attempts[(int)result]!;
        }

        counter.Add(1);
    }

    /// <summary>Attempts with that result, -1 when there never was one.</summary>
    public long Attempts(ResponseFlag result) => Volatile.Read(ref _attempts[(int)result])?.Value ?? -1;

    /// <summary>Attempts so far.</summary>
    public long TotalAttempts
    {
        get
        {
            var total = 0L;
            foreach (var counter in _attempts)
            {
                total += counter?.Value ?? 0;
            }

            return total;
        }
    }
}
