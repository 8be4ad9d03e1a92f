using System.Net;
using System.Text;
using Google.Protobuf;
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
    [CancelAfter(90_000)]
    public async Task A_page_of_another_origin_calls_grpcio_over_grpc_web()
    {
        if (await Language.Python.StartServerAsync() is not { } server || server.Ports["grpc"] == 0)
        {
            Assert.Ignore("python3 has no grpcio");
            return;
        }

        await using var python = server.Process;
        var port = FreePorts.Take();
        await using var gateway = await Proxy.StartGatewayAsync(_directory.Write("grpc-web.yaml", Documents.HttpGateway(port) + Documents.Static("shapes", server.Ports["grpc"], "grpc") +
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: shapes, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              rules:
              - filters:
                - type: CORS
                  cors:
                    allowOrigins: ["https://pay.example", "https://*.partner.example"]
                    allowMethods: [POST]
                    allowHeaders: [content-type, x-grpc-web, x-user-agent]
                    exposeHeaders: [grpc-status, grpc-message, grpc-status-details-bin]
                    allowCredentials: true
                    maxAge: 600
                backendRefs: [{name: shapes, port: 80}]
            """));
        foreach (var version in (Version[])[HttpVersion.Version11, HttpVersion.Version20])
        {
            using var http = Via.Http(port, version);
            foreach (var origin in (string[])["https://pay.example", "https://a.partner.example"])
            {
                foreach (var type in (string[])["application/grpc-web+proto", "application/grpc-web-text+proto"])
                {
                    var (answer, trailers) = await new Page(http, origin).CallAsync("Unary", type, new Item { Text = "hi", Count = 299 });
                    Assert.That(answer, Is.EqualTo(new[] { new Item { Text = "hi back", Count = 300 } }));
                    Assert.That(trailers, Does.Contain("grpc-status: 0").And.Contain("x-served-by: grpcio"));
                    (answer, trailers) = await new Page(http, origin).CallAsync("Down", type, new Item { Text = "d", Count = 3 });
                    Assert.That(answer.Select(item => item.Count), Is.EqualTo(new[] { 0, 1, 2 }));
                    (answer, trailers) = await new Page(http, origin).CallAsync("Unary", type, new Item { Text = "fail" });
                    Assert.That(answer, Is.Empty);
                    Assert.That(trailers, Does.Contain("grpc-status: 9").And.Contain("grpc-message: the account is closed: 100 %25 sure"));
                }
            }

            foreach (var origin in (string[])["https://evil.example", "http://pay.example", "https://pay.example.evil.example", "https://partner.example", "null"])
            {
                var refused = await Assert.ThrowsAsync<AssertionException>(() => new Page(http, origin).CallAsync("Unary", "application/grpc-web+proto", new Item()));
                Assert.That(refused!.Message, Does.Contain("a browser forbids"), origin);
            }
        }
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

    /// <summary>What a browser does for a page that calls another origin with credentials (the CORS checks of the Fetch standard), and what gRPC-Web's client does with it.</summary>
    private sealed class Page(HttpClient http, string origin)
    {
        public async Task<(Item[] Answer, string Trailers)> CallAsync(string method, string type, Item request)
        {
            var url = $"http://api.example/meshproxy.integration.Shapes/{method}";
            using var preflight = Ask(HttpMethod.Options, url);
            preflight.Headers.Add("Access-Control-Request-Method", "POST");
            preflight.Headers.Add("Access-Control-Request-Headers", "content-type,x-grpc-web,x-user-agent");
            using (var allowed = await http.SendAsync(preflight))
            {
                Check(allowed);
                Demand(allowed.IsSuccessStatusCode && Values(allowed, "Access-Control-Allow-Methods").Contains("POST"), "the method");
                Demand(!((string[])["content-type", "x-grpc-web", "x-user-agent"]).Except(Values(allowed, "Access-Control-Allow-Headers")).Any(), "the fields");
            }

            using var call = Ask(HttpMethod.Post, url);
            call.Headers.TryAddWithoutValidation("X-Grpc-Web", "1");
            call.Headers.TryAddWithoutValidation("X-User-Agent", "grpc-web-javascript/0.1");
            call.Headers.Accept.ParseAdd(type);
            var isText = type.Contains("-text", StringComparison.Ordinal);
            var message = request.ToByteArray();
            byte[] framed = [0, 0, 0, 0, (byte)message.Length, .. message];
            call.Content = new ByteArrayContent(isText ? Encoding.ASCII.GetBytes(Convert.ToBase64String(framed)) : framed);
            call.Content.Headers.TryAddWithoutValidation("Content-Type", type);
            using var response = await http.SendAsync(call);
            Check(response);
            Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.OK));
            Assert.That(response.Content.Headers.ContentType!.MediaType, Is.EqualTo(type).Or.EqualTo(type[..^"+proto".Length]));
            var exposed = Values(response, "Access-Control-Expose-Headers");
            Assert.That(exposed, Does.Contain("grpc-status").And.Contain("grpc-message"));
            var body = await response.Content.ReadAsByteArrayAsync();
            if (isText)
            {
                // Pieces of base64, each padded for itself.
                var text = Encoding.ASCII.GetString(body);
                body = [.. text.Chunk(4).SelectMany(quad => Convert.FromBase64String(new string(quad)))];
            }

            // The status is in the last frame, or among those fields that the page may see.
            var (answer, trailers) = (new List<Item>(), string.Concat(response.Headers.Where(field => exposed.Contains(field.Key)).Select(field => $"{field.Key}: {field.Value.Single()}\n")));
            for (var at = 0; at < body.Length;)
            {
                var length = System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(body.AsSpan(at + 1));
                var frame = body.AsSpan(at + 5, length).ToArray();
                if ((body[at] & 0x80) != 0)
                {
                    trailers += Encoding.ASCII.GetString(frame);
                }
                else
                {
                    answer.Add(Item.Parser.ParseFrom(frame));
                }

                at += 5 + length;
            }

            return ([.. answer], trailers);
        }

        private static string[] Values(HttpResponseMessage response, string name) =>
            response.Headers.TryGetValues(name, out var values) ? [.. string.Join(',', values).Split(',', StringSplitOptions.TrimEntries).Select(value => name.EndsWith("Methods", StringComparison.Ordinal) ? value : value.ToLowerInvariant())] : [];

        private static void Demand(bool isSo, string what) => Assert.That(isSo, $"a browser forbids {what}");

        private HttpRequestMessage Ask(HttpMethod method, string url)
        {
            var request = new HttpRequestMessage(method, url) { Version = http.DefaultRequestVersion, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
            request.Headers.Add("Origin", origin);
            return request;
        }

        private void Check(HttpResponseMessage response)
        {
            Demand(Values(response, "Access-Control-Allow-Origin") is [var allowed] && allowed == origin, "the origin");
            Demand(Values(response, "Access-Control-Allow-Credentials") is ["true"], "credentials");
            Assert.That(Values(response, "Vary"), Does.Contain("origin"), "a cache would hand it to another origin");
        }
    }
}
