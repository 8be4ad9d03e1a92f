using System.Globalization;
using System.Net;
using System.Net.Sockets;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>A gateway's files: good, changed, bad.</summary>
[TestFixture]
internal sealed class FileModeTests
{
    private TestApp _first = null!;
    private TestApp _second = null!;

    [OneTimeSetUp]
    public async Task StartAsync() => (_first, _second) = (await TestApp.StartAsync("first"), await TestApp.StartAsync("second"));

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        await _first.DisposeAsync();
        await _second.DisposeAsync();
    }

    [TestCase(true)]
    [TestCase(false)]
    [CancelAfter(90_000)]
    public async Task A_changed_file_is_taken_and_a_bad_one_is_not(bool atomically)
    {
        using var directory = new TemporaryDirectory();
        var port = FreePorts.Take();
        var good = Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", _first.Http1Port);
        var file = directory.Write("gateway.yaml", good);
        await using var gateway = await Proxy.StartGatewayAsync(file);
        await using var load = await Load.StartAsync(port, "shop.example", clients: 2);
        using var http = Via.Http(port);
        Assert.That(await http.GetStringAsync("http://shop.example/hello"), Is.EqualTo("hello from first"));

        Change(good.Replace(Text(_first.Http1Port), Text(_second.Http1Port), StringComparison.Ordinal));
        await Eventually.IsTrueAsync(async () => await http.GetStringAsync("http://shop.example/hello") == "hello from second", "the change is in force");

        Change(good.Replace("backendRefs", "backendReffs", StringComparison.Ordinal));
        var line = await gateway.Process.LoggedAsync("config_rejected");
        Assert.That(line.GetProperty("message").GetString(), Does.Contain("gateway.yaml").And.Contain("backendReffs").And.Match(@":\d+"));
        Assert.That(await http.GetStringAsync("http://shop.example/hello"), Is.EqualTo("hello from second"));
        Assert.That(await gateway.StatusOfAsync("/readyz"), Is.EqualTo(200));
        Assert.That(await gateway.MetricsTextAsync(), Does.Contain("meshproxy_config_rejected_total"));

        File.Delete(file);
        await gateway.Process.LoggedAsync("config_unreadable");
        Assert.That(await http.GetStringAsync("http://shop.example/hello"), Is.EqualTo("hello from second"));

        Change(good);
        await Eventually.IsTrueAsync(async () => await http.GetStringAsync("http://shop.example/hello") == "hello from first", "the file is good again");
        Assert.That(await load.StopAsync(), Is.Empty, gateway.Process.Report());

        void Change(string text)
        {
            if (atomically)
            {
                File.Move(directory.Write("gateway.yaml.new", text), file, overwrite: true);
            }
            else
            {
                File.WriteAllText(file, text);
            }
        }
    }

    [Test]
    [CancelAfter(90_000)]
    public async Task How_clients_are_treated_is_a_policy_in_the_file()
    {
        using var directory = new TemporaryDirectory();
        var port = FreePorts.Take();
        var rest = Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", _first.Http1Port);
        const string Policy =
            """
            apiVersion: meshproxy.io/v1alpha1
            kind: ClientTrafficPolicy
            metadata: {name: edge, namespace: shop}
            spec:
              targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
              path: {mergeSlashes: true, allow: [EncodedSlash]}
              headers: {underscores: Reject, forwarded: {mode: Replace, format: Both, trustedHops: 1}}
              via: true
              maxRequestBodyBytes: 10

            """;
        var file = directory.Write("gateway.yaml", rest + Policy);
        await using var gateway = await Proxy.StartGatewayAsync(file);
        using var http = Via.Http(port);
        var told = await HeadersAsync("http://shop.example//./%68eaders");
        Assert.That(told, Does.Contain("192.0.2.7, 127.0.0.1").And.Contain("for=127.0.0.1;host=").And.Contain("1.1 meshproxy").And.Not.Contain("6.6.6.6"));
        Assert.That((await http.PostAsync("http://shop.example/echo", new StringContent("12345678901"))).StatusCode, Is.EqualTo(HttpStatusCode.RequestEntityTooLarge));
        Assert.That((await http.GetAsync("http://shop.example/a%2fb")).StatusCode, Is.EqualTo(HttpStatusCode.NotFound), "it reaches the application, which has no such page");
        Assert.That((await SendAsync("http://shop.example/hello", "x_forwarded_for")).StatusCode, Is.EqualTo(HttpStatusCode.BadRequest));

        File.WriteAllText(file, rest);
        await Eventually.IsTrueAsync(async () => (await http.GetAsync("http://shop.example/a%2fb")).StatusCode == HttpStatusCode.BadRequest, "without the policy the defaults are in force");
        told = await HeadersAsync("http://shop.example/headers");
        Assert.That(told, Does.Contain("127.0.0.1").And.Not.Contain("192.0.2.7").And.Not.Contain("for=").And.Not.Contain("meshproxy"));
        Assert.That((await http.PostAsync("http://shop.example/echo", new StringContent("12345678901"))).StatusCode, Is.EqualTo(HttpStatusCode.OK));

        async Task<string> HeadersAsync(string url)
        {
            using var response = await SendAsync(url, "X-Forwarded-For");
            return await response.Content.ReadAsStringAsync();
        }

        Task<HttpResponseMessage> SendAsync(string url, string field)
        {
            var request = new HttpRequestMessage(HttpMethod.Get, new Uri(url, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
            request.Headers.TryAddWithoutValidation(field, "6.6.6.6, 192.0.2.7");
            return http.SendAsync(request);
        }
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Listeners_come_and_go_with_the_files()
    {
        using var directory = new TemporaryDirectory();
        var (one, two) = (FreePorts.Take(), FreePorts.Take());
        var rest = Documents.Route("web") + Documents.Static("web", _first.Http1Port);
        var file = directory.Write("gateway.yaml", Documents.HttpGateway(one) + rest);
        await using var gateway = await Proxy.StartGatewayAsync(file);
        File.WriteAllText(file, Documents.HttpGateway(two) + rest);
        using (var http = Via.Http(two))
        {
            await Eventually.IsTrueAsync(async () => (await http.GetAsync("http://shop.example/hello")).IsSuccessStatusCode, "the new listener serves");
        }

        await Eventually.IsTrueAsync(async () =>
        {
            try
            {
                await using var stream = await Via.TcpAsync(one);
                return false;
            }
            catch (SocketException)
            {
                return true;
            }
        }, "the old listener is closed");
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_file_says_what_is_mirrored_and_which_scripts_may_ask()
    {
        using var directory = new TemporaryDirectory();
        var port = FreePorts.Take();
        var route = Documents.Route("web").Replace("  - backendRefs", """
              - filters:
                - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}
                - {type: CORS, cors: {allowOrigins: ["https://*.shop.example"], allowMethods: [POST], maxAge: 60}}
                backendRefs
            """, StringComparison.Ordinal);
        var file = directory.Write("gateway.yaml", Documents.HttpGateway(port) + route + Documents.Static("web", _first.Http1Port) + Documents.Static("shadow", _second.Http1Port));
        await using var gateway = await Proxy.StartGatewayAsync(file);
        using var http = Via.Http(port);
        for (var i = 0; i < 3; i++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, $"http://shop.example/execute/mirrored-{i}") { Content = new StringContent(new string('x', i * 20_000)) };
            request.Headers.Add("Origin", "https://app.shop.example");
            using var response = await http.SendAsync(request);
            Assert.That(await response.Content.ReadAsStringAsync(), Is.EqualTo($"done mirrored-{i}"));
            Assert.That(response.Headers.GetValues("Access-Control-Allow-Origin"), Is.EqualTo(new[] { "https://app.shop.example" }));
        }

        await Eventually.IsTrueAsync(() => Task.FromResult(Enumerable.Range(0, 3).All(i => _second.Executions.GetValueOrDefault($"mirrored-{i}") == 1)), "the mirror has every request");
        Assert.That(Enumerable.Range(0, 3).Select(i => _first.Executions[$"mirrored-{i}"]), Is.All.EqualTo(1));

        using var preflight = new HttpRequestMessage(HttpMethod.Options, "http://shop.example/execute/1");
        preflight.Headers.Add("Origin", "https://app.shop.example");
        preflight.Headers.Add("Access-Control-Request-Method", "POST");
        using var answer = await http.SendAsync(preflight);
        Assert.That(answer.StatusCode, Is.EqualTo(HttpStatusCode.NoContent));
        Assert.That(answer.Headers.GetValues("Access-Control-Allow-Methods"), Is.EqualTo(new[] { "POST" }));
        Assert.That(await gateway.MetricsTextAsync(), Does.Match("meshproxy_mirror_total\\{cluster=\"shop/shadow:80\",result=\"answered\"\\} 3"));
    }

    [TestCase("kind: Servic", "kind")]
    [TestCase("unknownField: 1", "unknownField")]
    [TestCase("port: 70000", "port")]
    [TestCase("{", "")]
    [CancelAfter(60_000)]
    public async Task A_bad_document_names_line_and_field_and_nothing_starts(string wrong, string field)
    {
        using var directory = new TemporaryDirectory();
        var text = wrong switch
        {
            "kind: Servic" => "apiVersion: v1\nkind: Servic\nmetadata: {name: a}\n",
            "unknownField: 1" => "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  unknownField: 1\n  ports: [{port: 80}]\n",
            "port: 70000" => "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - {port: 70000}\n",
            _ => "apiVersion: v1\nkind: {\n",
        };
        var file = directory.Write("bad.yaml", text);
        var (status, _, errors) = await ManagedProcess.RunAsync(Executables.Proxy, ["validate", file]);
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.Contain(file).And.Contain(field).And.Match(@":\d+"));

        await using var gateway = Proxy.Launch("gateway", "--config", file, "--outbound", "off", "--admin", "off", "--metrics", "off");
        Assert.That(await gateway.Process.WaitForExitAsync(), Is.EqualTo(1));
        Assert.That((await gateway.Process.LoggedAsync("config_rejected")).GetProperty("message").GetString(), Does.Contain(field));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Validate_and_the_command_line_exit_as_told()
    {
        using var directory = new TemporaryDirectory();
        var file = directory.Write("good.yaml", Documents.HttpGateway(8080) + Documents.Route("web") + Documents.Static("web", 8081));
        Assert.That((await ManagedProcess.RunAsync(Executables.Proxy, ["validate", file])).ExitCode, Is.Zero);
        Assert.That((await ManagedProcess.RunAsync(Executables.Proxy, ["validate", directory.File("nothing.yaml")])).ExitCode, Is.EqualTo(1));
        foreach (var arguments in (string[][])[["--frobnicate"], [], ["--config", file, "--admin", "nowhere"], ["--config", file, "--control", "127.0.0.1:1"], ["--control", "127.0.0.1:1"]])
        {
            var (status, _, errors) = await ManagedProcess.RunAsync(Executables.Proxy, arguments);
            Assert.That(status, Is.EqualTo(2), string.Join(' ', arguments));
            Assert.That(errors, Does.Contain("--"), string.Join(' ', arguments));
        }

        foreach (var program in (string[])[Executables.Proxy, Executables.Control, Executables.Meshctl])
        {
            var (status, output, _) = await ManagedProcess.RunAsync(program, ["--help"]);
            Assert.That((status, output.Contains("--", StringComparison.Ordinal)), Is.EqualTo((0, true)), program);
            Assert.That((await ManagedProcess.RunAsync(program, ["--version"])).ExitCode, Is.Zero);
        }
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_port_that_is_taken_ends_the_start_with_one_clear_line()
    {
        using var directory = new TemporaryDirectory();
        using var taken = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();
        var port = ((IPEndPoint)taken.LocalEndPoint!).Port;
        var file = directory.Write("gateway.yaml", Documents.HttpGateway(FreePorts.Take()) + Documents.Route("web") + Documents.Static("web", _first.Http1Port));
        var gatewayOnIt = directory.Write("taken.yaml", Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", _first.Http1Port));
        string[][] starts =
        [
            ["--config", file, "--outbound", "off", "--metrics", "off", "--admin", Text(port)],
            ["--config", file, "--outbound", "off", "--admin", "off", "--metrics", $"127.0.0.1:{port}"],
            ["--config", file, "--admin", "off", "--metrics", "off", "--outbound", $"127.0.0.1:{port}"],
            ["--config", gatewayOnIt, "--admin", "off", "--metrics", "off", "--outbound", "off"],
        ];
        foreach (var arguments in starts)
        {
            await using var gateway = Proxy.Launch("gateway", arguments);
            Assert.That(await gateway.Process.WaitForExitAsync(), Is.EqualTo(1), string.Join(' ', arguments) + gateway.Process.Report());
            Assert.That((await gateway.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain(Text(port)));
            Assert.That(gateway.Process.Errors.Where(line => line.Contains("   at ", StringComparison.Ordinal)), Is.Empty, "no stack trace");
        }

        await using var control = ManagedProcess.Start("control", Executables.Control, ["--listen", $"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", "--data-dir", directory.File("data")]);
        Assert.That(await control.WaitForExitAsync(), Is.EqualTo(1));
        Assert.That((await control.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain(Text(port)));
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
