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
            (_, rule) => new RouteRule(rule.Name, new WeightedBackends([]), MessageFilters.None, null, null));
        var request = new RequestHead();
        request.SetMethod(Encoding.ASCII.GetBytes(method));
        request.SetAuthority(Encoding.ASCII.GetBytes(host));
        request.SetPath(Encoding.ASCII.GetBytes(path));
        foreach (var field in fields.Split('|', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = field.Split(": ");
            request.Fields.Add(Encoding.ASCII.GetBytes(parts[0]), Encoding.ASCII.GetBytes(parts[1]));
        }

        Assert.That(table.Match(request).Rule?.RouteId, Is.EqualTo(expected));
    }

    [TestCase("/a/b?x=1", "/a", "/z", "/z/b?x=1")]
    [TestCase("/a", "/a", "/z/", "/z")]
    [TestCase("/a/", "/a", "/z", "/z/")]
    [TestCase("/a", "/a", "/", "/")]
    [TestCase("/a/b", "/a", "/", "/b")]
    [TestCase("/a/b", "", "/z", "/z/a/b")]
    [TestCase("/", "", "/z", "/z/")]
    public void A_prefix_is_replaced_by_whole_elements(string path, string prefix, string replacement, string expected)
    {
        var rewritten = MessageFilters.RewritePath(Encoding.ASCII.GetBytes(path), new PathRewriteConfig(true, replacement), Encoding.ASCII.GetBytes(replacement), prefix.Length);
        Assert.That(Encoding.ASCII.GetString(rewritten), Is.EqualTo(expected));
    }

    private static HttpRouteConfig Route(string id, string[] hosts, DateTimeOffset created, params HttpRouteRuleConfig[] rules) =>
        new() { Id = id, Hostnames = [.. hosts], CreatedAt = created, Rules = [.. rules] };

    private static HttpRouteRuleConfig Rule(string name, params HttpMatchConfig[] matches) => new() { Name = name, Matches = [.. matches] };

    private static HttpMatchConfig Path(PathMatchKind kind, string value) => new() { Path = new PathMatchConfig(kind, value) };
}
