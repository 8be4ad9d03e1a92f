using System.Globalization;
using System.Text;

namespace MeshProxy.Fuzz;

/// <summary>Bytes as printable text: <c>\r \n \t \\</c> and <c>\xNN</c>. The corpora are written in it.</summary>
public static class Escaped
{
    /// <summary>Text to bytes.</summary>
    public static byte[] Read(string text)
    {
        var bytes = new List<byte>(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                bytes.Add((byte)text[i]);
                continue;
            }

            switch (text[++i])
            {
                case 'r':
                    bytes.Add((byte)'\r');
                    break;
                case 'n':
                    bytes.Add((byte)'\n');
                    break;
                case 't':
                    bytes.Add((byte)'\t');
                    break;
                case 'x':
                    bytes.Add(byte.Parse(text.AsSpan(i + 1, 2), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
                    i += 2;
                    break;
                default:
                    bytes.Add((byte)text[i]);
                    break;
            }
        }

        return [.. bytes];
    }

    /// <summary>Bytes to text.</summary>
    public static string Write(ReadOnlySpan<byte> bytes) => Write(Encoding.Latin1.GetString(bytes));

    /// <summary>Text of one character for each byte to printable text.</summary>
    public static string Write(string latin1)
    {
        var text = new StringBuilder(latin1.Length + 8);
        foreach (var character in latin1)
        {
            _ = character switch
            {
                '\r' => text.Append("\\r"),
                '\n' => text.Append("\\n"),
                '\t' => text.Append("\\t"),
                '\\' => text.Append("\\\\"),
                < ' ' or > '~' => text.Append(CultureInfo.InvariantCulture, $"\\x{(int)character:x2}"),
                _ => text.Append(character),
            };
        }

        return text.ToString();
    }
}
