using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>What the Connection fields of a message say (RFC 9110 section 7.6.1).</summary>
[Flags]
internal enum ConnectionOptions : byte
{
    None = 0,
    Close = 1,
    KeepAlive = 2,
    Upgrade = 4,
}

internal static class ConnectionOptionsReader
{
    /// <returns>False when more options are named than a head may have fields: they could only be meant to cost.</returns>
    public static bool TryRead(FieldMap fields, int maxOptions, out ConnectionOptions options)
    {
        options = ConnectionOptions.None;
        if (!fields.Contains(KnownField.Connection))
        {
            return true;
        }

        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (line.Known != KnownField.Connection)
            {
                continue;
            }

            var rest = line.Value;
            while (!rest.IsEmpty)
            {
                var option = Http1Syntax.NextElement(ref rest);
                if (--maxOptions < 0)
                {
                    return false;
                }

                options |= option.Length switch
                {
                    5 when Ascii.EqualsIgnoreCase(option, "close"u8) => ConnectionOptions.Close,
                    7 when Ascii.EqualsIgnoreCase(option, "upgrade"u8) => ConnectionOptions.Upgrade,
                    10 when Ascii.EqualsIgnoreCase(option, "keep-alive"u8) => ConnectionOptions.KeepAlive,
                    _ => ConnectionOptions.None,
                };
            }
        }

        return true;
    }
}
