using System.Text.RegularExpressions;
using NUnit.Framework;

namespace MeshProxy.Testing;

/// <summary>A Markdown table in a project's README that a test holds against the code: a row for each thing, and no row for what is not there.</summary>
public sealed partial class ReadmeTable
{
    private readonly string _file;
    private readonly string[] _columns;
    private readonly Dictionary<string, string[]> _rows;

    private ReadmeTable(string file, string[] columns, Dictionary<string, string[]> rows)
    {
        _file = file;
        _columns = columns;
        _rows = rows;
    }

    /// <summary>The first cells, without back-ticks, in their order.</summary>
    public IEnumerable<string> Names => _rows.Keys;

    /// <summary>The repository's folder.</summary>
    public static string RepositoryRoot()
    {
        var folder = TestContext.CurrentContext.TestDirectory;
        while (!File.Exists(Path.Combine(folder, "MeshProxy.sln")))
        {
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("MeshProxy.sln is in no folder above the tests.");
        }

        return folder;
    }

    /// <summary>Reads the table below a heading.</summary>
    /// <param name="project">The folder below src.</param>
    /// <param name="heading">The heading's text; the first table after it counts.</param>
    public static ReadmeTable Read(string project, string heading)
    {
        var file = $"src/{project}/README.md";
        var lines = File.ReadAllLines(Path.Combine(RepositoryRoot(), file));
        var table = lines
            .SkipWhile(line => line.TrimStart('#').Trim() != heading || !line.StartsWith('#'))
            .Skip(1)
            .TakeWhile(line => !line.StartsWith('#'))
            .SkipWhile(line => !line.StartsWith('|'))
            .TakeWhile(line => line.StartsWith('|'))
            .Select(Cells)
            .ToArray();
        Assert.That(table, Has.Length.GreaterThan(2), $"{file} has no table below the heading '{heading}'");
        var rows = new Dictionary<string, string[]>(StringComparer.Ordinal);
        foreach (var row in table.Skip(2))
        {
            Assert.That(row, Has.Length.EqualTo(table[0].Length), $"{file}, '{heading}', row {row[0]}: another number of cells than the head");
            Assert.That(rows.TryAdd(row[0], row), Is.True, $"{file}, '{heading}': {row[0]} stands there twice");
        }

        return new ReadmeTable(file, table[0], rows);
    }

    /// <summary>The rows' names must be these, no more and no less.</summary>
    public void MustName(IEnumerable<string> names)
    {
        var wanted = names.ToArray();
        Assert.Multiple(() =>
        {
            Assert.That(wanted.Except(_rows.Keys), Is.Empty, $"{_file} lacks rows for these");
            Assert.That(_rows.Keys.Except(wanted), Is.Empty, $"{_file} has rows for what is not in the code");
        });
    }

    /// <summary>A cell's text; without its back-ticks when it is one piece of code and nothing else.</summary>
    public string Cell(string name, string column)
    {
        var index = Array.IndexOf(_columns, column);
        Assert.That(index, Is.GreaterThanOrEqualTo(0), $"{_file}: the table of {name} has no column '{column}'");
        return _rows[name][index];
    }

    /// <summary>A cell must hold this.</summary>
    public void MustSay(string name, string column, string value) =>
        Assert.That(Cell(name, column), Is.EqualTo(value), $"{_file}: column '{column}' of {name}");

    private static string[] Cells(string line) =>
        [.. Bar().Split(line.Trim().Trim('|')).Select(cell => cell.Replace("\\|", "|", StringComparison.Ordinal).Trim()).Select(cell => CodeAlone().Replace(cell, "$1"))];

    [GeneratedRegex("^`([^`]*)`$")]
    private static partial Regex CodeAlone();

    [GeneratedRegex(@"(?<!\\)\|")]
    private static partial Regex Bar();
}
