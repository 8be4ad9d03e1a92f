using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>Writes the chunked coding (RFC 9112 section 7.1). Never writes extensions.</summary>
public static class ChunkedWriter
{
    /// <summary>The longest chunk header: 16 digits and CRLF.</summary>
    public const int MaxHeaderBytes = 18;

    /// <summary>The last chunk without trailers.</summary>
    public static ReadOnlySpan<byte> LastChunk => "0\r\n\r\n"u8;

    /// <summary>Writes a chunk's size and CRLF; the size must not be 0.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteHeader(Span<byte> destination, long size)
    {
        var digits = 1;
        while (digits < 16 && size >> (digits * 4) != 0)
        {
            digits++;
        }

        for (var i = 0; i < digits; i++)
        {
            destination[i] = "0123456789abcdef"u8[(int)(size >> ((digits - 1 - i) * 4)) & 0xF];
        }

        destination[digits] = (byte)'\r';
        destination[digits + 1] = (byte)'\n';
        return digits + 2;
    }

    /// <summary>What <see cref="WriteTrailers"/> needs at most, in bytes.</summary>
    public static int TrailersBound(FieldMap trailers) => trailers.ListSize + 8;

    /// <summary>Writes the last chunk, the trailers that are legal there, and the final empty line.</summary>
    /// <returns>Bytes written, or -1 when a field can not be written.</returns>
    public static int WriteTrailers(Span<byte> destination, FieldMap trailers)
    {
        var writer = new HeadSpan(destination);
        writer.Write("0\r\n"u8);
        for (var i = 0; i < trailers.Count; i++)
        {
            var line = trailers[i];
            if (!FieldLineParser.IsAllowedInTrailers(line.Known))
            {
                continue;
            }

            if (!writer.TryWriteField(line))
            {
                return -1;
            }
        }

        writer.Write("\r\n"u8);
        return writer.Length;
    }
}
