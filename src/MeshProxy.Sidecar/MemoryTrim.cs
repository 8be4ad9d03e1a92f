using System.Runtime.InteropServices;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.Sidecar;

/// <summary>
/// Gives memory back to the system once a burst has passed. Requests allocate nothing, but connections and handshakes do, and who allocates nothing is not
/// collected: the garbage of a thousand handshakes would lie there until the next thousand.
/// </summary>
/// <param name="transport">Keeps unused blocks.</param>
/// <param name="isIdle">Whether no request is under way that the pause would hold up.</param>
/// <param name="time">The clock.</param>
internal sealed partial class MemoryTrim(SocketTransport transport, Func<bool> isIdle, TimeProvider time)
{
    /// <summary>What must have been allocated since the last time, in bytes.</summary>
    public const long LeastGarbageBytes = 4 * 1024 * 1024;

    /// <summary>A second in which no more than this was allocated, in bytes, is a quiet one.</summary>
    public const long QuietBytes = 256 * 1024;

    /// <summary>With more managed memory than this, in bytes, the pause (about 20 ms for a quarter of it) would be too long for whoever comes meanwhile.</summary>
    public const long MostHeapBytes = 64 * 1024 * 1024;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private long _seen = long.MinValue / 2;
    private long _trimmedAt;

    /// <summary>Looks once a second until it is cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                if (IsDue(GC.GetTotalAllocatedBytes(), GC.GetTotalMemory(forceFullCollection: false)))
                {
                    Trim();
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The process ends.
        }
    }

    /// <summary>One look, a second after the last: whether it is quiet now, and there is something to gain.</summary>
    /// <param name="allocated">Bytes allocated since the process began.</param>
    /// <param name="heap">Managed memory in use, in bytes, garbage included.</param>
    internal bool IsDue(long allocated, long heap)
    {
        var isQuiet = allocated - _seen <= QuietBytes;
        _seen = allocated;
        if (!isQuiet || allocated - _trimmedAt < LeastGarbageBytes || heap > MostHeapBytes || !isIdle())
        {
            return false;
        }

        _trimmedAt = allocated;
        return true;
    }

    private void Trim()
    {
        transport.Trim();

        // The one mode that gives memory back to the system at once.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        try
        {
            // OpenSSL's memory is the C library's.
            _ = TrimNative(0);
        }
        catch (EntryPointNotFoundException)
        {
            // Not glibc.
        }
    }

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int TrimNative(nuint pad);
}
