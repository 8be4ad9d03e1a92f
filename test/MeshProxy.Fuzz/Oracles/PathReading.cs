using System.Globalization;
using System.Text.RegularExpressions;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>RFC 3986 sections 5.2.4 and 6.2.2 on strings: split, decode each segment, judge it, push and pop. Null: refused.</summary>
internal static partial class PathReading
{
    public static string? Normalize(string target, bool mergesSlashes, bool encodedSlash, bool backslash, bool encodedNull)
    {
        if (!Legal().IsMatch(target))
        {
            return null;
        }

        var queryStart = target.IndexOf('?', StringComparison.Ordinal);
        var (path, query) = queryStart < 0 ? (target, "") : (target[..queryStart], target[queryStart..]);
        if (BadEncoding().IsMatch(path))
        {
            return null;
        }

        path = Encoding().Replace(path, match =>
        {
            var octet = (char)byte.Parse(match.ValueSpan[1..], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            return char.IsAsciiLetterOrDigit(octet) || octet is '-' or '.' or '_' or '~' ? octet.ToString() : match.Value.ToUpperInvariant();
        });
        if ((!encodedSlash && path.Contains("%2F", StringComparison.Ordinal)) || (!encodedNull && path.Contains("%00", StringComparison.Ordinal))
            || (!backslash && (path.Contains("%5C", StringComparison.Ordinal) || path.Contains('\\', StringComparison.Ordinal))))
        {
            return null;
        }

        // What stays is a stack of segments; the last one may be empty, which is the slash at the end.
        var kept = new List<string>();
        var segments = path[1..].Split('/');
        for (var i = 0; i < segments.Length; i++)
        {
            var segment = segments[i];
            var isLast = i == segments.Length - 1;
            var parts = Separator().Split(segment);
            if (parts.Length > 1 && parts.Any(part => part is "." or ".."))
            {
                return null;
            }

            if (segment == ".." && kept.Count > 0)
            {
                kept.RemoveAt(kept.Count - 1);
            }

            if (segment is "." or "..")
            {
                if (isLast)
                {
                    kept.Add("");
                }
            }
            else if (isLast || segment.Length > 0 || !mergesSlashes)
            {
                kept.Add(segment);
            }
        }

        return "/" + string.Join('/', kept) + query;
    }

    // A slash first, and nothing but printable ASCII without "#".
    [GeneratedRegex(@"\A/[!-""$-~]*\z")]
    private static partial Regex Legal();

    [GeneratedRegex("%(?![0-9A-Fa-f]{2})")]
    private static partial Regex BadEncoding();

    [GeneratedRegex("%[0-9A-Fa-f]{2}")]
    private static partial Regex Encoding();

    [GeneratedRegex(@"%2F|%5C|\\")]
    private static partial Regex Separator();
}
