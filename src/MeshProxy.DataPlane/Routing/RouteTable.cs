using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One rule of a route, compiled.</summary>
internal sealed record RouteRule(
    string RouteId,
    WeightedBackends Backends,
    TimeSpan? RequestTimeout,
    TimeSpan? BackendRequestTimeout)
{
    /// <summary>Whether the rule names the method CONNECT: nobody becomes a proxy for others by accident (RFC 9110 section 9.3.6).</summary>
    public bool AllowsConnect { get; init; }

    /// <summary>Whether it answers preflights.</summary>
    public bool HasCors { get; init; }
}

/// <summary>What of a request is matched.</summary>
internal readonly ref struct RouteQuery(RequestHead head, ReadOnlySpan<byte> method)
{
    public RequestHead Head => head;

    /// <summary>The request's method; of a preflight, that of the request which it is about.</summary>
    public ReadOnlySpan<byte> Method { get; } = method;

    /// <summary>Without the query.</summary>
    public ReadOnlySpan<byte> Path { get; } = head.Path.IndexOf((byte)'?') is >= 0 and var question ? head.Path[..question] : head.Path;
}

/// <summary>What a request matched. <see cref="Rule"/> is null when nothing did.</summary>
internal readonly record struct RouteMatch(RouteRule? Rule, int MatchedPrefix);

/// <summary>
/// The HTTP routes of one listener or one service port, compiled for matching. Precedence as Gateway API v1 gives it: the most specific hostname, then
/// exact path, (our place for it) regular expression, longest prefix, method, number of fields, number of query parameters, the older route, its name,
/// the earlier rule; for GRPCRoutes see <see cref="GrpcMethods"/>.
/// Cost: one look-up for each label of the hostname, one for the whole path, one for each path element; it does not grow with the number of routes, nor with
/// that of alternatives on one path that ask for different values of a field or query parameter. It grows with the number of expressions that begin with the
/// same literal path, and with that of alternatives that only expressions tell apart. A match allocates nothing. Immutable.
/// </summary>
internal sealed class RouteTable
{
    /// <summary>RFC 1035 section 2.3.4: what is longer is no hostname, and matches routes for any.</summary>
    private const int LongestHostname = 255;

    private readonly Dictionary<byte[], HostRoutes> _exactHosts = new(AsciiComparer.Instance);
    private readonly Dictionary<byte[], HostRoutes>.AlternateLookup<ReadOnlySpan<byte>> _exactLookup;
    private readonly Dictionary<byte[], HostRoutes> _wildcardHosts = new(AsciiComparer.Instance);
    private readonly Dictionary<byte[], HostRoutes>.AlternateLookup<ReadOnlySpan<byte>> _wildcardLookup;
    private readonly HostRoutes _anyHost = new();
    private readonly RouteRule? _only;
    private readonly bool _hasCors;

    /// <param name="routes">The routes, already resolved.</param>
    /// <param name="ruleOf">Makes the live side of a rule: its clusters and meters.</param>
    public RouteTable(IEnumerable<HttpRouteConfig> routes, Func<HttpRouteConfig, HttpRouteRuleConfig, RouteRule> ruleOf)
    {
        _exactLookup = _exactHosts.GetAlternateLookup<ReadOnlySpan<byte>>();
        _wildcardLookup = _wildcardHosts.GetAlternateLookup<ReadOnlySpan<byte>>();
        var order = 0;
        foreach (var route in routes.OrderBy(route => route.CreatedAt).ThenBy(route => route.Id, StringComparer.Ordinal))
        {
            var hosts = HostsOf(route);
            foreach (var rule in route.Rules)
            {
                var compiled = ruleOf(route, rule);
                _hasCors |= compiled.HasCors;
                foreach (var match in rule.Matches.IsEmpty ? [new HttpMatchConfig()] : rule.Matches)
                {
                    var candidate = new Candidate(compiled, FieldMatcher.Of(match), order++);
                    foreach (var host in hosts)
                    {
                        host.Add(match, candidate);
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

    /// <summary>Finds the rule for a request. Hostname matching ignores the port. A preflight belongs to the rule of the request that it is about, when that rule
    /// has a CORS filter.</summary>
    public RouteMatch Match(RequestHead request)
    {
        if (_only is not null)
        {
            return new RouteMatch(_only, 0);
        }

        if (_hasCors && CorsPolicy.IsPreflight(request) && request.Fields.TryGet(KnownField.AccessControlRequestMethod, out var method)
            && Match(new RouteQuery(request, method)) is { Rule.HasCors: true } asked)
        {
            return asked;
        }

        return Match(new RouteQuery(request, request.MethodToken));
    }

    private RouteMatch Match(in RouteQuery request)
    {
        var host = Authorities.WithoutPort(request.Head.Authority);
        if (host.Length > LongestHostname)
        {
            return _anyHost.Match(request);
        }

        if (_exactHosts.Count > 0 && _exactLookup.TryGetValue(host, out var routes) && routes.Match(request) is { Rule: not null } exact)
        {
            return exact;
        }

        if (_wildcardHosts.Count > 0)
        {
            // "*.example.com" takes one or more labels before the suffix; the longest suffix first.
            for (var dot = host.IndexOf((byte)'.'); dot >= 0;)
            {
                if (dot > 0 && _wildcardLookup.TryGetValue(host[dot..], out routes) && routes.Match(request) is { Rule: not null } wildcard)
                {
                    return wildcard;
                }

                var next = host[(dot + 1)..].IndexOf((byte)'.');
                dot = next < 0 ? -1 : dot + 1 + next;
            }
        }

        return _anyHost.Match(request);
    }

    private HostRoutes[] HostsOf(HttpRouteConfig route) => route.Hostnames.IsEmpty ? [_anyHost] : [.. route.Hostnames.Select(HostOf)];

    private HostRoutes HostOf(string hostname)
    {
        var isWildcard = hostname.StartsWith("*.", StringComparison.Ordinal);
        var hosts = isWildcard ? _wildcardHosts : _exactHosts;
        var key = Encoding.ASCII.GetBytes(isWildcard ? hostname[1..] : hostname);
        if (!hosts.TryGetValue(key, out var routes))
        {
            hosts[key] = routes = new HostRoutes();
        }

        return routes;
    }
}
