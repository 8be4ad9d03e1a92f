using System.Net;
using MeshProxy.DataPlane.Transport;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Tests;

internal sealed class CommandTests
{
    private const string Mesh = "--control cp:15012 --namespace shop --service-account pay --name pay-1";

    [Test]
    public void DefaultsAreTheDocumentedPorts()
    {
        var options = Read("--config gateway.yaml");
        Assert.Multiple(() =>
        {
            Assert.That(options.ConfigPaths, Is.EqualTo(new[] { "gateway.yaml" }));
            Assert.That(options.Outbound, Is.EqualTo(new IPEndPoint(IPAddress.Loopback, 15001)));
            Assert.That(options.Inbound, Is.Null, "there is no inbound outside a mesh");
            Assert.That(options.Admin, Is.EqualTo(new IPEndPoint(IPAddress.Loopback, 15000)));
            Assert.That(options.Metrics!.Port, Is.EqualTo(15020));
            Assert.That(options.DrainTimeout, Is.EqualTo(TimeSpan.FromSeconds(25)));
            Assert.That(options.AccessLog, Is.EqualTo("stdout"));
            Assert.That(options.MemoryBudgetBytes, Is.EqualTo(MemoryBudget.DefaultBytes));
            Assert.That(options.AllowEgress, Is.False);
        });
    }

    [Test]
    public void EveryMeshFlagIsRead()
    {
        var options = Read(Mesh + " --join-token-file t --label app=pay --label v=1 --app-port http=8080 --locality eu/a --weight 3 --address 10.0.0.1"
            + " --upstream ledger-db=5432 --upstream x.other:81=0 --gateway edge --outbound off --inbound 0 --admin 127.0.0.1:0 --metrics [::1]:9 --state-dir s"
            + " --mtls permissive --egress allow --access-log none --log-level debug --drain-timeout 1500ms --memory-budget 64Mi --app-probe live=8080/healthz --app-probe g=grpc:9 --app-probe t=tcp:7");
        var mesh = options.Mesh!;
        Assert.Multiple(() =>
        {
            Assert.That(mesh.Workload.ToString(), Is.EqualTo("shop/pay-1"));
            Assert.That(mesh.Labels["v"], Is.EqualTo("1"));
            Assert.That(mesh.AppPorts, Is.EqualTo(new[] { ("http", 8080) }));
            Assert.That(mesh.Weight, Is.EqualTo(3));
            Assert.That(mesh.Gateway, Is.EqualTo("edge"));
            Assert.That(options.Outbound, Is.Null);
            Assert.That(options.Inbound!.Port, Is.Zero);
            Assert.That(options.Metrics, Is.EqualTo(new IPEndPoint(IPAddress.IPv6Loopback, 9)));
            Assert.That(options.Upstreams.Select(upstream => (upstream.Service, upstream.LocalPort)), Is.EqualTo(new[] { ("ledger-db", 5432), ("x.other:81", 0) }));
            Assert.That(options.LogLevel, Is.EqualTo(LogLevel.Debug));
            Assert.That(options.DrainTimeout, Is.EqualTo(TimeSpan.FromMilliseconds(1500)));
            Assert.That(options.MemoryBudgetBytes, Is.EqualTo(64 << 20));
            Assert.That(options.AppProbes, Is.EqualTo(new[]
            {
                new AppProbe("live", AppProbeKind.Http, 8080, "/healthz"), new AppProbe("g", AppProbeKind.Grpc, 9, "/"), new AppProbe("t", AppProbeKind.Tcp, 7, "/"),
            }));
        });
    }

    [Test]
    public void AFlagBeatsTheEnvironmentAndThatBeatsTheDefault()
    {
        var environment = new Dictionary<string, string> { ["MESHPROXY_CONFIG"] = "a.yaml, b.yaml", ["MESHPROXY_ADMIN"] = "1", ["MESHPROXY_METRICS"] = "2" };
        var options = Read("--admin 3", environment);
        Assert.Multiple(() =>
        {
            Assert.That(options.ConfigPaths, Is.EqualTo(new[] { "a.yaml", "b.yaml" }));
            Assert.That(options.Admin!.Port, Is.EqualTo(3));
            Assert.That(options.Metrics!.Port, Is.EqualTo(2));
        });
    }

    [TestCase("", "--config")]
    [TestCase("--config a --control b:1 --namespace n --service-account s --name x", "exclude")]
    [TestCase("--control cp:15012 --namespace shop --name x", "--service-account is required")]
    [TestCase("--control cp --namespace shop --name x --service-account s", "--control: 'cp' is not HOST:PORT")]
    [TestCase("--config a --admin 99999", "--admin")]
    [TestCase("--config a --outbound 0.0.0.0:1", "--outbound")]
    [TestCase("--config a --drain-timeout 25", "--drain-timeout")]
    [TestCase("--config a --memory-budget 0", "--memory-budget: '0' is no size of at least 1Mi")]
    [TestCase("--config a --memory-budget 1023Ki", "at least 1Mi")]
    [TestCase("--config a --memory-budget 64MB", "such as 64Mi or 1Gi")]
    [TestCase("--config a --memory-budget 1.5Gi", "'1.5Gi' is no size")]
    [TestCase("--config a --memory-budget Mi", "'Mi' is no size")]
    [TestCase("--config a --memory-budget 99999999999Gi", "is no size")]
    [TestCase("--config a --memory-budget 1000000Gi", "'1000000Gi' is more than this process may use: ")]
    [TestCase("--config a --mtls maybe", "strict, permissive")]
    [TestCase("--config a --upstream db", "--upstream")]
    [TestCase("--config a --app-probe live=/x", "--app-probe")]
    [TestCase(Mesh + " --address localhost", "--address")]
    [TestCase(Mesh + " --label x", "--label")]
    public void WhatIsWrongIsNamed(string line, string expected)
    {
        var (options, errors) = Parse(line, []);
        Assert.That(options, Is.Null);
        Assert.That(string.Join('\n', errors), Does.Contain(expected));
    }

    [TestCase("1048576", 1L << 20)]
    [TestCase("1024Ki", 1L << 20)]
    [TestCase("1Mi", 1L << 20)]
    [TestCase("1Gi", 1L << 30)]
    public void SizesAreQuantitiesWithBinarySuffixes(string text, long bytes) =>
        Assert.That(Read("", new Dictionary<string, string> { ["MESHPROXY_CONFIG"] = "a", ["MESHPROXY_MEMORY_BUDGET"] = text }).MemoryBudgetBytes, Is.EqualTo(bytes));

    [TestCase("ledger-db", "shop/ledger-db")]
    [TestCase("ledger-db:5432", "shop/ledger-db")]
    [TestCase("ledger-db.other", "other/ledger-db")]
    [TestCase("ledger-db.other.svc.cluster.local:1", "other/ledger-db")]
    public void UpstreamNamesAreResolvedInTheOwnNamespace(string text, string expected) =>
        Assert.That(Sidecar.ServiceOf(text, "shop").ToString(), Is.EqualTo(expected));

    private static SidecarOptions Read(string line, Dictionary<string, string>? environment = null)
    {
        var (options, errors) = Parse(line, environment ?? []);
        Assert.That(errors, Is.Empty);
        return options!;
    }

    private static (SidecarOptions?, IReadOnlyList<string>) Parse(string line, Dictionary<string, string> environment)
    {
        var command = new SidecarCommand(environment.GetValueOrDefault, _ => Task.FromResult(0));
        var parsed = command.Root.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.That(parsed.Errors, Is.Empty);
        return command.Read(parsed);
    }
}
