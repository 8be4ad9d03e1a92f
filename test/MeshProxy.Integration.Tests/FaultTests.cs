using System.Net;
using System.Text;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>Processes that go away while requests flow, and peers that do not read.</summary>
[TestFixture]
internal sealed class FaultTests
{
    [Test]
    [CancelAfter(120_000)]
    public async Task Sigterm_under_load_fails_no_request_and_ends_the_process()
    {
        await using var first = await TestApp.StartAsync("first");
        await using var second = await TestApp.StartAsync("second");
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var one = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={first.Http1Port}");
        var two = await mesh.JoinAsync("payments-2", "payments", "--app-port", $"http={second.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(one);
        await Mesh.WaitUntilRegisteredAsync(two);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        await using var load = await Load.StartAsync(checkout.Outbound, "payments", clients: 8, executes: true);
        await Mesh.WaitForEndpointsAsync(checkout, "shop/payments:80", 2);
        await load.MoreAsync(200);
        var executed = (first.Executed, second.Executed);
        Assert.That((executed.Item1 > 0, executed.Item2 > 0), Is.EqualTo((true, true)), "both serve");

        Assert.That(await one.StopAsync(), Is.Zero, one.Process.Report());
        await load.MoreAsync(200);
        Assert.That(await load.StopAsync(), Is.Empty, mesh.Report());
        var all = first.Executions.Concat(second.Executions).ToArray();
        Assert.That(all.Select(pair => pair.Key), Is.Unique, "nothing was executed twice");
        Assert.That(all.Select(pair => pair.Value), Is.All.EqualTo(1));
        await one.Process.LoggedAsync("draining");
        await one.Process.LoggedAsync("stopped");
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task Sigterm_of_the_gateway_finishes_what_is_open_and_tells_its_clients_to_go()
    {
        await using var app = await TestApp.StartAsync();
        using var directory = new TemporaryDirectory();
        var port = FreePorts.Take();
        await using var gateway = await Proxy.StartGatewayAsync(directory.Write("gateway.yaml", Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", app.Http1Port)));
        using var http1 = Via.Http(port);
        using var http2 = Via.Http(port, HttpVersion.Version20);
        var open = new[] { http1.GetAsync("http://shop.example/gate"), http2.GetAsync("http://shop.example/gate") };
        await Eventually.IsTrueAsync(() => Task.FromResult(app.AtGate == 2), "both requests are at the application");
        gateway.Process.Terminate();
        await gateway.Process.LoggedAsync("draining");
        await Eventually.IsTrueAsync(async () => await gateway.StatusOfAsync("/readyz") == 503, "readiness fails while it drains");
        app.Gate.SetResult();
        foreach (var response in await Task.WhenAll(open))
        {
            Assert.That(await response.Content.ReadAsStringAsync(), Is.EqualTo("through the gate"));
        }

        Assert.That((await open[0]).Headers.ConnectionClose, Is.True);
        Assert.That(await gateway.Process.WaitForExitAsync(TimeSpan.FromSeconds(15)), Is.Zero, "it ends early when nothing is left");
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_second_sigterm_ends_it_at_once_and_the_deadline_ends_it_in_time()
    {
        await using var app = await TestApp.StartAsync();
        using var directory = new TemporaryDirectory();
        foreach (var second in (bool[])[true, false])
        {
            var port = FreePorts.Take();
            var file = directory.Write("gateway.yaml", Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", app.Http1Port));
            await using var gateway = await Proxy.StartGatewayAsync(file, "--drain-timeout", second ? "50s" : "1s");
            using var http = Via.Http(port);
            var waiting = app.AtGate;
            var stuck = http.GetAsync("http://shop.example/gate");
            await Eventually.IsTrueAsync(() => Task.FromResult(app.AtGate > waiting), "the request is at the application");
            gateway.Process.Terminate();
            await gateway.Process.LoggedAsync("draining");
            if (second)
            {
                gateway.Process.Terminate();
            }

            await gateway.Process.WaitForExitAsync(TimeSpan.FromSeconds(10));
            await Assert.ThatAsync(async () => await stuck, Throws.InstanceOf<HttpRequestException>());
        }
    }

    [Test]
    [CancelAfter(150_000)]
    public async Task A_killed_endpoint_costs_idempotent_requests_nothing_and_no_post_runs_twice()
    {
        await using var first = await TestApp.StartAsync("first");
        await using var second = await TestApp.StartAsync("second");
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var one = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={first.Http1Port}");
        var two = await mesh.JoinAsync("payments-2", "payments", "--app-port", $"http={second.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(one);
        await Mesh.WaitUntilRegisteredAsync(two);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        await using var gets = await Load.StartAsync(checkout.Outbound, "payments");
        await using var posts = await Load.StartAsync(checkout.Outbound, "payments", executes: true);
        await Mesh.WaitForEndpointsAsync(checkout, "shop/payments:80", 2);
        await gets.MoreAsync(200);
        one.Process.Kill();
        await gets.MoreAsync(300);
        await posts.MoreAsync(100);

        // What was under way may fail, and nothing after it: the endpoint can not be dialed and is left alone.
        var failed = posts.Failures.Length;
        Assert.That(failed, Is.LessThanOrEqualTo(4), "at most what was under way");
        Assert.That(await gets.StopAsync(), Is.Empty, mesh.Report());
        await posts.StopAsync();
        var all = first.Executions.Concat(second.Executions).ToArray();
        Assert.That(all.Select(pair => pair.Key), Is.Unique, "nothing was executed twice");
        Assert.That(all.Select(pair => pair.Value), Is.All.EqualTo(1));
        Assert.That(posts.Acknowledged, Is.SubsetOf(all.Select(pair => pair.Key)), "what was acknowledged was executed");

        // The lease runs out: the registry forgets it, and so does the other sidecar.
        await Mesh.WaitForEndpointsAsync(checkout, "shop/payments:80", 1);
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task An_application_that_breaks_off_is_told_from_one_that_answers()
    {
        await using var app = await TestApp.StartAsync();
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        await Mesh.WaitUntilRegisteredAsync(await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={app.Http1Port}"));
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        using var http = Via.Http(checkout.Outbound);
        using var aborted = await http.GetAsync("http://payments/abort");
        Assert.That(aborted.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
        Assert.That(string.Concat(aborted.Headers.GetValues("x-meshproxy-failure")), Does.StartWith("UC; "));
        foreach (var code in (int[])[204, 304, 404, 429, 500, 503])
        {
            using var response = await http.GetAsync($"http://payments/status/{code}");
            Assert.That((int)response.StatusCode, Is.EqualTo(code));
            Assert.That(response.Headers.Contains("x-meshproxy-failure"), Is.False);
        }
    }

    [Test]
    [CancelAfter(90_000)]
    public async Task Readers_that_use_up_the_memory_budget_cost_new_requests_and_no_metrics()
    {
        const int Readers = 32;
        await using var app = await TestApp.StartAsync();
        using var directory = new TemporaryDirectory();
        var port = FreePorts.Take();
        var file = directory.Write("gateway.yaml", Documents.HttpGateway(port) + Documents.Route("web") + Documents.Static("web", app.Http1Port));
        await using var gateway = await Proxy.StartGatewayAsync(file, "--memory-budget", "1Mi");
        using var http = Via.Http(port);
        Assert.That(await http.GetStringAsync("http://shop.example/hello"), Is.EqualTo("hello from app"));
        var stalled = new List<Stream>();
        for (var i = 0; i < Readers; i++)
        {
            var reader = await Via.TcpAsync(port);
            stalled.Add(reader);

            // Of no declared length: the kernel does not move it past the proxy.
            await reader.WriteAsync(Encoding.ASCII.GetBytes($"GET /bytes/{1L << 30}?chunked HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        }

        await Eventually.IsTrueAsync(async () => await AskAsync() is (503, var text) && text.StartsWith("503 OM: ", StringComparison.Ordinal), "new requests are refused");
        Assert.That(await gateway.StatusOfAsync("/livez"), Is.EqualTo(200));
        Assert.That(await gateway.StatusOfAsync("/readyz"), Is.EqualTo(200));
        Assert.That(await gateway.MetricsTextAsync(), Does.Contain("meshproxy_memory_budget_bytes 1048576").And.Contain("flag=\"OM\""));
        Assert.That(await gateway.AdminTextAsync("/connections"), Does.Contain("127.0.0.1"));
        foreach (var reader in stalled)
        {
            await reader.DisposeAsync();
        }

        await Eventually.IsTrueAsync(async () => await AskAsync() is (200, "hello from app"), "they are served again");

        async Task<(int Status, string Text)> AskAsync()
        {
            using var response = await http.GetAsync("http://shop.example/hello");
            return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
        }
    }

    [Test]
    [NonParallelizable]
    [CancelAfter(180_000)]
    public async Task A_stalled_reader_stops_the_writer_behind_two_sidecars()
    {
        const long Size = 256L << 20;
        const long Allowed = 40L << 20;
        await using var app = await TestApp.StartAsync();
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var payments = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={app.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(payments);
        var checkout = await mesh.JoinAsync("checkout-1", "checkout");
        using var http = Via.Http(checkout.Outbound);
        await http.GetStringAsync("http://payments/hello");
        var before = (checkout.Process.ResidentBytes(), payments.Process.ResidentBytes());

        await using (var stalled = await Via.TcpAsync(checkout.Outbound))
        {
            await stalled.WriteAsync(Encoding.ASCII.GetBytes($"GET /bytes/{Size} HTTP/1.1\r\nHost: payments\r\n\r\n"));
            await stalled.ReadExactlyAsync(new byte[100_000]);

            // Others on the same mesh connection go on meanwhile.
            for (var i = 0; i < 100; i++)
            {
                Assert.That(await http.GetStringAsync("http://payments/hello"), Is.EqualTo("hello from app"));
            }

            Assert.That(checkout.Process.PeakResidentBytes() - before.Item1, Is.LessThan(Allowed), "outbound");
            Assert.That(payments.Process.PeakResidentBytes() - before.Item2, Is.LessThan(Allowed), "inbound");
            long total = 100_000;
            var buffer = new byte[256 * 1024];
            while (total < Size)
            {
                var read = await stalled.ReadAsync(buffer);
                Assert.That(read, Is.Positive, $"ended after {total} bytes");
                total += read;
            }
        }

        // And the other way: a body that is sent faster than the application takes it.
        using var upload = await http.PostAsync("http://payments/count", new StreamContent(new EndlessZeros(Size)));
        Assert.That(await upload.Content.ReadAsStringAsync(), Is.EqualTo($"{Size} 0"));
        Assert.That(checkout.Process.PeakResidentBytes() - before.Item1, Is.LessThan(Allowed), "outbound");
        Assert.That(payments.Process.PeakResidentBytes() - before.Item2, Is.LessThan(Allowed), "inbound");
    }

    [Test]
    [CancelAfter(120_000)]
    public async Task A_full_disk_for_state_is_said_and_the_sidecar_serves()
    {
        Tool.NeedRoot("to mount a small file system");
        var mount = Tool.Need("mount");
        await using var app = await TestApp.StartAsync();
        await using var mesh = await Mesh.StartAsync();
        await mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        var state = Directory.CreateDirectory(mesh.StateDirectory("payments-1")).FullName;
        if ((await ManagedProcess.RunAsync(mount, ["-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", state])) is { ExitCode: not 0 } refused)
        {
            Assert.Ignore($"a tmpfs can not be mounted here: {refused.Errors.Trim()}");
        }

        try
        {
            // Nothing fits any more.
            try
            {
                await File.WriteAllBytesAsync(Path.Combine(state, "filler"), new byte[64 * 1024]);
            }
            catch (IOException)
            {
                // Full, as wanted.
            }

            var payments = await mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={app.Http1Port}");
            await Mesh.WaitUntilRegisteredAsync(payments);
            var line = await payments.Process.LoggedAsync("state_write_failed");
            Assert.That(line.GetProperty("log.level").GetString(), Is.EqualTo("error").Or.EqualTo("warn"));
            Assert.That(line.GetProperty("message").GetString(), Does.Contain(state).Or.Contain("space"));
            var checkout = await mesh.JoinAsync("checkout-1", "checkout");
            using var http = Via.Http(checkout.Outbound);
            Assert.That(await http.GetStringAsync("http://payments/hello"), Is.EqualTo("hello from app"));
            payments.Process.Kill();
            await payments.Process.WaitForExitAsync();
        }
        finally
        {
            await ManagedProcess.RunAsync(Tool.Need("umount"), ["-l", state]);
        }
    }

    private sealed class EndlessZeros(long length) : Stream
    {
        private long _left = length;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            var read = (int)Math.Min(count, _left);
            buffer.AsSpan(offset, read).Clear();
            _left -= read;
            return read;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
