namespace MeshProxy.Http;

/// <summary>Something whose buffered output can be sent.</summary>
public abstract class FlushTarget
{
    // The batch that it was last put off in. Two threads may overwrite each other's: then it stands in a list twice, and the second flush finds nothing to do.
    internal long EnlistedIn;

    /// <summary>Starts sending what is buffered; does nothing when that is nothing. Never throws, never blocks. Thread-safe.</summary>
    public abstract void FlushNow();
}

/// <summary>
/// Coalesces writes. Completions run inline, so one read can wake many exchanges that all write to one connection. A read loop opens a batch around
/// the dispatch of what it read; whoever asks for a flush on that thread meanwhile is sent once, when the batch closes: one system call for many
/// frames. Outside a batch a flush starts at once. A batch never crosses an await (the scope is a ref struct).
/// </summary>
public static class FlushBatch
{
    private static int s_threads;

    [ThreadStatic]
    private static Batch? t_batch;

    /// <summary>Opens a batch on this thread; nested batches close with the outermost.</summary>
    public static Scope Enter()
    {
        var batch = t_batch ??= new Batch();
        batch.Depth++;
        return new Scope(batch);
    }

    /// <summary>Flushes <paramref name="target"/> at the end of this thread's batch, or now when there is none.</summary>
    /// <returns>True when the flush was put off.</returns>
    public static bool Request(FlushTarget target)
    {
        if (t_batch is not { Depth: > 0 } batch)
        {
            target.FlushNow();
            return false;
        }

        if (Volatile.Read(ref target.EnlistedIn) != batch.Number)
        {
            Volatile.Write(ref target.EnlistedIn, batch.Number);
            batch.Targets.Add(new Enlisted(target));
        }

        return true;
    }

    /// <summary>A reference that an array takes without a look at its type.</summary>
    internal readonly record struct Enlisted(FlushTarget Target);

    /// <summary>One thread's.</summary>
    internal sealed class Batch
    {
        // Unlike every other thread's.
        private readonly long _first = (long)Interlocked.Increment(ref s_threads) << 40;
        private long _count = 1;

        public int Depth { get; set; }

        public List<Enlisted> Targets { get; } = new(16);

        public long Number => _first + _count;

        public void Exit()
        {
            if (Depth > 1)
            {
                Depth--;
                return;
            }

            // Flushing can complete inline and run code that asks for further flushes: those join the same list and are sent in this loop.
            for (var i = 0; i < Targets.Count; i++)
            {
                // Out of the batch first: whoever writes to it from here on enlists it again.
                var target = Targets[i].Target;
                Volatile.Write(ref target.EnlistedIn, 0);
                target.FlushNow();
            }

            Targets.Clear();
            _count++;
            Depth--;
        }
    }

    /// <summary>Closes the batch when disposed.</summary>
    public readonly ref struct Scope
    {
        private readonly Batch _batch;

        internal Scope(Batch batch) => _batch = batch;

        /// <summary>Sends what was put off, if this is the outermost batch.</summary>
        public void Dispose() => _batch.Exit();
    }
}
