using System.Globalization;
using MeshProxy.Integration.Tests.Fixture;
using MeshProxy.Testing;

namespace MeshProxy.Integration.Tests;

/// <summary>TLS that passes through, and TLS towards a server outside the mesh: nginx behind the gateway, curl and openssl before it.</summary>
[TestFixture]
internal sealed class TlsTests
{
    private TestCa _ca = null!;
    private TemporaryDirectory _directory = null!;
    private ManagedProcess _nginx = null!;
    private string _caFile = "";
    private int _http2;
    private int _http1;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        var nginx = Tool.Need("nginx");
        _directory = new TemporaryDirectory();
        _ca = new TestCa();
        _caFile = _directory.Write("ca.crt", _ca.RootPem);
        (_http2, _http1) = (FreePorts.Take(), FreePorts.Take());
        using var certificate = _ca.IssueServer("ledger.example.com", "pay.example.com");
        var pem = _directory.Write("server.pem", _ca.ToPem(certificate));
        var config = _directory.Write("nginx.conf",
            $$"""
            daemon off; master_process off; pid {{_directory.File("pid")}}; error_log stderr;
            events {}
            http {
              access_log off; client_body_temp_path {{_directory.File("b")}}; proxy_temp_path {{_directory.File("p")}}; fastcgi_temp_path {{_directory.File("f")}}; uwsgi_temp_path {{_directory.File("u")}}; scgi_temp_path {{_directory.File("s")}};
              ssl_certificate {{pem}}; ssl_certificate_key {{pem}}; ssl_protocols TLSv1.2 TLSv1.3;
              server { listen 127.0.0.1:{{_http2}} ssl http2; location / { return 200 "$server_protocol $scheme $ssl_server_name $ssl_protocol\n"; } }
              server { listen 127.0.0.1:{{_http1}} ssl; location / { return 200 "$server_protocol $scheme $ssl_server_name $ssl_protocol\n"; } }
            }
            """);
        _nginx = ManagedProcess.Start("nginx", nginx, ["-c", config, "-e", "stderr", "-p", _directory.Path]);
        foreach (var port in new[] { _http2, _http1 })
        {
            await Eventually.IsTrueAsync(async () =>
            {
                await using var probe = await Via.TcpAsync(port);
                return true;
            }, "nginx listens");
        }
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        if (_nginx is not null)
        {
            await _nginx.DisposeAsync();
        }

        _ca?.Dispose();
        _directory?.Dispose();
    }

    [Test]
    [CancelAfter(90_000)]
    public async Task Passthrough_by_server_name_with_curl_and_openssl()
    {
        var port = FreePorts.Take();
        using var directory = new TemporaryDirectory();
        await using var gateway = await Proxy.StartGatewayAsync(directory.Write("gateway.yaml",
            Documents.Gateway($"name: tls, port: {port}, protocol: TLS, hostname: '*.example.com', tls: {{mode: Passthrough}}") + Documents.Static("pay", _http2, "tls") +
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: TLSRoute
            metadata: {name: pay, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              hostnames: [pay.example.com]
              rules: [{backendRefs: [{name: pay, port: 80}]}]
            """));
        var (status, output, errors) = await ManagedProcess.RunAsync(
            Tool.Need("curl"), ["-sS", "--max-time", "30", "--retry", "8", "--retry-all-errors", "--noproxy", "*", "--cacert", _caFile, "--resolve", $"pay.example.com:{port}:127.0.0.1", $"https://pay.example.com:{port}/"]);
        Assert.That((status, output), Is.EqualTo((0, "HTTP/2.0 https pay.example.com TLSv1.3\n")), errors);

        var openssl = Tool.Need("openssl");
        (status, output, errors) = await ManagedProcess.RunAsync(openssl, ["s_client", "-connect", $"127.0.0.1:{port}", "-servername", "other.example.com"], input: "");
        Assert.That(status, Is.Not.Zero);
        Assert.That(errors, Does.Contain("unrecognized name"));
        (status, _, errors) = await ManagedProcess.RunAsync(openssl, ["s_client", "-connect", $"127.0.0.1:{port}", "-noservername"], input: "");
        Assert.That(status, Is.Not.Zero);
        Assert.That(errors, Does.Contain("unrecognized name"));
        Assert.That(await gateway.MetricsTextAsync(), Does.Contain("meshproxy_connection_refusals_total{direction=\"gateway\",reason=\"no_route\"} 2"));
    }

    [TestCase("-tls1_2")]
    [TestCase("-tls1_3")]
    [CancelAfter(90_000)]
    public async Task A_session_of_the_edge_is_resumed_also_after_a_change_of_the_configuration(string version)
    {
        var openssl = Tool.Need("openssl");
        var port = FreePorts.Take();
        using var directory = new TemporaryDirectory();
        using var certificate = _ca.IssueServer("shop.example");
        var pem = _ca.ToPem(certificate);
        var key = pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal);
        var text =
            Documents.Gateway($"name: https, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: shop-example}}]}}") +
            $$"""
            apiVersion: v1
            kind: Secret
            metadata: {name: shop-example, namespace: shop}
            type: kubernetes.io/tls
            data: {tls.crt: {{Encode(pem[..key])}}, tls.key: {{Encode(pem[key..])}}}
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{name: edge}], rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, hostname: first.example} }]}]}
            """;
        var file = directory.Write("gateway.yaml", text);
        await using var gateway = await Proxy.StartGatewayAsync(file);
        var session = directory.File("session");
        Assert.That(await AskAsync("-sess_out", session), Does.Contain("New, TLS").And.Contain("first.example"));
        File.WriteAllText(file, text.Replace("first.example", "second.example", StringComparison.Ordinal));
        await Eventually.IsTrueAsync(async () => (await AskAsync()).Contains("second.example", StringComparison.Ordinal), "the change is in force");
        Assert.That(await AskAsync("-sess_in", session), Does.Contain("Reused, TLS").And.Contain("second.example"));

        static string Encode(string part) => Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(part));

        async Task<string> AskAsync(params string[] more)
        {
            var (_, output, errors) = await ManagedProcess.RunAsync(
                openssl,
                ["s_client", "-connect", $"127.0.0.1:{port}", "-servername", "shop.example", version, "-ign_eof", .. more],
                input: "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
            return output + errors;
        }
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task A_server_outside_the_mesh_is_spoken_to_as_it_chose_and_judged_by_the_policy_in_force()
    {
        var front = FreePorts.Take();
        using var directory = new TemporaryDirectory();
        var good = Configuration(front);
        var file = directory.Write("gateway.yaml", good);
        await using var gateway = await Proxy.StartGatewayAsync(file);
        using var http = Via.Http(front);

        // On a busy machine the first handshake of a process can take longer than a connection may.
        await Eventually.IsTrueAsync(async () => (await http.GetAsync("http://shop.example/h2")).IsSuccessStatusCode, "the server answers");
        Assert.That(await http.GetStringAsync("http://shop.example/h2"), Is.EqualTo("HTTP/2.0 https ledger.example.com TLSv1.3\n"));
        Assert.That(await http.GetStringAsync("http://shop.example/h1"), Is.EqualTo("HTTP/1.1 https ledger.example.com TLSv1.3\n"));

        File.WriteAllText(file, good.Replace("hostname: ledger.example.com", "hostname: other.example.com", StringComparison.Ordinal));
        await Eventually.IsTrueAsync(async () => (int)(await http.GetAsync("http://shop.example/h2")).StatusCode == 503, "the server is not who it is to be now");
        await Eventually.IsTrueAsync(
            () => Task.FromResult(gateway.Process.Output.Any(line => line.Contains("not for other.example.com as BackendTLSPolicy shop/ledger demands", StringComparison.Ordinal))), "the log tells");

        // A file whose authority is missing is not taken: nothing goes on in plaintext, and nothing changes.
        File.WriteAllText(file, good.Replace("kind: ConfigMap, name: ledger-ca", "kind: ConfigMap, name: gone", StringComparison.Ordinal));
        Assert.That((await gateway.Process.LoggedAsync("config_rejected")).GetProperty("message").GetString(), Does.Contain("there is no ConfigMap shop/gone"));
        Assert.That((int)(await http.GetAsync("http://shop.example/h2")).StatusCode, Is.EqualTo(503));

        File.WriteAllText(file, good);
        await Eventually.IsTrueAsync(async () => (await http.GetAsync("http://shop.example/h2")).IsSuccessStatusCode, "the policy fits again");
    }

    private string Configuration(int front) =>
        $$"""
        {{Documents.HttpGateway(front)}}{{Documents.Static("ledger", _http2, "https")}}{{Documents.Static("old", _http1, "https")}}apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: r, namespace: shop}
        spec:
          parentRefs: [{name: edge}]
          rules:
          - matches: [{path: {type: PathPrefix, value: /h2} }]
            backendRefs: [{name: ledger, port: 80}]
          - matches: [{path: {type: PathPrefix, value: /h1} }]
            backendRefs: [{name: old, port: 80}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: BackendTLSPolicy
        metadata: {name: ledger, namespace: shop}
        spec:
          targetRefs: [{kind: Service, name: ledger}, {kind: Service, name: old, sectionName: main}]
          validation:
            hostname: ledger.example.com
            caCertificateRefs: [{group: "", kind: ConfigMap, name: ledger-ca}]
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: ledger-ca, namespace: shop}
        data:
          ca.crt: |
        {{string.Join('\n', _ca.RootPem.TrimEnd().Split('\n').Select(line => string.Create(CultureInfo.InvariantCulture, $"    {line}")))}}
        """;
}
