namespace MeshProxy.Http.Http2.Hpack;

/// <summary>Integers with a prefix (RFC 7541 section 5.1), bounded: more than four continuation octets, or a value above 2^28, is an error.</summary>
internal static class HpackInteger
{
    private const int MaxContinuations = 4;

    /// <summary>Reads an integer whose prefix is the low <paramref name="prefixBits"/> bits of <c>source[position]</c>.</summary>
    /// <returns>False when it is truncated or out of bounds.</returns>
    public static bool TryRead(ReadOnlySpan<byte> source, ref int position, int prefixBits, out int value)
    {
        value = 0;
        if ((uint)position >= (uint)source.Length)
        {
            return false;
        }

        var mask = (1 << prefixBits) - 1;
        value = source[position++] & mask;
        if (value < mask)
        {
            return true;
        }

        for (var i = 0; i < MaxContinuations; i++)
        {
            if ((uint)position >= (uint)source.Length)
            {
                return false;
            }

            var b = source[position++];
            value += (b & 0x7f) << (7 * i);
            if ((b & 0x80) == 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Writes an integer; <paramref name="pattern"/> holds the bits above the prefix.</summary>
    /// <returns>How many bytes were written, at most 6.</returns>
    public static int Write(Span<byte> target, byte pattern, int prefixBits, int value)
    {
        var mask = (1 << prefixBits) - 1;
        if (value < mask)
        {
            target[0] = (byte)(pattern | value);
            return 1;
        }

        target[0] = (byte)(pattern | mask);
        value -= mask;
        var written = 1;
        while (value >= 0x80)
        {
            target[written++] = (byte)(value | 0x80);
            value >>= 7;
        }

        target[written++] = (byte)value;
        return written;
    }
}
