using System.Buffers;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// One named value of a request as routes see it. Nearly always bytes of the head itself; only a field of several lines and an encoded query parameter are
/// put together in a borrowed buffer. Valid until <see cref="Dispose"/> or until the head changes.
/// </summary>
internal ref struct RequestValue
{
    private byte[]? _borrowed;

    private RequestValue(ReadOnlySpan<byte> bytes, byte[]? borrowed)
    {
        IsPresent = true;
        Bytes = bytes;
        _borrowed = borrowed;
    }

    public bool IsPresent { get; }

    public ReadOnlySpan<byte> Bytes { get; }

    /// <summary>The value of a field, name in lower case. Several lines are one value (RFC 9110 section 5.3), cookies joined as RFC 9113 section 8.2.3 has it.</summary>
    public static RequestValue OfField(RequestHead request, ReadOnlySpan<byte> name)
    {
        // Host is no field here: it is the authority.
        if (name.SequenceEqual("host"u8))
        {
            return request.Authority.IsEmpty ? default : new RequestValue(request.Authority, null);
        }

        var fields = request.Fields;
        var index = fields.IndexOf(name, 0);
        if (index < 0)
        {
            return default;
        }

        var next = fields.IndexOf(name, index + 1);
        if (next < 0)
        {
            return new RequestValue(fields[index].Value, null);
        }

        var separator = name.SequenceEqual("cookie"u8) ? "; "u8 : ", "u8;
        var length = fields[index].Value.Length;
        for (var i = next; i >= 0; i = fields.IndexOf(name, i + 1))
        {
            length += separator.Length + fields[i].Value.Length;
        }

        var joined = ArrayPool<byte>.Shared.Rent(length);
        fields[index].Value.CopyTo(joined);
        var end = fields[index].Value.Length;
        for (var i = next; i >= 0; i = fields.IndexOf(name, i + 1))
        {
            separator.CopyTo(joined.AsSpan(end));
            fields[i].Value.CopyTo(joined.AsSpan(end + separator.Length));
            end += separator.Length + fields[i].Value.Length;
        }

        return new RequestValue(joined.AsSpan(0, end), joined);
    }

    /// <summary>The value of the first query parameter of that name (Gateway API recommends the first), both decoded.</summary>
    public static RequestValue OfQuery(ReadOnlySpan<byte> target, ReadOnlySpan<byte> name)
    {
        var question = target.IndexOf((byte)'?');
        if (question < 0)
        {
            return default;
        }

        var query = target[(question + 1)..];
        while (!query.IsEmpty)
        {
            var end = query.IndexOf((byte)'&');
            var pair = end < 0 ? query : query[..end];
            query = end < 0 ? default : query[(end + 1)..];
            var equals = pair.IndexOf((byte)'=');
            if (IsNamed(equals < 0 ? pair : pair[..equals], name))
            {
                return Decoded(equals < 0 ? default : pair[(equals + 1)..]);
            }
        }

        return default;
    }

    public void Dispose()
    {
        if (_borrowed is not null)
        {
            ArrayPool<byte>.Shared.Return(_borrowed);
            _borrowed = null;
        }
    }

    private static bool IsNamed(ReadOnlySpan<byte> encoded, ReadOnlySpan<byte> name)
    {
        // Encoding only ever lengthens.
        if (encoded.Length == name.Length)
        {
            return encoded.IndexOf((byte)'+') < 0 ? encoded.SequenceEqual(name) : Decode(encoded, name);
        }

        return encoded.Length > name.Length && Decode(encoded, name);

        static bool Decode(ReadOnlySpan<byte> encoded, ReadOnlySpan<byte> name)
        {
            using var decoded = Decoded(encoded);
            return decoded.Bytes.SequenceEqual(name);
        }
    }

    /// <summary>RFC 3986 section 2.1 and, as forms write it, '+' for a space. A '%' that begins no encoding stands for itself.</summary>
    private static RequestValue Decoded(ReadOnlySpan<byte> encoded)
    {
        if (encoded.IndexOfAny((byte)'%', (byte)'+') < 0)
        {
            return new RequestValue(encoded, null);
        }

        var decoded = ArrayPool<byte>.Shared.Rent(encoded.Length);
        var length = 0;
        for (var i = 0; i < encoded.Length; i++)
        {
            var b = encoded[i];
            if (b == '%' && i + 2 < encoded.Length && char.IsAsciiHexDigit((char)encoded[i + 1]) && char.IsAsciiHexDigit((char)encoded[i + 2]))
            {
                b = (byte)((Digit(encoded[i + 1]) << 4) | Digit(encoded[i + 2]));
                i += 2;
            }
            else if (b == '+')
            {
                b = (byte)' ';
            }

            decoded[length++] = b;
        }

        return new RequestValue(decoded.AsSpan(0, length), decoded);

        static int Digit(byte hex) => hex <= '9' ? hex - '0' : (hex | 0x20) - 'a' + 10;
    }
}
