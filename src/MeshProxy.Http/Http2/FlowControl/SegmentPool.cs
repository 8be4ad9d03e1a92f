using System.Buffers;

namespace MeshProxy.Http.Http2.FlowControl;

/// <summary>One block of a <see cref="ReceiveBuffer"/>, for life one with its memory.</summary>
internal sealed class Segment : ReadOnlySequenceSegment<byte>
{
    private readonly byte[] _block;

    public Segment(int sizeClass, int size)
    {
        SizeClass = sizeClass;
        _block = GC.AllocateUninitializedArray<byte>(size);
        Memory = _block;
    }

    public int SizeClass { get; }

    public int Capacity => _block.Length;

    /// <summary>Bytes written to the block.</summary>
    public int Written { get; private set; }

    public int Room => _block.Length - Written;

    public Segment? Following => (Segment?)Next;

    /// <summary>The link of the pool's lists.</summary>
    public Segment? Pooled { get; set; }

    public void Write(ReadOnlySpan<byte> data)
    {
        data.CopyTo(_block.AsSpan(Written));
        Written += data.Length;
    }

    /// <summary>Only a full block is followed by another, so its memory needs no trimming.</summary>
    public void LinkTo(Segment next)
    {
        next.RunningIndex = RunningIndex + Written;
        Next = next;
    }

    public void Reset()
    {
        Written = 0;
        RunningIndex = 0;
        Next = null;
    }
}

/// <summary>
/// The process's segments, of three sizes. Each thread keeps some, without a lock; what it has too many or too few of moves through a bounded shared list, and
/// beyond that bound segments are left to the collector. The runtime's array pool does not do: it keeps 32 arrays of a size for each processor and allocates
/// the rest, which is most of them when hundreds of streams receive a body at once.
/// </summary>
public static class SegmentPool
{
    private const int BytesPerThreadAndSize = 128 * 1024;
    private const long SharedBytes = 16 * 1024 * 1024;

    // The largest holds the DATA of one frame (RFC 9113 section 4.2: 16,384 bytes unless we allow more); the smallest a typical message.
    private static readonly int[] s_sizes = [1024, 4096, 16 * 1024];
    private static readonly Lock s_gate = new();
    private static readonly List<ThreadCache> s_caches = [];
    private static readonly Segment?[] s_shared = new Segment?[s_sizes.Length];
    private static long s_sharedBytes;

    [ThreadStatic]
    private static ThreadCache? t_cache;

    /// <summary>Bytes of segments that are rented now, however little was written to them: received over HTTP/2 and not read yet. Exact only while no thread
    /// rents or returns.</summary>
    public static long RentedBytes
    {
        get
        {
            lock (s_gate)
            {
                long sum = 0;
                foreach (var cache in s_caches)
                {
                    sum += Volatile.Read(ref cache.BalanceBytes);
                }

                return sum;
            }
        }
    }

    /// <summary>Takes the smallest segment that holds <paramref name="wanted"/> bytes, or the largest there is.</summary>
    internal static Segment Rent(int wanted)
    {
        var sizeClass = wanted <= s_sizes[0] ? 0 : wanted <= s_sizes[1] ? 1 : 2;
        var cache = t_cache ??= CacheOfThisThread();
        cache.BalanceBytes += s_sizes[sizeClass];
        ref var kept = ref cache.Kept[sizeClass];
        if (kept.First is not { } segment)
        {
            return TakeShared(sizeClass) ?? new Segment(sizeClass, s_sizes[sizeClass]);
        }

        kept.First = segment.Pooled;
        kept.Bytes -= segment.Capacity;
        segment.Pooled = null;
        return segment;
    }

    internal static void Return(Segment segment)
    {
        segment.Reset();
        var cache = t_cache ??= CacheOfThisThread();
        cache.BalanceBytes -= segment.Capacity;
        ref var kept = ref cache.Kept[segment.SizeClass];
        if (kept.Bytes == BytesPerThreadAndSize)
        {
            GiveShared(segment);
            return;
        }

        segment.Pooled = kept.First;
        kept.First = segment;
        kept.Bytes += segment.Capacity;
    }

    private static Segment? TakeShared(int sizeClass)
    {
        lock (s_gate)
        {
            if (s_shared[sizeClass] is not { } segment)
            {
                return null;
            }

            s_shared[sizeClass] = segment.Pooled;
            s_sharedBytes -= segment.Capacity;
            segment.Pooled = null;
            return segment;
        }
    }

    private static void GiveShared(Segment segment)
    {
        lock (s_gate)
        {
            if (s_sharedBytes + segment.Capacity <= SharedBytes)
            {
                segment.Pooled = s_shared[segment.SizeClass];
                s_shared[segment.SizeClass] = segment;
                s_sharedBytes += segment.Capacity;
            }
        }
    }

    // A thread that has ended leaves its cache, and what it counted, to the next one with its number.
    private static ThreadCache CacheOfThisThread()
    {
        var thread = Environment.CurrentManagedThreadId;
        lock (s_gate)
        {
            var cache = s_caches.Find(candidate => candidate.Thread == thread);
            if (cache is null)
            {
                cache = new ThreadCache(thread);
                s_caches.Add(cache);
            }

            return cache;
        }
    }

    private sealed class ThreadCache(int thread)
    {
        public readonly int Thread = thread;
        public readonly (Segment? First, int Bytes)[] Kept = new (Segment?, int)[s_sizes.Length];

        // Rented less returned by this thread: below zero where others rent what it returns.
        public long BalanceBytes;
    }
}
