using System.Numerics;

namespace MeshProxy.Load;

/// <summary>
/// Counts latencies in nanoseconds with a relative error below 1 %: each power of two is cut into 128 equal buckets, values below 128 ns are exact.
/// Fixed size, no allocation for a value.
/// </summary>
internal sealed class LatencyHistogram
{
    private const int SubBits = 7;
    private const int SubBuckets = 1 << SubBits;
    private readonly long[] _counts = new long[(64 - SubBits + 1) * SubBuckets];
    private double _sum;

    internal long Count { get; private set; }

    internal long Maximum { get; private set; }

    internal double Mean => Count == 0 ? 0 : _sum / Count;

    internal void Record(long nanoseconds)
    {
        var value = Math.Max(0, nanoseconds);
        _counts[IndexOf(value)]++;
        Count++;
        _sum += value;
        Maximum = Math.Max(Maximum, value);
    }

    /// <summary>The smallest bucket's upper end at or below which the given share (0..1) of all values lies, in nanoseconds.</summary>
    internal long Percentile(double share)
    {
        var wanted = (long)Math.Ceiling(share * Count);
        long seen = 0;
        for (var index = 0; index < _counts.Length; index++)
        {
            seen += _counts[index];
            if (seen >= wanted && seen > 0)
            {
                return Math.Min(Maximum, UpperEnd(index));
            }
        }

        return Maximum;
    }

    private static int IndexOf(long value)
    {
        if (value < SubBuckets)
        {
            return (int)value;
        }

        var exponent = BitOperations.Log2((ulong)value) - SubBits;
        return ((exponent + 1) * SubBuckets) + (int)((value >> exponent) - SubBuckets);
    }

    private static long UpperEnd(int index)
    {
        if (index < SubBuckets)
        {
            return index;
        }

        var exponent = (index / SubBuckets) - 1;
        return (((long)(index % SubBuckets) + SubBuckets + 1) << exponent) - 1;
    }
}
