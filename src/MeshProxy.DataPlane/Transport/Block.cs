using System.Buffers;
using System.Runtime.InteropServices;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A pooled, pinned piece of memory that is at once a segment of a sequence. Owned by one reader or writer at a time.</summary>
internal sealed class Block : ReadOnlySequenceSegment<byte>
{
    private readonly byte[] _array;

    internal Block(BlockPool pool, int size)
    {
        Pool = pool;
        _array = GC.AllocateUninitializedArray<byte>(size, pinned: true);
        Memory = _array;
    }

    /// <summary>Where it goes back to.</summary>
    public BlockPool Pool { get; }

    /// <summary>Bytes it can hold.</summary>
    public int Capacity => _array.Length;

    /// <summary>Bytes written so far; kept by the owner.</summary>
    public int End { get; set; }

    /// <summary>The block after this one.</summary>
    public Block? NextBlock { get; private set; }

    /// <summary>The link of the pool's own lists.</summary>
    internal Block? Pooled { get; set; }

    /// <summary>Room after <see cref="End"/>.</summary>
    public int Free => _array.Length - End;

    /// <summary>The room after <see cref="End"/>.</summary>
    public Memory<byte> FreeMemory => MemoryMarshal.CreateFromPinnedArray(_array, End, _array.Length - End);

    /// <summary>Written bytes from <paramref name="start"/> on.</summary>
    public ReadOnlyMemory<byte> Written(int start) => MemoryMarshal.CreateFromPinnedArray(_array, start, End - start);

    /// <summary>The address of a byte; the array is pinned for life.</summary>
    public unsafe byte* AddressOf(int index) => (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(_array, index);

    /// <summary>Links the next block; this one is full from now on, whatever room it had.</summary>
    public void Append(Block next)
    {
        Memory = MemoryMarshal.CreateFromPinnedArray(_array, 0, End);
        next.RunningIndex = RunningIndex + End;
        NextBlock = next;
        Next = next;
    }

    /// <summary>Gives it back to its pool; returns the block after it.</summary>
    public Block? Release()
    {
        var next = NextBlock;
        Pool.Return(this);
        return next;
    }

    internal void Reset()
    {
        Memory = _array;
        RunningIndex = 0;
        Next = null;
        NextBlock = null;
        End = 0;
    }
}
