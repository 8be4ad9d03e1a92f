using System.Text.Json;
using Grpc.Core;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>
/// A gateway, and the two sidecars of a mesh, between clients and servers that others wrote: Node.js (http, http2, ws, undici, grpc-js), Python (grpcio, websockets), .NET, curl, nghttp,
/// in pairs. Both ways serve the same names with the same rules.
/// </summary>
[TestFixture("gateway")]
[TestFixture("mesh")]
internal sealed class ForeignPeerTests(string way)
{
    // The names that clients ask for, and the upstream behind each path.
    private static readonly (string Host, (string Path, string Upstream)[] Rules)[] s_routes =
    [
        ("node", [("/h2", "node-h2c"), ("/h1/chat", "node-ws"), ("/h1/ws", "node-ws"), ("/meshproxy.integration.Shapes", "node-grpc"), ("/", "node-http")]),
        ("python", [("/meshproxy.integration.Shapes", "python-grpc"), ("/", "python-ws")]),
        ("app", [("/meshproxy.integration.Shapes", "app-grpc"), ("/trailers", "app-grpc"), ("/", "app-http")]),
    ];

    private readonly Dictionary<Language, ManagedProcess> _servers = [];
    private readonly Dictionary<Language, Dictionary<string, JsonElement>> _results = [];
    private readonly List<string> _missing = [];
    private TemporaryDirectory _directory = null!;
    private TestApp _app = null!;
    private Mesh? _mesh;
    private Proxy? _gateway;
    private int _port;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _directory = new TemporaryDirectory();
        _app = await TestApp.StartAsync("app");
        var node = await StartAsync(Language.NodeJs);
        var python = await StartAsync(Language.Python);
        (string Name, int Port, string Protocol)[] upstreams =
        [
            ("node-http", PortOf(node, "h1"), "http"), ("node-h2c", PortOf(node, "h2"), "kubernetes.io/h2c"), ("node-grpc", PortOf(node, "grpc"), "grpc"), ("node-ws", PortOf(node, "ws"), "kubernetes.io/ws"),
            ("python-grpc", PortOf(python, "grpc"), "grpc"), ("python-ws", PortOf(python, "ws"), "kubernetes.io/ws"), ("app-http", _app.Http1Port, "http"), ("app-grpc", _app.Http2Port, "grpc"),
        ];
        _missing.AddRange(upstreams.Where(upstream => upstream.Port == 0).Select(upstream => upstream.Name));
        upstreams = [.. upstreams.Select(upstream => upstream with { Port = upstream.Port == 0 ? FreePorts.Take() : upstream.Port })];
        _port = way == "gateway" ? await StartGatewayAsync(upstreams) : await StartMeshAsync(upstreams);
        foreach (var language in (Language[])[Language.NodeJs, Language.Python])
        {
            _results[language] = await language.RunCasesAsync(_port, _missing);
        }
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        foreach (var part in (IAsyncDisposable?[])[_gateway, _mesh, .. _servers.Values, _app])
        {
            if (part is not null)
            {
                await part.DisposeAsync();
            }
        }

        _directory.Dispose();
    }

    [TearDown]
    public void ShowLogs()
    {
        if (TestContext.CurrentContext.Result.FailCount > 0)
        {
            TestContext.Out.WriteLine(_mesh?.Report() ?? _gateway!.Process.Report());
        }
    }

    [TestCaseSource(nameof(NodeCases))]
    public void Node_client(string name) => Judge(Language.NodeJs, name);

    [TestCaseSource(nameof(PythonCases))]
    public void Python_client(string name) => Judge(Language.Python, name);

    [TestCase("node", "grpc-js")]
    [TestCase("python", "grpcio")]
    [CancelAfter(60_000)]
    public async Task Dotnet_client_to(string host, string server)
    {
        if (_missing.Contains($"{host}-grpc"))
        {
            Assert.Ignore($"{server} is not installed");
        }

        await CallTheFourShapesAsync(_port, $"{host}.shop", server);
    }

    [TestCase("--http1.0", "200 1.1")]
    [TestCase("--http1.1", "200 1.1")]
    [TestCase("--http2", "200 1.1", TestName = "Curl_speaks(\"--http2\"): an offer to upgrade to h2c is passed over")]
    [TestCase("--http2-prior-knowledge", "200 2")]
    [CancelAfter(60_000)]
    public async Task Curl_speaks(string version, string spoken)
    {
        var body = _directory.Write($"upload{version}", new string('u', 1_000_000));
        foreach (var arguments in (string[][])[["/hello"], ["/count", "--data-binary", $"@{body}"], ["/count", "-T", body, "-X", "POST", "-H", "Expect: 100-continue"]])
        {
            var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("curl"),
                ["-sS", "--max-time", "30", "--noproxy", "*", version, "-H", "Host: app.shop", "-w", "\n%{http_code} %{http_version}", $"http://127.0.0.1:{_port}{arguments[0]}", .. arguments[1..]]);
            Assert.That(status, Is.Zero, errors);
            Assert.That(output, Does.StartWith(arguments[0] == "/hello" ? "hello from app\n" : "1000000 ").And.EndWith(spoken), string.Join(' ', arguments));
        }
    }

    [TestCase("chunked", "--http1.1")]
    [TestCase("to HTTP/1.1", "--http2-prior-knowledge")]
    [CancelAfter(60_000)]
    public async Task Curl_uploads_without_a_length(string name, string version)
    {
        // From standard input: curl can not know how much it will be.
        var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("curl"),
            ["-sS", "--max-time", "30", "--noproxy", "*", version, "-T", "-", "-X", "POST", "-H", "Host: app.shop", $"http://127.0.0.1:{_port}/count"], input: new string('s', 700_000));
        Assert.That((status, output.Split(' ')[0]), Is.EqualTo((0, "700000")), $"{name}: {errors}");
    }

    [TestCase("/bytes/300000")]
    [TestCase("/trailers")]
    [CancelAfter(60_000)]
    public async Task Nghttp_sees_many_streams(string path)
    {
        var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("nghttp"), ["-nv", "-m", "50", "-H", ":authority: app.shop", $"http://127.0.0.1:{_port}{path}"]);
        Assert.That(status, Is.Zero, errors);
        Assert.That(output.Split(":status: 200").Length - 1, Is.EqualTo(50), output);
        Assert.That(output, Does.Not.Contain("RST_STREAM").And.Not.Contain("PROTOCOL_ERROR"));
        Assert.That(output.Split("x-checksum: 42").Length - 1, Is.EqualTo(path == "/trailers" ? 50 : 0));
    }

    private static async Task CallTheFourShapesAsync(int port, string host, string server)
    {
        using var channel = Via.Grpc(port, host);
        var client = new Shapes.ShapesClient(channel);
        using var unary = client.UnaryAsync(new Item { Text = "hi", Count = 299 });
        Assert.That(await unary, Is.EqualTo(new Item { Text = "hi back", Count = 300 }));
        Assert.That(unary.GetTrailers().GetValue("x-served-by"), Is.EqualTo(server));

        using var down = client.Down(new Item { Text = "d", Count = 200 });
        Assert.That(await down.ResponseStream.ReadAllAsync().CountAsync(), Is.EqualTo(200));

        using var up = client.Up();
        for (var i = 0; i < 50; i++)
        {
            await up.RequestStream.WriteAsync(new Item { Text = "u", Count = i });
        }

        await up.RequestStream.CompleteAsync();
        Assert.That(await up, Is.EqualTo(new Item { Text = new string('u', 50), Count = 1225 }));

        using var both = client.Both();
        for (var i = 0; i < 20; i++)
        {
            await both.RequestStream.WriteAsync(new Item { Text = "b", Count = i });
            Assert.That(await both.ResponseStream.MoveNext(CancellationToken.None), Is.True);
            Assert.That(both.ResponseStream.Current.Count, Is.EqualTo(2 * i));
        }

        await both.RequestStream.CompleteAsync();
        Assert.That(await both.ResponseStream.MoveNext(CancellationToken.None), Is.False);

        var failure = await Assert.ThrowsAsync<RpcException>(async () => await client.UnaryAsync(new Item { Text = "fail" }));
        Assert.That((failure!.StatusCode, failure.Status.Detail), Is.EqualTo((StatusCode.FailedPrecondition, "the account is closed: 100 % sure")));
    }

    private static int PortOf(Dictionary<string, int>? ports, string name) => ports?.GetValueOrDefault(name) ?? 0;

    private static IEnumerable<string> NodeCases() => Language.NodeJs.Cases();

    private static IEnumerable<string> PythonCases() => Language.Python.Cases();

    private static string Routes(Func<string, string> parent) => string.Concat(s_routes.Select(route =>
        $$"""
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: {{route.Host}}, namespace: shop}
        spec:
          {{parent(route.Host)}}
          rules:
        {{string.Join('\n', route.Rules.Select(rule => $"  - {{matches: [{{path: {{type: PathPrefix, value: {rule.Path}}} }}], backendRefs: [{{name: {rule.Upstream}, port: 80}}]}}"))}}
        ---

        """));

    private void Judge(Language language, string name)
    {
        if (!language.IsInstalled)
        {
            Assert.Ignore($"{language} is not installed");
        }

        Assert.That(_results[language], Does.ContainKey(name), "the clients ended before it");
        if (_results[language][name].TryGetProperty("skipped", out var reason))
        {
            Assert.Ignore(reason.GetString()!);
        }

        Assert.That(_results[language][name].TryGetProperty("error", out var error) ? error.GetString() : "", Is.Empty);
    }

    private async Task<Dictionary<string, int>?> StartAsync(Language language)
    {
        if (await language.StartServerAsync() is not { } server)
        {
            return null;
        }

        _servers[language] = server.Process;
        return server.Ports;
    }

    private async Task<int> StartGatewayAsync((string Name, int Port, string Protocol)[] upstreams)
    {
        var port = FreePorts.Take();
        _gateway = await Proxy.StartGatewayAsync(_directory.Write("gateway.yaml", Documents.HttpGateway(port)
            + string.Concat(upstreams.Select(upstream => Documents.Static(upstream.Name, upstream.Port, upstream.Protocol)))
            + Routes(host => $"parentRefs: [{{name: edge}}]\n  hostnames: [{host}.shop]")));
        return port;
    }

    private async Task<int> StartMeshAsync((string Name, int Port, string Protocol)[] upstreams)
    {
        _mesh = await Mesh.StartAsync();
        await _mesh.Meshctl.ApplyAsync(
            string.Concat(((string[])["node", "python", "app"]).Select(name => Documents.Service(name, "nobody", "http 80 http")))
            + string.Concat(upstreams.Select(upstream => Documents.Service(upstream.Name, "peers", $"{upstream.Name} 80 {upstream.Protocol}")))
            + Routes(host => $"parentRefs: [{{group: \"\", kind: Service, name: {host}}}]"));
        var peers = await _mesh.JoinAsync("peers-1", "peers", [.. upstreams.SelectMany(upstream => (string[])["--app-port", $"{upstream.Name}={upstream.Port}"])]);
        await Mesh.WaitUntilRegisteredAsync(peers);
        return (await _mesh.JoinAsync("clients-1", "clients")).Outbound;
    }
}
