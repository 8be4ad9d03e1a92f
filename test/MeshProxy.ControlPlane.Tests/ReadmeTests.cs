using System.CommandLine;
using System.CommandLine.Help;
using System.Reflection;
using System.Text.RegularExpressions;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Testing;
using Prometheus;

namespace MeshProxy.ControlPlane.Tests;

internal sealed partial class ReadmeTests
{
    private const string Project = "MeshProxy.ControlPlane";

    [Test]
    public void Every_limit_stands_in_the_readme()
    {
        var limits = ReadmeLimits.In(typeof(ControlPlaneLimits).Assembly);
        ReadmeLimits.Add(limits, typeof(SigningRequest), "MaxBytes");
        ReadmeLimits.Check(Project, limits);
    }

    [Test]
    public void Every_flag_stands_in_the_readme_with_its_variable_and_default()
    {
        var flags = OptionsOf(ControlPlaneCommand.Create());
        var table = ReadmeTable.Read(Project, "Flags");
        table.MustName(flags.Select(flag => flag.Name));
        Assert.Multiple(() =>
        {
            foreach (var flag in flags)
            {
                var fallback = flag.GetDefaultValue();
                table.MustSay(flag.Name, "default", fallback is string text ? text : "-");
                table.MustSay(flag.Name, "variable", "MESHPROXY_CONTROL_" + flag.Name[2..].Replace('-', '_').ToUpperInvariant());
            }
        });
    }

    [Test]
    public void Every_metric_stands_in_the_readme()
    {
        var meters = new ControlMeters();
        var collectors = typeof(ControlMeters).GetFields(BindingFlags.Instance | BindingFlags.NonPublic)
            .Select(field => field.GetValue(meters)).OfType<Collector>().ToArray();
        var table = ReadmeTable.Read(Project, "Metrics endpoint");
        table.MustName(collectors.Select(collector => collector.Name));
        Assert.Multiple(() =>
        {
            foreach (var collector in collectors)
            {
                table.MustSay(collector.Name, "labels", collector.LabelNames.Length == 0 ? "-" : string.Join(", ", collector.LabelNames));
            }
        });
    }

    [Test]
    public void Every_event_stands_in_the_readme()
    {
        var sources = Directory.EnumerateFiles(Path.Combine(ReadmeTable.RepositoryRoot(), "src", Project), "*.cs", SearchOption.AllDirectories).Select(File.ReadAllText);
        ReadmeTable.Read(Project, "Log").MustName(sources.SelectMany(source => LogCall().Matches(source)).Select(call => call.Groups[1].Value).Distinct());
    }

    // The command line has no test project of its own: its types are reached by name.
    [Test]
    public void Every_verb_of_meshctl_stands_in_its_readme()
    {
        var root = (RootCommand)Cli("MeshCommand").GetMethod("Create", BindingFlags.Static | BindingFlags.Public)!.Invoke(null, null)!;
        var verbs = root.Subcommands
            .SelectMany(command => command.Subcommands.Count == 0 ? [(command.Name, command)] : command.Subcommands.Select(verb => ($"{command.Name} {verb.Name}", verb)))
            .ToDictionary(pair => pair.Item1, pair => pair.Item2);
        var table = ReadmeTable.Read("MeshProxy.Cli", "Verbs");
        table.MustName(verbs.Keys);
        Assert.Multiple(() =>
        {
            foreach (var (name, verb) in verbs)
            {
                var options = OptionsOf(verb).Select(option => option.Name).ToArray();
                var documented = Option().Matches(table.Cell(name, "options")).Select(match => match.Value);
                Assert.That(documented, Is.EquivalentTo(options), name);
            }
        });
    }

    [Test]
    public void Every_exit_status_of_meshctl_stands_in_its_readme()
    {
        var table = ReadmeTable.Read("MeshProxy.Cli", "Exit status");
        var statuses = Cli("ExitStatus").GetFields().ToDictionary(field => field.GetValue(null)!.ToString()!, field => field.Name);
        table.MustName(statuses.Keys);
        foreach (var (status, name) in statuses)
        {
            table.MustSay(status, "name", name);
        }
    }

    [Test]
    public void Every_limit_of_meshctl_stands_in_its_readme()
    {
        var limits = new Dictionary<string, object?>();
        ReadmeLimits.Add(limits, Cli("ServerConnection"), "ConnectTimeout", "CallTimeout");
        ReadmeLimits.Check("MeshProxy.Cli", limits);
    }

    private static Type Cli(string name) => Assembly.Load("meshctl").GetType("MeshProxy.Cli." + name, throwOnError: true)!;

    private static Option[] OptionsOf(Command command) => [.. command.Options.Where(option => option is not (HelpOption or VersionOption) && !option.Recursive)];

    [GeneratedRegex("""\b_?log\.(?:Info|Warn|Error)\(\s*"([a-z_]+)""")]
    private static partial Regex LogCall();

    [GeneratedRegex("--[a-z-]+")]
    private static partial Regex Option();
}
