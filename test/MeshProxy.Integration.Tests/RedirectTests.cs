using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>
/// Applications that know of no proxy: <c>deploy/redirect</c> sends their connections through the sidecar, in network namespaces that the test makes and removes.
/// checkout is in one, payments (IPv4) and ledger (IPv6) in the other, where the control plane is too.
/// </summary>
[TestFixture]
internal sealed class RedirectTests
{
    private const string Here = "10.213.9.1";
    private const string There = "10.213.9.2";
    private const string Here6 = "fd00:213:9::1";
    private const string There6 = "fd00:213:9::2";
    private const int AppUser = 31338;
    private readonly string _callers = $"mpi{Environment.ProcessId}a";
    private readonly string _servers = $"mpi{Environment.ProcessId}b";
    private readonly List<IAsyncDisposable> _parts = [];
    private TemporaryDirectory? _directory;
    private Proxy _checkout = null!;
    private Proxy _payments = null!;
    private Proxy _ledger = null!;
    private string _backend = "";

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        Tool.NeedRoot("to make network namespaces");
        foreach (var program in (string[])["ip", "python3", "setpriv", "curl"])
        {
            Tool.Need(program);
        }

        if (Tool.Find("nft") is null && Tool.Find("iptables") is null)
        {
            Assert.Ignore("neither nft nor iptables is installed");
        }

        _backend = Tool.Find("nft") is null ? "iptables" : "nftables";
        if (await ManagedProcess.RunAsync(Tool.Need("ip"), ["netns", "add", _callers]) is { ExitCode: not 0 } refused)
        {
            Assert.Ignore($"a network namespace can not be made here: {refused.Errors.Trim()}");
        }

        await IpAsync("netns", "add", _servers);
        await IpAsync("-n", _callers, "link", "set", "lo", "up");
        await IpAsync("-n", _servers, "link", "set", "lo", "up");
        await IpAsync("-n", _callers, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", _servers);
        foreach (var (space, four, six) in new[] { (_callers, Here, Here6), (_servers, There, There6) })
        {
            await IpAsync("-n", space, "link", "set", "eth0", "up");
            await IpAsync("-n", space, "addr", "add", $"{four}/24", "dev", "eth0");
            await IpAsync("-n", space, "addr", "add", $"{six}/64", "dev", "eth0", "nodad");
        }

        _directory = new TemporaryDirectory();
        var script = _directory.Write("app.py",
            """
            import http.server, socket, sys, threading
            class App(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"
                def do_GET(self):
                    body = f"{sys.argv[1]} for {self.headers['Host']}".encode()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                def log_message(self, *_): pass
            def greet():
                listener = socket.create_server(("127.0.0.1", int(sys.argv[3])))
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(f"220 {sys.argv[1]}\r\n".encode())
                    connection.close()
            threading.Thread(target=greet, daemon=True).start()
            server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), App)
            print("{\"event.action\":\"listening\"}", file=sys.stderr, flush=True)
            server.serve_forever()
            """);
        foreach (var (name, port, tcp) in new[] { ("payments", "8080", "5432"), ("ledger", "8081", "5433") })
        {
            await Run(InNamespace($"{name}-app", _servers, Tool.Need("python3"), script, name, port, tcp)).LoggedAsync("listening");
        }

        var data = _directory.File("control");
        var control = Run(InNamespace("control", _servers, Executables.Control, "--listen", $"{There}:15012", "--metrics", "127.0.0.1:15014", "--hostname", There, "--data-dir", data));
        await control.LoggedAsync("listening");
        var documents = _directory.Write("services.yaml", Documents.Service("payments", "payments", "http 8080 http", "tcp 5432 tcp") + Documents.Service("ledger", "ledger", "http 8081 http", "tcp 5433 tcp"));
        await MeshctlAsync("apply", "-f", documents);
        _payments = await JoinAsync("payments", _servers, "--address", There, "--inbound", "15006", "--outbound", "off", "--metrics", "127.0.0.1:15020", "--app-port", "http=8080", "--app-port", "tcp=5432");
        _ledger = await JoinAsync("ledger", _servers, "--address", There6, "--inbound", "[::]:15007", "--outbound", "off", "--metrics", "127.0.0.1:15021", "--app-port", "http=8081", "--app-port", "tcp=5433");
        await Mesh.WaitUntilRegisteredAsync(_payments);
        await Mesh.WaitUntilRegisteredAsync(_ledger);
        _checkout = await JoinAsync("checkout", _callers, "--address", Here, "--inbound", "15006", "--outbound", "15001", "--metrics", "127.0.0.1:15020");

        // The proxy runs as root here, as the test does; the application as somebody else.
        var (status, _, errors) = await InAsync(_callers, Path.Combine(Executables.RepositoryRoot, "deploy/redirect/redirect"), "install", "--backend", _backend, "--proxy-user", "0", "--inbound-ports", "none");
        Assert.That(status, Is.Zero, errors);
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        for (var i = _parts.Count - 1; i >= 0; i--)
        {
            await _parts[i].DisposeAsync();
        }

        if (Tool.IsRoot && Tool.Find("ip") is { } ip)
        {
            await ManagedProcess.RunAsync(ip, ["netns", "delete", _callers]);
            await ManagedProcess.RunAsync(ip, ["netns", "delete", _servers]);
        }

        _directory?.Dispose();
    }

    [TearDown]
    public void ShowLogs()
    {
        if (TestContext.CurrentContext.Result.FailCount > 0)
        {
            TestContext.Out.WriteLine(_checkout.Process.Report() + _payments.Process.Report());
        }
    }

    [TestCase("http://10.213.9.2:8080/", "payments for 10.213.9.2:8080", "shop/payments")]
    [TestCase("http://[fd00:213:9::2]:8081/", "ledger for [fd00:213:9::2]:8081", "shop/ledger")]
    [CancelAfter(60_000)]
    public async Task A_plain_connection_to_a_services_address_goes_through_the_mesh(string url, string answer, string service)
    {
        // The applications listen on loopback alone: whoever gets an answer came through the inbound.
        var (status, output, errors) = await CurlAsync(url);
        Assert.That((status, output), Is.EqualTo((0, answer)), errors + _checkout.Process.Report());
        await Eventually.IsTrueAsync(() => Task.FromResult(_checkout.Process.AccessLog.Any(line => ManagedProcess.Text(line, "meshproxy.service") == service && ManagedProcess.Text(line, "meshproxy.direction") == "outbound")), "the outbound logged it");
        var inbound = service == "shop/payments" ? _payments : _ledger;
        await Eventually.IsTrueAsync(() => Task.FromResult(inbound.Process.AccessLog.Any(line => ManagedProcess.Text(line, "meshproxy.peer") == "spiffe://mesh.local/ns/shop/sa/checkout")), "the inbound saw the caller's identity");
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task Host_never_moves_a_redirected_connection_to_another_service()
    {
        var (status, output, errors) = await CurlAsync("-H", "Host: ledger", "http://10.213.9.2:8080/");
        Assert.That((status, output), Is.EqualTo((0, "payments for ledger")), errors);
    }

    [TestCase("10.213.9.2", "5432", "220 payments")]
    [TestCase("fd00:213:9::2", "5433", "220 ledger")]
    [CancelAfter(60_000)]
    public async Task A_tcp_service_that_speaks_first_is_reached_by_its_address(string address, string port, string answer)
    {
        var (status, output, errors) = await CurlAsync($"telnet://{(address.Contains(':', StringComparison.Ordinal) ? $"[{address}]" : address)}:{port}");
        Assert.That((status, output.Trim()), Is.EqualTo((0, answer)), errors + _checkout.Process.Report());
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task An_address_of_no_service_is_refused()
    {
        var (status, output, errors) = await CurlAsync("-w", "%{http_code}", "http://10.213.9.2:9999/");
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.StartWith("404 NR: ").And.EndWith("404"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task What_is_refused_is_not_had_by_its_address()
    {
        await MeshctlAsync("apply", "-f", _directory!.Write("closed.yaml",
            $$"""
            apiVersion: v1
            kind: Service
            metadata: {name: closed, namespace: shop}
            spec: {ports: [{name: http, port: 80, targetPort: 9998, appProtocol: http}] }
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: closed, namespace: shop, labels: { kubernetes.io/service-name: closed } }
            addressType: IPv4
            ports: [{name: http, port: 9998}]
            endpoints: [{ addresses: [ {{There}} ] }]
            """));
        await AnyhowAsync(
            "{apiVersion: meshproxy.io/v1alpha1, kind: AuthorizationPolicy, metadata: {name: closed, namespace: shop}, spec: {targetRefs: [{kind: Service, name: closed}]}}");
        var (status, output, errors) = await CurlAsync("-w", "%{http_code}", $"http://{There}:9998/");
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.StartWith("500 NC: ").And.Contain("AuthorizationPolicy shop/closed").And.EndWith("500"));

        // Stored, but not in force: meshctl ends with status 1.
        Task AnyhowAsync(string document) =>
            InAsync(_servers, Executables.Meshctl, "--server", $"{There}:15012", "--credential", Path.Combine(_directory.File("control"), "operator.pem"), "apply", "-f", _directory.Write("policy.yaml", document));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_loop_is_refused()
    {
        // Somebody's rule that sends loopback traffic for the outbound port of another address back to it.
        var rule = _backend == "nftables" && Tool.Find("iptables") is null
            ? null
            : (string[])["-t", "nat", "-I", "OUTPUT", "1", "-o", "lo", "-p", "tcp", "-d", "127.0.0.9", "--dport", "15001", "-j", "REDIRECT", "--to-ports", "15001"];
        if (rule is null)
        {
            Assert.Ignore("needs iptables for a rule of its own");
        }

        Assert.That((await InAsync(_callers, Tool.Need("iptables"), rule!)).ExitCode, Is.Zero);
        try
        {
            var (status, _, _) = await CurlAsync("http://127.0.0.9:15001/");
            Assert.That(status, Is.Not.Zero);
            await _checkout.Process.LoggedAsync(line => (ManagedProcess.Text(line, "message") ?? "").Contains("reason loop", StringComparison.Ordinal), "reason loop", TimeSpan.FromSeconds(10));
        }
        finally
        {
            rule![2] = "-D";
            await InAsync(_callers, Tool.Need("iptables"), [.. rule[..4], .. rule[5..]]);
        }
    }

    private static Task IpAsync(params string[] arguments) => DoAsync(Tool.Need("ip"), arguments);

    private static async Task DoAsync(string program, string[] arguments)
    {
        var (status, _, errors) = await ManagedProcess.RunAsync(program, arguments);
        if (status != 0)
        {
            throw new AssertionException($"{program} {string.Join(' ', arguments)}: {errors}");
        }
    }

    private static ManagedProcess InNamespace(string name, string space, string program, params string[] arguments) =>
        ManagedProcess.Start(name, Tool.Need("ip"), ["netns", "exec", space, program, .. arguments]);

    private static Task<(int ExitCode, string Output, string Errors)> InAsync(string space, string program, params string[] arguments) =>
        ManagedProcess.RunAsync(Tool.Need("ip"), ["netns", "exec", space, program, .. arguments]);

    private ManagedProcess Run(ManagedProcess process)
    {
        _parts.Add(process);
        return process;
    }

    private Task<(int ExitCode, string Output, string Errors)> AsAppAsync(string program, params string[] arguments) =>
        InAsync(_callers, Tool.Need("setpriv"), ["--reuid", $"{AppUser}", "--regid", $"{AppUser}", "--clear-groups", program, .. arguments]);

    private Task<(int ExitCode, string Output, string Errors)> CurlAsync(params string[] arguments) =>
        AsAppAsync(Tool.Need("curl"), ["-sS", "-g", "--max-time", "15", "--noproxy", "*", .. arguments]);

    private async Task<string> MeshctlAsync(params string[] arguments)
    {
        var (status, output, errors) = await InAsync(_servers, Executables.Meshctl, ["--server", $"{There}:15012", "--credential", Path.Combine(_directory!.File("control"), "operator.pem"), .. arguments]);
        return status == 0 ? output : throw new AssertionException($"meshctl {string.Join(' ', arguments)}: {errors}");
    }

    private async Task<Proxy> JoinAsync(string name, string space, params string[] more)
    {
        var token = _directory!.Write($"{name}.token", await MeshctlAsync("token", "create", "--namespace", "shop", "--service-account", name));
        var proxy = await Proxy.StartInNamespaceAsync(name, space, ["--control", $"{There}:15012", "--join-token-file", token, "--namespace", "shop", "--service-account", name, "--name", $"{name}-1",
            "--label", $"app={name}", "--admin", "off", .. more]);
        _parts.Add(proxy);
        return proxy;
    }
}
