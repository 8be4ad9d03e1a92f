using System.Text;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>A new path as Gateway API says: in place of the whole, or of the matched prefix; the query stays.</summary>
internal sealed class PathRewrite(PathRewriteConfig config)
{
    // "/foo" replaced by "/bar/" or by "/" must not double the slash between it and the rest.
    private readonly byte[] _replacement = Encoding.ASCII.GetBytes(config.ReplacesPrefixOnly ? config.Value.TrimEnd('/') : config.Value);

    /// <summary>How many bytes the result may take.</summary>
    public int MaxLength(ReadOnlySpan<byte> target) => _replacement.Length + 1 + target.Length;

    /// <summary>Writes the new target.</summary>
    /// <param name="target">Path and query as they are.</param>
    /// <param name="matchedPrefix">The length of the prefix that the rule matched, without a trailing slash.</param>
    /// <param name="into">At least <see cref="MaxLength"/> bytes; not those of <paramref name="target"/>.</param>
    /// <returns>How many bytes were written.</returns>
    public int Write(ReadOnlySpan<byte> target, int matchedPrefix, Span<byte> into)
    {
        var question = target.IndexOf((byte)'?');
        var path = question < 0 ? target : target[..question];
        var query = question < 0 ? default : target[question..];
        var rest = config.ReplacesPrefixOnly ? path[Math.Min(matchedPrefix, path.Length)..] : default;

        _replacement.CopyTo(into);
        var length = _replacement.Length;
        if (rest.IsEmpty ? length == 0 : rest[0] != '/')
        {
            into[length++] = (byte)'/';
        }

        rest.CopyTo(into[length..]);
        length += rest.Length;
        query.CopyTo(into[length..]);
        return length + query.Length;
    }
}
