using MeshProxy.DataPlane.Tests.Forwarding;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Policy;

/// <summary>How clients are treated: each setting and its default, over whole proxies, seen at the application, in HTTP/1.1 and HTTP/2.</summary>
internal sealed class ClientTrafficTests
{
    private readonly TestCa _ca = new();

    [OneTimeTearDown]
    public void TearDown() => _ca.Dispose();

    [Test]
    public async Task A_path_is_matched_and_forwarded_in_its_normal_form([Values(1, 2)] int version)
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.StartLine));
        var cluster = Configs.Cluster();
        var route = Configs.Route(Configs.Rule(cluster.Id) with { Matches = [Configs.Prefix("/public")] });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([route], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
        foreach (var (path, status, seen) in new (string, int, string)[]
        {
            ("/public/a?x=%7e", 200, "GET /public/a?x=%7e HTTP/1.1"),
            ("/admin/../public/%7eme", 200, "GET /public/~me HTTP/1.1"),
            ("/public/%2e%2e/public/./a%3b", 200, "GET /public/a%3B HTTP/1.1"),
            ("/public/../admin", 404, "404 NR"),
            ("/public/%2E./admin", 404, "404 NR"),
            ("/public/%2e%2e%2fadmin", 400, "400 DPE"),
            ("/public\\..\\admin", 400, "400 DPE"),
            ("/public/%00", 400, "400 DPE"),
            ("/public/%zz", 400, "400 DPE"),
        })
        {
            var response = await SendAsync(proxy, version, path);
            Assert.That(response.Status, Is.EqualTo(status), path);
            Assert.That(response.Text, status == 200 ? Is.EqualTo(seen) : Does.StartWith(seen), path);
            var line = await proxy.AccessAsync();
            Assert.That(line.TryGetProperty("meshproxy.flags", out var flag) ? flag.GetString() : null, Is.EqualTo(status == 200 ? null : seen.Split(' ')[1]), path);
            Assert.That(line.GetProperty("url.path").GetString(), Is.EqualTo(path.Split('?')[0]), "the log shows what was asked for");
        }
    }

    [Test]
    public async Task The_outbound_and_the_inbound_normalise_too_and_allow_what_the_service_allows()
    {
        await using var app = ScriptedServer.Http1(request => ScriptedServer.Ok(request.StartLine));
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        Assert.That((await mesh.Client.GetAsync("/a/./%62/../c", "payments", listener: "outbound")).Text, Is.EqualTo("GET /a/c HTTP/1.1"));
        var refused = await mesh.Client.GetAsync("/a%2fb", "payments", listener: "outbound");
        Assert.That((refused.Status, refused.Flag), Is.EqualTo((400, "DPE")));
        Assert.That(refused.Fields["x-meshproxy-failure"], Does.StartWith("DPE; retry=never; path_encoded_slash: "));

        var allows = new ClientTrafficConfig { Path = new PathTrafficConfig(AllowsEncodedSlash: true, MergesSlashes: true) };
        var serving = Mesh.Serving(app.EndPoint);
        serving = serving with { Inbound = serving.Inbound! with { Ports = [serving.Inbound.Ports[0] with { ClientTraffic = allows }] } };
        Assert.That(mesh.Server.Server.Apply(serving), Is.Empty);
        Assert.That((await mesh.Client.GetAsync("/a%2fb", "payments", listener: "outbound")).Status, Is.EqualTo(400), "the outbound does not know yet");
        var calling = Mesh.Calling(app.EndPoint, mesh.Server.EndPoint("inbound").Port);
        var destination = calling.Destinations.Values.Single();
        calling = calling with { Destinations = calling.Destinations.SetItem(destination.Service, destination with { Ports = [destination.Ports[0] with { ClientTraffic = allows }] }) };
        Assert.That(mesh.Client.Server.Apply(calling), Is.Empty);
        Assert.That((await mesh.Client.GetAsync("/a%2fb//c", "payments", listener: "outbound")).Text, Is.EqualTo("GET /a%2Fb/c HTTP/1.1"));
    }

    [Test]
    public async Task What_a_gateway_s_clients_say_about_where_they_come_from_is_replaced([Values(1, 2)] int version)
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await SendAsync(
            proxy, version, "/", ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example"), ("forwarded", "for=6.6.6.6"), ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"), ("x_real-ip", "6.6.6.6"), ("x-forwarded-port", "1"), ("true-client-ip", "6.6.6.6"), ("x-forwarded-client-cert", "me"), ("x_forwarded_client_cert", "me"),
            ("x_meshproxy_failure", "UF"), ("grpc-timeout", "1m"), ("x-request-timeout", "1"), ("x-other_name", "stays"));
        Assert.That(seen!.Fields["x-forwarded-for"], Is.EqualTo("127.0.0.1"));
        Assert.That(seen.Fields["x-forwarded-proto"], Is.EqualTo("http"));
        Assert.That(seen.Fields["x-forwarded-host"], Is.EqualTo("shop.example"));
        Assert.That(seen.Fields.Keys.Order(), Is.EqualTo(new[] { "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-other_name", "x-request-id" }));
    }

    [Test]
    public async Task In_the_mesh_they_pass_untouched_and_no_Via_is_added()
    {
        Message? seen = null;
        await using var app = ScriptedServer.Http1(request => Keep(request, ref seen));
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        var response = await mesh.Client.GetAsync(host: "payments", listener: "outbound", fields: "x-forwarded-for: 1.2.3.4, 5.6.7.8\r\nx-forwarded-proto: https\r\nforwarded: for=1.2.3.4\r\n");
        Assert.That(seen!.Fields["x-forwarded-for"], Is.EqualTo("1.2.3.4, 5.6.7.8"));
        Assert.That(seen.Fields["x-forwarded-proto"], Is.EqualTo("https"));
        Assert.That(seen.Fields["forwarded"], Is.EqualTo("for=1.2.3.4"));
        Assert.That(seen.Fields.Keys.Concat(response.Fields.Keys), Has.None.EqualTo("via"));
        Assert.That((await mesh.Server.AccessAsync()).TryGetProperty("client.ip", out _), Is.False);
    }

    [Test]
    public async Task Responses_and_trailer_sections_say_nothing_for_the_mesh_and_nothing_of_one_hop()
    {
        Message? seen = null;
        const string Spoofed = "x-meshproxy-a: 1\r\nx_meshproxy_failure: UF\r\nx-forwarded-client-cert: me\r\nkeep-alive: 1\r\n";
        await using var server = ScriptedServer.Http1(request =>
        {
            seen = request;
            return $"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n{Spoofed}\r\n"
                + $"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-fine: 1\r\n{Spoofed}\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n{Spoofed}authorization: me\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync(
            $"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-mine: 1\r\n{Spoofed}x_forwarded_for: 6.6.6.6\r\ngrpc-timeout: 1n\r\nx-real-ip: 6.6.6.6\r\n\r\n");
        var early = await client.ReadResponseAsync();
        Assert.That((early.Status, early.Fields.Keys.Order()), Is.EqualTo((103, new[] { "link" })));
        var response = await client.ReadResponseAsync();
        Assert.That(response.Text, Is.EqualTo("ok"));
        Assert.That(response.Fields.Keys.Where(name => name.StartsWith('x') || name == "keep-alive"), Is.EqualTo(new[] { "x-fine" }));
        Assert.That(response.Trailers.Keys, Is.EqualTo(new[] { "x-sum" }));
        Assert.That(seen!.Trailers.Keys, Is.EqualTo(new[] { "x-mine" }));
        Assert.That(seen.Fields["te"], Is.EqualTo("trailers"));
    }

    /// <summary>Sends a GET and reads what comes, as it stands on the wire.</summary>
    private static async Task<Message> SendAsync(TestProxy proxy, int version, string path, params (string Name, string Value)[] fields)
    {
        if (version == 1)
        {
            return await proxy.GetAsync(path, fields: string.Concat(fields.Select(field => $"{field.Name}: {field.Value}\r\n")));
        }

        using var client = ForeignServer.Client(proxy.EndPoint(), "2.0");
        client.DefaultRequestHeaders.TE.Clear();
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri($"http://{proxy.EndPoint()}{path}", new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }))
        {
            Version = new Version(2, 0),
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        request.Headers.Host = "shop.example";
        foreach (var (name, value) in fields)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        using var response = await client.SendAsync(request);
        return new Message(
            $"HTTP/2 {(int)response.StatusCode}",
            response.Headers.ToDictionary(pair => pair.Key, pair => string.Join(", ", pair.Value), StringComparer.OrdinalIgnoreCase),
            await response.Content.ReadAsByteArrayAsync(),
            response.TrailingHeaders.ToDictionary(pair => pair.Key, pair => string.Join(", ", pair.Value), StringComparer.OrdinalIgnoreCase));
    }

    private static string Keep(Message request, ref Message? seen)
    {
        seen = request;
        return ScriptedServer.Ok("");
    }
}
