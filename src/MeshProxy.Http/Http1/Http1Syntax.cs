using System.Buffers;

namespace MeshProxy.Http.Http1;

/// <summary>Character classes of RFC 9110 section 5.6 and RFC 3986, each a vectorised search.</summary>
internal static class Http1Syntax
{
    /// <summary>tchar (RFC 9110 section 5.6.2).</summary>
    public static readonly SearchValues<byte> Token =
        SearchValues.Create("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"u8);

    /// <summary>What no field value contains: controls except HTAB. CR ends the line; obs-text is legal (RFC 9110 section 5.5).</summary>
    public static readonly SearchValues<byte> NotInValue = SearchValues.Create(
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F,
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F);

    /// <summary>
    /// What a request target is made of: printable ASCII without "#". Wider than RFC 3986 by <c>" &lt; &gt; \ ^ ` { | }</c>, which browsers send in
    /// queries and which make no ambiguity here; the path normaliser judges the backslash.
    /// </summary>
    public static readonly SearchValues<byte> Target = SearchValues.Create(
        "!\"$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"u8);

    /// <summary>reg-name without "," (a list in Host is never meant) and without "%", which is checked apart.</summary>
    public static readonly SearchValues<byte> RegisteredName =
        SearchValues.Create("-._~!$&'()*+;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"u8);

    /// <summary>Inside the brackets of an IP literal.</summary>
    public static readonly SearchValues<byte> IpLiteral = SearchValues.Create("0123456789ABCDEFabcdef:."u8);

    public static ReadOnlySpan<byte> TrimWhiteSpace(ReadOnlySpan<byte> value)
    {
        // Nearly every value has one space before and none behind it.
        var start = 0;
        while (start < value.Length && value[start] is (byte)' ' or (byte)'\t')
        {
            start++;
        }

        var end = value.Length;
        while (end > start && value[end - 1] is (byte)' ' or (byte)'\t')
        {
            end--;
        }

        return value[start..end];
    }

    public static bool IsToken(ReadOnlySpan<byte> value) => !value.IsEmpty && value.IndexOfAnyExcept(Token) < 0;

    /// <summary>protocol-name [ "/" protocol-version ] (RFC 9110 section 7.8).</summary>
    public static bool IsProtocol(ReadOnlySpan<byte> value)
    {
        var slash = value.IndexOf((byte)'/');
        return slash < 0 ? IsToken(value) : IsToken(value[..slash]) && IsToken(value[(slash + 1)..]);
    }

    public static bool IsDigit(byte b) => (uint)(b - '0') <= 9;

    /// <summary>Takes the next element off a comma-separated list (RFC 9110 section 5.6.1).</summary>
    public static ReadOnlySpan<byte> NextElement(ref ReadOnlySpan<byte> list)
    {
        var comma = list.IndexOf((byte)',');
        var element = comma < 0 ? list : list[..comma];
        list = comma < 0 ? default : list[(comma + 1)..];
        return TrimWhiteSpace(element);
    }
}
