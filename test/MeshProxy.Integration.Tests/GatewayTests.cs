using System.Net;
using System.Text;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;
using MeshProxy.Testing;

namespace MeshProxy.Integration.Tests;

/// <summary>The gateway from files, by clients and servers that we did not write.</summary>
[TestFixture]
internal sealed class GatewayTests
{
    private TestApp _app = null!;
    private TcpApp _tcp = null!;
    private TestCa _ca = null!;
    private TemporaryDirectory _directory = null!;
    private Proxy _gateway = null!;
    private string _caFile = "";
    private int _http;
    private int _https;
    private int _tcpPort;
    private int _tlsPort;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _directory = new TemporaryDirectory();
        _ca = new TestCa();
        _caFile = _directory.Write("ca.crt", _ca.RootPem);
        _app = await TestApp.StartAsync("edge-app");
        _tcp = new TcpApp();
        (_http, _https, _tcpPort, _tlsPort) = (FreePorts.Take(), FreePorts.Take(), FreePorts.Take(), FreePorts.Take());
        Directory.CreateDirectory(_directory.File("conf"));
        _directory.Write("conf/services.yaml", Documents.Static("web", _app.Http1Port) + Documents.Static("h2", _app.Http2Port, "kubernetes.io/h2c") + Documents.Static("grpc", _app.Http2Port, "grpc")
            + Documents.Static("db", _tcp.Port, "tcp") + Documents.Static("down", FreePorts.Take()));
        _directory.Write("conf/secrets.yaml", Secret("shop-example", "shop.example", "*.shop.example") + Secret("other-example", "other.example") + Secret("db-example", "db.example"));
        _directory.Write("conf/gateway.yaml",
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: edge, namespace: shop}
            spec:
              gatewayClassName: meshproxy
              addresses: [{type: IPAddress, value: 127.0.0.1}]
              listeners:
              - {name: http, port: {{_http}}, protocol: HTTP}
              - name: https
                port: {{_https}}
                protocol: HTTPS
                hostname: shop.example
                tls: {mode: Terminate, certificateRefs: [{name: shop-example}]}
              - name: https-other
                port: {{_https}}
                protocol: HTTPS
                hostname: other.example
                tls: {mode: Terminate, certificateRefs: [{name: other-example}]}
              - {name: tcp, port: {{_tcpPort}}, protocol: TCP}
              - name: tls
                port: {{_tlsPort}}
                protocol: TLS
                tls: {mode: Terminate, certificateRefs: [{name: db-example}]}
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: web, namespace: shop}
            spec:
              parentRefs: [{name: edge, sectionName: http}, {name: edge, sectionName: https}, {name: edge, sectionName: https-other}]
              rules:
              - matches: [{path: {type: PathPrefix, value: /h2} }]
                filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /} } }]
                backendRefs: [{name: h2, port: 80}]
              - matches: [{path: {type: PathPrefix, value: /down} }]
                backendRefs: [{name: down, port: 80}]
              - matches: [{path: {type: PathPrefix, value: /meshproxy.integration.Shapes} }]
                backendRefs: [{name: grpc, port: 80}]
              - matches: [{path: {type: Exact, value: /only-this} }]
                filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /hello} } }]
                backendRefs: [{name: web, port: 80}]
              - matches: [{path: {type: PathPrefix, value: /web} }]
                filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /} } }]
                backendRefs: [{name: web, port: 80}]
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: TCPRoute
            metadata: {name: db, namespace: shop}
            spec:
              parentRefs: [{name: edge, sectionName: tcp}, {name: edge, sectionName: tls}]
              rules:
              - backendRefs: [{name: db, port: 80}]
            """);
        _gateway = await Proxy.StartGatewayAsync(_directory.File("conf"));
        await _gateway.WaitUntilReadyAsync();
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        if (_gateway is not null)
        {
            await _gateway.DisposeAsync();
        }

        await _tcp.DisposeAsync();
        await _app.DisposeAsync();
        _ca.Dispose();
        _directory.Dispose();
    }

    [TearDown]
    public void ShowLogs()
    {
        if (TestContext.CurrentContext.Result.FailCount > 0)
        {
            TestContext.Out.WriteLine(_gateway.Process.Report());
        }
    }

    [TestCase("--http1.1", "1.1")]
    [TestCase("--http2-prior-knowledge", "2")]
    [CancelAfter(60_000)]
    public async Task Curl_in_plaintext(string version, string spoken)
    {
        foreach (var path in (string[])["/web/hello", "/h2/hello", "/only-this"])
        {
            var (body, written) = await CurlAsync(version, "-w", "\n%{http_code} %{http_version}", $"http://127.0.0.1:{_http}{path}");
            Assert.That((body, written), Is.EqualTo(("hello from edge-app", $"200 {spoken}")), path);
        }
    }

    [TestCase("--http1.1", "1.1")]
    [TestCase("--http2", "2")]
    [CancelAfter(60_000)]
    public async Task Curl_over_tls_with_alpn(string version, string spoken)
    {
        var (body, written) = await CurlAsync(version, "--cacert", _caFile, "--resolve", $"shop.example:{_https}:127.0.0.1", "-w", "\n%{http_code} %{http_version}", $"https://shop.example:{_https}/web/hello");
        Assert.That((body, written), Is.EqualTo(("hello from edge-app", $"200 {spoken}")));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Sni_chooses_the_certificate()
    {
        var (body, _) = await CurlAsync("--cacert", _caFile, "--resolve", $"other.example:{_https}:127.0.0.1", "-w", "\n-", $"https://other.example:{_https}/h2/hello");
        Assert.That(body, Is.EqualTo("hello from edge-app"));
        var (status, _, errors) = await ManagedProcess.RunAsync(Tool.Need("curl"), ["-sS", "--max-time", "15", "--noproxy", "*", "--cacert", _caFile, "--resolve", $"unknown.example:{_https}:127.0.0.1", $"https://unknown.example:{_https}/h2/hello"]);
        Assert.That(status, Is.Not.Zero, errors);
    }

    [TestCase("--http1.1")]
    [TestCase("--http2-prior-knowledge")]
    [CancelAfter(120_000)]
    public async Task Curl_uploads_and_gets_a_large_body_back(string version)
    {
        var bytes = new byte[24_000_000];
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)(i * 2_654_435_761L >> 13);
        }

        var file = _directory.File($"large{version}");
        var received = _directory.File($"received{version}");
        await File.WriteAllBytesAsync(file, bytes);
        foreach (var path in (string[])["/web/echo", "/h2/echo"])
        {
            await CurlAsync(version, "-H", "Expect:", "--data-binary", $"@{file}", "-H", "content-type: application/octet-stream", "-o", received, "-w", "\n-", $"http://127.0.0.1:{_http}{path}");
            Assert.That((await File.ReadAllBytesAsync(received)).AsSpan().SequenceEqual(bytes), Is.True, path);
        }
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Curl_with_expect_100_continue()
    {
        var file = _directory.Write("expect", new string('e', 300_000));
        var (body, _) = await CurlAsync("--http1.1", "-H", "Expect: 100-continue", "--data-binary", $"@{file}", "-w", "\n-", $"http://127.0.0.1:{_http}/web/count");
        Assert.That(body, Does.StartWith("300000 "));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Replies_of_the_gateway_tell_the_flag_and_nothing_of_the_inside()
    {
        using var http = Via.Http(_http);
        using var noRoute = await http.GetAsync("http://shop.example/nowhere");
        Assert.That(noRoute.StatusCode, Is.EqualTo(HttpStatusCode.NotFound));
        Assert.That(await noRoute.Content.ReadAsStringAsync(), Does.StartWith("404 NR: "));
        using var down = await http.GetAsync("http://shop.example/down");
        Assert.That(down.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
        Assert.That(await down.Content.ReadAsStringAsync(), Does.StartWith("503 UF: ").And.Not.Contain("127.0.0.1"));
        Assert.That(down.Headers.Contains("x-meshproxy-failure"), Is.False);
        await Eventually.IsTrueAsync(() => Task.FromResult(_gateway.Process.AccessLog.Any(line => ManagedProcess.Text(line, "url.path") == "/down"
            && ManagedProcess.Text(line, "meshproxy.flags") == "UF" && ManagedProcess.Text(line, "meshproxy.failure")!.Contains("127.0.0.1:", StringComparison.Ordinal))), "the access log tells the inside");
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task An_upgrade_that_the_application_does_not_take_is_answered_as_a_request()
    {
        var (body, written) = await CurlAsync("--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-w", "\n%{http_code}", $"http://127.0.0.1:{_http}/web/hello");
        Assert.That(written, Is.EqualTo("200"), body);
        Assert.That(body, Does.StartWith("hello from "));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Tcp_and_tls_to_tcp_reach_the_server_that_speaks_first()
    {
        await using (var plain = await Via.TcpAsync(_tcpPort))
        {
            await TalkAsync(plain);
        }

        await using var encrypted = new System.Net.Security.SslStream(await Via.TcpAsync(_tlsPort), false, (_, certificate, _, _) => certificate?.Subject == "CN=db.example");
        await encrypted.AuthenticateAsClientAsync("db.example");
        await TalkAsync(encrypted);

        static async Task TalkAsync(Stream stream)
        {
            var greeting = new byte[TcpApp.Greeting.Length];
            await stream.ReadExactlyAsync(greeting);
            Assert.That(Encoding.ASCII.GetString(greeting), Is.EqualTo(TcpApp.Greeting));
            await stream.WriteAsync("ping"u8.ToArray());
            var echoed = new byte[4];
            await stream.ReadExactlyAsync(echoed);
            Assert.That(echoed, Is.EqualTo("ping"u8.ToArray()));
        }
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Grpc_through_the_gateway()
    {
        using var channel = Via.Grpc(_http, "shop.example");
        Assert.That((await new Shapes.ShapesClient(channel).UnaryAsync(new Item { Text = "hi" })).Text, Is.EqualTo("hi back"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Nghttp_in_plaintext_and_over_tls()
    {
        var nghttp = Tool.Need("nghttp");
        var (status, output, errors) = await ManagedProcess.RunAsync(nghttp, ["-v", "--no-dep", $"http://127.0.0.1:{_http}/h2/hello"]);
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.Contain(":status: 200").And.Contain("hello from edge-app"));
        (status, output, errors) = await ManagedProcess.RunAsync(nghttp, ["-v", "--no-verify-peer", "-H", ":authority: shop.example", $"https://127.0.0.1:{_https}/web/hello"]);
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.Contain(":status: 200").Or.Contain(":status: 404"));
    }

    [TestCase("--h1")]
    [TestCase("-m10")]
    [CancelAfter(90_000)]
    public async Task H2load_sees_only_successes(string how)
    {
        var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("h2load"), ["-n", "3000", "-c", "20", how, $"http://127.0.0.1:{_http}/web/hello"], TimeSpan.FromSeconds(80));
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.Contain("3000 succeeded, 0 failed, 0 errored, 0 timeout"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Nginx_as_the_upstream()
    {
        var nginx = Tool.Need("nginx");
        var (listen, front) = (FreePorts.Take(), FreePorts.Take());
        using var directory = new TemporaryDirectory();
        directory.Write("index.html", string.Concat(Enumerable.Repeat("nginx ", 40_000)));
        var config = directory.Write("nginx.conf",
            $$"""
            daemon off; master_process off; pid {{directory.File("pid")}}; error_log stderr;
            events {}
            http {
              access_log off; client_body_temp_path {{directory.File("b")}}; proxy_temp_path {{directory.File("p")}}; fastcgi_temp_path {{directory.File("f")}}; uwsgi_temp_path {{directory.File("u")}}; scgi_temp_path {{directory.File("s")}};
              server { listen 127.0.0.1:{{listen}}; root {{directory.Path}}; gzip on; gzip_types text/html; keepalive_requests 3; }
            }
            """);
        await using var server = ManagedProcess.Start("nginx", nginx, ["-c", config, "-e", "stderr", "-p", directory.Path]);
        await Eventually.IsTrueAsync(async () =>
        {
            await using var probe = await Via.TcpAsync(listen);
            return true;
        }, "nginx listens");
        await using var gateway = await Proxy.StartGatewayAsync(directory.Write("gateway.yaml", Documents.HttpGateway(front) + Documents.Route("web") + Documents.Static("web", listen)));
        using var http = Via.Http(front, HttpVersion.Version20);
        for (var i = 0; i < 10; i++)
        {
            // nginx closes after three requests: the pool must not trip over it.
            Assert.That(await http.GetStringAsync("http://shop.example/index.html"), Has.Length.EqualTo(240_000));
        }

        using var head = await http.SendAsync(new HttpRequestMessage(HttpMethod.Head, "http://shop.example/index.html") { Version = HttpVersion.Version20 });
        Assert.That(head.Content.Headers.ContentLength, Is.EqualTo(240_000));
        using var range = new HttpRequestMessage(HttpMethod.Get, "http://shop.example/index.html") { Version = HttpVersion.Version20 };
        range.Headers.Range = new System.Net.Http.Headers.RangeHeaderValue(6, 10);
        using var partial = await http.SendAsync(range);
        Assert.That((partial.StatusCode, await partial.Content.ReadAsStringAsync()), Is.EqualTo((HttpStatusCode.PartialContent, "nginx")));

        // Its compression is its own: the bytes go through as they are, in chunks that nginx did not count.
        using var compressed = new HttpRequestMessage(HttpMethod.Get, "http://shop.example/index.html") { Version = HttpVersion.Version20 };
        compressed.Headers.AcceptEncoding.ParseAdd("gzip");
        using var zipped = await http.SendAsync(compressed);
        Assert.That(zipped.Content.Headers.ContentEncoding, Is.EqualTo(new[] { "gzip" }));
        using var unzipped = new StreamReader(new System.IO.Compression.GZipStream(await zipped.Content.ReadAsStreamAsync(), System.IO.Compression.CompressionMode.Decompress));
        Assert.That(await unzipped.ReadToEndAsync(), Has.Length.EqualTo(240_000));

        // A length that belongs to no body.
        using var conditional = new HttpRequestMessage(HttpMethod.Get, "http://shop.example/index.html") { Version = HttpVersion.Version20 };
        conditional.Headers.IfNoneMatch.Add(partial.Headers.ETag!);
        using var unchanged = await http.SendAsync(conditional);
        Assert.That((unchanged.StatusCode, unchanged.Headers.ETag, (await unchanged.Content.ReadAsByteArrayAsync()).Length), Is.EqualTo((HttpStatusCode.NotModified, partial.Headers.ETag, 0)));
        Assert.That(await http.GetStringAsync("http://shop.example/index.html"), Has.Length.EqualTo(240_000));
    }

    [TestCase("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)]
    [TestCase("GET / HTTP/1.1\r\n\r\n", 400)]
    [TestCase("POST /web/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)]
    [TestCase("POST /web/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400)]
    [TestCase("GET /web/hello HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400)]
    [TestCase("GET /web/hello HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400)]
    [TestCase("rubbish\r\n\r\n", 400)]
    [CancelAfter(30_000)]
    public async Task What_is_no_request_is_refused_and_never_forwarded(string bytes, int status)
    {
        await using var stream = await Via.TcpAsync(_http);
        await stream.WriteAsync(Encoding.ASCII.GetBytes(bytes));
        using var reader = new StreamReader(stream);
        Assert.That(await reader.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(15)), Does.StartWith($"HTTP/1.1 {status} "));
    }

    private static async Task<(string Body, string Written)> CurlAsync(params string[] arguments)
    {
        var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("curl"), ["-sS", "--max-time", "60", "--noproxy", "*", .. arguments], TimeSpan.FromSeconds(70));
        Assert.That(status, Is.Zero, errors);
        var end = output.LastIndexOf('\n');
        return (output[..end], output[(end + 1)..]);
    }

    private string Secret(string name, params string[] hosts)
    {
        using var certificate = _ca.IssueServer(hosts);
        var pem = _ca.ToPem(certificate);
        var key = pem[pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal)..];
        var chain = pem[..^key.Length];
        return $$"""
            apiVersion: v1
            kind: Secret
            metadata: {name: {{name}}, namespace: shop}
            type: kubernetes.io/tls
            data:
              tls.crt: {{Convert.ToBase64String(Encoding.ASCII.GetBytes(chain))}}
              tls.key: {{Convert.ToBase64String(Encoding.ASCII.GetBytes(key))}}
            ---

            """;
    }
}
