using System.Runtime.CompilerServices;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>Reads the <c>using</c> lines of the data plane: edges between its folders go one way only.</summary>
internal sealed class FolderEdgeTests
{
    // root files -> Listening, Forwarding -> Snapshots -> Routing -> Policy, Clusters -> Upstream -> Transport -> Identity -> Failures, Telemetry
    private static readonly string[][] Ranks =
        [["Listening", "Forwarding"], ["Snapshots"], ["Routing"], ["Policy", "Clusters", "Clusters.Balancing"], ["Upstream"], ["Transport"], ["Identity"], ["Failures", "Telemetry"]];

    // Telemetry names failures by their flags; nothing else crosses within a rank, but a folder and its own subfolder.
    private static readonly (string From, string To)[] Allowed = [("Telemetry", "Failures"), ("Clusters", "Clusters.Balancing")];

    [Test]
    public void Folders_use_only_what_is_below_them()
    {
        var root = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../../../src/MeshProxy.DataPlane"));
        var forbidden = new List<string>();
        foreach (var file in Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories).Where(file => !file.Contains("/obj/", StringComparison.Ordinal)))
        {
            var folder = Path.GetRelativePath(root, Path.GetDirectoryName(file)!).Replace('/', '.');
            foreach (var used in File.ReadLines(file).Where(line => line.StartsWith("using MeshProxy.DataPlane.", StringComparison.Ordinal)).Select(line => line["using MeshProxy.DataPlane.".Length..^1]))
            {
                if (used != folder && folder != "." && Rank(used) <= Rank(folder) && !Allowed.Contains((folder, used)))
                {
                    forbidden.Add($"{Path.GetRelativePath(root, file)} uses {used}");
                }
            }
        }

        Assert.That(forbidden, Is.Empty);
    }

    private static int Rank(string folder) => Array.FindIndex(Ranks, rank => rank.Contains(folder)) is >= 0 and var rank
        ? rank
        : throw new InvalidOperationException($"The folder {folder} has no place in the order yet: give it one here and in ARCHITECTURE.md.");

    private static string Here([CallerFilePath] string path = "") => path;
}
