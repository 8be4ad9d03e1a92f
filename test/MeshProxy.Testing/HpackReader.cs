using System.Text;

namespace MeshProxy.Testing;

/// <summary>
/// Reads field blocks of one connection (RFC 7541), for peers in tests that must not share the product's decoder. It knows no Huffman coding, which our encoder does not use,
/// and forgets no entry: the newest have the lowest numbers, so that what the sender has evicted is never asked for.
/// </summary>
public sealed class HpackReader
{
    // RFC 7541, appendix A.
    private static readonly (string Name, string Value)[] s_static =
    [
        (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
        (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
        ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
        ("authorization", ""), ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
        ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
        ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
        ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""),
        ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
    ];

    private readonly List<(string Name, string Value)> _dynamic = [];

    /// <summary>The fields of one block, as they came.</summary>
    public List<(string Name, string Value)> Read(ReadOnlySpan<byte> block)
    {
        var fields = new List<(string, string)>();
        while (!block.IsEmpty)
        {
            var first = block[0];
            if (first >= 0x80)
            {
                fields.Add(Entry(Number(ref block, 7)));
            }
            else if (first is >= 0x20 and < 0x40)
            {
                Number(ref block, 5);
            }
            else
            {
                var isKept = first >= 0x40;
                var index = Number(ref block, isKept ? 6 : 4);
                var name = index > 0 ? Entry(index).Name : Text(ref block);
                var field = (name, Text(ref block));
                fields.Add(field);
                if (isKept)
                {
                    _dynamic.Insert(0, field);
                }
            }
        }

        return fields;
    }

    private static int Number(ref ReadOnlySpan<byte> block, int bits)
    {
        var mask = (1 << bits) - 1;
        var number = block[0] & mask;
        block = block[1..];
        for (var shift = 0; number >= mask; shift += 7)
        {
            var next = block[0];
            block = block[1..];
            number += (next & 0x7f) << shift;
            if (next < 0x80)
            {
                break;
            }
        }

        return number;
    }

    private static string Text(ref ReadOnlySpan<byte> block)
    {
        if (block[0] >= 0x80)
        {
            throw new InvalidDataException("a Huffman-coded string");
        }

        var length = Number(ref block, 7);
        var text = Encoding.Latin1.GetString(block[..length]);
        block = block[length..];
        return text;
    }

    private (string Name, string Value) Entry(int index) => index <= s_static.Length ? s_static[index - 1] : _dynamic[index - s_static.Length - 1];
}
