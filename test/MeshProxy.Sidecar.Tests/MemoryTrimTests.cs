using MeshProxy.DataPlane.Transport;

namespace MeshProxy.Sidecar.Tests;

/// <summary>When memory is given back.</summary>
public sealed class MemoryTrimTests
{
    private const long Burst = 30 * 1024 * 1024;
    private const long Heap = 20 * 1024 * 1024;

    [Test]
    public void Once_after_a_burst_when_it_is_quiet()
    {
        var trim = new MemoryTrim(new SocketTransport(), () => true, TimeProvider.System);
        Assert.That(trim.IsDue(Burst, Heap), Is.False, "all of it came just now");
        Assert.That(trim.IsDue(2 * Burst, Heap), Is.False, "and more");
        Assert.That(trim.IsDue((2 * Burst) + 1000, Heap), Is.True);
        Assert.That(trim.IsDue((2 * Burst) + 2000, Heap), Is.False, "there is nothing to gain");
        var allocated = (2 * Burst) + 2000;
        for (; allocated < (2 * Burst) + MemoryTrim.LeastGarbageBytes; allocated += MemoryTrim.QuietBytes)
        {
            Assert.That(trim.IsDue(allocated, Heap), Is.False);
        }

        Assert.That(trim.IsDue(allocated, Heap), Is.True, "little by little it is as much again");
    }

    [Test]
    public void Not_while_requests_are_under_way_and_not_with_a_heap_that_takes_long()
    {
        var isIdle = false;
        var trim = new MemoryTrim(new SocketTransport(), () => isIdle, TimeProvider.System);
        trim.IsDue(Burst, Heap);
        Assert.That(trim.IsDue(Burst, Heap), Is.False);
        isIdle = true;
        Assert.That(trim.IsDue(Burst, MemoryTrim.MostHeapBytes + 1), Is.False);
        Assert.That(trim.IsDue(Burst, Heap), Is.True);
    }
}
