namespace MeshProxy.Http.Http2.Hpack;

/// <summary>
/// The Huffman code of RFC 7541 appendix B. It is canonical (codes of one length are consecutive, in symbol order), so the lengths alone define it.
/// Only decoding is here: we never send it (see <see cref="HpackEncoder"/>). It looks nine bits up at once, which covers every letter and digit, and finds longer codes by comparing with the first code of each length.
/// </summary>
internal static class Huffman
{
    private const int EndOfString = 256;
    private const int FastBits = 9;
    private const int LongestCode = 30;

    private static readonly ushort[] s_fast = new ushort[1 << FastBits];
    private static readonly uint[] s_limits = new uint[LongestCode + 1];
    private static readonly int[] s_offsets = new int[LongestCode + 1];
    private static readonly ushort[] s_symbols = new ushort[257];

    static Huffman()
    {
        uint code = 0;
        var position = 0;
        for (var length = 1; length <= LongestCode; length++)
        {
            code <<= 1;
            s_offsets[length] = position - (int)code;
            for (var symbol = 0; symbol <= EndOfString; symbol++)
            {
                if (Lengths[symbol] != length)
                {
                    continue;
                }

                s_symbols[position++] = (ushort)symbol;
                if (length <= FastBits)
                {
                    var shift = FastBits - length;
                    s_fast.AsSpan((int)code << shift, 1 << shift).Fill((ushort)((length << 8) | symbol));
                }

                code++;
            }

            // The first value, left-aligned to 32 bits, that no code of this length or shorter begins.
            s_limits[length] = length == LongestCode ? uint.MaxValue : code << (32 - length);
        }
    }

    private static ReadOnlySpan<byte> Lengths =>
    [
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
        6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
        13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
        15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
        20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
        22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
        26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
        20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
        30,
    ];

    /// <summary>The most bytes that <paramref name="length"/> encoded bytes can decode to: the shortest code has five bits.</summary>
    public static int MaxDecodedLength(int length) => (int)((long)length * 8 / 5);

    /// <summary>Decodes a whole string.</summary>
    /// <returns>How many bytes were written, or -1 when the string holds EOS, or its padding is 8 bits or longer or not all ones
    /// (RFC 7541 section 5.2).</returns>
    public static int Decode(ReadOnlySpan<byte> source, Span<byte> target)
    {
        ulong bits = 0;
        var available = 0;
        var position = 0;
        var written = 0;
        while (true)
        {
            while (available <= 32 && position < source.Length)
            {
                bits |= (ulong)source[position++] << (56 - available);
                available += 8;
            }

            if (available == 0)
            {
                return written;
            }

            // Bits past the end of the input read as zeros; a code that needs them shows up below as longer than what is available.
            var entry = s_fast[(int)(bits >> (64 - FastBits))];
            int length;
            int symbol;
            if (entry != 0)
            {
                length = entry >> 8;
                symbol = entry & 0xff;
            }
            else
            {
                var window = (uint)(bits >> 32);
                length = FastBits + 1;
                while (length < LongestCode && window >= s_limits[length])
                {
                    length++;
                }

                symbol = length <= available ? s_symbols[s_offsets[length] + (int)(window >> (32 - length))] : 0;
            }

            if (length > available)
            {
                // Only padding may be left: fewer than eight bits, all ones.
                return available < 8 && bits >> (64 - available) == (1UL << available) - 1 ? written : -1;
            }

            if (symbol == EndOfString)
            {
                return -1;
            }

            target[written++] = (byte)symbol;
            bits <<= length;
            available -= length;
        }
    }
}
