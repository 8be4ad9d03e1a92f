using System.Text.Json;
using Grpc.Core;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>A gateway between clients and servers that others wrote: Node.js (http, http2, ws, undici, grpc-js), Python's grpcio, .NET, curl, nghttp, in pairs.</summary>
[TestFixture]
internal sealed class ForeignPeerTests
{
    private const string PythonServer =
        """
        import grpc, sys
        from concurrent import futures
        def dec(b):
            text, count, at = "", 0, 0
            while at < len(b):
                if b[at] == 10: text = b[at + 2:at + 2 + b[at + 1]].decode(); at += 2 + b[at + 1]
                else:
                    at += 1; shift = 0
                    while True:
                        count |= (b[at] & 127) << shift; shift += 7; at += 1
                        if b[at - 1] < 128: break
            return text, count
        def enc(item):
            t = item[0].encode(); out = bytes([10, len(t)]) + t + b"\x10"; n = item[1]
            while n > 127: out += bytes([n & 127 | 128]); n >>= 7
            return out + bytes([n])
        def unary(item, context):
            context.set_trailing_metadata((("x-served-by", "grpcio"),))
            if item[0] == "fail": context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the account is closed: 100 % sure")
            return item[0] + " back", item[1] + 1
        def down(item, context):
            for i in range(item[1]): yield item[0], i
        def up(items, context):
            items = list(items); return "".join(i[0] for i in items), sum(i[1] for i in items)
        def both(items, context):
            for i in items: yield i[0], 2 * i[1]
        h = lambda kind, f: getattr(grpc, kind + "_rpc_method_handler")(f, dec, enc)
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("meshproxy.integration.Shapes", {
            "Unary": h("unary_unary", unary), "Down": h("unary_stream", down), "Up": h("stream_unary", up), "Both": h("stream_stream", both)}),))
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start(); server.wait_for_termination()
        """;

    private TemporaryDirectory _directory = null!;
    private TestApp _app = null!;
    private Node? _node;
    private Proxy _gateway = null!;
    private Dictionary<string, JsonElement> _results = [];
    private int _port;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _directory = new TemporaryDirectory();
        _app = await TestApp.StartAsync("app");
        _node = Tool.Find("node") is null ? null : await Node.StartAsync();
        _port = FreePorts.Take();
        _gateway = await StartGatewayAsync(_port, _app.Http2Port, _node?.GrpcPort is { } port and not 0 ? port : FreePorts.Take());
        if (_node is not null)
        {
            _results = await Node.RunCasesAsync(_port);
        }
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        foreach (var part in (IAsyncDisposable?[])[_gateway, _node, _app])
        {
            if (part is not null)
            {
                await part.DisposeAsync();
            }
        }

        _directory.Dispose();
    }

    [TestCaseSource(typeof(Node), nameof(Node.Cases))]
    public void Node_client(string name)
    {
        if (_node is null)
        {
            Assert.Ignore("node is not installed");
        }

        Assert.That(_results, Does.ContainKey(name), "the clients ended before it");
        if (_results[name].TryGetProperty("skipped", out var reason))
        {
            Assert.Ignore(reason.GetString()!);
        }

        Assert.That(_results[name].TryGetProperty("error", out var error) ? error.GetString() : "", Is.Empty, _gateway.Process.Report());
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Dotnet_client_to_grpc_js()
    {
        if (_node is not { GrpcPort: > 0 })
        {
            Assert.Ignore("node or its package @grpc/grpc-js is not installed");
        }

        await CallTheFourShapesAsync(_port, "node.example", "grpc-js");
    }

    [Test]
    [CancelAfter(90_000)]
    public async Task Dotnet_client_to_grpcio()
    {
        var python = File.Exists("/usr/bin/python3") ? "/usr/bin/python3" : Tool.Need("python3");
        if ((await ManagedProcess.RunAsync(python, ["-c", "import grpc"])).ExitCode != 0)
        {
            Assert.Ignore("python3 has no grpcio");
        }

        await using var server = ManagedProcess.Start("grpcio", python, [_directory.Write("server.py", PythonServer)]);
        var listens = int.Parse(await Eventually.GetAsync(() => Task.FromResult(server.Output.FirstOrDefault()), "grpcio tells its port"), System.Globalization.CultureInfo.InvariantCulture);
        var port = FreePorts.Take();
        await using var gateway = await StartGatewayAsync(port, listens, listens);
        await CallTheFourShapesAsync(port, "app.example", "grpcio");
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
                ["-sS", "--max-time", "30", "--noproxy", "*", version, "-H", "Host: app.example", "-w", "\n%{http_code} %{http_version}", $"http://127.0.0.1:{_port}{arguments[0]}", .. arguments[1..]]);
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
            ["-sS", "--max-time", "30", "--noproxy", "*", version, "-T", "-", "-X", "POST", "-H", "Host: app.example", $"http://127.0.0.1:{_port}/count"], input: new string('s', 700_000));
        Assert.That((status, output.Split(' ')[0]), Is.EqualTo((0, "700000")), $"{name}: {errors}");
    }

    [TestCase("/bytes/300000")]
    [TestCase("/trailers")]
    [CancelAfter(60_000)]
    public async Task Nghttp_sees_many_streams(string path)
    {
        var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("nghttp"), ["-nv", "-m", "50", "-H", ":authority: app.example", $"http://127.0.0.1:{_port}{path}"]);
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

    // node.example: Node.js behind /h1 and /h2. app.example: .NET. Elsewhere: the WebSocket server, for clients that cannot choose their Host.
    private async Task<Proxy> StartGatewayAsync(int port, int grpc, int nodeGrpc)
    {
        var (http1, http2) = (_node?.Http1Port ?? FreePorts.Take(), _node?.Http2Port ?? FreePorts.Take());
        return await Proxy.StartGatewayAsync(_directory.Write($"gateway-{port}.yaml",
            Documents.HttpGateway(port) + Documents.Static("node1", http1) + Documents.Static("node2", http2, "kubernetes.io/h2c") + Documents.Static("node-grpc", nodeGrpc, "grpc")
            + Documents.Static("app", _app.Http1Port) + Documents.Static("app-grpc", grpc, "grpc") +
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: node, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              hostnames: [node.example]
              rules:
              - matches: [{path: {type: PathPrefix, value: /h2} }]
                backendRefs: [{name: node2, port: 80}]
              - matches: [{path: {type: PathPrefix, value: /meshproxy.integration.Shapes} }]
                backendRefs: [{name: node-grpc, port: 80}]
              - backendRefs: [{name: node1, port: 80}]
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: app, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              hostnames: [app.example]
              rules:
              - matches: [{path: {type: PathPrefix, value: /meshproxy.integration.Shapes} }, {path: {type: PathPrefix, value: /trailers} }]
                backendRefs: [{name: app-grpc, port: 80}]
              - backendRefs: [{name: app, port: 80}]
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: ws, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              rules:
              - matches: [{path: {type: PathPrefix, value: /ws} }]
                backendRefs: [{name: node1, port: 80}]
            """));
    }
}
