using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Google.Protobuf;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.ControlPlane.Tests;

/// <summary>The executable as people run it. MESHPROXY_CONTROL_BINARY names a published (Native AOT) one; otherwise the built one is run.</summary>
[TestFixture]
[Platform(Exclude = "Win")]
internal sealed partial class ProcessTests
{
    private const int Terminate = 15;

    [Test]
    public async Task It_serves_a_whole_life_and_stops_at_SIGTERM()
    {
        using var directory = new TemporaryDirectory();
        using var process = Start("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir", directory.Path, "--workload-certificate-lifetime", "90s");
        try
        {
            var listening = await ReadActionAsync(process, "listening");
            var port = listening.GetProperty("meshproxy.port").GetInt32();
            var bundle = await File.ReadAllTextAsync(Path.Combine(directory.Path, "trust-bundle.pem"));
            using var person = TestControlPlane.Connect(port, bundle, X509Certificate2.CreateFromPemFile(Path.Combine(directory.Path, "operator.pem")));
            var applied = await new Resources.ResourcesClient(person).ApplyAsync(new ApplyRequest { Sources = { new Source { Name = "a.yaml", Text = TestControlPlane.Service("payments") } } });
            Assert.That(applied.Errors, Is.Empty);
            var token = await new Operations.OperationsClient(person).CreateTokenAsync(new CreateTokenRequest { Namespace = "shop", ServiceAccount = "payments" });
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            using var nobody = TestControlPlane.Connect(port, bundle, null);
            var issued = await new Certificates.CertificatesClient(nobody).IssueAsync(new IssueRequest { CsrDer = ByteString.CopyFrom(TestControlPlane.MakeRequest(key)), JoinToken = token.Token });
            using var leaf = X509CertificateLoader.LoadCertificate(issued.ChainDer[0].Span);
            Assert.That(leaf.NotAfter - leaf.NotBefore, Is.LessThan(TimeSpan.FromSeconds(120)));
            using var workload = TestControlPlane.Connect(port, bundle, leaf.CopyWithPrivateKey(key));
            await new Wire.Registry.RegistryClient(workload).RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
            using var sidecar = await TestSidecar.ConnectAsync(workload, "payments-1");
            await sidecar.SubscribeAsync("service/shop/payments");
            var endpoints = await sidecar.ReadUntilAsync(received => received.Endpoints is { Sets: [{ Endpoints.Count: 1 }] });
            Assert.That(endpoints.Endpoints!.Sets[0].Endpoints[0].Id, Is.EqualTo("shop/payments-1"));
            using var http = new HttpClient();
            var metrics = await http.GetStringAsync($"http://127.0.0.1:{listening.GetProperty("meshproxy.metrics_port").GetInt32()}/metrics");
            Assert.That(metrics, Does.Contain("meshproxy_control_sidecars_connected 1").And.Contain("meshproxy_control_leases 1").And.Contain("certificates_issued_total{cause=\"join\"} 1"));

            var stopping = Stopwatch.GetTimestamp();
            Assert.That(Kill(process.Id, Terminate), Is.Zero);
            Assert.That(await sidecar.ReadEndAsync(), Is.EqualTo(StatusCode.Unavailable));
            await process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(10));
            Assert.That(process.ExitCode, Is.Zero);
            Assert.That(Stopwatch.GetElapsedTime(stopping), Is.LessThan(TimeSpan.FromSeconds(6)));
        }
        finally
        {
            End(process);
        }
    }

    [Test]
    public async Task It_ends_with_one_line_when_it_cannot_start_and_with_2_when_misused()
    {
        using var directory = new TemporaryDirectory();
        using (var process = Start("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir", "/proc/nothing/here"))
        {
            var lines = (await process.StandardError.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            await process.WaitForExitAsync();
            Assert.That(process.ExitCode, Is.EqualTo(1));
            Assert.That(lines, Has.Length.EqualTo(1));
            Assert.That(lines[0], Does.Contain("start_failed").And.Contain("--data-dir"));
        }

        using (var taken = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0))
        {
            taken.Start();
            using var process = Start("--listen", taken.LocalEndpoint.ToString()!, "--metrics", "127.0.0.1:0", "--data-dir", Path.Combine(directory.Path, "taken"));
            var lines = (await process.StandardError.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            await process.WaitForExitAsync();
            Assert.That(process.ExitCode, Is.EqualTo(1));
            Assert.That(lines.Where(line => !line.Contains("operator_credential_written", StringComparison.Ordinal)).Single(),
                Does.Contain("start_failed").And.Contain(taken.LocalEndpoint.ToString()).And.Contain("--listen"));
            Directory.Delete(Path.Combine(directory.Path, "taken"), recursive: true);
        }

        using (var process = Start("--listen", "nowhere", "--workload-certificate-lifetime", "soon", "--data-dir", directory.Path))
        {
            var text = await process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            Assert.That(process.ExitCode, Is.EqualTo(2));
            Assert.That(text, Does.Contain("--listen").And.Contain("--workload-certificate-lifetime"));
            Assert.That(Directory.GetFileSystemEntries(directory.Path), Is.Empty);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);

    private static Process Start(params string[] arguments)
    {
        var binary = Environment.GetEnvironmentVariable("MESHPROXY_CONTROL_BINARY");
        var start = new ProcessStartInfo(binary is { Length: > 0 } ? binary : "dotnet") { RedirectStandardError = true };
        if (binary is not { Length: > 0 })
        {
            start.ArgumentList.Add(Path.Combine(TestContext.CurrentContext.TestDirectory, "meshproxy-control.dll"));
        }

        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    private static void End(Process process)
    {
        if (!process.HasExited)
        {
            process.Kill();
        }
    }

    private static async Task<JsonElement> ReadActionAsync(Process process, string action)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (await process.StandardError.ReadLineAsync(deadline.Token) is { } line)
        {
            using var json = JsonDocument.Parse(line);
            if (json.RootElement.GetProperty("event.action").GetString() == action)
            {
                // The rest is read away, so that the pipe never fills.
                _ = process.StandardError.ReadToEndAsync(CancellationToken.None);
                return json.RootElement.Clone();
            }
        }

        throw new EndOfStreamException($"the process ended without '{action}'");
    }
}
