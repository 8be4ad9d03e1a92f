using System.Text;
using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.Hpack;
using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Targets;

/// <summary>The decoder. The first byte chooses the table's size; then blocks, each behind a byte with its length, go through one decoder.</summary>
internal sealed class HpackDecodeTarget : FuzzTarget
{
    public override string Name => "hpack-decode";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\x82", "\\xbe", "\\xbf", "\\xc0", "\\x20", "\\x3f\\xe1\\x1f", "\\x40\\x01a\\x01b", "\\x00\\x01a\\x01b", "\\x10\\x01a\\x01b", "\\x7f\\x00\\x01b", "\\x41\\x8c\\xf1\\xe3\\xc2\\xe5\\xf2:k\\xa0\\xab\\x90\\xf4\\xff", "\\x04\\x81\\x07",
        "\\xff\\xff\\xff\\xff\\x7f", "\\xff\\x80\\x80\\x80\\x00", "\\x40\\x0acustom-key\\x0dcustom-header", "\\x84\\xff\\xff\\xff\\xff",
    ];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        // Small tables evict often; the largest is what we announce.
        var size = input[0] == 255 ? 4096 : input[0];
        var decoder = new HpackDecoder(size);
        var oracle = new HpackReading(size);
        var outcome = new StringBuilder();
        for (var at = 1; at < input.Length;)
        {
            var block = input[(at + 1)..Math.Min(input.Length, at + 1 + input[at])];
            at += 1 + input[at];
            var lines = new Lines();
            var verdict = decoder.Decode(block, lines);
            var expected = oracle.Decode(block);
            Same(verdict == HpackVerdict.Ok ? string.Join('\n', lines.All) : "malformed", expected is null ? "malformed" : string.Join('\n', expected), $"block {Convert.ToHexString(block)}");
            outcome.Append(verdict).Append(Math.Min(lines.All.Count, 5));
            if (verdict != HpackVerdict.Ok || outcome.Length > 40)
            {
                break;
            }
        }

        return outcome.ToString();
    }

    private sealed class Lines : IFieldLineSink
    {
        public List<string> All { get; } = [];

        public bool OnFieldLine(HpackName name, ReadOnlySpan<byte> nameBytes, ReadOnlySpan<byte> value, bool neverIndexed)
        {
            Must(name == HpackName.Classify(nameBytes), "the name's class is kept with its entry");
            All.Add($"{Text(nameBytes)}: {Text(value)}{(neverIndexed ? " (never)" : "")}");
            return true;
        }
    }
}

/// <summary>The encoder: field lists made from the input, read back by the oracle, with changes of the peer's table size between them.</summary>
internal sealed class HpackEncodeTarget : FuzzTarget
{
    private static readonly string[] s_names = ["x-a", "x-b", "accept", "cookie", "authorization", "idempotency-key", "date", "server", "x-a-name-that-is-longer-than-the-others", "content-length"];

    public override string Name => "hpack-encode";

    public override IReadOnlyList<string> Tokens { get; } = ["\\x00\\x03abc", "\\x03\\x05hello", "\\xff\\x00", "\\xff\\x40", "\\xff\\xff", "\\xfe", "\\x08\\xc8"];

    public override string Run(byte[] input)
    {
        var encoder = new HpackEncoder(4096);
        var oracle = new HpackReading(4096);
        var fields = new FieldMap();
        var expected = new List<string> { ":status: 200" };
        var (blocks, bytes) = (0, 0);
        for (var at = 0; at < input.Length;)
        {
            int Next() => at < input.Length ? input[at++] : 0;
            var what = Next();
            if (what == 0xff)
            {
                encoder.OnPeerTableSize((uint)(Next() * 20));
                continue;
            }

            if (what != 0xfe)
            {
                var name = s_names[what % s_names.Length];
                var length = Next();
                var value = input[at..Math.Min(input.Length, at + length)];
                at += value.Length;
                fields.Add(Encoding.Latin1.GetBytes(name), value);
                expected.Add($"{name}: {Text(value)}{(name is "cookie" or "authorization" or "idempotency-key" ? " (never)" : "")}");
                if (fields.Count < 6)
                {
                    continue;
                }
            }

            Send();
        }

        Send();
        return $"{blocks} {bytes / 16}";

        void Send()
        {
            var block = new byte[HpackEncoder.Bound(fields, 3)];
            var length = encoder.EncodeResponse(200, fields, block);
            Same(string.Join('\n', oracle.Decode(block[..length]) ?? ["malformed"]), string.Join('\n', expected), $"block {blocks}: {Convert.ToHexString(block.AsSpan(0, length))}");
            (blocks, bytes) = (blocks + 1, bytes + length);
            fields.Clear();
            expected = [":status: 200"];
        }
    }
}

/// <summary>Huffman decoding: of the input itself, and of what the RFC's code makes of it.</summary>
internal sealed class HuffmanTarget : FuzzTarget
{
    public override string Name => "huffman";

    public override IReadOnlyList<string> Tokens { get; } = ["\\xff", "\\xff\\xff\\xff\\xff", "\\xfe", "\\x00", "\\xf1\\xe3\\xc2\\xe5\\xf2:k\\xa0\\xab\\x90\\xf4\\xff", "\\x07", "\\x1f", "\\x7f", "\\xff\\xff\\xff\\xfc"];

    public override string Run(byte[] input)
    {
        var decoded = new byte[Huffman.MaxDecodedLength(input.Length)];
        var written = Huffman.Decode(input, decoded);
        Same(written < 0 ? "malformed" : Text(decoded.AsSpan(0, written)), HpackReading.Huffman(input) ?? "malformed", "decoding");

        var encoded = HuffmanCode.Encode(input);
        var back = new byte[Huffman.MaxDecodedLength(encoded.Length)];
        Same(Text(back.AsSpan(0, Math.Max(0, Huffman.Decode(encoded, back)))), Text(input), "there and back");
        return $"{written / 4} {(input.Length - encoded.Length) / 4}";
    }
}
