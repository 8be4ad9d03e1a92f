using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One rule of a route, compiled.</summary>
internal sealed record RouteRule(
    string RouteId,
    WeightedBackends Backends,
    MessageFilters Filters,
    TimeSpan? RequestTimeout,
    TimeSpan? BackendRequestTimeout)
{
    /// <summary>Whether the rule names the method CONNECT: nobody becomes a proxy for others by accident (RFC 9110 section 9.3.6).</summary>
    public bool AllowsConnect { get; init; }
}

/// <summary>What a request matched. <see cref="Rule"/> is null when nothing did.</summary>
internal readonly record struct RouteMatch(RouteRule? Rule, int MatchedPrefix);

/// <summary>
/// The HTTP routes of one listener or one service port, compiled for matching. Precedence as Gateway API v1 gives it: the most specific hostname, then
/// exact path, (our place for it) regular expression, longest prefix, method, number of fields, number of query parameters, the older route, its name,
/// the earlier rule. Cost: one hash look-up for the hostname, one for the whole path, one for each path element; it does not grow with the number of
/// routes, but for alternatives on the same path and for regular expressions. Immutable.
/// </summary>
internal sealed class RouteTable
{
    private readonly Dictionary<byte[], HostRoutes> _exactHosts = new(AsciiComparer.Instance);
    private readonly Dictionary<byte[], HostRoutes>.AlternateLookup<ReadOnlySpan<byte>> _exactLookup;
    private readonly Dictionary<byte[], HostRoutes> _wildcardHosts = new(AsciiComparer.Instance);
    private readonly Dictionary<byte[], HostRoutes>.AlternateLookup<ReadOnlySpan<byte>> _wildcardLookup;
    private readonly HostRoutes _anyHost = new();
    private readonly RouteRule? _only;

    /// <param name="routes">The routes, already resolved.</param>
    /// <param name="ruleOf">Makes the live side of a rule: its clusters and meters.</param>
    public RouteTable(IEnumerable<HttpRouteConfig> routes, Func<HttpRouteConfig, HttpRouteRuleConfig, RouteRule> ruleOf)
    {
        _exactLookup = _exactHosts.GetAlternateLookup<ReadOnlySpan<byte>>();
        _wildcardLookup = _wildcardHosts.GetAlternateLookup<ReadOnlySpan<byte>>();
        var order = 0;
        foreach (var route in routes.OrderBy(route => route.CreatedAt).ThenBy(route => route.Id, StringComparer.Ordinal))
        {
            foreach (var rule in route.Rules)
            {
                var compiled = ruleOf(route, rule);
                var matches = rule.Matches.IsEmpty ? [new HttpMatchConfig()] : rule.Matches;
                foreach (var match in matches)
                {
                    var candidate = new Candidate(compiled, new FieldMatcher(match), order++);
                    foreach (var host in HostsOf(route))
                    {
                        host.Add(match.Path ?? new PathMatchConfig(PathMatchKind.Prefix, "/"), candidate);
                    }
                }
            }
        }

        _anyHost.Seal();
        foreach (var host in _exactHosts.Values.Concat(_wildcardHosts.Values))
        {
            host.Seal();
        }
    }

    /// <summary>A table of one rule that takes everything.</summary>
    public RouteTable(RouteRule only)
        : this([], static (_, _) => throw new InvalidOperationException()) => _only = only;

    /// <summary>Finds the rule for a request. Hostname matching ignores the port.</summary>
    public RouteMatch Match(RequestHead request)
    {
        if (_only is not null)
        {
            return new RouteMatch(_only, 0);
        }

        var path = PathOf(request.Path);
        var host = Authorities.WithoutPort(request.Authority);
        if (_exactHosts.Count > 0 && _exactLookup.TryGetValue(host, out var routes) && routes.Match(request, path) is { Rule: not null } exact)
        {
            return exact;
        }

        if (_wildcardHosts.Count > 0)
        {
            // "*.example.com" takes one or more labels before the suffix; the longest suffix first.
            for (var dot = host.IndexOf((byte)'.'); dot >= 0;)
            {
                if (dot > 0 && _wildcardLookup.TryGetValue(host[dot..], out routes) && routes.Match(request, path) is { Rule: not null } wildcard)
                {
                    return wildcard;
                }

                var next = host[(dot + 1)..].IndexOf((byte)'.');
                dot = next < 0 ? -1 : dot + 1 + next;
            }
        }

        return _anyHost.Match(request, path);
    }

    private static ReadOnlySpan<byte> PathOf(ReadOnlySpan<byte> target)
    {
        var question = target.IndexOf((byte)'?');
        return question < 0 ? target : target[..question];
    }

    private IEnumerable<HostRoutes> HostsOf(HttpRouteConfig route)
    {
        if (route.Hostnames.IsEmpty)
        {
            yield return _anyHost;
        }

        foreach (var hostname in route.Hostnames)
        {
            var wildcard = hostname.StartsWith("*.", StringComparison.Ordinal);
            var hosts = wildcard ? _wildcardHosts : _exactHosts;
            var key = Encoding.ASCII.GetBytes(wildcard ? hostname[1..] : hostname);
            if (!hosts.TryGetValue(key, out var routes))
            {
                hosts[key] = routes = new HostRoutes();
            }

            yield return routes;
        }
    }

    private sealed record Candidate(RouteRule Rule, FieldMatcher Matcher, int Order);

    private sealed class HostRoutes
    {
        private readonly Dictionary<byte[], List<Candidate>> _exact = new(BytesComparer.Instance);
        private readonly Dictionary<byte[], List<Candidate>> _prefixes = new(BytesComparer.Instance);
        private readonly List<(Regex Expression, Candidate Candidate)> _expressions = [];

        public void Add(PathMatchConfig path, Candidate candidate)
        {
            if (path.Kind == PathMatchKind.RegularExpression)
            {
                _expressions.Add((FieldMatcher.FullMatch(path.Value), candidate));
                return;
            }

            // A prefix is whole path elements: "/foo" and "/foo/" are the same, "/" is the empty one.
            var isPrefix = path.Kind == PathMatchKind.Prefix;
            var key = Encoding.UTF8.GetBytes(isPrefix ? path.Value.TrimEnd('/') : path.Value);
            var map = isPrefix ? _prefixes : _exact;
            if (!map.TryGetValue(key, out var candidates))
            {
                map[key] = candidates = [];
            }

            candidates.Add(candidate);
        }

        public void Seal()
        {
            foreach (var candidates in _exact.Values.Concat(_prefixes.Values))
            {
                candidates.Sort(ByPrecedence);
            }

            _expressions.Sort((a, b) => ByPrecedence(a.Candidate, b.Candidate));
        }

        public RouteMatch Match(RequestHead request, ReadOnlySpan<byte> path)
        {
            if (_exact.Count > 0 && _exact.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(path, out var candidates)
                && FirstOf(candidates, request) is { } exact)
            {
                return new RouteMatch(exact, path.Length);
            }

            if (_expressions.Count > 0)
            {
                var text = Encoding.UTF8.GetString(path);
                foreach (var (expression, candidate) in _expressions)
                {
                    if (candidate.Matcher.Matches(request) && expression.IsMatch(text))
                    {
                        return new RouteMatch(candidate.Rule, 0);
                    }
                }
            }

            if (_prefixes.Count == 0)
            {
                return default;
            }

            var prefixes = _prefixes.GetAlternateLookup<ReadOnlySpan<byte>>();
            for (var prefix = path.TrimEnd((byte)'/'); ; prefix = prefix[..Math.Max(0, prefix.LastIndexOf((byte)'/'))])
            {
                if (prefixes.TryGetValue(prefix, out candidates) && FirstOf(candidates, request) is { } rule)
                {
                    return new RouteMatch(rule, prefix.Length);
                }

                if (prefix.IsEmpty)
                {
                    return default;
                }
            }
        }

        private static RouteRule? FirstOf(List<Candidate> candidates, RequestHead request)
        {
            foreach (var candidate in candidates)
            {
                if (candidate.Matcher.Matches(request))
                {
                    return candidate.Rule;
                }
            }

            return null;
        }

        private static int ByPrecedence(Candidate a, Candidate b)
        {
            var order = b.Matcher.HasMethod.CompareTo(a.Matcher.HasMethod);
            order = order != 0 ? order : b.Matcher.FieldCount.CompareTo(a.Matcher.FieldCount);
            order = order != 0 ? order : b.Matcher.QueryParameterCount.CompareTo(a.Matcher.QueryParameterCount);
            return order != 0 ? order : a.Order.CompareTo(b.Order);
        }
    }
}
