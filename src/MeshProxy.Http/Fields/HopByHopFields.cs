using System.Text;

namespace MeshProxy.Http.Fields;

/// <summary>Removes what belongs to one connection only (RFC 9110 section 7.6.1).</summary>
public static class HopByHopFields
{
    /// <summary>
    /// Removes Connection, what it names, and the fields that are hop-by-hop by definition. Names in Connection that end-to-end semantics need
    /// (RFC 9110 section 7.6.1: "must not send a connection option corresponding to a field intended for all recipients") are kept, so that a
    /// client can not make the proxy drop Content-Length, Authorization or a proxy's own field. "te: trailers" survives as HTTP/2 allows it.
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
        for (var nth = 0; TryGetConnection(fields, nth, out var rest); nth++)
        {
            while (!rest.IsEmpty)
            {
                var comma = rest.IndexOf((byte)',');
                var option = (comma < 0 ? rest : rest[..comma]).Trim(" \t"u8);
                rest = comma < 0 ? default : rest[(comma + 1)..];
                if (!option.IsEmpty && IsRemovable(KnownFields.Parse(option)))
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

    private static bool IsRemovable(KnownField field) => field is KnownField.Other or KnownField.KeepAlive or KnownField.ProxyConnection;
}
