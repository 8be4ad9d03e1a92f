using System.Numerics;
using System.Runtime.CompilerServices;

namespace MeshProxy.Http.Fields;

/// <summary>A range of a <see cref="FieldMap"/>'s bytes.</summary>
public readonly record struct FieldSlice(int Start, int Length);

/// <summary>One field line of a <see cref="FieldMap"/>, read when it is asked for: valid until the next call that changes the map. Names are lower case.</summary>
public readonly ref struct FieldLine
{
    private readonly ref readonly FieldMap.Entry _entry;
    private readonly byte[] _bytes;

    internal FieldLine(ref readonly FieldMap.Entry entry, byte[] bytes)
    {
        _entry = ref entry;
        _bytes = bytes;
    }

    /// <summary>The name, lower case.</summary>
    public ReadOnlySpan<byte> Name => Known == KnownField.Other ? _bytes.AsSpan(_entry.Name.Start, _entry.Name.Length) : KnownFields.Name(Known);

    /// <summary>The value, without surrounding white space.</summary>
    public ReadOnlySpan<byte> Value => _bytes.AsSpan(_entry.Value.Start, _entry.Value.Length);

    /// <summary>The name, when it is one the proxy knows.</summary>
    public KnownField Known => _entry.Known;

    /// <summary>Sent never-indexed in HPACK (RFC 7541 section 7.1.3) and never logged.</summary>
    public bool IsSensitive => _entry.IsSensitive;
}

/// <summary>
/// The field lines of one message, in order, with their bytes in one buffer that is kept from message to message: filling it allocates nothing in
/// steady state; one that stays empty (trailers are rare) has none. Names are stored in lower case, known names not at all. Spans it returns are valid until the next call that adds.
/// Bounds are enforced by the parsers that fill it. Not thread-safe.
/// </summary>
public sealed class FieldMap
{
    private const int LeastBytes = 512;
    private const int LeastEntries = 16;

    private byte[] _bytes = [];
    private Entry[] _entries = [];
    private int _used;
    private ulong _known;

    /// <summary>How many field lines there are.</summary>
    public int Count { get; private set; }

    /// <summary>The size as HTTP/2 counts it: names plus values plus 32 for each line (RFC 9113 section 10.5.1), in bytes.</summary>
    public int ListSize { get; private set; }

    /// <summary>The line at <paramref name="index"/>.</summary>
    public FieldLine this[int index] => new(in _entries[index], _bytes);

    /// <summary>Adds a line. The name is folded to lower case.</summary>
    public void Add(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, bool isSensitive = false)
    {
        var known = KnownFields.Parse(name);
        Append(known == KnownField.Other
            ? new Entry(StoreLower(name), Store(value), known, isSensitive || KnownFields.IsSensitive(name))
            : new Entry(default, Store(value), known, isSensitive || KnownFields.IsSensitive(known)));
    }

    /// <summary>Adds a line with a known name.</summary>
    public void Add(KnownField name, ReadOnlySpan<byte> value) =>
        Append(new Entry(default, Store(value), name, KnownFields.IsSensitive(name)));

    /// <summary>Adds a line with a known name that its sender wants never indexed (RFC 7541 section 6.2.3: that wish is passed on).</summary>
    internal void Add(KnownField name, ReadOnlySpan<byte> value, bool isSensitive) =>
        Append(new Entry(default, Store(value), name, isSensitive || KnownFields.IsSensitive(name)));

    /// <summary>Adds a line with a name that is known not to be a <see cref="KnownField"/>; spares the parsers a second look at it.</summary>
    internal void AddUnknown(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) =>
        Append(new Entry(StoreLower(name), Store(value), KnownField.Other, KnownFields.IsSensitive(name)));

    /// <summary>Adds every line of <paramref name="other"/>.</summary>
    public void AddAll(FieldMap other)
    {
        for (var i = 0; i < other.Count; i++)
        {
            ref readonly var entry = ref other._entries[i];
            Append(new Entry(
                entry.Known == KnownField.Other ? Store(other.Slice(entry.Name)) : default,
                Store(other.Slice(entry.Value)),
                entry.Known,
                entry.IsSensitive));
        }
    }

    /// <summary>Replaces every line of that name with one.</summary>
    public void Set(KnownField name, ReadOnlySpan<byte> value)
    {
        Remove(name);
        Add(name, value);
    }

    /// <summary>True when a line of that name is present.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Contains(KnownField name) => (_known & (1UL << (int)name)) != 0;

    /// <summary>The first value of that name.</summary>
    public bool TryGet(KnownField name, out ReadOnlySpan<byte> value)
    {
        if (Contains(name))
        {
            var entries = _entries.AsSpan(0, Count);
            for (var i = 0; i < entries.Length; i++)
            {
                if (entries[i].Known == name)
                {
                    value = Slice(entries[i].Value);
                    return true;
                }
            }
        }

        value = default;
        return false;
    }

    /// <summary>The first value of a name (lower case) that need not be a known one.</summary>
    public bool TryGet(ReadOnlySpan<byte> lowerCaseName, out ReadOnlySpan<byte> value)
    {
        var index = IndexOf(lowerCaseName, 0);
        value = index >= 0 ? Slice(_entries[index].Value) : default;
        return index >= 0;
    }

    /// <summary>The index of the first line of that name (lower case) at or after <paramref name="start"/>, or -1.</summary>
    public int IndexOf(ReadOnlySpan<byte> lowerCaseName, int start)
    {
        var known = KnownFields.Parse(lowerCaseName);
        if (known != KnownField.Other && !Contains(known))
        {
            return -1;
        }

        for (var i = start; i < Count; i++)
        {
            ref readonly var entry = ref _entries[i];
            if (known == KnownField.Other
                ? entry.Known == KnownField.Other && Slice(entry.Name).SequenceEqual(lowerCaseName)
                : entry.Known == known)
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>How many lines of that name there are.</summary>
    public int CountOf(KnownField name)
    {
        var count = 0;
        if (Contains(name))
        {
            for (var i = 0; i < Count; i++)
            {
                count += _entries[i].Known == name ? 1 : 0;
            }
        }

        return count;
    }

    /// <summary>Removes every line of that name.</summary>
    public void Remove(KnownField name)
    {
        if (!Contains(name))
        {
            return;
        }

        for (var i = Count - 1; i >= 0; i--)
        {
            if (_entries[i].Known == name)
            {
                RemoveAt(i);
            }
        }
    }

    /// <summary>Removes every line of that name (lower case).</summary>
    public void Remove(ReadOnlySpan<byte> lowerCaseName)
    {
        for (var i = IndexOf(lowerCaseName, 0); i >= 0; i = IndexOf(lowerCaseName, i))
        {
            RemoveAt(i);
        }
    }

    /// <summary>Removes the line at <paramref name="index"/>; the order of the others stays.</summary>
    public void RemoveAt(int index)
    {
        var entry = _entries[index];
        ListSize -= SizeOf(in entry);
        Count--;
        Array.Copy(_entries, index + 1, _entries, index, Count - index);
        if (entry.Known != KnownField.Other && !AnyOf(entry.Known))
        {
            _known &= ~(1UL << (int)entry.Known);
        }
    }

    /// <summary>Forgets everything; keeps the buffers, unless an unusually large message had grown them.</summary>
    public void Clear()
    {
        const int KeptBytes = 8 * 1024;
        if (_bytes.Length > KeptBytes)
        {
            _bytes = [];
        }

        _used = 0;
        _known = 0;
        Count = 0;
        ListSize = 0;
    }

    /// <summary>Copies bytes that belong to the message but are no field (a path, an authority) into the same buffer.</summary>
    internal FieldSlice Store(ReadOnlySpan<byte> bytes)
    {
        var slice = new FieldSlice(_used, bytes.Length);
        // The source may lie in this very buffer: growing keeps the old array alive until the copy is done.
        bytes.CopyTo(Reserve(bytes.Length));
        return slice;
    }

    /// <summary>The bytes of a slice that <see cref="Store"/> made.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ReadOnlySpan<byte> Slice(FieldSlice slice) => _bytes.AsSpan(slice.Start, slice.Length);

    /// <summary>The same, to be changed in place.</summary>
    internal Span<byte> MutableSlice(FieldSlice slice) => _bytes.AsSpan(slice.Start, slice.Length);

    private static int SizeOf(in Entry entry) =>
        (entry.Known == KnownField.Other ? entry.Name.Length : KnownFields.Name(entry.Known).Length) + entry.Value.Length + 32;

    private FieldSlice StoreLower(ReadOnlySpan<byte> name)
    {
        var slice = new FieldSlice(_used, name.Length);
        var target = Reserve(name.Length);
        for (var i = 0; i < name.Length; i++)
        {
            var b = name[i];
            target[i] = (uint)(b - 'A') <= 'Z' - 'A' ? (byte)(b | 0x20) : b;
        }

        return slice;
    }

    private Span<byte> Reserve(int length)
    {
        if (_bytes.Length - _used < length)
        {
            Array.Resize(ref _bytes, Math.Max(LeastBytes, (int)BitOperations.RoundUpToPowerOf2((uint)(_used + length))));
        }

        var span = _bytes.AsSpan(_used, length);
        _used += length;
        return span;
    }

    private void Append(Entry entry)
    {
        if (Count == _entries.Length)
        {
            Array.Resize(ref _entries, Math.Max(LeastEntries, Count * 2));
        }

        _entries[Count++] = entry;
        ListSize += SizeOf(in entry);
        if (entry.Known != KnownField.Other)
        {
            _known |= 1UL << (int)entry.Known;
        }
    }

    private bool AnyOf(KnownField name)
    {
        for (var i = 0; i < Count; i++)
        {
            if (_entries[i].Known == name)
            {
                return true;
            }
        }

        return false;
    }

    internal readonly record struct Entry(FieldSlice Name, FieldSlice Value, KnownField Known, bool IsSensitive);
}
