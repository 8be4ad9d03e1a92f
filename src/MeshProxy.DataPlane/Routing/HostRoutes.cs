using System.Text;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>The routes of one hostname: gRPC methods, exact paths, expressions, prefixes, in this order of precedence. Immutable once sealed.</summary>
internal sealed class HostRoutes
{
    private GrpcMethods? _grpc;
    private Dictionary<byte[], Alternatives>? _exact;
    private Dictionary<byte[], Alternatives>.AlternateLookup<ReadOnlySpan<byte>> _exactLookup;
    private PrefixTable? _expressions;
    private PrefixTable? _prefixes;

    public void Add(HttpMatchConfig match, Candidate candidate)
    {
        if (match.Grpc is { } grpc)
        {
            (_grpc ??= new GrpcMethods()).Add(grpc, candidate);
            return;
        }

        switch (match.Path)
        {
            case { Kind: PathMatchKind.Exact, Value: var path }:
                _exact ??= new Dictionary<byte[], Alternatives>(BytesComparer.Instance);
                var key = Encoding.UTF8.GetBytes(path);
                if (!_exact.TryGetValue(key, out var alternatives))
                {
                    _exact[key] = alternatives = new Alternatives();
                }

                alternatives.Add(candidate);
                break;
            case { Kind: PathMatchKind.RegularExpression, Value: var pattern }:
                (_expressions ??= new PrefixTable()).At(Expressions.LiteralElements(pattern)).Add(candidate with { Path = Expressions.FullMatch(pattern) });
                break;
            case var prefix:
                (_prefixes ??= new PrefixTable()).At(prefix?.Value ?? "").Add(candidate);
                break;
        }
    }

    public void Seal()
    {
        _grpc?.Seal();
        foreach (var alternatives in _exact?.Values ?? Enumerable.Empty<Alternatives>())
        {
            alternatives.Seal();
        }

        if (_exact is not null)
        {
            _exactLookup = _exact.GetAlternateLookup<ReadOnlySpan<byte>>();
        }

        _expressions?.Seal();
        _prefixes?.Seal();
    }

    public RouteMatch Match(in RouteQuery request)
    {
        var path = request.Path;
        if (_grpc?.Find(request) is { } method)
        {
            return new RouteMatch(method.Rule, 0);
        }

        if (_exact is not null && _exactLookup.TryGetValue(path, out var alternatives) && alternatives.Find(request) is { } exact)
        {
            return new RouteMatch(exact.Rule, path.Length);
        }

        if (_expressions is not null)
        {
            // Where an expression's literal beginning stands says nothing of its precedence: the best of all counts.
            Candidate? best = null;
            for (var walk = _expressions.Of(path); walk.MoveNext();)
            {
                best = walk.Current.Find(request, best);
            }

            if (best is not null)
            {
                return new RouteMatch(best.Rule, 0);
            }
        }

        if (_prefixes is not null)
        {
            for (var walk = _prefixes.Of(path); walk.MoveNext();)
            {
                if (walk.Current.Find(request) is { } found)
                {
                    return new RouteMatch(found.Rule, walk.Length);
                }
            }
        }

        return default;
    }
}
