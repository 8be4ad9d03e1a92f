using System.Globalization;
using System.Reflection;

namespace MeshProxy.Testing;

/// <summary>The code of RFC 7541 appendix B as the RFC prints it, bit by bit: an oracle for decoders, and an encoder for tests, because we never send it.</summary>
public static class HuffmanCode
{
    /// <summary>The bits of each octet, and of EOS (256), as text.</summary>
    public static readonly IReadOnlyList<string> Bits = Read();

    /// <summary>Encodes, padded with the first bits of EOS (section 5.2).</summary>
    public static byte[] Encode(ReadOnlySpan<byte> source)
    {
        var bits = string.Concat(source.ToArray().Select(octet => Bits[octet]));
        return [.. bits.PadRight((bits.Length + 7) / 8 * 8, '1').Chunk(8).Select(octet => Convert.ToByte(new string(octet), 2))];
    }

    private static string[] Read()
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("HuffmanCode") ?? throw new FileNotFoundException("HuffmanCode");
        using var reader = new StreamReader(stream);
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#').Select(line => line.Split(' '))
            .Select(part => Convert.ToString(uint.Parse(part[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture), 2).PadLeft(int.Parse(part[2], CultureInfo.InvariantCulture), '0'))];
    }
}
