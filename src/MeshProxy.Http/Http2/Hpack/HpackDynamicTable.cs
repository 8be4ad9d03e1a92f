namespace MeshProxy.Http.Http2.Hpack;

/// <summary>
/// The dynamic table (RFC 7541 section 2.3.2): newest entry first, bounded by size. Bytes lie in one ring of twice the largest size, which leaves
/// room to keep every entry contiguous: live bytes never exceed half of the ring, so skipping its tail never runs into the oldest entry.
/// Owned by one decoder (read loop) or one encoder (the connection's write lock).
/// </summary>
internal sealed class HpackDynamicTable
{
    /// <summary>The size that both ends begin with (RFC 9113 section 6.5.2), in bytes.</summary>
    public const int InitialSize = 4096;

    /// <summary>What an entry costs beside its bytes (RFC 7541 section 4.1).</summary>
    public const int EntryOverhead = 32;

    private readonly int _capacity;
    private byte[] _ring = [];
    private Entry[] _entries = [];
    private int _position;

    public HpackDynamicTable(int maxSize)
    {
        _capacity = Math.Max(1, maxSize / EntryOverhead);
        Limit = maxSize;
        MaxSize = maxSize;
    }

    /// <summary>The largest size the table can ever be set to, in bytes.</summary>
    public int Limit { get; }

    /// <summary>The size it is set to now, in bytes.</summary>
    public int MaxSize { get; private set; }

    /// <summary>Size of the entries, in bytes, each with its overhead.</summary>
    public int Size { get; private set; }

    public int Count { get; private set; }

    /// <summary>How many entries were ever inserted: the newest has this number.</summary>
    public long Inserted { get; private set; }

    /// <summary>The classified name of the entry at <paramref name="index"/>; 0 is the newest.</summary>
    public HpackName Classified(int index) => At(index).Classified;

    public ReadOnlySpan<byte> Name(int index)
    {
        ref readonly var entry = ref At(index);
        return _ring.AsSpan(entry.Start, entry.NameLength);
    }

    public ReadOnlySpan<byte> Value(int index)
    {
        ref readonly var entry = ref At(index);
        return _ring.AsSpan(entry.Start + entry.NameLength, entry.ValueLength);
    }

    public void SetMaxSize(int size)
    {
        MaxSize = size;
        Evict(size);
    }

    /// <summary>Inserts an entry, evicting from the oldest. An entry larger than the table empties it (RFC 7541 section 4.4).</summary>
    /// <returns>False when the entry did not fit.</returns>
    public bool Insert(HpackName classified, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        var length = name.Length + value.Length;
        var size = length + EntryOverhead;
        if (size > MaxSize)
        {
            Evict(0);
            return false;
        }

        if (_ring.Length == 0)
        {
            // Not before there is something to keep: idle connections are many.
            _ring = new byte[Limit * 2];
            _entries = new Entry[_capacity];
        }

        // The name may be a slice of this very ring, of an entry that is evicted here: copying within an array is safe where the two overlap, and
        // the value, which never lies in the ring, is copied afterwards.
        var start = _position + length <= _ring.Length ? _position : 0;
        Evict(MaxSize - size);
        name.CopyTo(_ring.AsSpan(start));
        value.CopyTo(_ring.AsSpan(start + name.Length));
        _position = start + length;
        Inserted++;
        Count++;
        Size += size;
        _entries[(int)(Inserted % _entries.Length)] = new Entry(start, name.Length, value.Length, classified);
        return true;
    }

    private void Evict(int downTo)
    {
        while (Size > downTo)
        {
            ref readonly var oldest = ref At(Count - 1);
            Size -= oldest.NameLength + oldest.ValueLength + EntryOverhead;
            Count--;
        }
    }

    private ref readonly Entry At(int index) => ref _entries[(int)((Inserted - index) % _entries.Length)];

    private readonly record struct Entry(int Start, int NameLength, int ValueLength, HpackName Classified);
}
