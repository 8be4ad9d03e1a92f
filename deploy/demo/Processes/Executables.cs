using System.Diagnostics;

namespace MeshProxy.Demo.Processes;

/// <summary>Where the three executables are: built from this repository, or published ones that the caller names.</summary>
internal sealed record Executables(string Proxy, string ControlPlane, string Cli)
{
    /// <summary>The executables in <paramref name="directory"/>, side by side as <c>deploy/publish</c> leaves them.</summary>
    /// <exception cref="DemoFailure">One of them is not there.</exception>
    public static Executables In(string directory) => new(
        Existing(Path.Combine(directory, "meshproxy")),
        Existing(Path.Combine(directory, "meshproxy-control")),
        Existing(Path.Combine(directory, "meshctl")));

    /// <summary>Builds them in Release and returns them. What the build says is shown only when it fails.</summary>
    public static async Task<Executables> BuildAsync(CancellationToken token)
    {
        var root = FindRepositoryRoot();
        var start = new ProcessStartInfo("dotnet") { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        // No node reuse and no shared compiler: nothing may be left running when the demonstration has ended.
        string[] arguments =
        [
            "build", Path.Combine(root, "deploy", "demo", "executables.slnf"), "-c", "Release", "-v", "quiet", "--nologo",
            "-nodeReuse:false", "-p:UseSharedCompilation=false",
        ];
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using var build = Process.Start(start)!;
        try
        {
            var output = build.StandardOutput.ReadToEndAsync(token);
            var errors = build.StandardError.ReadToEndAsync(token);
            await build.WaitForExitAsync(token);
            if (build.ExitCode != 0)
            {
                throw new DemoFailure($"the build of the executables failed:\n{await output}{await errors}");
            }
        }
        catch (OperationCanceledException)
        {
            build.Kill(entireProcessTree: true);
            throw;
        }

        return new Executables(
            Built(root, "MeshProxy.Sidecar", "meshproxy"), Built(root, "MeshProxy.ControlPlane", "meshproxy-control"), Built(root, "MeshProxy.Cli", "meshctl"));
    }

    private static string Built(string root, string project, string program) =>
        Existing(Path.Combine(root, "src", project, "bin", "Release", "net10.0", program));

    private static string Existing(string file) =>
        File.Exists(file) ? Path.GetFullPath(file) : throw new DemoFailure($"{file} does not exist (publish the executables with deploy/publish)");

    private static string FindRepositoryRoot()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "MeshProxy.sln")))
            {
                return directory.FullName;
            }
        }

        throw new DemoFailure("this is not inside a clone of the repository; name the executables with --bin DIR");
    }
}
