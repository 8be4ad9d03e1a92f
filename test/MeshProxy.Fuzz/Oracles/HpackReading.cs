using System.Text;
using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>
/// HPACK as RFC 7541 tells it, with lists and strings: one bit at a time, an entry is a pair, the table is a list whose head is the newest. Ours refuses integers with
/// more than four continuation octets; so does this. Everything else is the RFC's.
/// </summary>
internal sealed class HpackReading
{
    private static readonly Dictionary<string, int> s_symbols = HuffmanCode.Bits.Index().ToDictionary(code => code.Item, code => code.Index);

    // RFC 7541 appendix A.
    private static readonly (string Name, string Value)[] s_static =
    [
        .. """
        :authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|:status=206|:status=304|:status=400|:status=404|:status=500
        accept-charset|accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|content-disposition
        content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since
        if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server
        set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate
        """.Split('\n', '|').Select(entry => entry.Trim().Split('=')).Select(parts => (parts[0], parts.Length > 1 ? parts[1] : "")),
    ];

    private readonly List<(string Name, string Value)> _dynamic = [];
    private readonly int _limit;
    private int _maxSize;

    public HpackReading(int limit) => _limit = _maxSize = limit;

    /// <summary>Decodes a block.</summary>
    /// <returns>A line for each field, "name: value", never-indexed ones marked; null when the block is malformed.</returns>
    public List<string>? Decode(byte[] block)
    {
        var lines = new List<string>();
        var at = 0;
        try
        {
            while (at < block.Length)
            {
                var first = block[at];
                if (first >= 0x80)
                {
                    var (name, value) = Entry(Integer(block, ref at, 7));
                    lines.Add($"{name}: {value}");
                }
                else if (first is >= 0x20 and < 0x40)
                {
                    var size = Integer(block, ref at, 5);
                    if (lines.Count > 0 || size > _limit)
                    {
                        return null;
                    }

                    _maxSize = size;
                    Evict(0);
                }
                else
                {
                    var isIndexed = first >= 0x40;
                    var index = Integer(block, ref at, isIndexed ? 6 : 4);
                    var name = index == 0 ? String(block, ref at) : Entry(index).Name;
                    var value = String(block, ref at);
                    lines.Add($"{name}: {value}{(first is >= 0x10 and < 0x20 ? " (never)" : "")}");
                    if (isIndexed)
                    {
                        Evict(Size(name, value));
                        if (Size(name, value) <= _maxSize)
                        {
                            _dynamic.Insert(0, (name, value));
                        }
                    }
                }
            }
        }
        catch (FormatException)
        {
            return null;
        }

        return lines;
    }

    /// <summary>Decodes Huffman-coded bytes (section 5.2); null when they are malformed.</summary>
    public static string? Huffman(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder();
        var code = "";
        foreach (var octet in bytes)
        {
            for (var bit = 7; bit >= 0; bit--)
            {
                code += ((octet >> bit) & 1) == 1 ? '1' : '0';
                if (s_symbols.TryGetValue(code, out var symbol))
                {
                    if (symbol == 256)
                    {
                        return null;
                    }

                    text.Append((char)symbol);
                    code = "";
                }
            }
        }

        return code.Length < 8 && !code.Contains('0', StringComparison.Ordinal) ? text.ToString() : null;
    }

    private static int Size(string name, string value) => name.Length + value.Length + 32;

    private static int Integer(byte[] block, ref int at, int prefixBits)
    {
        var mask = (1 << prefixBits) - 1;
        long value = Octet(block, ref at) & mask;
        if (value < mask)
        {
            return (int)value;
        }

        for (var power = 0; power < 28; power += 7)
        {
            var octet = Octet(block, ref at);
            value += (long)(octet & 0x7f) << power;
            if (octet < 0x80)
            {
                return (int)value;
            }
        }

        throw new FormatException();
    }

    private static string String(byte[] block, ref int at)
    {
        var isHuffman = at < block.Length && block[at] >= 0x80;
        var length = Integer(block, ref at, 7);
        if (length > block.Length - at)
        {
            throw new FormatException();
        }

        var bytes = block.AsSpan(at, length);
        at += length;
        return isHuffman ? Huffman(bytes) ?? throw new FormatException() : Encoding.Latin1.GetString(bytes);
    }

    private static byte Octet(byte[] block, ref int at) => at < block.Length ? block[at++] : throw new FormatException();

    private (string Name, string Value) Entry(int index) =>
        index == 0 || index > s_static.Length + _dynamic.Count ? throw new FormatException() : index <= s_static.Length ? s_static[index - 1] : _dynamic[index - s_static.Length - 1];

    // Makes room for an entry of that size (section 4.4); all goes when there can be none.
    private void Evict(int size)
    {
        while (_dynamic.Count > 0 && _dynamic.Sum(entry => Size(entry.Name, entry.Value)) > _maxSize - size)
        {
            _dynamic.RemoveAt(_dynamic.Count - 1);
        }
    }
}
