namespace MeshProxy.Http;

/// <summary>Something whose buffered output can be sent.</summary>
public interface IFlushTarget
{
    /// <summary>Starts sending what is buffered; does nothing when that is nothing. Never throws, never blocks. Thread-safe.</summary>
    void FlushNow();
}

/// <summary>
/// Coalesces writes. Completions run inline, so one read can wake many exchanges that all write to one connection. A read loop opens a batch around
/// the dispatch of what it read; whoever asks for a flush on that thread meanwhile is sent once, when the batch closes: one system call for many
/// frames. Outside a batch a flush starts at once. A batch never crosses an await (the scope is a ref struct).
/// </summary>
public static class FlushBatch
{
    [ThreadStatic]
    private static List<IFlushTarget>? t_targets;

    [ThreadStatic]
    private static int t_depth;

    /// <summary>Opens a batch on this thread; nested batches close with the outermost.</summary>
    public static Scope Enter()
    {
        t_targets ??= new List<IFlushTarget>(16);
        t_depth++;
        return default;
    }

    /// <summary>Flushes <paramref name="target"/> at the end of this thread's batch, or now when there is none.</summary>
    /// <returns>True when the flush was put off.</returns>
    public static bool Request(IFlushTarget target)
    {
        if (t_depth == 0)
        {
            target.FlushNow();
            return false;
        }

        var targets = t_targets!;
        if (!targets.Contains(target))
        {
            targets.Add(target);
        }

        return true;
    }

    private static void Exit()
    {
        if (t_depth > 1)
        {
            t_depth--;
            return;
        }

        // Flushing can complete inline and run code that asks for further flushes: those join the same list and are sent in this loop.
        var targets = t_targets!;
        for (var i = 0; i < targets.Count; i++)
        {
            // Taken out of sight first: whoever writes to it from here on enlists it again.
            var target = targets[i];
            targets[i] = NothingToFlush.Instance;
            target.FlushNow();
        }

        targets.Clear();
        t_depth--;
    }

    private sealed class NothingToFlush : IFlushTarget
    {
        public static readonly NothingToFlush Instance = new();

        public void FlushNow()
        {
        }
    }

    /// <summary>Closes the batch when disposed.</summary>
    public readonly ref struct Scope
    {
        /// <summary>Sends what was put off, if this is the outermost batch.</summary>
        public void Dispose() => Exit();
    }
}
