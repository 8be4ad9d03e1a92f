using System.Buffers;
using System.Collections.Immutable;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// What filters do to the messages of one backend, compiled: those of its rule, then its own, in document order. Where both rewrite the same part of the URL
/// the backend's counts. Applying them allocates nothing.
/// </summary>
internal sealed class MessageFilters
{
    public static readonly MessageFilters None = new([], []);

    private readonly FieldChange[] _requestChanges;
    private readonly FieldChange[] _responseChanges;
    private readonly byte[]? _hostname;
    private readonly PathRewrite? _path;

    public MessageFilters(ImmutableArray<HttpFilterConfig> ofRule, ImmutableArray<HttpFilterConfig> ofBackend)
    {
        var filters = ofRule.Concat(ofBackend).ToArray();
        var modifiers = filters.OfType<HeaderModifierConfig>().ToArray();
        _requestChanges = [.. modifiers.Where(modifier => !modifier.OnResponse).Select(modifier => new FieldChange(modifier))];
        _responseChanges = [.. modifiers.Where(modifier => modifier.OnResponse).Select(modifier => new FieldChange(modifier))];
        var rewrites = filters.OfType<UrlRewriteConfig>().ToArray();
        _hostname = rewrites.LastOrDefault(rewrite => rewrite.Hostname is not null) is { Hostname: { } hostname } ? Encoding.ASCII.GetBytes(hostname) : null;
        _path = rewrites.LastOrDefault(rewrite => rewrite.Path is not null) is { Path: { } path } ? new PathRewrite(path) : null;
        Redirect = filters.OfType<RedirectConfig>().LastOrDefault() is { } redirect ? new Redirect(redirect) : null;
        Cors = filters.OfType<CorsConfig>().LastOrDefault() is { } cors ? new CorsPolicy(cors) : null;
    }

    /// <summary>Answers instead of forwarding.</summary>
    public Redirect? Redirect { get; }

    /// <summary>What scripts of other sites may do.</summary>
    public CorsPolicy? Cors { get; }

    /// <summary>Whether a request is answered here, and goes to no backend.</summary>
    public bool Answers(RequestHead request) => Redirect is not null || (Cors is not null && CorsPolicy.IsPreflight(request));

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

        if (_path is not null)
        {
            var target = ArrayPool<byte>.Shared.Rent(_path.MaxLength(request.Path));
            request.SetPath(target.AsSpan(0, _path.Write(request.Path, matchedPrefix, target)));
            ArrayPool<byte>.Shared.Return(target);
        }
    }

    public void Apply(ResponseHead response)
    {
        foreach (var change in _responseChanges)
        {
            change.Apply(response.Fields);
        }
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
