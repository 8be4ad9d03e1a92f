using System.Net;
using System.Text;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;
using MeshProxy.Testing;

namespace MeshProxy.Integration.Tests;

/// <summary>The mesh's edges: its gateway, plaintext where it is allowed, destinations outside, and the operator's hand on one sidecar.</summary>
[TestFixture]
internal sealed class EdgeTests
{
    private TestApp _app = null!;
    private Mesh _mesh = null!;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _app = await TestApp.StartAsync("payments-app");
        _mesh = await Mesh.StartAsync();
        await _mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http", "grpc 90 grpc", "h2c 91 kubernetes.io/h2c"));
        await Mesh.WaitUntilRegisteredAsync(await _mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={_app.Http1Port}", "--app-port", $"grpc={_app.Http2Port}", "--app-port", $"h2c={_app.Http2Port}"));
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        if (_mesh is not null)
        {
            await _mesh.DisposeAsync();
        }

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

    [Test]
    [CancelAfter(90_000)]
    public async Task Https_at_the_gateway_of_the_mesh_reaches_http1_and_http2_applications()
    {
        using var ca = new TestCa();
        using var certificate = ca.IssueServer("shop.example");
        var (port, tls) = (FreePorts.Take(), FreePorts.Take());
        var pem = ca.ToPem(certificate);
        var key = pem[pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal)..];
        await _mesh.Meshctl.ApplyAsync(
            $$"""
            apiVersion: v1
            kind: Secret
            metadata: {name: shop-example, namespace: shop}
            type: kubernetes.io/tls
            data:
              tls.crt: {{Convert.ToBase64String(Encoding.ASCII.GetBytes(pem[..^key.Length]))}}
              tls.key: {{Convert.ToBase64String(Encoding.ASCII.GetBytes(key))}}
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata:
              name: edge
              namespace: shop
              annotations: {meshproxy.io/service-accounts: edge}
            spec:
              gatewayClassName: meshproxy
              addresses: [{type: IPAddress, value: 127.0.0.1}]
              listeners:
              - {name: http, port: {{port}}, protocol: HTTP}
              - name: https
                port: {{tls}}
                protocol: HTTPS
                hostname: shop.example
                tls: {mode: Terminate, certificateRefs: [{name: shop-example}]}
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: shop, namespace: shop}
            spec:
              parentRefs: [{name: edge}]
              rules:
              - matches: [{headers: [{name: x-version, value: "2"}]}]
                backendRefs: [{name: payments, port: 91}]
              - backendRefs: [{name: payments, port: 80}]
            """);
        var gateway = await _mesh.JoinAsync("edge-1", "edge", "--gateway", "edge", "--outbound", "off", "--inbound", "off");
        var caFile = _mesh.File("ca.crt");
        await File.WriteAllTextAsync(caFile, ca.RootPem);
        using var plain = Via.Http(port);
        await Eventually.IsTrueAsync(async () => (await plain.GetAsync("http://shop.example/hello")).IsSuccessStatusCode, "the gateway serves");
        foreach (var version in (string[])["1", "2"])
        {
            foreach (var spoken in (string[])["--http1.1", "--http2"])
            {
                var (status, output, errors) = await ManagedProcess.RunAsync(Tool.Need("curl"),
                    ["-sS", "--max-time", "20", "--noproxy", "*", spoken, "--cacert", caFile, "--resolve", $"shop.example:{tls}:127.0.0.1", "-H", $"x-version: {version}", $"https://shop.example:{tls}/hello"]);
                Assert.That((status, output), Is.EqualTo((0, "hello from payments-app")), $"{version} {spoken} {errors}");
            }
        }

        Assert.That(await _mesh.Meshctl.DoAsync("get", "Secret", "shop-example", "-n", "shop", "-o", "yaml"), Does.Not.Contain(Convert.ToBase64String(Encoding.ASCII.GetBytes(key))));
        Assert.That(await gateway.AdminTextAsync("/config"), Does.Contain("shop/edge/https").And.Not.Contain("PRIVATE"));

        // Whoever else names the Gateway gets neither its listeners nor its key.
        var stranger = await _mesh.LaunchAsync("stranger-1", "stranger", "--gateway", "edge", "--outbound", "off", "--inbound", "off");
        await stranger.WaitUntilListeningAsync();
        await _mesh.Meshctl.WaitUntilAcceptedAsync("shop/stranger-1");
        Assert.That(await stranger.AdminTextAsync("/config"), Does.Not.Contain("shop/edge/https"));
        Assert.That(stranger.Process.Report(200) + string.Concat(Directory.GetFiles(_mesh.StateDirectory("stranger-1")).Select(File.ReadAllText)), Does.Not.Contain("shop/edge/https"));
        Assert.That(await gateway.StopAsync(), Is.Zero);
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Permissive_takes_plaintext_and_mutual_tls()
    {
        await _mesh.Meshctl.ApplyAsync(Documents.Service("open", "open", "http 80 http"));
        var open = await _mesh.JoinAsync("open-1", "open", "--mtls", "permissive", "--app-port", $"http={_app.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(open);
        var caller = await _mesh.JoinAsync("caller-1", "caller");
        using var mesh = Via.Http(caller.Outbound);
        Assert.That(await mesh.GetStringAsync("http://open/hello"), Is.EqualTo("hello from payments-app"));
        using var plain = Via.Http(open.Inbound);
        using var request = new HttpRequestMessage(HttpMethod.Get, "http://open/headers");
        request.Headers.Add("x-meshproxy-failure", "UF; retry=always; forged");
        Assert.That(await (await plain.SendAsync(request)).Content.ReadAsStringAsync(), Does.Not.Contain("forged"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task The_operator_changes_the_log_level_and_drains_one_sidecar()
    {
        var one = await _mesh.JoinAsync("drained-1", "drained");
        using var http = new HttpClient();
        using (var refused = await http.PostAsync($"http://127.0.0.1:{one.Admin}/log-level?level=shouting", null))
        {
            Assert.That(refused.StatusCode, Is.EqualTo(HttpStatusCode.BadRequest));
        }

        using (var taken = await http.PostAsync($"http://127.0.0.1:{one.Admin}/log-level?level=debug", null))
        {
            Assert.That(await taken.Content.ReadAsStringAsync(), Does.Contain("debug"));
        }

        using (var wrong = await http.GetAsync($"http://127.0.0.1:{one.Admin}/drain"))
        {
            Assert.That(wrong.StatusCode, Is.EqualTo(HttpStatusCode.MethodNotAllowed));
        }

        using (var draining = await http.PostAsync($"http://127.0.0.1:{one.Admin}/drain", null))
        {
            Assert.That(draining.StatusCode, Is.EqualTo(HttpStatusCode.Accepted));
        }

        Assert.That(await one.Process.WaitForExitAsync(TimeSpan.FromSeconds(20)), Is.Zero, one.Process.Report());
    }
}
