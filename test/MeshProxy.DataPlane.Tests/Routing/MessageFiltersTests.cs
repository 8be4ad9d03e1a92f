using System.Text;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Routing;

/// <summary>Gateway API v1: HTTPPathModifier, HTTPURLRewriteFilter, HTTPRequestRedirectFilter, HTTPHeaderFilter.</summary>
internal sealed class MessageFiltersTests
{
    // The specification's own table, and what lies beside it.
    [TestCase("/foo/bar", "/foo", "/xyz", "/xyz/bar")]
    [TestCase("/foo/bar", "/foo", "/xyz/", "/xyz/bar")]
    [TestCase("/foo", "/foo", "/xyz", "/xyz")]
    [TestCase("/foo/", "/foo", "/xyz", "/xyz/")]
    [TestCase("/foo/bar", "/foo", "", "/bar")]
    [TestCase("/foo/", "/foo", "", "/")]
    [TestCase("/foo", "/foo", "", "/")]
    [TestCase("/foo/", "/foo", "/", "/")]
    [TestCase("/foo", "/foo", "/", "/")]
    [TestCase("/a/b?x=1", "/a", "/z", "/z/b?x=1")]
    [TestCase("/a?x=/a", "/a", "/", "/?x=/a")]
    [TestCase("/a/b", "", "/z", "/z/a/b")]
    [TestCase("/", "", "/z", "/z/")]
    public void A_prefix_is_replaced_by_whole_elements(string path, string prefix, string replacement, string expected) =>
        Assert.That(Path(Filter(new UrlRewriteConfig(null, new PathRewriteConfig(true, replacement))), path, prefix.Length), Is.EqualTo(expected));

    [TestCase("/a/b?x=1", "/new", "/new?x=1")]
    [TestCase("/a", "/new/", "/new/")]
    public void A_whole_path_is_replaced_and_the_query_stays(string path, string replacement, string expected) =>
        Assert.That(Path(Filter(new UrlRewriteConfig(null, new PathRewriteConfig(false, replacement))), path, 0), Is.EqualTo(expected));

    [Test]
    public void A_backends_rewrite_takes_the_place_of_its_rules()
    {
        var filters = new MessageFilters(
            [new UrlRewriteConfig("rule.example", new PathRewriteConfig(true, "/rule")), Modifier(set: ("x-a", "rule"))],
            [new UrlRewriteConfig(null, new PathRewriteConfig(true, "/backend")), Modifier(set: ("x-a", "backend"))]);
        var request = Request("http", "a.example", "/foo/bar");
        filters.Apply(request, "/foo".Length);
        Assert.Multiple(() =>
        {
            Assert.That(Encoding.ASCII.GetString(request.Path), Is.EqualTo("/backend/bar"));
            Assert.That(Encoding.ASCII.GetString(request.Authority), Is.EqualTo("rule.example"));
            Assert.That(request.Fields.TryGet("x-a"u8, out var value), Is.True);
            Assert.That(Encoding.ASCII.GetString(value), Is.EqualTo("backend"));
        });
    }

    // Scheme and authority of the request; scheme, hostname, port and path of the filter.
    [TestCase("http", "a.example:8080", null, null, 8080, null, "http://a.example:8080/foo/bar?x=1")]
    [TestCase("http", "a.example", null, null, 80, null, "http://a.example/foo/bar?x=1")]
    [TestCase("http", "a.example", "https", null, null, null, "https://a.example/foo/bar?x=1")]
    [TestCase("http", "a.example:8080", "https", null, null, null, "https://a.example/foo/bar?x=1")]
    [TestCase("http", "a.example", "https", null, 443, null, "https://a.example/foo/bar?x=1")]
    [TestCase("http", "a.example", "https", null, 8443, null, "https://a.example:8443/foo/bar?x=1")]
    [TestCase("https", "a.example", null, "b.example", 443, null, "https://b.example/foo/bar?x=1")]
    [TestCase("https", "a.example", "http", null, 443, null, "http://a.example:443/foo/bar?x=1")]
    [TestCase("http", "a.example", null, null, 80, "=/new", "http://a.example/new?x=1")]
    [TestCase("http", "a.example", null, null, 80, "/new", "http://a.example/new/bar?x=1")]
    [TestCase("http", "[::1]:8080", null, null, 8080, null, "http://[::1]:8080/foo/bar?x=1")]
    [TestCase("http", "", null, null, 8080, "/new", "/new/bar?x=1")]
    [TestCase("http", "", "https", "b.example", null, null, "https://b.example/foo/bar?x=1")]
    public void A_redirect_says_where_to(string scheme, string authority, string? newScheme, string? hostname, int? port, string? path, string expected)
    {
        var rewrite = path is null ? null : new PathRewriteConfig(path[0] != '=', path.TrimStart('='));
        var fields = new FieldMap();
        new Redirect(new RedirectConfig(newScheme, hostname, rewrite, port, 302)).AddLocation(Request(scheme, authority, "/foo/bar?x=1"), "/foo".Length, fields);
        Assert.That(fields.TryGet(KnownField.Location, out var location), Is.True);
        Assert.That(Encoding.ASCII.GetString(location), Is.EqualTo(expected));
    }

    // What the client used as a trusted proxy tells it, the authority; scheme and port of the filter, whether the port is only the listener's.
    [TestCase("https", "a.example", null, 8080, true, "https://a.example/foo?x=1")]
    [TestCase("https", "a.example:8443", null, 8080, true, "https://a.example:8443/foo?x=1")]
    [TestCase("http", "a.example:8081", null, 8080, true, "http://a.example:8081/foo?x=1")]
    [TestCase("https", "a.example", null, 8443, false, "https://a.example:8443/foo?x=1")]
    [TestCase("https", "a.example", "http", null, false, "http://a.example/foo?x=1")]
    [TestCase("", "a.example", null, 8080, true, "http://a.example:8080/foo?x=1")]
    public void A_redirect_goes_by_what_a_trusted_proxy_tells(string told, string authority, string? newScheme, int? port, bool isListeners, string expected)
    {
        var fields = new FieldMap();
        new Redirect(new RedirectConfig(newScheme, null, null, port, 302) { IsListenerPort = isListeners })
            .AddLocation(Request("http", authority, "/foo?x=1"), 0, fields, Encoding.ASCII.GetBytes(told));
        Assert.That(fields.TryGet(KnownField.Location, out var location), Is.True);
        Assert.That(Encoding.ASCII.GetString(location), Is.EqualTo(expected));
    }

    [Test]
    public void Applying_filters_allocates_nothing()
    {
        var filters = new MessageFilters(
            [new UrlRewriteConfig("b.example", new PathRewriteConfig(true, "/new")), Modifier(set: ("x-a", "1"), add: ("x-b", "2"), remove: "x-c")], []);
        var redirect = new Redirect(new RedirectConfig("https", null, new PathRewriteConfig(true, "/new"), 8443, 302));
        var request = new RequestHead();
        var answer = new FieldMap();
        for (var i = 0; i < 50; i++)
        {
            Once();
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            Once();
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);

        void Once()
        {
            request.Clear();
            request.SetScheme("http"u8);
            request.SetAuthority("a.example:8080"u8);
            request.SetPath("/foo/bar?x=1"u8);
            request.Fields.Add("x-c"u8, "3"u8);
            answer.Clear();
            redirect.AddLocation(request, 4, answer);
            filters.Apply(request, 4);
        }
    }

    private static MessageFilters Filter(HttpFilterConfig filter) => new([filter], []);

    private static HeaderModifierConfig Modifier((string, string)? set = null, (string, string)? add = null, string? remove = null) => new(
        false,
        set is { } one ? [new(one.Item1, one.Item2)] : [],
        add is { } more ? [new(more.Item1, more.Item2)] : [],
        remove is null ? [] : [remove]);

    private static string Path(MessageFilters filters, string path, int matchedPrefix)
    {
        var request = Request("http", "a", path);
        filters.Apply(request, matchedPrefix);
        return Encoding.ASCII.GetString(request.Path);
    }

    private static RequestHead Request(string scheme, string authority, string path)
    {
        var request = new RequestHead();
        request.SetScheme(Encoding.ASCII.GetBytes(scheme));
        request.SetAuthority(Encoding.ASCII.GetBytes(authority));
        request.SetPath(Encoding.ASCII.GetBytes(path));
        return request;
    }
}
