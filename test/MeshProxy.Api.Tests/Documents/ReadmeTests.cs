using System.Reflection;
using System.Text.RegularExpressions;
using MeshProxy.Api.Documents;
using MeshProxy.Testing;

namespace MeshProxy.Api.Tests.Documents;

public partial class ReadmeTests
{
    private const string Project = "MeshProxy.Api";

    [Test]
    public void Every_limit_stands_in_the_readme() => ReadmeLimits.Check(Project, ReadmeLimits.In(typeof(DocumentLimits).Assembly));

    [Test]
    public void Every_kind_stands_in_the_readme_with_its_versions()
    {
        var table = ReadmeTable.Read(Project, "Documents");
        table.MustName(DocumentKinds.All);
        var versions = typeof(DocumentReader).GetMethod("Versions", BindingFlags.Static | BindingFlags.NonPublic)!;
        Assert.Multiple(() =>
        {
            foreach (var kind in DocumentKinds.All)
            {
                table.MustSay(kind, "apiVersion", string.Join(", ", (string[])versions.Invoke(null, [kind])!));
            }
        });
    }

    [Test]
    public void Every_field_that_is_ignored_stands_in_the_readme()
    {
        var documented = FieldsOf("Ignored");
        var ignored = Sources().SelectMany(source => IgnoreCall().Matches(source)).SelectMany(call => Literal().Matches(call.Value)).Select(name => name.Groups[1].Value).ToArray();
        Assert.Multiple(() =>
        {
            Assert.That(ignored, Has.Length.GreaterThan(30));
            Assert.That(ignored.Except(documented), Is.Empty, "not in the README");
            Assert.That(documented.Except(ignored), Is.Empty, "not in the code");
        });
    }

    [Test]
    public void Every_field_that_is_refused_stands_in_the_readme()
    {
        var documented = FieldsOf("Refused");
        var refused = Sources()
            .SelectMany(source => RefuseCall().Matches(source).Concat(RefusedFilter().Matches(source)))
            .Select(call => call.Groups[1].Value)
            .Distinct().ToArray();
        Assert.Multiple(() =>
        {
            Assert.That(refused, Has.Length.GreaterThan(15));
            Assert.That(refused.Where(name => !documented.Any(text => text == name || text.EndsWith("." + name, StringComparison.Ordinal) || text.StartsWith(name + ":", StringComparison.Ordinal)
                || text.Contains($".{name}:", StringComparison.Ordinal))), Is.Empty, "not in the README");
        });
    }

    private static string[] FieldsOf(string heading)
    {
        var table = ReadmeTable.Read(Project, heading);
        var column = heading == "Ignored" ? "fields" : "fields and values";
        return [.. table.Names.Select(name => table.Cell(name, column)).SelectMany(cell => cell.Contains('`') ? BackTicks().Matches(cell).Select(match => match.Groups[1].Value) : [cell]).Distinct()];
    }

    private static IEnumerable<string> Sources()
    {
        var folder = Path.Combine(ReadmeTable.RepositoryRoot(), "src", Project, "Documents");
        return Directory.EnumerateFiles(Path.Combine(folder, "Binding"), "*.cs").Append(Path.Combine(folder, "DocumentReader.cs")).Select(File.ReadAllText);
    }

    [GeneratedRegex(@"\.Ignore\(\s*""[^)]*\)")]
    private static partial Regex IgnoreCall();

    [GeneratedRegex("\"([A-Za-z]+)\"")]
    private static partial Regex Literal();

    [GeneratedRegex("(?<!Scope)\\.NotImplemented\\(\\s*\"([A-Za-z]+)\"")]
    private static partial Regex RefuseCall();

    [GeneratedRegex("\\(\"([A-Za-z]+)\", \"[A-Za-z]+\", \"[^\"]*not implemented")]
    private static partial Regex RefusedFilter();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex BackTicks();
}
