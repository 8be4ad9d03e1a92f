using System.Net;
using System.Text.Json;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>What the control plane promises operators and sidecars, also when it is away.</summary>
[TestFixture]
internal sealed class ControlPlaneTests
{
    [Test]
    [CancelAfter(120_000)]
    public async Task Absent_at_the_first_start_the_sidecar_waits_and_says_so()
    {
        using var directory = new TemporaryDirectory();
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var token = await mesh.TokenFileAsync("payments");
        await mesh.Control.StopAsync();

        var metrics = FreePorts.Take();
        var waiting = mesh.Launch("payments-1", mesh.Arguments("payments-1", "payments", token, "--metrics", $"127.0.0.1:{metrics}"));
        var line = await waiting.Process.LoggedAsync("certificate_renewal_failed");
        Assert.That(line.GetProperty("message").GetString(), Does.Contain(mesh.Control.Address));
        using var http = new HttpClient();
        Assert.That((await http.GetAsync($"http://127.0.0.1:{metrics}/livez")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That((await http.GetAsync($"http://127.0.0.1:{metrics}/readyz")).StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));

        await mesh.Control.StartAgainAsync();
        await waiting.WaitUntilListeningAsync();
        await waiting.WaitUntilReadyAsync();
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Absent_with_kept_state_the_sidecars_serve()
    {
        await using var app = await TestApp.StartAsync("payments-app");
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var inbound = FreePorts.Take();
        string[] paymentsArguments = ["--app-port", $"http={app.Http1Port}", "--inbound", $"127.0.0.1:{inbound}"];
        var payments = await mesh.JoinAsync("payments-1", "payments", paymentsArguments);
        await Mesh.WaitUntilRegisteredAsync(payments);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        using (var http = Via.Http(checkout.Outbound))
        {
            Assert.That(await http.GetStringAsync("http://payments/hello"), Is.EqualTo("hello from payments-app"));
        }

        // What was learned is on disk within a second or so.
        await Eventually.IsTrueAsync(() => Task.FromResult(Directory.GetFiles(mesh.StateDirectory("checkout-1")).Any(file => File.ReadAllText(file).Contains("shop/payments-1", StringComparison.Ordinal))), "the configuration is kept");
        await mesh.Control.KillAsync();
        checkout.Process.Kill();
        await checkout.Process.WaitForExitAsync();
        payments.Process.Kill();
        await payments.Process.WaitForExitAsync();

        payments = mesh.Launch("payments-1", mesh.Arguments("payments-1", "payments", mesh.File("none"), ["--label", "app=payments", .. paymentsArguments]));
        checkout = mesh.Launch("checkout-1", mesh.Arguments("checkout-1", "checkout", mesh.File("none")));
        await payments.WaitUntilListeningAsync();
        await checkout.WaitUntilListeningAsync();
        await checkout.WaitUntilReadyAsync();
        using (var http = Via.Http(checkout.Outbound))
        {
            Assert.That(await http.GetStringAsync("http://payments/hello"), Is.EqualTo("hello from payments-app"));
        }

        await checkout.Process.LoggedAsync("config_loaded_from_state");
    }

    [TestCase(true)]
    [TestCase(false)]
    [CancelAfter(180_000)]
    public async Task Restarted_under_traffic_no_request_fails_and_nothing_is_lost(bool killed)
    {
        await using var app = await TestApp.StartAsync("payments-app");
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var payments = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={app.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(payments);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        await using var load = await Load.StartAsync(checkout.Outbound, "payments");
        await load.MoreAsync(100);
        var before = await DocumentsAsync(mesh);

        if (killed)
        {
            await mesh.Control.KillAsync();
        }
        else
        {
            await mesh.Control.StopAsync();
        }

        await load.MoreAsync(300);
        await mesh.Control.StartAgainAsync();
        await mesh.Meshctl.WaitUntilAcceptedAsync("shop/payments-1", "shop/checkout-1");
        Assert.That(await DocumentsAsync(mesh), Is.EqualTo(before));
        Assert.That(await mesh.Meshctl.DoAsync("get", "Workload", "-n", "shop"), Does.Contain("payments-1"));

        // What is new after the restart reaches the sidecars.
        await mesh.Meshctl.ApplyAsync(Documents.Service("late", "payments", "http 80 http"));
        await mesh.Meshctl.WaitUntilAcceptedAsync("shop/payments-1", "shop/checkout-1");
        using var http = Via.Http(checkout.Outbound);
        Assert.That(await http.GetStringAsync("http://late/hello"), Is.EqualTo("hello from payments-app"));
        await load.MoreAsync(100);
        Assert.That(await load.StopAsync(), Is.Empty, mesh.Report());
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Certificates_of_seconds_are_renewed_while_requests_flow_and_expire_without_control_plane()
    {
        await using var app = await TestApp.StartAsync("payments-app");
        await using var mesh = await Mesh.StartAsync("--workload-certificate-lifetime", "8s");
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var payments = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={app.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(payments);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        await using (var load = await Load.StartAsync(checkout.Outbound, "payments"))
        {
            await load.MoreAsync(50);
            foreach (var proxy in (Proxy[])[checkout, payments])
            {
                // The first is the join's; three more are renewals.
                await proxy.Process.LoggedAsync("certificate_issued", TimeSpan.FromSeconds(60), skip: 3);
            }

            await load.MoreAsync(50);
            Assert.That(await load.StopAsync(), Is.Empty, mesh.Report());
        }

        await mesh.Control.KillAsync();
        using var http = Via.Http(checkout.Outbound);
        HttpResponseMessage? refused = null;
        await Eventually.IsTrueAsync(async () =>
        {
            refused?.Dispose();
            refused = await http.GetAsync("http://payments/hello");
            return refused.StatusCode == HttpStatusCode.ServiceUnavailable;
        }, "expired certificates serve no longer", TimeSpan.FromSeconds(40));
        Assert.That(string.Concat(refused!.Headers.GetValues("x-meshproxy-failure")), Does.StartWith("UF; "));
        Assert.That(await payments.StatusOfAsync("/livez"), Is.EqualTo(200));

        // And the mesh heals when the control plane is back in time for nobody: certificates have expired, tokens are used.
        refused.Dispose();
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task A_route_sends_a_fifth_to_version_2_and_goes_away_with_its_document()
    {
        await using var first = await TestApp.StartAsync("v1");
        await using var second = await TestApp.StartAsync("v2");
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "v1", "http 80 http") + Documents.Service("payments-v1", "v1", "http 80 http") + Documents.Service("payments-v2", "v2", "http 80 http"));
        await Mesh.WaitUntilRegisteredAsync(await mesh.JoinAsync("v1-1", "v1", "--app-port", $"http={first.Http1Port}"));
        await Mesh.WaitUntilRegisteredAsync(await mesh.JoinAsync("v2-1", "v2", "--app-port", $"http={second.Http1Port}"));
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        using var http = Via.Http(checkout.Outbound);
        Assert.That(await ShareAsync(http, 50), Is.Zero);

        var file = mesh.File("canary.yaml");
        await File.WriteAllTextAsync(file,
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: canary, namespace: shop}
            spec:
              parentRefs: [{group: "", kind: Service, name: payments}]
              rules:
              - backendRefs:
                - {name: payments-v1, port: 80, weight: 80}
                - {name: payments-v2, port: 80, weight: 20}
            """);
        await mesh.Meshctl.DoAsync("apply", "-f", file);
        await mesh.Meshctl.WaitUntilAcceptedAsync("shop/checkout-1");
        Assert.That(await ShareAsync(http, 200), Is.InRange(38, 42));

        await mesh.Meshctl.DoAsync("delete", "HTTPRoute", "canary", "-n", "shop");
        await mesh.Meshctl.WaitUntilAcceptedAsync("shop/checkout-1");
        Assert.That(await ShareAsync(http, 50), Is.Zero);

        static async Task<int> ShareAsync(HttpClient http, int requests)
        {
            var second = 0;
            for (var i = 0; i < requests; i++)
            {
                second += await http.GetStringAsync("http://payments/hello") == "hello from v2" ? 1 : 0;
            }

            return second;
        }
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Meshctl_says_what_is_wrong_where_and_exits_as_told()
    {
        await using var mesh = await Mesh.StartAsync();
        var good = Documents.Service("payments", "payments", "http 80 http");
        var bad = good + Documents.Service("ledger", "ledger", "http 80 http").Replace("selector:", "selectr:", StringComparison.Ordinal);
        var file = mesh.File("two.yaml");
        await File.WriteAllTextAsync(file, bad);

        var (status, output, errors) = await mesh.Meshctl.RunAsync("apply", "-f", file);
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.Contain("two.yaml").And.Contain("selectr").And.Contain("ledger").And.Match(@"\b1[0-9]\b|\b2[0-9]\b"), output);
        Assert.That(await mesh.Meshctl.DoAsync("get", "Service", "-n", "shop"), Does.Not.Contain("payments"), "apply is all or nothing");

        (status, _, errors) = await mesh.Meshctl.RunAsync("validate", "-f", file);
        Assert.That((status, errors.Contains("selectr", StringComparison.Ordinal)), Is.EqualTo((1, true)), errors);

        await mesh.Meshctl.ApplyAsync(good);
        await mesh.Meshctl.ApplyAsync(good);
        var text = await mesh.Meshctl.DoAsync("get", "Service", "payments", "-n", "shop", "-o", "json");
        using (var json = JsonDocument.Parse(text))
        {
            Assert.That(text, Does.Contain("\"payments\""));
        }

        Assert.That((await mesh.Meshctl.RunAsync("get", "Service", "nothing", "-n", "shop")).ExitCode, Is.EqualTo(1));
        Assert.That((await mesh.Meshctl.RunAsync("delete", "Service", "nothing", "-n", "shop")).ExitCode, Is.EqualTo(1));
        Assert.That((await mesh.Meshctl.RunAsync("apply")).ExitCode, Is.EqualTo(2));
        Assert.That((await mesh.Meshctl.RunAsync("frobnicate")).ExitCode, Is.EqualTo(2));
        await mesh.Meshctl.DoAsync("delete", "-f", await FileOfAsync(mesh, good));
        Assert.That(await mesh.Meshctl.DoAsync("get", "Service", "-n", "shop"), Does.Not.Contain("payments"));

        var nobody = new Meshctl($"127.0.0.1:{FreePorts.Take()}", mesh.Control.Credential);
        Assert.That((await nobody.RunAsync("status")).ExitCode, Is.EqualTo(3));
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Only_an_operator_of_this_mesh_operates_it()
    {
        await using var mesh = await Mesh.StartAsync();
        await mesh.JoinAsync("payments-1", "payments");
        using var directory = new TemporaryDirectory();
        await using var stranger = await ControlPlane.StartAsync(directory.File("control"));

        // A workload's own certificate is no operator's.
        var pem = string.Concat(Directory.GetFiles(mesh.StateDirectory("payments-1")).Select(File.ReadAllText).Where(text => text.Contains("-----BEGIN ", StringComparison.Ordinal)));
        var workload = directory.Write("workload.pem", pem);
        foreach (var credential in (string[])[workload, stranger.Credential])
        {
            var (status, output, errors) = await ManagedProcess.RunAsync(Executables.Meshctl,
                ["--server", mesh.Control.Address, "--credential", credential, "--trust-bundle", mesh.Control.TrustBundle, "get", "Service"]);
            Assert.That(status, Is.EqualTo(1).Or.EqualTo(3), output);
            Assert.That(errors, Is.Not.Empty);
            Assert.That(output, Is.Empty);
        }
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Status_names_each_sidecar()
    {
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var payments = await mesh.JoinAsync("payments-1", "payments");
        await mesh.Meshctl.WaitUntilAcceptedAsync("shop/payments-1");
        var sidecar = (await mesh.Meshctl.StatusAsync()).GetProperty("sidecars").EnumerateArray().Single();
        Assert.That(sidecar.GetProperty("identity").GetString(), Is.EqualTo("spiffe://mesh.local/ns/shop/sa/payments"));
        Assert.That(sidecar.GetProperty("last_rejection").GetString(), Is.Empty);
        Assert.That(await mesh.Meshctl.DoAsync("status"), Does.Contain("shop/payments-1").And.Contain("1 of 1 sidecars connected"));
        Assert.That(await payments.StopAsync(), Is.Zero);
        await Eventually.IsTrueAsync(async () => (await mesh.Meshctl.StatusAsync()).GetProperty("sidecars").EnumerateArray().All(entry => !entry.GetProperty("connected").GetBoolean()), "the sidecar is shown as gone");
    }

    private static async Task<string> FileOfAsync(Mesh mesh, string text)
    {
        var file = mesh.File($"{Guid.NewGuid():N}.yaml");
        await File.WriteAllTextAsync(file, text);
        return file;
    }

    private static Task<string> DocumentsAsync(Mesh mesh) => mesh.Meshctl.DoAsync("get", "Service", "-n", "shop", "-o", "yaml");
}
