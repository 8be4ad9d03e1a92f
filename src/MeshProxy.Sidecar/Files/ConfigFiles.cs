using System.Security.Cryptography;
using System.Text;
using MeshProxy.Api.Documents;

namespace MeshProxy.Sidecar.Files;

/// <summary>What the files of <c>--config</c> held at one moment.</summary>
/// <param name="Sources">The files in the order they are read: as given, a directory's by name.</param>
/// <param name="Revision">A hash of names and texts: equal when nothing changed, however often the files were touched.</param>
internal sealed record ConfigFiles(IReadOnlyList<DocumentSource> Sources, string Revision)
{
    private static readonly string[] Endings = [".yaml", ".yml", ".json"];

    /// <summary>Reads them all.</summary>
    /// <exception cref="IOException">A file is missing or can not be read.</exception>
    /// <exception cref="UnauthorizedAccessException">A file may not be read.</exception>
    public static ConfigFiles Read(IReadOnlyList<string> paths)
    {
        var sources = new List<DocumentSource>();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var path in paths.SelectMany(Expand))
        {
            var bytes = File.ReadAllBytes(path);
            hash.AppendData(Encoding.UTF8.GetBytes(path));
            hash.AppendData([0]);
            hash.AppendData(bytes);
            hash.AppendData([0]);
            sources.Add(new DocumentSource(path, Encoding.UTF8.GetString(bytes)));
        }

        return new ConfigFiles(sources, Convert.ToHexStringLower(hash.GetHashAndReset())[..16]);
    }

    private static IEnumerable<string> Expand(string path)
    {
        if (!Directory.Exists(path))
        {
            return [path];
        }

        // Names that begin with a dot are editors' and Kubernetes' own ("..data"); what they link to is seen under its visible name.
        return Directory.EnumerateFiles(path)
            .Where(file => Endings.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase) && !Path.GetFileName(file).StartsWith('.'))
            .Order(StringComparer.Ordinal);
    }
}
