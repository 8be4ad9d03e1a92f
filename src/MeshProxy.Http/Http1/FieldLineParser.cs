using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>What one line of a field section was.</summary>
internal enum FieldLineKind : byte
{
    NeedMore,
    Line,
    EndOfSection,
    Error,
}

/// <summary>
/// One field line (RFC 9112 section 5): two vectorised searches, the first for the name's end, the second for the value's. Everything is judged in
/// the order of the bytes, so that the answer does not depend on how many of them are there yet.
/// </summary>
internal static class FieldLineParser
{
    public static FieldLineKind Parse(
        ReadOnlySpan<byte> input, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value, out int consumed, out string? error)
    {
        name = value = default;
        consumed = 0;
        error = null;
        var nameEnd = input.IndexOfAnyExcept(Http1Syntax.Token);
        if (nameEnd < 0)
        {
            return FieldLineKind.NeedMore;
        }

        if (input[nameEnd] != ':' || nameEnd == 0)
        {
            return NotAName(input, nameEnd, out consumed, out error);
        }

        var rest = input[(nameEnd + 1)..];
        var end = rest.IndexOfAny(Http1Syntax.NotInValue);
        if (end < 0)
        {
            return FieldLineKind.NeedMore;
        }

        if (rest[end] != '\r')
        {
            error = rest[end] == '\n' ? "bare_lf" : "control_character_in_value";
            return FieldLineKind.Error;
        }

        if (end + 1 == rest.Length)
        {
            return FieldLineKind.NeedMore;
        }

        if (rest[end + 1] != '\n')
        {
            error = "bare_cr";
            return FieldLineKind.Error;
        }

        name = input[..nameEnd];
        value = Http1Syntax.TrimWhiteSpace(rest[..end]);
        consumed = nameEnd + 1 + end + 2;
        return FieldLineKind.Line;
    }

    /// <summary>Whether a field may stand in a trailer section (RFC 9110 section 6.5.1): none that frames, routes, authenticates or modifies the request.</summary>
    public static bool IsAllowedInTrailers(KnownField field) => field is not (KnownField.TransferEncoding or KnownField.ContentLength or KnownField.Host
        or KnownField.Connection or KnownField.KeepAlive or KnownField.ProxyConnection or KnownField.Te or KnownField.Trailer or KnownField.Upgrade
        or KnownField.Expect or KnownField.Authorization or KnownField.ProxyAuthorization or KnownField.ProxyAuthenticate or KnownField.Cookie
        or KnownField.SetCookie or KnownField.ContentType or KnownField.ContentEncoding or KnownField.Range or KnownField.CacheControl
        or KnownField.Http2Settings or KnownField.MeshFailure or KnownField.XForwardedClientCert or KnownField.XForwardedFor
        or KnownField.XForwardedHost or KnownField.XForwardedProto or KnownField.Forwarded or KnownField.GrpcTimeout or KnownField.XRequestTimeout);

    private static FieldLineKind NotAName(ReadOnlySpan<byte> input, int at, out int consumed, out string? error)
    {
        consumed = 0;
        error = null;
        var b = input[at];
        if (at > 0)
        {
            error = b is (byte)' ' or (byte)'\t' ? "white_space_before_colon" : b == '\n' ? "bare_lf" : "invalid_field_name";
            return FieldLineKind.Error;
        }

        if (b == '\r')
        {
            if (input.Length == 1)
            {
                return FieldLineKind.NeedMore;
            }

            if (input[1] == '\n')
            {
                consumed = 2;
                return FieldLineKind.EndOfSection;
            }
        }

        error = b switch
        {
            (byte)'\r' => "bare_cr",
            (byte)'\n' => "bare_lf",
            (byte)' ' or (byte)'\t' => "folded_line",
            (byte)':' => "empty_field_name",
            _ => "invalid_field_name",
        };
        return FieldLineKind.Error;
    }
}
