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

    private static void RemoveNominated(FieldMap fields)
    {
        Span<byte> name = stackalloc byte[64];
        for (var i = 0; i < fields.Count; i++)
        {
            if (fields[i].Known != KnownField.Connection)
            {
                continue;
            }

            var rest = fields[i].Value;
            while (!rest.IsEmpty)
            {
                var comma = rest.IndexOf((byte)',');
                var option = (comma < 0 ? rest : rest[..comma]).Trim(" \t"u8);
                rest = comma < 0 ? default : rest[(comma + 1)..];
                if (option.IsEmpty || option.Length > name.Length || !IsRemovable(KnownFields.Parse(option)))
                {
                    continue;
                }

                Ascii.ToLower(option, name, out var length);
                var before = fields.Count;
                fields.Remove(name[..length]);
                if (fields.Count != before)
                {
                    // Lines moved up: begin again. Every pass removes at least one line, so this ends.
                    i = -1;
                    break;
                }
            }
        }
    }

    private static bool IsRemovable(KnownField field) => field is KnownField.Other or KnownField.KeepAlive or KnownField.ProxyConnection;
}
