using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Clusters;

/// <summary>
/// Bounds retries to a share of the requests of the last ten seconds plus a floor, so that retries can not multiply an outage: the numbers of Linkerd and
/// of Gateway API's retry budget (20 %, ten seconds, at least ten a second). Counters in one-second slots; racing threads may lose a count when a slot
/// turns, which moves the balance by one request and nothing else.
/// </summary>
internal sealed class RetryBudget(RoundClock clock)
{
    private const int WindowSeconds = 10;
    private const int MinimumPerSecond = 10;
    private const int RequestsPerRetry = 5;

    private readonly long[] _second = new long[WindowSeconds];
    private readonly int[] _requests = new int[WindowSeconds];
    private readonly int[] _retries = new int[WindowSeconds];

    /// <summary>Retries that may be made now.</summary>
    public int Remaining
    {
        get
        {
            var oldest = Now() - WindowSeconds;
            int requests = 0, retries = 0;
            for (var i = 0; i < WindowSeconds; i++)
            {
                if (Volatile.Read(ref _second[i]) > oldest)
                {
                    requests += Volatile.Read(ref _requests[i]);
                    retries += Volatile.Read(ref _retries[i]);
                }
            }

            return (requests / RequestsPerRetry) + (MinimumPerSecond * WindowSeconds) - retries;
        }
    }

    /// <summary>Counts a request.</summary>
    public void OnRequest() => Interlocked.Increment(ref _requests[Slot()]);

    /// <summary>Takes a retry out of the budget.</summary>
    public bool TryWithdraw()
    {
        if (Remaining <= 0)
        {
            return false;
        }

        Interlocked.Increment(ref _retries[Slot()]);
        return true;
    }

    private long Now() => clock.Milliseconds / 1000;

    private int Slot()
    {
        var now = Now();
        var slot = (int)(now % WindowSeconds);
        var second = Volatile.Read(ref _second[slot]);
        if (second != now && Interlocked.CompareExchange(ref _second[slot], now, second) == second)
        {
            Volatile.Write(ref _requests[slot], 0);
            Volatile.Write(ref _retries[slot], 0);
        }

        return slot;
    }
}
