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
    public static ConnectionOptions Read(FieldMap fields)
    {
        var options = ConnectionOptions.None;
        if (!fields.Contains(KnownField.Connection))
        {
            return options;
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
                options |= option.Length switch
                {
                    5 when Ascii.EqualsIgnoreCase(option, "close"u8) => ConnectionOptions.Close,
                    7 when Ascii.EqualsIgnoreCase(option, "upgrade"u8) => ConnectionOptions.Upgrade,
                    10 when Ascii.EqualsIgnoreCase(option, "keep-alive"u8) => ConnectionOptions.KeepAlive,
                    _ => ConnectionOptions.None,
                };
            }
        }

        return options;
    }
}
