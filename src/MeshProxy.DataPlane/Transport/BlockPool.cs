namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// Blocks of two sizes. Each thread keeps a few (no lock, no fence); what it has too many or too few of moves through a bounded shared list.
/// Beyond that bound blocks are left to the collector. Rented and returned by <see cref="Block"/> alone, so that nothing can return what it did not rent.
/// </summary>
internal sealed class BlockPool
{
    /// <summary>For heads, frames and idle connections.</summary>
    public const int SmallSize = 4096;

    /// <summary>For bodies: 1 MB through 4 KiB blocks costs five times as much CPU as through these.</summary>
    public const int LargeSize = 32 * 1024;

    private const int SmallPerThread = 64;
    private const int LargePerThread = 16;

    [ThreadStatic]
    private static ThreadCache? t_cache;

    private readonly Lock _gate = new();
    private readonly List<ThreadCache> _caches = [];
    private readonly long _sharedBytesLimit;
    private Block? _sharedSmall;
    private Block? _sharedLarge;
    private long _sharedBytes;

    /// <summary>Makes a pool that keeps at most about <paramref name="keptBytesLimit"/> bytes of unused blocks, plus 768 KiB for each thread.</summary>
    public BlockPool(long keptBytesLimit = 16 * 1024 * 1024) => _sharedBytesLimit = keptBytesLimit;

    /// <summary>The process's pool.</summary>
    public static BlockPool Shared { get; } = new();

    /// <summary>Blocks that are rented now. Exact only while no thread rents or returns.</summary>
    public long RentedBlocks
    {
        get
        {
            lock (_gate)
            {
                long sum = 0;
                foreach (var cache in _caches)
                {
                    sum += Volatile.Read(ref cache.Balance);
                }

                return sum;
            }
        }
    }

    /// <summary>Bytes that are rented now; as exact as <see cref="RentedBlocks"/>.</summary>
    public long RentedBytes
    {
        get
        {
            lock (_gate)
            {
                long sum = 0;
                foreach (var cache in _caches)
                {
                    sum += Volatile.Read(ref cache.BalanceBytes);
                }

                return sum;
            }
        }
    }

    /// <summary>Leaves the unused blocks of the shared list to the collector. Threads keep theirs.</summary>
    public void Trim()
    {
        lock (_gate)
        {
            _sharedSmall = _sharedLarge = null;
            _sharedBytes = 0;
        }
    }

    /// <summary>Takes a block of one of the two sizes.</summary>
    public Block Rent(bool large)
    {
        var cache = t_cache is { } own && own.Pool == this ? own : CacheOfThisThread();
        Block? block;
        if (large)
        {
            block = cache.Large;
            if (block is not null)
            {
                cache.Large = block.Pooled;
                cache.LargeCount--;
            }
        }
        else
        {
            block = cache.Small;
            if (block is not null)
            {
                cache.Small = block.Pooled;
                cache.SmallCount--;
            }
        }

        block ??= RentShared(large);
        block.Pooled = null;
        cache.Balance++;
        cache.BalanceBytes += block.Capacity;
        return block;
    }

    internal void Return(Block block)
    {
        block.Reset();
        var cache = t_cache is { } own && own.Pool == this ? own : CacheOfThisThread();
        cache.Balance--;
        cache.BalanceBytes -= block.Capacity;
        if (block.Capacity == LargeSize)
        {
            if (cache.LargeCount < LargePerThread)
            {
                block.Pooled = cache.Large;
                cache.Large = block;
                cache.LargeCount++;
                return;
            }
        }
        else if (cache.SmallCount < SmallPerThread)
        {
            block.Pooled = cache.Small;
            cache.Small = block;
            cache.SmallCount++;
            return;
        }

        ReturnShared(block);
    }

    private Block RentShared(bool large)
    {
        lock (_gate)
        {
            ref var list = ref large ? ref _sharedLarge : ref _sharedSmall;
            if (list is { } block)
            {
                list = block.Pooled;
                _sharedBytes -= block.Capacity;
                return block;
            }
        }

        return new Block(this, large ? LargeSize : SmallSize);
    }

    private void ReturnShared(Block block)
    {
        lock (_gate)
        {
            if (_sharedBytes + block.Capacity > _sharedBytesLimit)
            {
                return;
            }

            ref var list = ref block.Capacity == LargeSize ? ref _sharedLarge : ref _sharedSmall;
            block.Pooled = list;
            list = block;
            _sharedBytes += block.Capacity;
        }
    }

    // A thread serves one pool well: the process has one. Tests with their own pool pay a lookup when a thread changes pools.
    private ThreadCache CacheOfThisThread()
    {
        var thread = Environment.CurrentManagedThreadId;
        lock (_gate)
        {
            var cache = _caches.Find(candidate => candidate.Thread == thread);
            if (cache is null)
            {
                cache = new ThreadCache(this, thread);
                _caches.Add(cache);
            }

            t_cache = cache;
            return cache;
        }
    }

    private sealed class ThreadCache(BlockPool pool, int thread)
    {
        public readonly BlockPool Pool = pool;
        public readonly int Thread = thread;
        public Block? Small;
        public Block? Large;
        public int SmallCount;
        public int LargeCount;
        public long Balance;
        public long BalanceBytes;
    }
}
