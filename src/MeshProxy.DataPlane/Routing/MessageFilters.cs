using System.Collections.Immutable;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>The filters of one rule or backend, compiled: changes to heads, applied in document order.</summary>
internal sealed class MessageFilters
{
    public static readonly MessageFilters None = new([]);

    private readonly FieldChange[] _requestChanges;
    private readonly FieldChange[] _responseChanges;
    private readonly UrlRewriteConfig? _rewrite;
    private readonly byte[]? _hostname;
    private readonly byte[]? _replacement;

    public MessageFilters(ImmutableArray<HttpFilterConfig> filters)
    {
        var modifiers = filters.OfType<HeaderModifierConfig>().ToArray();
        _requestChanges = [.. modifiers.Where(modifier => !modifier.OnResponse).Select(modifier => new FieldChange(modifier))];
        _responseChanges = [.. modifiers.Where(modifier => modifier.OnResponse).Select(modifier => new FieldChange(modifier))];
        _rewrite = filters.OfType<UrlRewriteConfig>().FirstOrDefault();
        _hostname = _rewrite?.Hostname is { } hostname ? Encoding.ASCII.GetBytes(hostname) : null;
        _replacement = _rewrite?.Path is { } path ? Encoding.ASCII.GetBytes(path.Value) : null;
        Redirect = filters.OfType<RedirectConfig>().FirstOrDefault();
    }

    /// <summary>Answers instead of forwarding.</summary>
    public RedirectConfig? Redirect { get; }

    /// <param name="request">The head to change.</param>
    /// <param name="matchedPrefix">The length in bytes of the path prefix that the rule matched, without a trailing slash.</param>
    public void Apply(RequestHead request, int matchedPrefix)
    {
        foreach (var change in _requestChanges)
        {
            change.Apply(request.Fields);
        }

        if (_hostname is not null)
        {
            request.SetAuthority(_hostname);
        }

        if (_rewrite?.Path is { } path)
        {
            request.SetPath(RewritePath(request.Path, path, _replacement!, matchedPrefix));
        }
    }

    public void Apply(ResponseHead response)
    {
        foreach (var change in _responseChanges)
        {
            change.Apply(response.Fields);
        }
    }

    /// <summary>A path rewritten as Gateway API says: the whole path, or the matched prefix, replaced; the query stays.</summary>
    public static byte[] RewritePath(ReadOnlySpan<byte> target, PathRewriteConfig rewrite, ReadOnlySpan<byte> replacement, int matchedPrefix)
    {
        var question = target.IndexOf((byte)'?');
        var path = question < 0 ? target : target[..question];
        var query = question < 0 ? default : target[question..];
        var rest = rewrite.ReplacesPrefixOnly ? path[Math.Min(matchedPrefix, path.Length)..] : default;
        if (rewrite.ReplacesPrefixOnly)
        {
            // "/foo" replaced by "/bar/" or by "/" must not double or lose the slash between it and the rest.
            replacement = replacement.TrimEnd((byte)'/');
            if (rest.IsEmpty && replacement.IsEmpty)
            {
                rest = "/"u8;
            }
            else if (!rest.IsEmpty && rest[0] != '/')
            {
                return [.. replacement, (byte)'/', .. rest, .. query];
            }
        }

        return [.. replacement, .. rest, .. query];
    }

    private sealed class FieldChange(HeaderModifierConfig config)
    {
        private readonly (byte[] Name, byte[] Value)[] _set = Encode(config.Set);
        private readonly (byte[] Name, byte[] Value)[] _add = Encode(config.Add);
        private readonly byte[][] _remove = [.. config.Remove.Select(Encoding.ASCII.GetBytes)];

        public void Apply(FieldMap fields)
        {
            foreach (var name in _remove)
            {
                fields.Remove(name);
            }

            foreach (var (name, value) in _set)
            {
                fields.Remove(name);
                fields.Add(name, value);
            }

            foreach (var (name, value) in _add)
            {
                fields.Add(name, value);
            }
        }

        private static (byte[] Name, byte[] Value)[] Encode(ImmutableArray<KeyValuePair<string, string>> fields) =>
            [.. fields.Select(field => (Encoding.ASCII.GetBytes(field.Key.ToLowerInvariant()), Encoding.Latin1.GetBytes(field.Value)))];
    }
}
