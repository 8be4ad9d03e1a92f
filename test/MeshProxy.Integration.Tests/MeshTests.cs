using System.Net;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using Grpc.Core;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>checkout calls payments through two sidecars that a control plane steers.</summary>
[TestFixture]
internal sealed class MeshTests
{
    private const string Peer = "spiffe://mesh.local/ns/shop/sa/checkout";
    private TestApp _app = null!;
    private TcpApp _tcp = null!;
    private Mesh _mesh = null!;
    private Proxy _checkout = null!;
    private Proxy _payments = null!;
    private int _databasePort;
    private int _closedPort;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _app = await TestApp.StartAsync("payments-app");
        _tcp = new TcpApp();
        _closedPort = FreePorts.Take();
        _databasePort = FreePorts.Take();
        _mesh = await Mesh.StartAsync();
        await _mesh.Meshctl.ApplyAsync(
            Documents.Service("payments", "payments", "http 80 http", "grpc 9090 grpc", "h2c 9091 kubernetes.io/h2c", "tcp 5432 tcp", "sniffed 7000")
            + Documents.Service("ledger-db", "payments", "tcp 5432 tcp")
            + Documents.Service("gone", "payments", "closed 80 http", "closedgrpc 90 grpc", "closedtcp 54 tcp")
            + Documents.Service("empty", "nobody", "http 80 http"));
        _payments = await _mesh.JoinAsync("payments-1", "payments",
            "--app-port", $"http={_app.Http1Port}", "--app-port", $"grpc={_app.Http2Port}", "--app-port", $"h2c={_app.Http2Port}", "--app-port", $"tcp={_tcp.Port}",
            "--app-port", $"sniffed={_app.Http1Port}", "--app-port", $"closed={_closedPort}", "--app-port", $"closedgrpc={_closedPort}", "--app-port", $"closedtcp={_closedPort}",
            "--app-probe", $"http={_app.Http1Port}/hello", "--app-probe", $"tcp=tcp:{_tcp.Port}", "--app-probe", $"down={_closedPort}/hello");
        await Mesh.WaitUntilRegisteredAsync(_payments);
        _checkout = await _mesh.JoinAsync("checkout-1", "checkout", "--upstream", $"ledger-db={_databasePort}");
        await Mesh.WaitForEndpointsAsync(_checkout, "shop/ledger-db:5432", 1);
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        if (_mesh is not null)
        {
            await _mesh.DisposeAsync();
        }

        await _tcp.DisposeAsync();
        await _app.DisposeAsync();
    }

    [TearDown]
    public void ShowLogs()
    {
        if (TestContext.CurrentContext.Result.FailCount > 0)
        {
            TestContext.Out.WriteLine(_mesh.Report());
        }
    }

    [TestCase("1.1")]
    [TestCase("2.0")]
    [CancelAfter(30_000)]
    public async Task Http_goes_through_two_sidecars(string version)
    {
        using var http = Via.Http(_checkout.Outbound, Version.Parse(version));
        using var hello = await http.GetAsync("http://payments/hello");
        Assert.That(await hello.Content.ReadAsStringAsync(), Is.EqualTo("hello from payments-app"));
        Assert.That(hello.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(hello.Version, Is.EqualTo(Version.Parse(version)));
        Assert.That(hello.Headers.Contains("x-meshproxy-failure"), Is.False);

        var text = string.Concat(Enumerable.Range(0, 50_000).Select(i => (char)('a' + (i % 26))));
        using var echo = await http.PostAsync("http://payments/echo", new StringContent(text));
        Assert.That(await echo.Content.ReadAsStringAsync(), Is.EqualTo(text));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task The_application_sees_the_request_without_what_belongs_to_the_mesh()
    {
        using var http = Via.Http(_checkout.Outbound);
        using var request = new HttpRequestMessage(HttpMethod.Get, "http://payments.shop/headers");
        request.Headers.Add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        request.Headers.Add("x-custom", "kept");
        request.Headers.Add("x-meshproxy-failure", "UF; retry=always; forged");
        using var response = await http.SendAsync(request);
        var seen = await response.Content.ReadAsStringAsync();
        Assert.That(seen, Does.Contain("x-custom: kept").And.Contain("traceparent: 00-0af7651916cd43dd8448eb211c80319c-").And.Contain("x-request-id: ").And.Contain(":protocol HTTP/1.1"));
        Assert.That(seen, Does.Contain(":host payments.shop"));
        Assert.That(seen, Does.Not.Contain("forged"));
    }

    [TestCase("1.1")]
    [TestCase("2.0")]
    [CancelAfter(30_000)]
    public async Task Trailers_of_an_http2_application_reach_callers_of_both_versions(string version)
    {
        using var http = Via.Http(_checkout.Outbound, Version.Parse(version));
        using var response = await http.GetAsync("http://payments:9091/trailers");
        Assert.That(await response.Content.ReadAsStringAsync(), Is.EqualTo("with trailers"));
        Assert.That(response.TrailingHeaders.GetValues("x-checksum"), Is.EqualTo(new[] { "42" }));
    }

    [TestCase("payments")]
    [TestCase("payments:80")]
    [TestCase("PAYMENTS.shop")]
    [TestCase("payments.shop.svc")]
    [TestCase("payments.shop.svc.cluster.local")]
    [TestCase("payments.shop.svc.cluster.local:80")]
    [TestCase("payments:7000")]
    [CancelAfter(30_000)]
    public async Task A_name_of_the_service_finds_it(string authority)
    {
        using var http = Via.Http(_checkout.Outbound);
        Assert.That(await http.GetStringAsync($"http://{authority}/hello"), Is.EqualTo("hello from payments-app"));
    }

    [TestCase("nothing", "unknown_service")]
    [TestCase("payments.other", "unknown_service")]
    [TestCase("payments.shop.svc.cluster.example", "unknown_service")]
    [TestCase("payments.shop.example.com", "unknown_service")]
    [TestCase("payments:8081", "no_port")]
    [TestCase("payments:5432", "no_port")]
    [TestCase("10.1.2.3", "unknown_service")]
    [CancelAfter(30_000)]
    public async Task An_unknown_destination_is_refused_with_its_reason(string authority, string reason)
    {
        using var http = Via.Http(_checkout.Outbound);
        using var response = await http.GetAsync($"http://{authority}/hello");
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.NotFound));
        Assert.That(Failure(response), Does.StartWith("NR; retry=never; ").And.Contain(reason));
        Assert.That(await response.Content.ReadAsStringAsync(), Does.StartWith("404 NR: "));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task A_service_without_an_endpoint_answers_UH()
    {
        using var http = Via.Http(_checkout.Outbound);
        using var response = await http.GetAsync("http://empty/hello");
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
        Assert.That(Failure(response), Does.StartWith("UH; retry=never; "));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task An_application_that_is_down_answers_UF_and_names_the_endpoint()
    {
        using var http = Via.Http(_checkout.Outbound);
        using var response = await http.GetAsync("http://gone/hello");
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
        Assert.That(Failure(response), Does.StartWith("UF; ").And.Contain($"127.0.0.1:{_closedPort}"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Grpc_works_in_its_four_shapes_with_status_and_trailers()
    {
        using var channel = Via.Grpc(_checkout.Outbound, "payments:9090");
        var client = new Shapes.ShapesClient(channel);

        using (var unary = client.UnaryAsync(new Item { Text = "there", Count = 1 }))
        {
            Assert.That((await unary).Text, Is.EqualTo("there back"));
            Assert.That(unary.GetTrailers().GetValue("x-served-by"), Is.EqualTo("payments-app"));
        }

        using (var down = client.Down(new Item { Text = "d", Count = 1_000 }))
        {
            var counts = new List<int>();
            await foreach (var item in down.ResponseStream.ReadAllAsync())
            {
                counts.Add(item.Count);
            }

            Assert.That(counts, Is.EqualTo(Enumerable.Range(0, 1_000)));
            Assert.That(down.GetTrailers().GetValue("x-sent"), Is.EqualTo("1000"));
        }

        using (var up = client.Up())
        {
            for (var i = 1; i <= 100; i++)
            {
                await up.RequestStream.WriteAsync(new Item { Text = "u", Count = i });
            }

            await up.RequestStream.CompleteAsync();
            Assert.That((await up).Count, Is.EqualTo(5_050));
        }

        using (var both = client.Both())
        {
            // Each answer is awaited before the next question: neither proxy may hold anything back.
            for (var i = 1; i <= 50; i++)
            {
                await both.RequestStream.WriteAsync(new Item { Count = i });
                Assert.That(await both.ResponseStream.MoveNext(CancellationToken.None), Is.True);
                Assert.That(both.ResponseStream.Current.Count, Is.EqualTo(2 * i));
            }

            await both.RequestStream.CompleteAsync();
            Assert.That(await both.ResponseStream.MoveNext(CancellationToken.None), Is.False);
            Assert.That(both.GetStatus().StatusCode, Is.EqualTo(StatusCode.OK));
        }

        var failure = (await Assert.ThrowsAsync<RpcException>(async () => await client.UnaryAsync(new Item { Text = "fail" })))!;
        Assert.That((failure.StatusCode, failure.Status.Detail), Is.EqualTo((StatusCode.FailedPrecondition, "the account is closed: 100 % sure")));
        Assert.That(failure.Trailers.GetValue("x-reason"), Is.EqualTo("closed"));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task A_grpc_caller_gets_the_mapped_status()
    {
        using var gone = Via.Grpc(_checkout.Outbound, "gone:90");
        var failure = (await Assert.ThrowsAsync<RpcException>(async () => await new Shapes.ShapesClient(gone).UnaryAsync(new Item())))!;
        Assert.That(failure.StatusCode, Is.EqualTo(StatusCode.Unavailable));
        Assert.That(failure.Status.Detail, Does.StartWith("UF: ").And.Contain($"127.0.0.1:{_closedPort}"));
        using var unknown = Via.Grpc(_checkout.Outbound, "nothing");
        failure = (await Assert.ThrowsAsync<RpcException>(async () => await new Shapes.ShapesClient(unknown).UnaryAsync(new Item())))!;
        Assert.That(failure.StatusCode, Is.EqualTo(StatusCode.Unimplemented));
        Assert.That(failure.Status.Detail, Does.StartWith("NR: "));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Tcp_works_when_the_server_speaks_first_and_half_close_passes()
    {
        await using var stream = await Via.TcpAsync(_databasePort);
        var greeting = new byte[TcpApp.Greeting.Length];
        await stream.ReadExactlyAsync(greeting);
        Assert.That(Encoding.ASCII.GetString(greeting), Is.EqualTo(TcpApp.Greeting));
        await stream.WriteAsync("SELECT 1"u8.ToArray());
        var echoed = new byte[8];
        await stream.ReadExactlyAsync(echoed);
        Assert.That(echoed, Is.EqualTo("SELECT 1"u8.ToArray()));

        var large = new byte[3_000_000];
        for (var i = 0; i < large.Length; i++)
        {
            large[i] = (byte)(i * 31);
        }

        var sending = Task.Run(async () =>
        {
            await stream.WriteAsync(large);
            stream.Socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        });
        using var rest = new MemoryStream();
        await stream.CopyToAsync(rest);
        await sending;
        Assert.That(rest.ToArray().AsSpan(0, (int)rest.Length - TcpApp.Farewell.Length).SequenceEqual(large), Is.True);
        Assert.That(Encoding.ASCII.GetString(rest.ToArray()[^TcpApp.Farewell.Length..]), Is.EqualTo(TcpApp.Farewell));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Access_logs_are_json_and_name_the_peer()
    {
        using var http = Via.Http(_checkout.Outbound);
        using var request = new HttpRequestMessage(HttpMethod.Post, "http://payments/echo") { Content = new StringContent("abc") };
        request.Headers.Add("x-request-id", "the-logged-one");
        request.Headers.TryAddWithoutValidation("User-Agent", "odd/\"quoted\\");
        using var response = await http.SendAsync(request);
        response.EnsureSuccessStatusCode();
        var outbound = await LineAsync(_checkout);
        var inbound = await LineAsync(_payments);
        Assert.Multiple(() =>
        {
            Assert.That(outbound.GetProperty("meshproxy.direction").GetString(), Is.EqualTo("outbound"));
            Assert.That(outbound.GetProperty("meshproxy.service").GetString(), Is.EqualTo("shop/payments"));
            Assert.That(outbound.GetProperty("http.request.method").GetString(), Is.EqualTo("POST"));
            Assert.That(outbound.GetProperty("url.path").GetString(), Is.EqualTo("/echo"));
            Assert.That(outbound.GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(200));
            Assert.That(outbound.GetProperty("event.duration").GetInt64(), Is.Positive);
            Assert.That(outbound.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(1));
            Assert.That(inbound.GetProperty("meshproxy.direction").GetString(), Is.EqualTo("inbound"));
            Assert.That(inbound.GetRawText(), Does.Contain($"\"{Peer}\""));
            Assert.That(inbound.GetProperty("http.request.body.bytes").GetInt64(), Is.EqualTo(3));
        });

        Task<JsonElement> LineAsync(Proxy proxy) => Found(() => proxy.Process.AccessLog.Where(line => ManagedProcess.Text(line, "http.request.id") == "the-logged-one").ToArray());
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Metrics_are_well_formed_and_count()
    {
        using var http = Via.Http(_checkout.Outbound);
        await http.GetStringAsync("http://payments/hello");
        using (await http.GetAsync("http://nothing/hello"))
        {
        }

        foreach (var proxy in (Proxy[])[_checkout, _payments])
        {
            var text = await proxy.MetricsTextAsync();
            Assert.That(text, Does.Contain("meshproxy_requests_total{").And.Contain("meshproxy_connections_open{").And.Contain("meshproxy_certificate_expiry_seconds{").And.Contain("meshproxy_config_revision"));
            foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#'))
            {
                Assert.That(line, Does.Match(@"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*=""(\\.|[^""\\])*"",?)*\})? ([0-9.eE+-]+|\+Inf|NaN)$"));
            }

            Assert.That(text.Split('\n').Where(line => line.StartsWith("meshproxy_", StringComparison.Ordinal)).Select(line => line[..line.LastIndexOf(' ')]), Is.Unique);
        }

        Assert.That(await _checkout.MetricsTextAsync(), Does.Match("meshproxy_requests_total\\{[^}]*flag=\"NR\"[^}]*\\} [1-9]"));
        var promtool = Tool.Need("promtool");
        foreach (var proxy in (Proxy[])[_checkout, _payments])
        {
            var (status, output, errors) = await ManagedProcess.RunAsync(promtool, ["check", "metrics"], input: await proxy.MetricsTextAsync());
            Assert.That((status, output + errors), Is.EqualTo((0, "")));
        }
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Health_pages_answer_for_the_sidecar_and_for_the_application()
    {
        Assert.That(await _payments.StatusOfAsync("/livez"), Is.EqualTo(200));
        Assert.That(await _payments.StatusOfAsync("/readyz"), Is.EqualTo(200));
        Assert.That(await _payments.StatusOfAsync("/app-health/http"), Is.EqualTo(200));
        Assert.That(await _payments.StatusOfAsync("/app-health/tcp"), Is.EqualTo(200));
        Assert.That(await _payments.StatusOfAsync("/app-health/down"), Is.EqualTo(503));
        Assert.That(await _payments.StatusOfAsync("/app-health/undeclared"), Is.EqualTo(404));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Connections_between_the_sidecars_are_mutual_tls_and_shared()
    {
        using var http = Via.Http(_checkout.Outbound);
        await Task.WhenAll(Enumerable.Range(0, 40).Select(_ => http.GetStringAsync("http://payments/hello")));
        var connections = (await _payments.AdminAsync("/connections")).GetProperty("connections").EnumerateArray().Where(connection => connection.GetProperty("direction").GetString() == "inbound").ToArray();
        Assert.That(connections, Is.Not.Empty);
        Assert.That(connections.Select(connection => connection.GetProperty("peer").GetString()), Is.All.EqualTo(Peer));
        Assert.That(connections.Select(connection => connection.GetProperty("tls").GetBoolean()), Is.All.True);
        var shared = connections.Where(connection => connection.GetProperty("server_name").GetString() == "p80.payments.shop.mesh.mesh.local").ToArray();
        Assert.That(shared, Has.Length.InRange(1, 8));
        Assert.That(shared.Sum(connection => connection.GetProperty("total_exchanges").GetInt64()), Is.GreaterThanOrEqualTo(40));
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Keys_are_for_their_owner_alone_and_shown_nowhere()
    {
        var files = Directory.GetFiles(_mesh.StateDirectory("payments-1"));
        var keys = files.Where(file => File.ReadAllText(file).Contains("PRIVATE KEY", StringComparison.Ordinal)).ToArray();
        Assert.That(keys, Is.Not.Empty);
        Assert.That(files.Select(File.GetUnixFileMode), Is.All.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
        Assert.That(File.GetUnixFileMode(_mesh.StateDirectory("payments-1")), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute));
        Assert.That(File.GetUnixFileMode(_mesh.Control.Credential), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
        var shown = new StringBuilder();
        foreach (var page in (string[])["/config", "/clusters", "/certificates", "/connections", "/listeners", "/log-level"])
        {
            shown.AppendLine(await _payments.AdminTextAsync(page));
        }

        shown.AppendJoin('\n', _payments.Process.Errors).AppendJoin('\n', _payments.Process.Output).AppendJoin('\n', _mesh.Control.Process.Errors);
        Assert.That(shown.ToString(), Does.Not.Contain("PRIVATE KEY"));
        foreach (var line in keys.SelectMany(File.ReadLines).SkipWhile(line => !line.Contains("PRIVATE KEY", StringComparison.Ordinal)).Where(line => line.Length > 20 && line[0] != '-'))
        {
            Assert.That(shown.ToString(), Does.Not.Contain(line));
        }

        Assert.That((await _payments.AdminAsync("/certificates")).GetProperty("workload").GetProperty("spiffe_id").GetString(), Is.EqualTo("spiffe://mesh.local/ns/shop/sa/payments"));
    }

    [TestCase("1.1", "payments")]
    [TestCase("1.1", "payments:9091")]
    [TestCase("2.0", "payments")]
    [TestCase("2.0", "payments:9091")]
    [CancelAfter(30_000)]
    public async Task A_WebSocket_goes_through_whichever_version_either_end_speaks(string version, string host, CancellationToken cancellationToken)
    {
        using var socket = new ClientWebSocket();
        socket.Options.HttpVersion = Version.Parse(version);
        socket.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        socket.Options.SetRequestHeader("Host", host);
        using var invoker = new HttpMessageInvoker(new SocketsHttpHandler());
        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{_checkout.Outbound}/ws"), invoker, cancellationToken);
        var message = new byte[100_000];
        new Random(1).NextBytes(message);
        await socket.SendAsync(message, WebSocketMessageType.Binary, endOfMessage: true, cancellationToken);
        var received = new byte[message.Length];
        for (var length = 0; length < received.Length;)
        {
            length += (await socket.ReceiveAsync(received.AsMemory(length), cancellationToken)).Count;
        }

        Assert.That(received.AsSpan().SequenceEqual(message), Is.True);
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "done", cancellationToken);
        Assert.That(socket.CloseStatus, Is.EqualTo(WebSocketCloseStatus.NormalClosure));
    }

    private static string Failure(HttpResponseMessage response) => string.Join(',', response.Headers.GetValues("x-meshproxy-failure"));

    private static async Task<JsonElement> Found(Func<JsonElement[]> find)
    {
        JsonElement[] found = [];
        await Eventually.IsTrueAsync(() => Task.FromResult((found = find()).Length > 0), "the line is in the access log");
        return found[0];
    }
}
