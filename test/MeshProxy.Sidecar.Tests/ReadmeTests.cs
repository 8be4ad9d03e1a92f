using System.CommandLine;
using System.CommandLine.Help;
using System.Reflection;
using System.Text.RegularExpressions;
using MeshProxy.Sidecar.Admin;
using MeshProxy.Api.Joining;
using MeshProxy.Sidecar.Certificates;
using MeshProxy.Sidecar.Discovery;
using MeshProxy.Sidecar.Files;
using MeshProxy.Sidecar.Logging;
using MeshProxy.Sidecar.Registry;
using MeshProxy.Testing;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Tests;

internal sealed partial class ReadmeTests
{
    private const string Project = "MeshProxy.Sidecar";

    [Test]
    public void EveryFlagStandsInTheReadmeWithItsVariableAndDefault()
    {
        var asked = new List<string>();
        var command = new SidecarCommand(
            name =>
            {
                asked.Add(name);
                return null;
            },
            _ => Task.FromResult(0));
        command.Read(command.Root.Parse("--control cp:1"));
        var flags = command.Root.Options.Where(option => option is not (HelpOption or VersionOption)).ToArray();
        var table = ReadmeTable.Read(Project, "Flags");
        table.MustName(flags.Select(flag => flag.Name));
        var defaultOf = typeof(SidecarCommand).GetMethod("Default", BindingFlags.Static | BindingFlags.NonPublic)!;
        Assert.Multiple(() =>
        {
            foreach (var flag in flags)
            {
                var fallback = (string?)defaultOf.Invoke(null, [flag.Name]);
                table.MustSay(flag.Name, "default", fallback is null or "" ? "-" : fallback);
                if (flag.Name != "--control")
                {
                    Assert.That(asked, Does.Contain(table.Cell(flag.Name, "variable")), flag.Name);
                }
            }
        });
    }

    [Test]
    public void TheVariablesInTheReadmeAreRead()
    {
        var command = new SidecarCommand(name => name == ReadmeTable.Read(Project, "Flags").Cell("--control", "variable") ? "nonsense" : null, _ => Task.FromResult(0));
        Assert.That(command.Read(command.Root.Parse("")).Errors, Has.Some.Contains("'nonsense' is not HOST:PORT"));
    }

    [Test]
    public void EveryAdminPageStandsInTheReadme() => ReadmeTable.Read(Project, "Admin endpoint").MustName(
        Routes().Matches(Source("AdminPages.cs")).Select(match => $"{match.Groups[1].Value} {match.Groups[2].Value}").Distinct());

    [Test]
    public void EveryMetricsPageStandsInTheReadme() => ReadmeTable.Read(Project, "Metrics endpoint").MustName(
        Paths().Matches(Source("MetricsPages.cs")).Select(match => match.Groups[1].Value).Distinct());

    [Test]
    public void EveryEventStandsInTheReadme() => ReadmeTable.Read(Project, "Own log").MustName(
        typeof(LogEvents).GetFields().Select(field => ((EventId)field.GetValue(null)!).Name!));

    [Test]
    public void EveryLimitStandsInTheReadme()
    {
        var limits = ReadmeLimits.In(typeof(SidecarCommand).Assembly);
        ReadmeLimits.Add(limits, typeof(Subscriptions), "DefaultMaximum", "IdleExpiry", "NegativeExpiry", "EvictableAfter");
        ReadmeLimits.Add(limits, typeof(DiscoveryClient), "DemandTimeout", "EndpointsTimeout");
        ReadmeLimits.Add(limits, typeof(RegistryClient), "CallTimeout", "DefaultHeartbeat");
        ReadmeLimits.Add(limits, typeof(CertificateClient), "CallTimeout", "FirstRetry", "MaxRetry");
        ReadmeLimits.Add(limits, typeof(AppProber), "Timeout");
        ReadmeLimits.Add(limits, typeof(FileSource), "Interval");
        ReadmeLimits.Add(limits, typeof(JsonLog), "MaxQueued");
        ReadmeLimits.Add(limits, typeof(MemoryTrim), "LeastGarbageBytes", "QuietBytes", "MostHeapBytes");
        ReadmeLimits.Add(limits, typeof(JoinToken), "MaxLength");
        ReadmeLimits.Check(Project, limits);
    }

    private static string Source(string file) => File.ReadAllText(Path.Combine(ReadmeTable.RepositoryRoot(), "src", Project, "Admin", file));

    [GeneratedRegex("""\("(GET|POST)", "(/[a-z-]*)"\) =>""")]
    private static partial Regex Routes();

    [GeneratedRegex("\"(/[a-z-]+/?)\"")]
    private static partial Regex Paths();
}
