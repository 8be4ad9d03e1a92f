using System.Text;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Routing;

/// <summary>Gateway API v1, HTTPRouteRule.matches: "Proxy or Load Balancer routing configuration generated from HTTPRoutes MUST prioritize matches based on the following criteria".</summary>
internal sealed class RouteTableTests
{
    private static readonly DateTimeOffset Old = DateTimeOffset.UnixEpoch;

    [TestCase("GET", "a.example", "/exact", "", "exact")]
    [TestCase("GET", "a.example:8080", "/exact", "", "exact")]
    [TestCase("GET", "a.example", "/exact/", "", "root")]
    [TestCase("GET", "a.example", "/foo", "", "foo")]
    [TestCase("GET", "a.example", "/foo/", "", "foo")]
    [TestCase("GET", "a.example", "/foo/bar", "", "foo")]
    [TestCase("GET", "a.example", "/foobar", "", "root")]
    [TestCase("GET", "a.example", "/foo/baz/x", "", "foobaz")]
    [TestCase("GET", "a.example", "/foo/baz", "", "foobaz")]
    [TestCase("GET", "a.example", "/re/123", "", "regex")]
    [TestCase("GET", "a.example", "/re/123x", "", "root")]
    [TestCase("POST", "a.example", "/m", "", "method")]
    [TestCase("POST", "a.example", "/m", "x-a: 1|x-b: 2", "method")]
    [TestCase("GET", "a.example", "/m", "x-a: 1|x-b: 2", "two-fields")]
    [TestCase("GET", "a.example", "/m", "x-a: 1", "one-field")]
    [TestCase("GET", "a.example", "/m?q=1", "", "query")]
    [TestCase("GET", "a.example", "/m?q=1", "x-a: 1", "one-field")]
    [TestCase("GET", "a.example", "/m?q=2&q=1", "", "plain")]
    [TestCase("GET", "a.example", "/m", "", "plain")]
    [TestCase("GET", "x.wild.example", "/", "", "wild")]
    [TestCase("GET", "y.x.wild.example", "/", "", "wild")]
    [TestCase("GET", "y.deep.wild.example", "/", "", "deep")]
    [TestCase("GET", "wild.example", "/", "", "any")]
    [TestCase("GET", "A.EXAMPLE", "/exact", "", "exact")]
    [TestCase("GET", "other.example", "/nothing", "", "any")]
    [TestCase("GET", "tie.example", "/", "", "older")]
    [TestCase("GET", "tie.example", "/name", "", "a-name")]
    [TestCase("GET", "tie.example", "/rule", "", "first-rule")]
    [TestCase("GET", "[::1]:80", "/", "", "any")]
    [TestCase("GET", "", "/", "", "any")]
    [TestCase("OPTIONS", "a.example", "*", "", "root")]
    [TestCase("GET", "a.example", "/users/7/orders", "", "orders")]
    [TestCase("GET", "a.example", "/users/7/orders/", "", "root")]
    [TestCase("GET", "a.example", "/users/7", "", "user")]
    [TestCase("GET", "a.example", "/m?%71=%31", "", "query")]
    [TestCase("GET", "a.example", "/m?Q=1", "", "plain")]
    [TestCase("GET", "a.example", "/m?a+b=c+d%", "", "encoded")]
    [TestCase("GET", "a.example", "/m?a%20b=c%20d%25", "", "encoded")]
    [TestCase("GET", "a.example", "/m?x&&=&q=1", "", "query")]
    [TestCase("GET", "a.example", "/m", "x-list: a|x-list: b", "joined")]
    [TestCase("GET", "a.example", "/m", "x-list: a", "plain")]
    [TestCase("GET", "a.example", "/m", "cookie: a=1|cookie: b=2", "cookie")]
    [TestCase("GET", "a.example", "/m", "x-host: A.example|X-LIST: a, b", "joined")]
    public void The_most_specific_match_wins(string method, string host, string path, string fields, string expected)
    {
        var table = new RouteTable(
            [
                Route("z", ["a.example"], Old,
                    Rule("root", Path(PathMatchKind.Prefix, "/")),
                    Rule("foo", Path(PathMatchKind.Prefix, "/foo/")),
                    Rule("foobaz", Path(PathMatchKind.Prefix, "/foo/baz")),
                    Rule("regex", Path(PathMatchKind.RegularExpression, "/re/[0-9]+")),
                    Rule("re-prefix", Path(PathMatchKind.Prefix, "/re") with { Headers = [new ValueMatchConfig("x-never", "1", false)] }),
                    Rule("plain", Path(PathMatchKind.Prefix, "/m")),
                    Rule("query", Path(PathMatchKind.Prefix, "/m") with { QueryParameters = [new ValueMatchConfig("q", "1", false)] }),
                    Rule("one-field", Path(PathMatchKind.Prefix, "/m") with { Headers = [new ValueMatchConfig("x-a", "1", false)] }),
                    Rule("two-fields", Path(PathMatchKind.Prefix, "/m") with { Headers = [new ValueMatchConfig("x-a", "1", false), new ValueMatchConfig("x-b", "[0-9]", true)] }),
                    Rule("method", Path(PathMatchKind.Prefix, "/m") with { Method = "POST" }),
                    Rule("orders", Path(PathMatchKind.RegularExpression, "/users/[^/]+/orders")),
                    Rule("user", Path(PathMatchKind.RegularExpression, "^/(?:users|people)/[0-9]+$")),
                    Rule("encoded", Path(PathMatchKind.Prefix, "/m") with { QueryParameters = [new ValueMatchConfig("a b", "c d%", false)] }),
                    Rule("joined", Path(PathMatchKind.Prefix, "/m") with { Headers = [new ValueMatchConfig("x-list", "a, b", false)] }),
                    Rule("cookie", Path(PathMatchKind.Prefix, "/m") with { Headers = [new ValueMatchConfig("cookie", "a=1; b=[0-9]", true)] }),
                    Rule("exact", Path(PathMatchKind.Exact, "/exact"))),
                Route("w", ["*.wild.example"], Old, Rule("wild")),
                Route("d", ["*.deep.wild.example"], Old, Rule("deep")),
                Route("any", [], Old, Rule("any")),
                Route("a-new", ["tie.example"], Old.AddDays(1), Rule("newer")),
                Route("z-old", ["tie.example"], Old, Rule("older")),
                Route("b-name", ["tie.example"], Old, Rule("b-name", Path(PathMatchKind.Exact, "/name"))),
                Route("a-name", ["tie.example"], Old, Rule("a-name", Path(PathMatchKind.Exact, "/name"))),
                Route("c", ["tie.example"], Old, Rule("first-rule", Path(PathMatchKind.Exact, "/rule")), Rule("second-rule", Path(PathMatchKind.Exact, "/rule"))),
            ],
            RuleOf);
        Assert.That(table.Match(Request(method, host, path, fields)).Rule?.RouteId, Is.EqualTo(expected));
    }

    /// <summary>Gateway API v1, GRPCRouteRule.matches: characters of the service, then of the method, then fields.</summary>
    [TestCase("POST", "/shop.v1.Payments/Pay", "", "both")]
    [TestCase("POST", "/shop.v1.Payments/Pay", "x-env: canary", "both-canary")]
    [TestCase("POST", "/shop.v1.Payments/Refund", "x-env: canary", "service")]
    [TestCase("POST", "/shop.v1.Payments/Other", "", "service")]
    [TestCase("POST", "/shop.v1.Ledger/Pay", "", "service-expression")]
    [TestCase("POST", "/other.v1.Ledger/Pay", "", "method")]
    [TestCase("POST", "/other.v1.Ledger/Refund", "", "method-expression")]
    [TestCase("POST", "/other.v1.Ledger/Get", "", "any")]
    [TestCase("GET", "/shop.v1.Payments/Pay", "", null)]
    [TestCase("POST", "/shop.v1.Payments", "", null)]
    [TestCase("POST", "/shop.v1.Payments/Pay/more", "", null)]
    [TestCase("POST", "/shop.v1.Payments/", "", null)]
    [TestCase("POST", "//Pay", "", null)]
    [TestCase("POST", "/shop.v1.payments/Pay", "", "service-expression")]
    public void The_most_specific_grpc_method_wins(string method, string path, string fields, string? expected)
    {
        var table = new RouteTable(
            [
                Route("g", [], Old,
                    Rule("any", Grpc(null, null)),
                    Rule("method-expression", Grpc(null, "Re.*", true)),
                    Rule("method", Grpc(null, "Pay")),
                    Rule("service-expression", Grpc("shop.*", null, true)),
                    Rule("service", Grpc("shop.v1.Payments", null)),
                    Rule("both", Grpc("shop.v1.Payments", "Pay")),
                    Rule("both-canary", Grpc("shop.v1.Payments", "Pay") with { Headers = [new ValueMatchConfig("x-env", "canary", false)] })),
            ],
            RuleOf);
        Assert.That(table.Match(Request(method, "a", path, fields)).Rule?.RouteId, Is.EqualTo(expected));
    }

    /// <summary>Any set of routes, any request: what the table finds is what trying every match in the specification's order finds.</summary>
    [Test]
    public void The_table_finds_what_trying_every_match_finds([Range(1, 20)] int seed)
    {
        var random = new Random(seed);
        string[] hosts = ["a.example", "b.a.example", "*.example", "*.a.example"];
        string[] elements = ["", "a", "b", "ab", "a/b", "a/b/c", "a/"];
        string[] expressions = ["/a/[bc]", "/a/b.*", "/(a|b)", "/a|/b", "/[^/]*", "/ab?/b", "/a/b(/c)?"];
        string[] values = ["1", "2", "3", "4", "5", "6", "7", "8"];
        var routes = Enumerable.Range(0, random.Next(1, 60)).Select(i => Route(
            $"ns/{random.Next(1000)}-{i}",
            [.. Enumerable.Range(0, random.Next(3)).Select(_ => Pick(hosts)).Distinct()],
            Old.AddSeconds(random.Next(3)),
            [.. Enumerable.Range(0, random.Next(1, 4)).Select(rule => Rule($"{i}/{rule}", [.. Enumerable.Range(0, random.Next(3)).Select(_ => Match())]))])).ToArray();
        var table = new RouteTable(routes, RuleOf);
        for (var i = 0; i < 300; i++)
        {
            var target = "/" + Pick(elements) + (random.Next(2) == 0 ? "" : "?p=" + Pick(values) + "&q=" + Pick(values));
            var fields = string.Join('|', Enumerable.Range(0, random.Next(3)).Select(_ => $"x-{Pick(["a", "b"])}: {Pick(values)}"));
            var request = Request(Pick(["GET", "POST"]), Pick(["a.example", "b.a.example", "c.b.a.example", "x.example", "other"]), target, fields);
            Assert.That(table.Match(request).Rule?.RouteId, Is.EqualTo(Slow(routes, request)), $"{request.MethodToken.Length} {Encoding.ASCII.GetString(request.Authority)} {target} {fields}");
        }

        string Pick(string[] from) => from[random.Next(from.Length)];

        HttpMatchConfig Match() => new()
        {
            Path = random.Next(4) switch
            {
                0 => new PathMatchConfig(PathMatchKind.Exact, "/" + Pick(elements)),
                1 => new PathMatchConfig(PathMatchKind.RegularExpression, Pick(expressions)),
                2 => new PathMatchConfig(PathMatchKind.Prefix, "/" + Pick(elements)),
                _ => null,
            },
            Method = random.Next(4) == 0 ? Pick(["GET", "POST"]) : null,
            Headers = [.. new[] { "x-a", "x-b" }.Where(_ => random.Next(2) == 0).Select(Value)],
            QueryParameters = [.. new[] { "p", "q" }.Where(_ => random.Next(3) == 0).Select(Value)],
        };

        ValueMatchConfig Value(string name) => random.Next(4) == 0 ? new ValueMatchConfig(name, "[1-4]", true) : new ValueMatchConfig(name, Pick(values), false);
    }

    [Test]
    public void Many_alternatives_on_one_path_are_told_apart_by_what_they_ask_for()
    {
        var table = new RouteTable(
            [
                Route("t", [], Old, Rule("none")),
                .. Enumerable.Range(0, 1000).Select(i => Route($"t{i:000}", [], Old, Rule($"tenant-{i}", Path(PathMatchKind.Prefix, "/") with
                {
                    Headers = [new ValueMatchConfig("x-env", "live", false), new ValueMatchConfig("x-tenant", $"t{i}", false)],
                }))),
            ],
            RuleOf);
        Assert.Multiple(() =>
        {
            Assert.That(table.Match(Request("GET", "a", "/x", "x-tenant: t7|x-env: live")).Rule?.RouteId, Is.EqualTo("tenant-7"));
            Assert.That(table.Match(Request("GET", "a", "/x", "x-tenant: t999|x-env: live")).Rule?.RouteId, Is.EqualTo("tenant-999"));
            Assert.That(table.Match(Request("GET", "a", "/x", "x-tenant: t999")).Rule?.RouteId, Is.EqualTo("none"));
            Assert.That(table.Match(Request("GET", "a", "/x", "x-tenant: other|x-env: live")).Rule?.RouteId, Is.EqualTo("none"));
        });
    }

    [TestCase("/users/[0-9]+", "/users")]
    [TestCase("^/api/v1/x[0-9]", "/api/v1")]
    [TestCase("/a/b", "/a")]
    [TestCase(@"/a\.b/c.*", "/a.b")]
    [TestCase("/a/b?/c", "/a")]
    [TestCase("/a/b/*", "/a")]
    [TestCase("/a/x{2}", "/a")]
    [TestCase("/a/b|/c", "")]
    [TestCase("/(a|b)/c", "")]
    [TestCase("/a[|]/c", "")]
    [TestCase(@"/a\d/c", "")]
    [TestCase("a/b/c", "")]
    [TestCase(".*", "")]
    [TestCase("", "")]
    public void An_expression_is_filed_under_the_elements_it_begins_with(string pattern, string elements) =>
        Assert.That(Expressions.LiteralElements(pattern), Is.EqualTo(elements));

    private static RouteRule RuleOf(HttpRouteConfig route, HttpRouteRuleConfig rule) => new(rule.Name, new WeightedBackends([]), null, null);

    private static RequestHead Request(string method, string host, string path, string fields)
    {
        var request = new RequestHead();
        request.SetMethod(Encoding.ASCII.GetBytes(method));
        request.SetAuthority(Encoding.ASCII.GetBytes(host));
        request.SetPath(Encoding.ASCII.GetBytes(path));
        foreach (var field in fields.Split('|', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = field.Split(": ");
            request.Fields.Add(Encoding.ASCII.GetBytes(parts[0]), Encoding.ASCII.GetBytes(parts[1]));
        }

        return request;
    }

    /// <summary>Every match of every rule in the specification's order.</summary>
    private static string? Slow(HttpRouteConfig[] routes, RequestHead request)
    {
        var host = Encoding.ASCII.GetString(request.Authority);
        var target = Encoding.ASCII.GetString(request.Path);
        var path = target.Split('?')[0];
        var query = target.Contains('?') ? target.Split('?')[1].Split('&').Select(pair => pair.Split('=')).ToDictionary(pair => pair[0], pair => pair[1]) : [];
        var all =
            from route in routes
            from hostname in route.Hostnames.DefaultIfEmpty("")
            where hostname.Length == 0 || hostname == host || (hostname[0] == '*' && host.EndsWith(hostname[1..], StringComparison.Ordinal) && host.Length >= hostname.Length)
            from rule in route.Rules.Select((rule, index) => (rule, index))
            from match in rule.rule.Matches.DefaultIfEmpty(new HttpMatchConfig()).Select((match, index) => (match, index))
            let kind = match.match.Path?.Kind ?? PathMatchKind.Prefix
            let wanted = match.match.Path?.Value ?? "/"
            where kind switch
            {
                PathMatchKind.Exact => path == wanted,
                PathMatchKind.Prefix => (path.TrimEnd('/') + "/").StartsWith(wanted.TrimEnd('/') + "/", StringComparison.Ordinal),
                _ => System.Text.RegularExpressions.Regex.IsMatch(path, $"^(?:{wanted})$"),
            }
            where match.match.Method is null || match.match.Method == Encoding.ASCII.GetString(request.MethodToken)
            where match.match.Headers.All(field => Holds(field, FieldOf(field.Name)))
            where match.match.QueryParameters.All(parameter => Holds(parameter, query.GetValueOrDefault(parameter.Name)))
            orderby hostname.StartsWith('*') ? 0 : hostname.Length descending, hostname.Length descending,
                kind == PathMatchKind.Exact ? 0 : kind == PathMatchKind.RegularExpression ? 1 : 2,
                kind == PathMatchKind.Prefix ? wanted.TrimEnd('/').Length : 0 descending,
                match.match.Method is null, match.match.Headers.Length descending, match.match.QueryParameters.Length descending,
                route.CreatedAt
            select (route.Id, rule.rule.Name, rule.index, match.index, Key: (hostname.StartsWith('*') ? 0 : hostname.Length, hostname.Length, kind,
                kind == PathMatchKind.Prefix ? wanted.TrimEnd('/').Length : 0, match.match.Method is null, match.match.Headers.Length, match.match.QueryParameters.Length, route.CreatedAt));
        var found = all.ToArray();
        return found.Length == 0 ? null : found.Where(one => one.Key.Equals(found[0].Key)).OrderBy(one => one.Id, StringComparer.Ordinal).ThenBy(one => one.Item3).First().Name;

        string? FieldOf(string name)
        {
            var lines = new List<string>();
            for (var i = request.Fields.IndexOf(Encoding.ASCII.GetBytes(name), 0); i >= 0; i = request.Fields.IndexOf(Encoding.ASCII.GetBytes(name), i + 1))
            {
                lines.Add(Encoding.ASCII.GetString(request.Fields[i].Value));
            }

            return lines.Count == 0 ? null : string.Join(", ", lines);
        }

        static bool Holds(ValueMatchConfig wanted, string? value) =>
            value is not null && (wanted.IsRegularExpression ? System.Text.RegularExpressions.Regex.IsMatch(value, $"^(?:{wanted.Value})$") : value == wanted.Value);
    }

    private static HttpMatchConfig Grpc(string? service, string? method, bool isExpression = false) => new() { Grpc = new GrpcMatchConfig(service, method, isExpression) };

    private static HttpRouteConfig Route(string id, string[] hosts, DateTimeOffset created, params HttpRouteRuleConfig[] rules) =>
        new() { Id = id, Hostnames = [.. hosts], CreatedAt = created, Rules = [.. rules] };

    private static HttpRouteRuleConfig Rule(string name, params HttpMatchConfig[] matches) => new() { Name = name, Matches = [.. matches] };

    private static HttpMatchConfig Path(PathMatchKind kind, string value) => new() { Path = new PathMatchConfig(kind, value) };
}
