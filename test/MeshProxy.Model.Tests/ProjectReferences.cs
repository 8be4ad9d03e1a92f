using System.Runtime.CompilerServices;
using System.Xml.Linq;

namespace MeshProxy.Model.Tests;

/// <summary>Which project may know which: each edge that is missing here stops a real mistake (mesh words in a codec, protobuf on the hot path, a control plane
/// that links the data plane).</summary>
public class ProjectReferences
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["MeshProxy.Http"] = [],
        ["MeshProxy.Model"] = [],
        ["MeshProxy.Api"] = ["MeshProxy.Model"],
        ["MeshProxy.DataPlane"] = ["MeshProxy.Http", "MeshProxy.Model"],
        ["MeshProxy.Sidecar"] = ["MeshProxy.DataPlane", "MeshProxy.Api", "MeshProxy.Model"],
        ["MeshProxy.ControlPlane"] = ["MeshProxy.Api", "MeshProxy.Model"],
        ["MeshProxy.Cli"] = ["MeshProxy.Api", "MeshProxy.Model"],
    };

    /// <summary>Packages by the first letters of their names, where a wrong one would do harm.</summary>
    private static readonly Dictionary<string, string[]> ForbiddenPackages = new()
    {
        ["MeshProxy.Http"] = [""],
        ["MeshProxy.Model"] = [""],
        ["MeshProxy.DataPlane"] = ["Grpc", "Google.Protobuf", "YamlDotNet"],
        ["MeshProxy.Cli"] = ["Grpc.AspNetCore"],
        ["MeshProxy.Sidecar"] = ["Grpc.AspNetCore", "Microsoft.Data.Sqlite"],
    };

    [Test]
    public void Every_project_is_known() => Assert.That(Projects().Select(Path.GetFileNameWithoutExtension), Is.EquivalentTo(Allowed.Keys));

    [Test]
    public void No_edge_is_forbidden()
    {
        foreach (var project in Projects())
        {
            var name = Path.GetFileNameWithoutExtension(project);
            var references = Includes(project, "ProjectReference").Select(path => Path.GetFileNameWithoutExtension(path.Replace('\\', '/')));
            Assert.That(references.Except(Allowed.GetValueOrDefault(name, [])), Is.Empty, $"{name} references what it must not know");
        }
    }

    [Test]
    public void No_package_is_forbidden()
    {
        foreach (var project in Projects())
        {
            var name = Path.GetFileNameWithoutExtension(project);
            var forbidden = ForbiddenPackages.GetValueOrDefault(name, []);
            var packages = Includes(project, "PackageReference").Where(package => forbidden.Any(start => package.StartsWith(start, StringComparison.Ordinal)));
            Assert.That(packages, Is.Empty, $"{name} uses a package it must not know");
        }
    }

    [Test]
    public void The_demonstration_starts_executables_and_links_nothing()
    {
        var projects = Directory.GetFiles(Path.Combine(Root(), "deploy", "demo"), "*.csproj", SearchOption.AllDirectories);
        Assert.That(projects, Is.Not.Empty);
        foreach (var project in projects)
        {
            Assert.That(Includes(project, "ProjectReference").Concat(Includes(project, "Reference")), Is.Empty, "it must not link anything of ours");
            var borrowed = XDocument.Load(project).Descendants().SelectMany(element => element.Attributes())
                .Where(attribute => attribute.Name.LocalName is "Include" or "Project" or "Link" && attribute.Value.Replace('\\', '/').Split('/').Contains("src"));
            Assert.That(borrowed, Is.Empty, "it must not take sources of ours either");
        }
    }

    private static IEnumerable<string> Includes(string project, string element) =>
        XDocument.Load(project).Descendants(element).Select(reference => (string?)reference.Attribute("Include")).OfType<string>();

    private static string[] Projects() => Directory.GetFiles(Path.Combine(Root(), "src"), "*.csproj", SearchOption.AllDirectories);

    private static string Root([CallerFilePath] string here = "")
    {
        var folder = Path.GetDirectoryName(here);
        while (folder is not null && !File.Exists(Path.Combine(folder, "MeshProxy.sln")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("MeshProxy.sln is in no folder above the tests.");
    }
}
