using MeshProxy.Http.Http2.FlowControl;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// How many bytes of peers' data the process may hold at once. Above it the proxy sheds load: new requests and opaque connections are refused (flag OM),
/// HTTP/2 windows stop growing, and what is under way goes on. Judged on the coarse tick and read without a fence by whatever begins.
/// </summary>
/// <remarks>
/// The process holds what its two pools have lent (<see cref="BlockPool"/>, <see cref="SegmentPool"/>), in whole blocks, however little lies in them. Each
/// thread counts for itself, so that a request pays nothing for it. Between two looks the process may hold more, by what arrives in one tick.
/// </remarks>
public sealed class MemoryBudget
{
    /// <summary>The largest default, in bytes: design default, 1 GiB.</summary>
    public const long LargestDefaultBytes = 1024 * 1024 * 1024;

    /// <summary>The least that may be set, in bytes: a few connections' worth.</summary>
    public const long LeastBytes = 1024 * 1024;

    /// <summary>Shedding ends when less than this share of the budget is held, in percent: a distance that one connection more or less does not cross.</summary>
    public const int ResumePercent = 90;

    private readonly Func<long> _held;
    private readonly long _resumeBytes;
    private volatile bool _isExhausted;

    /// <summary>Makes the budget of a data plane.</summary>
    /// <param name="bytes">What may be held, in bytes.</param>
    public MemoryBudget(long bytes)
        : this(bytes, static () => BlockPool.Shared.RentedBytes + SegmentPool.RentedBytes)
    {
    }

    internal MemoryBudget(long bytes, Func<long> held)
    {
        Bytes = bytes;
        _held = held;
        _resumeBytes = bytes / 100 * ResumePercent;
    }

    /// <summary>
    /// What holds unless it is set, in bytes: a quarter of the cgroup's memory limit, at most <see cref="LargestDefaultBytes"/>. The runtime bounds its heap by
    /// three quarters of that limit (cgroup v1 and v2), or by DOTNET_GCHeapHardLimit, and tells that bound; without a limit it tells the machine's memory.
    /// </summary>
    public static long DefaultBytes => Math.Min(AvailableBytes / 3, LargestDefaultBytes);

    /// <summary>What the runtime may use at most, in bytes: no budget can be larger.</summary>
    public static long AvailableBytes => GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    /// <summary>What may be held, in bytes.</summary>
    public long Bytes { get; }

    /// <summary>What is held now, in bytes; as exact as <see cref="BlockPool.RentedBytes"/>.</summary>
    public long HeldBytes => _held();

    /// <summary>Whether nothing new is taken.</summary>
    public bool IsExhausted => _isExhausted;

    /// <summary>Looks; called from the coarse tick alone.</summary>
    /// <returns>True when shedding has begun or ended.</returns>
    internal bool Judge(out long held)
    {
        held = _held();
        var before = _isExhausted;
        _isExhausted = before ? held >= _resumeBytes : held > Bytes;
        return _isExhausted != before;
    }
}
