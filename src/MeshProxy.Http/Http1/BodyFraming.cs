using System.Globalization;
using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>How a body ends.</summary>
public enum BodyKind : byte
{
    /// <summary>There is none.</summary>
    None,

    /// <summary>After a known number of bytes.</summary>
    Length,

    /// <summary>With the last chunk and its trailers.</summary>
    Chunked,

    /// <summary>With the connection (responses only).</summary>
    UntilClose,

    /// <summary>A tunnel was asked for, or accepted: raw bytes until the half-close.</summary>
    Tunnel,
}

/// <summary>
/// The only place that decides where a message's body ends (RFC 9112 section 6). Whatever two readers could understand differently is refused:
/// both lengths at once, several Content-Length lines (even equal ones), Transfer-Encoding in HTTP/1.0, any coding but exactly one "chunked".
/// </summary>
/// <param name="Kind">How it ends.</param>
/// <param name="Length">Its bytes, for <see cref="BodyKind.Length"/>.</param>
public readonly record struct BodyFraming(BodyKind Kind, long Length = 0)
{
    private const int MaxLengthDigits = 18;

    /// <summary>Decides for a request: none declared means none there (RFC 9112 section 6.3, rule 7).</summary>
    /// <returns>False when the request must be refused with <paramref name="error"/> and the connection closed.</returns>
    public static bool TryForRequest(RequestHead head, Http1Limits limits, out BodyFraming framing, out Http1Error error)
    {
        framing = default;
        if (!TryRead(head.Fields, head.Version, out var isChunked, out var length, out error))
        {
            return false;
        }

        if (length > limits.MaxRequestBodyBytes)
        {
            error = new Http1Error(413, "body_too_large");
            return false;
        }

        framing = isChunked ? new BodyFraming(BodyKind.Chunked) : length > 0 ? new BodyFraming(BodyKind.Length, length) : default;
        head.ContentLength = length;
        if (head.AsksForTunnel)
        {
            return TryForTunnel(head, ref framing, out error);
        }

        if (head.Method == RequestMethod.Trace && framing.Kind != BodyKind.None)
        {
            // RFC 9110 section 9.3.8: it comes back to whoever asked, whatever it is.
            error = new Http1Error(400, "trace_with_body");
            return false;
        }

        head.EndsStream = framing.Kind == BodyKind.None;
        return true;
    }

    /// <summary>Decides for a response to <paramref name="method"/>. Length fields that mean nothing (1xx, 204) are removed.</summary>
    /// <returns>False when the response is refused.</returns>
    public static bool TryForResponse(ResponseHead head, RequestMethod method, out BodyFraming framing, out Http1Error error)
    {
        framing = default;
        if (method == RequestMethod.Connect && head.Status is >= 200 and < 300)
        {
            // RFC 9110 section 9.3.6: it accepts the tunnel, and length fields in it are ignored.
            head.Fields.Remove(KnownField.ContentLength);
            head.Fields.Remove(KnownField.TransferEncoding);
            head.IsTunnel = true;
            framing = new BodyFraming(BodyKind.Tunnel);
            error = default;
            return true;
        }

        if (!TryRead(head.Fields, head.Version, out var isChunked, out var length, out error))
        {
            return false;
        }

        head.ContentLength = length;
        if (!AllowsBody(head.Status, method))
        {
            if (head.Status is < 200 or 204)
            {
                head.Fields.Remove(KnownField.ContentLength);
                head.ContentLength = -1;
            }

            head.Fields.Remove(KnownField.TransferEncoding);
            head.EndsStream = !head.IsInformational;
            return true;
        }

        framing = isChunked ? new BodyFraming(BodyKind.Chunked)
            : length < 0 ? new BodyFraming(BodyKind.UntilClose)
            : length > 0 ? new BodyFraming(BodyKind.Length, length)
            : default;
        head.EndsStream = framing.Kind == BodyKind.None;
        return true;
    }

    /// <summary>Whether a response with that status to that method has a body at all (RFC 9112 section 6.3, rule 1).</summary>
    public static bool AllowsBody(int status, RequestMethod method) =>
        method != RequestMethod.Head && status is not (204 or 304) && status >= 200;

    /// <summary>A Content-Length value: digits only, at most 18 of them.</summary>
    public static bool TryParseLength(ReadOnlySpan<byte> value, out long length)
    {
        length = 0;
        if (value.IsEmpty || value.Length > MaxLengthDigits)
        {
            return false;
        }

        foreach (var b in value)
        {
            if (!Http1Syntax.IsDigit(b))
            {
                return false;
            }

            length = (length * 10) + (b - '0');
        }

        return true;
    }

    // The content of CONNECT has no meaning (RFC 9110 section 9.3.6). That of an upgrade would have to be read before the protocol changes, which no
    // HTTP/2 hop can say: such a request is served as if it had not asked (RFC 9110 section 7.8 allows it).
    private static bool TryForTunnel(RequestHead head, ref BodyFraming framing, out Http1Error error)
    {
        error = default;
        if (framing.Kind == BodyKind.None)
        {
            head.Fields.Remove(KnownField.ContentLength);
            head.ContentLength = -1;
            framing = new BodyFraming(BodyKind.Tunnel);
            return true;
        }

        if (head.Method == RequestMethod.Connect)
        {
            error = new Http1Error(400, "connect_with_body");
            return false;
        }

        head.SetProtocol(default);
        return true;
    }

    private static bool TryRead(FieldMap fields, HttpProtocolVersion version, out bool isChunked, out long length, out Http1Error error)
    {
        isChunked = false;
        length = -1;
        error = default;
        if (fields.Contains(KnownField.ContentLength))
        {
            if (fields.Contains(KnownField.TransferEncoding))
            {
                error = new Http1Error(400, "content_length_with_transfer_encoding");
                return false;
            }

            if (fields.CountOf(KnownField.ContentLength) != 1)
            {
                error = new Http1Error(400, "several_content_lengths");
                return false;
            }

            _ = fields.TryGet(KnownField.ContentLength, out var value);
            if (!TryParseLength(value, out length))
            {
                error = new Http1Error(400, "invalid_content_length");
                return false;
            }

            if (value.Length > 1 && value[0] == '0')
            {
                // Legal by the grammar; whoever reads it as octal behind us must not get it.
                Span<byte> canonical = stackalloc byte[20];
                _ = length.TryFormat(canonical, out var written, default, CultureInfo.InvariantCulture);
                fields.Set(KnownField.ContentLength, canonical[..written]);
            }
        }
        else if (fields.Contains(KnownField.TransferEncoding))
        {
            if (version == HttpProtocolVersion.Http10)
            {
                error = new Http1Error(400, "transfer_encoding_in_http10");
                return false;
            }

            error = ReadTransferEncoding(fields);
            isChunked = !error.IsError;
            return isChunked;
        }

        return true;
    }

    // RFC 9112 section 6.1. An unknown coding is 501; chunked twice or not last is an attack, not an extension.
    private static Http1Error ReadTransferEncoding(FieldMap fields)
    {
        var chunkedSeen = false;
        var unknownSeen = false;
        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (line.Known != KnownField.TransferEncoding)
            {
                continue;
            }

            var rest = line.Value;
            do
            {
                var endsWithComma = !rest.IsEmpty && rest[^1] == ',';
                var coding = Http1Syntax.NextElement(ref rest);
                if (!Http1Syntax.IsToken(coding) || chunkedSeen || (rest.IsEmpty && endsWithComma))
                {
                    return new Http1Error(400, "invalid_transfer_encoding");
                }

                if (Ascii.EqualsIgnoreCase(coding, "chunked"u8))
                {
                    chunkedSeen = true;
                }
                else
                {
                    unknownSeen = true;
                }
            }
            while (!rest.IsEmpty);
        }

        return unknownSeen ? new Http1Error(501, "unknown_transfer_coding") : default;
    }
}
