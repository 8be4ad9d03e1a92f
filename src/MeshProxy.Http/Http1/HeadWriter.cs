using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>
/// Heads to bytes. Everything is written anew from the parsed message: framing and connection fields come from what was decided here, never from
/// the fields; a start line or field that would not parse as itself is refused.
/// </summary>
public static class HeadWriter
{
    // Start line, Host, Date, Content-Length or Transfer-Encoding, Connection and Upgrade, and their names.
    private const int FixedBytes = 256;

    /// <summary>What <see cref="WriteRequest"/> needs at most, in bytes.</summary>
    public static int Bound(RequestHead head) =>
        FixedBytes + head.Fields.ListSize + head.MethodToken.Length + head.Path.Length + (2 * head.Authority.Length) + head.Protocol.Length;

    /// <summary>What <see cref="WriteResponse"/> needs at most, in bytes.</summary>
    public static int Bound(ResponseHead head) => FixedBytes + head.Fields.ListSize;

    /// <summary>Writes a request in origin-form (asterisk-form as it is, authority-form for CONNECT); with what it asks to switch to.</summary>
    /// <returns>Bytes written, or -1 when the head can not be written as HTTP/1.1.</returns>
    public static int WriteRequest(Span<byte> destination, RequestHead head, BodyFraming framing)
    {
        var method = head.MethodToken;
        var authority = head.Authority;
        var target = head.Method == RequestMethod.Connect ? authority : head.Path;
        if (!(head.Method == RequestMethod.Connect ? AuthorityRules.HasPort(authority) : IsOriginOrAsterisk(target))
            || (head.Method == RequestMethod.Other && !Http1Syntax.IsToken(method))
            || (!authority.IsEmpty && !AuthorityRules.IsValid(authority)))
        {
            return -1;
        }

        var writer = new HeadSpan(destination);
        writer.Write(method);
        writer.Write(" "u8);
        writer.Write(target);
        writer.Write(" HTTP/1.1\r\nhost: "u8);
        writer.Write(authority);
        writer.Write("\r\n"u8);
        var joinsCookies = head.Fields.Contains(KnownField.Cookie) && head.Fields.CountOf(KnownField.Cookie) > 1;
        for (var i = 0; i < head.Fields.Count; i++)
        {
            var line = head.Fields[i];
            if (IsWrittenElsewhere(line.Known) || (joinsCookies && line.Known == KnownField.Cookie) || line.Known == KnownField.Te)
            {
                continue;
            }

            if (!writer.TryWriteField(line))
            {
                return -1;
            }
        }

        if (joinsCookies && !TryWriteCookies(ref writer, head.Fields))
        {
            return -1;
        }

        if (framing.Kind == BodyKind.Chunked)
        {
            writer.Write("transfer-encoding: chunked\r\n"u8);
        }
        else if (framing.Kind == BodyKind.Length
            || (framing.Kind == BodyKind.None && (head.ContentLength == 0 || head.Fields.Contains(KnownField.ContentLength)
                || head.Method is RequestMethod.Post or RequestMethod.Put or RequestMethod.Patch)))
        {
            // RFC 9110 section 8.6: a method that means content says so even when there is none.
            writer.Write("content-length: "u8);
            writer.WriteNumber(framing.Length);
            writer.Write("\r\n"u8);
        }

        if (!head.Protocol.IsEmpty)
        {
            writer.Write("connection: upgrade\r\nupgrade: "u8);
            writer.Write(head.Protocol);
            writer.Write("\r\n"u8);
        }
        else if (head.Fields.TryGet(KnownField.Te, out var te) && Ascii.EqualsIgnoreCase(te, "trailers"u8))
        {
            // RFC 9110 section 10.1.4: TE is for this hop, so Connection names it.
            writer.Write("te: trailers\r\nconnection: te\r\n"u8);
        }

        writer.Write("\r\n"u8);
        return writer.Length;
    }

    /// <summary>Writes a response.</summary>
    /// <param name="destination">At least <see cref="Bound(ResponseHead)"/> bytes.</param>
    /// <param name="head">Status and fields.</param>
    /// <param name="framing">How the body that follows will end.</param>
    /// <param name="contentLength">Content-Length to state, or -1; also where no body follows (HEAD, 304).</param>
    /// <param name="options">close, keep-alive, or neither.</param>
    /// <param name="date">Adds Date where it is missing; null for informational heads.</param>
    /// <param name="protocol">What the connection switches to: the head becomes a 101. Empty: it does not.</param>
    /// <returns>Bytes written, or -1 when the head can not be written.</returns>
    internal static int WriteResponse(
        Span<byte> destination,
        ResponseHead head,
        BodyFraming framing,
        long contentLength,
        ConnectionOptions options,
        DateField? date,
        ReadOnlySpan<byte> protocol = default)
    {
        var status = protocol.IsEmpty ? head.Status : 101;
        if (status is < 100 or > 599)
        {
            return -1;
        }

        var writer = new HeadSpan(destination);
        var known = StatusLines.Get(status);
        if (known.IsEmpty)
        {
            writer.Write("HTTP/1.1 "u8);
            writer.WriteNumber(status);
            writer.Write(" \r\n"u8);
        }
        else
        {
            writer.Write(known);
        }

        for (var i = 0; i < head.Fields.Count; i++)
        {
            var line = head.Fields[i];
            if (IsWrittenElsewhere(line.Known))
            {
                continue;
            }

            if (!writer.TryWriteField(line))
            {
                return -1;
            }
        }

        if (date is not null && !head.Fields.Contains(KnownField.Date))
        {
            writer.Write("date: "u8);
            writer.Write(date.Value);
            writer.Write("\r\n"u8);
        }

        if (framing.Kind == BodyKind.Chunked)
        {
            writer.Write("transfer-encoding: chunked\r\n"u8);
        }
        else if (contentLength >= 0)
        {
            writer.Write("content-length: "u8);
            writer.WriteNumber(contentLength);
            writer.Write("\r\n"u8);
        }

        if (!protocol.IsEmpty)
        {
            writer.Write("connection: upgrade\r\nupgrade: "u8);
            writer.Write(protocol);
            writer.Write("\r\n"u8);
        }
        else if ((options & ConnectionOptions.Close) != 0)
        {
            writer.Write("connection: close\r\n"u8);
        }
        else if ((options & ConnectionOptions.KeepAlive) != 0)
        {
            writer.Write("connection: keep-alive\r\n"u8);
        }

        writer.Write("\r\n"u8);
        return writer.Length;
    }

    private static bool IsOriginOrAsterisk(ReadOnlySpan<byte> target) =>
        !target.IsEmpty && (target[0] == '/' || target.SequenceEqual("*"u8)) && target.IndexOfAnyExcept(Http1Syntax.Target) < 0;

    private static bool IsWrittenElsewhere(KnownField field) => field is KnownField.Host or KnownField.ContentLength or KnownField.TransferEncoding
        or KnownField.Connection or KnownField.KeepAlive or KnownField.ProxyConnection or KnownField.Upgrade or KnownField.Http2Settings;

    // RFC 9113 section 8.2.3: crumbs that HTTP/2 splits are one line here.
    private static bool TryWriteCookies(ref HeadSpan writer, FieldMap fields)
    {
        var isFirst = true;
        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (line.Known != KnownField.Cookie)
            {
                continue;
            }

            if (line.Value.IndexOfAny(Http1Syntax.NotInValue) >= 0)
            {
                return false;
            }

            writer.Write(isFirst ? "cookie: "u8 : "; "u8);
            writer.Write(line.Value);
            isFirst = false;
        }

        writer.Write("\r\n"u8);
        return true;
    }
}
