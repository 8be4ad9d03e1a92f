using System.CommandLine;
using MeshProxy.Api.Documents;

namespace MeshProxy.Cli;

/// <summary>What -f names: files, directories (their .yaml, .yml and .json files, by name, not below), "-" for standard input.</summary>
internal static class DocumentFiles
{
    private static readonly string[] Extensions = [".yaml", ".yml", ".json"];

    public static Option<string[]> Option(bool isRequired) => new("--filename", "-f")
    {
        Description = "FILE, DIR (its .yaml, .yml and .json files) or - (standard input); may be given several times.",
        HelpName = "FILE|DIR|-",
        Required = isRequired,
        AllowMultipleArgumentsPerToken = false,
        Arity = ArgumentArity.OneOrMore,
    };

    public static List<DocumentSource> Read(IEnumerable<string> names)
    {
        var sources = new List<DocumentSource>();
        foreach (var name in names)
        {
            try
            {
                if (name == "-")
                {
                    sources.Add(new DocumentSource("-", Console.In.ReadToEnd()));
                }
                else if (Directory.Exists(name))
                {
                    var files = Directory.EnumerateFiles(name).Where(file => Extensions.Contains(Path.GetExtension(file))).Order(StringComparer.Ordinal).ToArray();
                    if (files.Length == 0)
                    {
                        throw new CommandException(ExitStatus.Usage, $"{name} has no .yaml, .yml or .json file.");
                    }

                    sources.AddRange(files.Select(file => new DocumentSource(file, File.ReadAllText(file))));
                }
                else
                {
                    sources.Add(new DocumentSource(name, File.ReadAllText(name)));
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new CommandException(ExitStatus.Usage, $"{name} cannot be read: {e.Message}");
            }
        }

        return sources;
    }
}
