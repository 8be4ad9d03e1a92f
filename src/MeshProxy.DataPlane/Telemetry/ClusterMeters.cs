using MeshProxy.DataPlane.Failures;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>What is counted for one cluster. Kept by the live cluster.</summary>
internal sealed class ClusterMeters
{
    private readonly StripedCounter?[] _attempts = new StripedCounter?[FlagNames.Count];
    private readonly StripedCounter?[] _mirrors = new StripedCounter?[Enum.GetValues<MirrorResult>().Length];
    private int _connectionsOpen;

    public ClusterMeters(string cluster, Action<string> onHttp2Abuse)
    {
        Cluster = cluster;
        OnHttp2Abuse = onHttp2Abuse;
    }

    public string Cluster { get; }

    /// <summary>Counts what a guard of the HTTP/2 codec did on a connection to an endpoint; over all clusters.</summary>
    public Action<string> OnHttp2Abuse { get; }

    /// <summary>Connections to its endpoints that are open now.</summary>
    public int ConnectionsOpen => Volatile.Read(ref _connectionsOpen);

    /// <summary>Counts a connection that opened.</summary>
    public void OnConnectionOpened() => Interlocked.Increment(ref _connectionsOpen);

    /// <summary>Counts a connection that ended.</summary>
    public void OnConnectionClosed() => Interlocked.Decrement(ref _connectionsOpen);

    /// <summary>Counts one attempt; <see cref="ResponseFlag.None"/> is one that brought a response head.</summary>
    public void OnAttempt(ResponseFlag result) => Count(ref _attempts[(int)result]);

    /// <summary>Counts a request that this cluster, as a mirror, was to get a copy of.</summary>
    public void OnMirror(MirrorResult result) => Count(ref _mirrors[(int)result]);

    /// <summary>Copies with that result, -1 when there never was one.</summary>
    public long Mirrors(MirrorResult result) => Volatile.Read(ref _mirrors[(int)result])?.Value ?? -1;

    /// <summary>Attempts with that result, -1 when there never was one.</summary>
    public long Attempts(ResponseFlag result) => Volatile.Read(ref _attempts[(int)result])?.Value ?? -1;

    /// <summary>Attempts and copies so far.</summary>
    public long Total
    {
        get
        {
            var total = 0L;
            foreach (var counter in (ReadOnlySpan<StripedCounter?>)[.. _attempts, .. _mirrors])
            {
                total += counter?.Value ?? 0;
            }

            return total;
        }
    }

    private static void Count(ref StripedCounter? place)
    {
        var counter = Volatile.Read(ref place);
        if (counter is null)
        {
            Interlocked.CompareExchange(ref place, new StripedCounter(), null);
            counter = place!;
        }

        counter.Add(1);
    }
}
