namespace MeshProxy.Http.Http2.Hpack;

/// <summary>Takes the field lines of a block, in order.</summary>
internal interface IFieldLineSink
{
    /// <summary>One field line; the spans are valid during the call.</summary>
    /// <returns>False to stop decoding: the connection is given up (a block beyond all bounds).</returns>
    bool OnFieldLine(HpackName name, ReadOnlySpan<byte> nameBytes, ReadOnlySpan<byte> value, bool neverIndexed);
}

/// <summary>How decoding a field block ended.</summary>
internal enum HpackVerdict : byte
{
    Ok,

    /// <summary>The block does not follow RFC 7541: a connection error COMPRESSION_ERROR.</summary>
    Malformed,

    /// <summary>The sink stopped.</summary>
    Stopped,
}

/// <summary>Decodes field blocks (RFC 7541 section 6). One for each connection, owned by its read loop.</summary>
internal sealed class HpackDecoder
{
    private const int KeptScratch = 8 * 1024;

    private readonly HpackDynamicTable _table;
    private byte[] _nameScratch = new byte[256];
    private byte[] _valueScratch = new byte[1024];

    // What a size update may ask for; and what it may ask for once our SETTINGS are acknowledged.
    private int _largest;
    private readonly int _announced;
    private bool _isUpdateDue;

    /// <summary>Makes a decoder whose table has its largest size from the start.</summary>
    public HpackDecoder(int maxTableSize)
    {
        _table = new HpackDynamicTable(maxTableSize);
        _largest = _announced = maxTableSize;
    }

    private HpackDecoder(int largest, int announced)
    {
        _table = new HpackDynamicTable(largest);
        _table.SetMaxSize(HpackDynamicTable.InitialSize);
        _largest = largest;
        _announced = announced;
    }

    /// <summary>Makes the decoder of a connection that announces <paramref name="announced"/>: until that is acknowledged the peer goes by the protocol's own
    /// first size.</summary>
    public static HpackDecoder ForConnection(int announced) => new(Math.Max(announced, HpackDynamicTable.InitialSize), announced);

    /// <summary>The peer has seen the size that we announced. If that is below the table's, its next block must begin with an update (RFC 7541 section 4.2).</summary>
    public void OnSettingsAcknowledged()
    {
        _largest = _announced;
        _isUpdateDue = _table.MaxSize > _announced;
    }

    /// <summary>Decodes one whole block.</summary>
    public HpackVerdict Decode(ReadOnlySpan<byte> block, IFieldLineSink sink)
    {
        if (_isUpdateDue && (block.IsEmpty || (block[0] & 0xe0) != 0x20))
        {
            return HpackVerdict.Malformed;
        }

        var position = 0;
        var sizeUpdateAllowed = true;
        while (position < block.Length)
        {
            var first = block[position];
            if ((first & 0x80) != 0)
            {
                // Indexed field line (section 6.1).
                if (!HpackInteger.TryRead(block, ref position, 7, out var index) || !TryGetName(index, out var classified, out var name))
                {
                    return HpackVerdict.Malformed;
                }

                var value = index <= HpackStaticTable.Count ? HpackStaticTable.Value(index) : _table.Value(index - HpackStaticTable.Count - 1);
                if (!sink.OnFieldLine(classified, name, value, neverIndexed: false))
                {
                    return HpackVerdict.Stopped;
                }
            }
            else if ((first & 0xe0) == 0x20)
            {
                // Dynamic table size update (section 6.3): only before the first field line (section 4.2).
                if (!sizeUpdateAllowed || !HpackInteger.TryRead(block, ref position, 5, out var size) || size > _largest)
                {
                    return HpackVerdict.Malformed;
                }

                _table.SetMaxSize(size);
                _isUpdateDue = false;
                continue;
            }
            else
            {
                // Literals: with incremental indexing 01xxxxxx (6.2.1), without 0000xxxx (6.2.2), never indexed 0001xxxx (6.2.3).
                var incremental = (first & 0x40) != 0;
                if (!HpackInteger.TryRead(block, ref position, incremental ? 6 : 4, out var index))
                {
                    return HpackVerdict.Malformed;
                }

                HpackName classified;
                ReadOnlySpan<byte> name;
                if (index == 0)
                {
                    if (!TryReadString(block, ref position, ref _nameScratch, out name))
                    {
                        return HpackVerdict.Malformed;
                    }

                    classified = HpackName.Classify(name);
                }
                else if (!TryGetName(index, out classified, out name))
                {
                    return HpackVerdict.Malformed;
                }

                if (!TryReadString(block, ref position, ref _valueScratch, out var value))
                {
                    return HpackVerdict.Malformed;
                }

                // To the sink first: inserting may evict the entry whose name this line borrows.
                var goOn = sink.OnFieldLine(classified, name, value, neverIndexed: (first & 0xf0) == 0x10);
                if (incremental)
                {
                    _table.Insert(classified, name, value);
                }

                if (!goOn)
                {
                    return HpackVerdict.Stopped;
                }
            }

            sizeUpdateAllowed = false;
        }

        if (_valueScratch.Length > KeptScratch)
        {
            _valueScratch = new byte[1024];
        }

        if (_nameScratch.Length > KeptScratch)
        {
            _nameScratch = new byte[256];
        }

        return HpackVerdict.Ok;
    }

    private bool TryGetName(int index, out HpackName classified, out ReadOnlySpan<byte> name)
    {
        if (index is > 0 and <= HpackStaticTable.Count)
        {
            classified = HpackStaticTable.Classified(index);
            name = HpackStaticTable.Name(index);
            return true;
        }

        index -= HpackStaticTable.Count + 1;
        if ((uint)index < (uint)_table.Count)
        {
            classified = _table.Classified(index);
            name = _table.Name(index);
            return true;
        }

        classified = default;
        name = default;
        return false;
    }

    private static bool TryReadString(ReadOnlySpan<byte> block, scoped ref int position, scoped ref byte[] scratch, out ReadOnlySpan<byte> text)
    {
        text = default;
        if ((uint)position >= (uint)block.Length)
        {
            return false;
        }

        var isHuffman = (block[position] & 0x80) != 0;
        if (!HpackInteger.TryRead(block, ref position, 7, out var length) || length > block.Length - position)
        {
            return false;
        }

        var source = block.Slice(position, length);
        position += length;
        if (!isHuffman)
        {
            text = source;
            return true;
        }

        var needed = Huffman.MaxDecodedLength(length);
        if (scratch.Length < needed)
        {
            scratch = new byte[needed];
        }

        var written = Huffman.Decode(source, scratch);
        if (written < 0)
        {
            return false;
        }

        text = scratch.AsSpan(0, written);
        return true;
    }
}
