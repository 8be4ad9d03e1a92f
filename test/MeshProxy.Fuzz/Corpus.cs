using System.Reflection;

namespace MeshProxy.Fuzz;

/// <summary>An input that is kept: where fuzzing starts, and what once was a finding.</summary>
/// <param name="Name">What it shows.</param>
/// <param name="Input">Its bytes.</param>
public sealed record Seed(string Name, byte[] Input);

/// <summary>The seeds of each target: <c>Corpora/{target}.txt</c>, a line <c>name: bytes</c> for each (<see cref="Escaped"/>); "#" begins a comment.</summary>
public static class Corpus
{
    /// <summary>Reads a target's seeds.</summary>
    public static IReadOnlyList<Seed> Of(FuzzTarget target) => [.. Lines($"Corpora/{target.Name}").Select(Parse)];

    /// <summary>The lines of a resource that are no comment.</summary>
    internal static IEnumerable<string> Lines(string resource)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(resource) ?? throw new FileNotFoundException(resource);
        using var reader = new StreamReader(stream);
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#')];
    }

    private static Seed Parse(string line)
    {
        var end = line.IndexOf(": ", StringComparison.Ordinal);
        return new Seed(line[..end], Escaped.Read(line[(end + 2)..]));
    }
}
