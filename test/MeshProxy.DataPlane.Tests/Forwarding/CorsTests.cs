using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Gateway API HTTPCORSFilter: preflights answered here, the policy's word on every other response.</summary>
internal sealed class CorsTests
{
    private static readonly CorsConfig Strict = new(["https://app.example", "https://*.shop.example:8443"], true, ["GET", "PUT"], ["x-a", "x-b"], ["x-served-by"], 600);

    private static readonly CorsConfig Open = new(["*"], false, ["*"], ["*"], ["*"], 5);

    // Origin; what the preflight's answer says of origin, credentials, methods, headers.
    [TestCase("https://app.example", "https://app.example|true|GET, PUT|x-a, x-b|600")]
    [TestCase("https://app.example:443", "https://app.example:443|true|GET, PUT|x-a, x-b|600")]
    [TestCase("HTTPS://APP.example", "HTTPS://APP.example|true|GET, PUT|x-a, x-b|600")]
    [TestCase("https://a.b.shop.example:8443", "https://a.b.shop.example:8443|true|GET, PUT|x-a, x-b|600")]
    [TestCase("https://shop.example:8443", "||||")]
    [TestCase("https://a.shop.example", "||||")]
    [TestCase("http://app.example", "||||")]
    [TestCase("https://app.example.evil.example", "||||")]
    [TestCase("https://evilapp.example", "||||")]
    [TestCase("null", "||||")]
    public Task A_preflight_is_answered_by_the_policy(string origin, string expected) => AssertPreflightAsync(Strict, origin, expected);

    [TestCase(false, "https://any.example", "*||*|*|5")]
    [TestCase(false, "null", "*||*|*|5")]
    [TestCase(true, "https://any.example", "https://any.example|true|PUT|x-a|5")]
    [TestCase(true, "null", "||||")]
    public Task A_star_is_written_out_where_credentials_are_allowed(bool credentials, string origin, string expected) =>
        AssertPreflightAsync(Open with { AllowCredentials = credentials }, origin, expected);

    [Test]
    public async Task A_response_says_what_the_policy_says_and_nothing_else()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("ok", "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: x-all\r\nVary: accept\r\n"));
        await using var proxy = await StartAsync(server, Strict);
        var allowed = await proxy.GetAsync(fields: "Origin: https://app.example\r\n");
        Assert.Multiple(() =>
        {
            Assert.That(allowed.Text, Is.EqualTo("ok"));
            Assert.That(allowed.Fields["access-control-allow-origin"], Is.EqualTo("https://app.example"));
            Assert.That(allowed.Fields["access-control-allow-credentials"], Is.EqualTo("true"));
            Assert.That(allowed.Fields["access-control-expose-headers"], Is.EqualTo("x-served-by"));
            Assert.That(allowed.Fields["vary"], Is.EqualTo("accept, origin"));
        });
        foreach (var fields in new[] { "Origin: https://other.example\r\n", "" })
        {
            var other = await proxy.GetAsync(fields: fields);
            Assert.That(other.Text, Is.EqualTo("ok"));
            Assert.That(other.Fields.Keys.Where(name => name.StartsWith("access-control", StringComparison.Ordinal)), Is.Empty);
            Assert.That(other.Fields["vary"], Is.EqualTo("accept, origin"));
        }
    }

    [Test]
    public async Task An_answer_of_the_proxy_itself_says_so_too()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            wire.Reset();
        });
        await using var proxy = await StartAsync(server, Strict);
        var failed = await proxy.GetAsync(fields: "Origin: https://app.example\r\n");
        Assert.That((failed.Status, failed.Fields["access-control-allow-origin"]), Is.EqualTo((503, "https://app.example")));
    }

    [Test]
    public async Task A_preflight_belongs_to_the_rule_of_the_request_that_it_asks_about()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("application"));
        var cluster = Configs.Cluster();
        var put = Configs.Rule(cluster.Id) with { Matches = [new HttpMatchConfig { Method = "PUT" }], Filters = [Strict] };
        var rest = Configs.Rule(cluster.Id) with { Name = "1" };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(put, rest)], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
        const string Origin = "Origin: https://app.example\r\n";
        Assert.Multiple(async () =>
        {
            Assert.That((await PreflightAsync(proxy, Origin + "Access-Control-Request-Method: PUT\r\n")).Status, Is.EqualTo(204));
            Assert.That((await PreflightAsync(proxy, Origin + "Access-Control-Request-Method: GET\r\n")).Text, Is.EqualTo("application"), "that rule has no policy");
            Assert.That((await PreflightAsync(proxy, Origin)).Text, Is.EqualTo("application"), "OPTIONS without a method asked for is no preflight");
            Assert.That((await PreflightAsync(proxy, "Access-Control-Request-Method: PUT\r\n")).Text, Is.EqualTo("application"), "nor without an origin");
        });
    }

    private static async Task AssertPreflightAsync(CorsConfig cors, string origin, string expected)
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("application"));
        await using var proxy = await StartAsync(server, cors);
        var answer = await PreflightAsync(proxy, $"Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n");
        Assert.That(answer.Status, Is.EqualTo(204));
        Assert.That(answer.Text, Is.Empty);
        Assert.That(
            string.Join('|', new[] { "allow-origin", "allow-credentials", "allow-methods", "allow-headers", "max-age" }.Select(name => answer.Fields.GetValueOrDefault("access-control-" + name))),
            Is.EqualTo(expected));
        Assert.That(answer.Fields["vary"], Does.StartWith("origin"));
    }

    private static Task<Message> PreflightAsync(TestProxy proxy, string fields) => proxy.SendAsync($"OPTIONS /x HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");

    private static Task<TestProxy> StartAsync(ScriptedServer server, CorsConfig cors)
    {
        var cluster = Configs.Cluster();
        return TestProxy.StartAsync(Configs.Gateway([Configs.Route(Configs.Rule(cluster.Id) with { Filters = [cors] })], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
    }
}
