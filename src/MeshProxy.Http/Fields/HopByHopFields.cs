using System.Text;

namespace MeshProxy.Http.Fields;

/// <summary>Removes what belongs to one connection only (RFC 9110 section 7.6.1).</summary>
public static class HopByHopFields
{
    // More options than a message may have fields name nothing more.
    private const int MaxOptions = 128;

    // Longer than any name in IsEndToEnd.
    private const int MaxEndToEndBytes = 64;

    /// <summary>
    /// Removes Connection, what it names, and the fields that are hop-by-hop by definition. Names in Connection that end-to-end semantics need
    /// (RFC 9110 section 7.6.1: "must not send a connection option corresponding to a field intended for all recipients") are kept, so that a
    /// client can not make the proxy drop Content-Length, Authorization or a proxy's own field: every <see cref="KnownField"/> that is not hop-by-hop
    /// itself, and the names and families of names in <see cref="IsEndToEnd"/>. "te: trailers" survives as HTTP/2 allows it.
    /// </summary>
    public static void Remove(FieldMap fields)
    {
        if (fields.Contains(KnownField.Connection))
        {
            RemoveNominated(fields);
            fields.Remove(KnownField.Connection);
        }

        if (fields.Contains(KnownField.Te))
        {
            var trailers = AllowsTrailers(fields);
            fields.Remove(KnownField.Te);
            if (trailers)
            {
                fields.Add(KnownField.Te, "trailers"u8);
            }
        }

        fields.Remove(KnownField.KeepAlive);
        fields.Remove(KnownField.ProxyConnection);
        fields.Remove(KnownField.TransferEncoding);
        fields.Remove(KnownField.Upgrade);
        fields.Remove(KnownField.Http2Settings);
        fields.Remove(KnownField.ProxyAuthenticate);
        fields.Remove(KnownField.ProxyAuthorization);
    }

    private static bool AllowsTrailers(FieldMap fields)
    {
        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (line.Known != KnownField.Te)
            {
                continue;
            }

            foreach (var range in line.Value.Split((byte)','))
            {
                if (Ascii.EqualsIgnoreCase(line.Value[range].Trim(" \t"u8), "trailers"u8))
                {
                    return true;
                }
            }
        }

        return false;
    }

    // Removing moves lines, never their bytes: the span of a Connection value stays good while others are removed.
    private static void RemoveNominated(FieldMap fields)
    {
        Span<byte> lower = stackalloc byte[MaxEndToEndBytes];
        var left = MaxOptions;
        for (var nth = 0; TryGetConnection(fields, nth, out var rest); nth++)
        {
            while (!rest.IsEmpty)
            {
                var comma = rest.IndexOf((byte)',');
                var option = (comma < 0 ? rest : rest[..comma]).Trim(" \t"u8);
                rest = comma < 0 ? default : rest[(comma + 1)..];
                if (option.IsEmpty)
                {
                    continue;
                }

                if (left-- == 0)
                {
                    return;
                }

                // Families of names are told by their beginning.
                var known = KnownFields.Parse(option);
                Ascii.ToLower(option[..Math.Min(option.Length, lower.Length)], lower, out var length);
                if (known == KnownField.Other && !IsEndToEnd(lower[..length]))
                {
                    RemoveNamed(fields, option);
                }
            }
        }
    }

    private static bool TryGetConnection(FieldMap fields, int nth, out ReadOnlySpan<byte> value)
    {
        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (line.Known == KnownField.Connection && nth-- == 0)
            {
                value = line.Value;
                return true;
            }
        }

        value = default;
        return false;
    }

    private static void RemoveNamed(FieldMap fields, ReadOnlySpan<byte> option)
    {
        for (var i = fields.Count - 1; i >= 0; i--)
        {
            if (Ascii.EqualsIgnoreCase(fields[i].Name, option))
            {
                fields.RemoveAt(i);
            }
        }
    }

    /// <summary>What is meant for every recipient although the proxy itself does not know it: registered fields of messages and representations (RFC 9110,
    /// RFC 9111), of browsers' security (Fetch), of tracing, and those by which applications tell who calls.</summary>
    private static bool IsEndToEnd(ReadOnlySpan<byte> name)
    {
        if (name.StartsWith("x-"u8))
        {
            var rest = name[2..];
            return rest.StartsWith("forwarded"u8) || rest.StartsWith("meshproxy-"u8) || rest.StartsWith("b3-"u8) || rest.StartsWith("auth-"u8)
                || rest.SequenceEqual("real-ip"u8) || rest.SequenceEqual("client-ip"u8) || rest.SequenceEqual("api-key"u8) || rest.SequenceEqual("csrf-token"u8)
                || rest.SequenceEqual("xsrf-token"u8) || rest.SequenceEqual("requested-with"u8) || rest.SequenceEqual("http-method-override"u8)
                || rest.SequenceEqual("content-type-options"u8) || rest.SequenceEqual("frame-options"u8);
        }

        return name.StartsWith("content-"u8) || name.StartsWith("if-"u8) || name.StartsWith("accept-"u8) || name.StartsWith("access-control-"u8)
            || name.StartsWith("sec-"u8) || name.StartsWith("cross-origin-"u8) || name.StartsWith("grpc-"u8)
            || name.SequenceEqual("age"u8) || name.SequenceEqual("expires"u8) || name.SequenceEqual("pragma"u8) || name.SequenceEqual("from"u8)
            || name.SequenceEqual("max-forwards"u8) || name.SequenceEqual("prefer"u8) || name.SequenceEqual("www-authenticate"u8)
            || name.SequenceEqual("authentication-info"u8) || name.SequenceEqual("strict-transport-security"u8) || name.SequenceEqual("b3"u8)
            || name.SequenceEqual("traceresponse"u8) || name.SequenceEqual("uber-trace-id"u8) || name.SequenceEqual("true-client-ip"u8);
    }
}
