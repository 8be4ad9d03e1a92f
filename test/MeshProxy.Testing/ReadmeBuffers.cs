using System.Text.RegularExpressions;

namespace MeshProxy.Testing;

/// <summary>Holds the table "Buffers" of a project's README against the sources: every file that makes memory grow by what peers send stands there with its bound.</summary>
public static partial class ReadmeBuffers
{
    /// <summary>Files below src/<paramref name="project"/> in which something grows, and no others, must be named; <paramref name="fixedSizes"/> hold nothing that does.</summary>
    public static void Check(string project, params string[] fixedSizes)
    {
        var root = Path.Combine(ReadmeTable.RepositoryRoot(), "src", project);
        var growing = Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories)
            .Where(file => !Path.GetRelativePath(root, file).Split('/').Any(part => part is "obj" or "bin"))
            .Where(file => File.ReadLines(file).Any(line => !line.TrimStart().StartsWith("//", StringComparison.Ordinal) && Growth().IsMatch(line)))
            .Select(file => Path.GetFileName(file))
            .Except(fixedSizes);
        var table = ReadmeTable.Read(project, "Buffers");
        table.MustName(growing);
        foreach (var name in table.Names)
        {
            NUnit.Framework.Assert.That(table.Cell(name, "bound"), NUnit.Framework.Is.Not.Empty, name);
        }
    }

    [GeneratedRegex(@"new byte\[[^\]0-9]|Array\.Resize\(|ArrayPool<byte>\.Shared\.Rent|\.Rent\(|List<byte>|ArrayBufferWriter|new MemoryStream")]
    private static partial Regex Growth();
}
