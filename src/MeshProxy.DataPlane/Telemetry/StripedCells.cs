using System.Numerics;
using System.Runtime.CompilerServices;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>Gives each thread its own cache lines to count in, so that two event loops do not fight over one. Reads add the stripes up.</summary>
internal static class Stripe
{
    /// <summary>How many stripes: the cores, at most 8, a power of two.</summary>
    public static readonly int Count = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Clamp(Environment.ProcessorCount, 1, 8));

    [ThreadStatic]
    private static int t_stripe;

    private static int s_next;

    /// <summary>This thread's stripe. Threads may share one, so cells are still updated atomically.</summary>
    public static int Current
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            var stripe = t_stripe;
            return stripe != 0 ? stripe - 1 : Assign();
        }
    }

    private static int Assign()
    {
        var stripe = (Interlocked.Increment(ref s_next) - 1) & (Count - 1);
        t_stripe = stripe + 1;
        return stripe;
    }
}

/// <summary>A counter for the hot path: allocates nothing, waits for nobody.</summary>
internal sealed class StripedCounter
{
    private const int LineLongs = 8;
    private readonly long[] _cells = new long[(Stripe.Count + 1) * LineLongs];

    /// <summary>Everything counted so far.</summary>
    public long Value
    {
        get
        {
            var sum = 0L;
            for (var i = 1; i <= Stripe.Count; i++)
            {
                sum += Volatile.Read(ref _cells[i * LineLongs]);
            }

            return sum;
        }
    }

    /// <summary>Counts.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(long count) => Interlocked.Add(ref _cells[(Stripe.Current + 1) * LineLongs], count);
}

/// <summary>A histogram for the hot path. Keeps count and sum of each bucket, because that is what lets a scrape hand exact sums on.</summary>
internal sealed class StripedHistogram
{
    private readonly long[] _boundTicks;
    private readonly long[]?[] _stripes = new long[]?[Stripe.Count];

    /// <summary>Makes one with upper bounds in ascending order, in ticks of 100 ns.</summary>
    public StripedHistogram(long[] boundTicks) => _boundTicks = boundTicks;

    /// <summary>One more than there are bounds.</summary>
    public int Buckets => _boundTicks.Length + 1;

    /// <summary>Takes one value, in ticks of 100 ns.</summary>
    public void Observe(long ticks)
    {
        var bounds = _boundTicks;
        var bucket = 0;
        while (bucket < bounds.Length && ticks > bounds[bucket])
        {
            bucket++;
        }

        var cells = _stripes[Stripe.Current] ?? Grow(Stripe.Current);
        Interlocked.Increment(ref cells[bucket * 2]);
        Interlocked.Add(ref cells[(bucket * 2) + 1], ticks);
    }

    /// <summary>Count and sum (ticks) of one bucket over all stripes. A value that is being added now may be in one and not yet in the other.</summary>
    public (long Count, long SumTicks) Read(int bucket)
    {
        var count = 0L;
        var sum = 0L;
        foreach (var cells in _stripes)
        {
            if (cells is not null)
            {
                count += Volatile.Read(ref cells[bucket * 2]);
                sum += Volatile.Read(ref cells[(bucket * 2) + 1]);
            }
        }

        return (count, sum);
    }

    private long[] Grow(int stripe)
    {
        Interlocked.CompareExchange(ref _stripes[stripe], new long[Buckets * 2], null);
        return _stripes[stripe]!;
    }
}
