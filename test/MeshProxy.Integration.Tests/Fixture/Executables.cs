namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Where the executables under test are: in <c>MESHPROXY_BIN</c> (published ones), otherwise what the build of this project left.</summary>
internal static class Executables
{
    public static string Proxy { get; } = Find("meshproxy", "MeshProxy.Sidecar");

    public static string Control { get; } = Find("meshproxy-control", "MeshProxy.ControlPlane");

    public static string Meshctl { get; } = Find("meshctl", "MeshProxy.Cli");

    public static string RepositoryRoot { get; } = FindRoot();

    private static string Find(string program, string project)
    {
        var published = Environment.GetEnvironmentVariable("MESHPROXY_BIN");
        if (published is { Length: > 0 })
        {
            return Existing(Path.Combine(published, program));
        }

        // bin/<configuration>/net10.0/ of this project: the same two names lead to the others'.
        var output = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd('/'));
        return Existing(Path.Combine(FindRoot(), "src", project, "bin", output.Parent!.Name, output.Name, program));
    }

    private static string Existing(string path) =>
        File.Exists(path) ? Path.GetFullPath(path) : throw new FileNotFoundException($"{path} does not exist: build the solution, or name a directory of published executables in MESHPROXY_BIN");

    private static string FindRoot()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "MeshProxy.sln")))
            {
                return directory.FullName;
            }
        }

        throw new DirectoryNotFoundException("the tests do not run inside a clone of the repository");
    }
}
