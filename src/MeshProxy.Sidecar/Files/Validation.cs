using MeshProxy.Api.Compilation;

namespace MeshProxy.Sidecar.Files;

/// <summary><c>meshproxy validate FILE...</c></summary>
internal static class Validation
{
    /// <summary>Checks documents; errors go to <paramref name="errors"/>, one a line, naming file, line, document and field.</summary>
    /// <returns>The exit status: 0 valid, 1 not.</returns>
    public static int Run(IReadOnlyList<string> paths, TextWriter output, TextWriter errors)
    {
        ConfigFiles files;
        try
        {
            files = ConfigFiles.Read(paths);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            errors.WriteLine(exception.Message);
            return 1;
        }

        var (config, problems) = FileConfiguration.Compile(files.Sources, files.Revision, out var warnings);
        foreach (var problem in problems)
        {
            errors.WriteLine(problem);
        }

        if (config is null || problems.Length > 0)
        {
            return 1;
        }

        foreach (var warning in warnings)
        {
            errors.WriteLine($"warning: {warning}");
        }

        output.WriteLine($"Valid. Files: {files.Sources.Count}, listeners: {config.Listeners.Length}, services: {config.Destinations.Count}.");
        return 0;
    }
}
