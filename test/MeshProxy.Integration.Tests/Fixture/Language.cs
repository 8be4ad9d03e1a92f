using System.Text.Json;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>
/// Peers in another language: a folder with a server, which prints its upstreams' ports as one JSON object (0 for what is not installed), and a client, which runs cases
/// against a port and prints one line for each. What is missing is skipped with the reason.
/// </summary>
internal sealed class Language
{
    /// <summary>Node.js: http, http2, ws, undici, grpc-js. <c>npm ci</c> in the folder installs the packages.</summary>
    public static readonly Language NodeJs = new("Node", "js", Tool.Find("node"));

    /// <summary>Python: grpcio, websockets. Debian's own Python is the one that Debian's packages are for, whatever comes first on the path.</summary>
    public static readonly Language Python = new("Python", "py", File.Exists("/usr/bin/python3") ? "/usr/bin/python3" : Tool.Find("python3"), "-B");

    private readonly string _name;
    private readonly string _extension;
    private readonly string? _program;
    private readonly string[] _options;

    private Language(string name, string extension, string? program, params string[] options) => (_name, _extension, _program, _options) = (name, extension, program, options);

    public bool IsInstalled => _program is not null;

    public override string ToString() => _name;

    /// <summary>Starts the server: it and its ports. Null where the language is missing.</summary>
    public async Task<(ManagedProcess Process, Dictionary<string, int> Ports)?> StartServerAsync()
    {
        if (_program is null)
        {
            return null;
        }

        var process = ManagedProcess.Start(_name, _program, [.. _options, Script("server")]);
        var line = await Eventually.GetAsync(() => Task.FromResult(process.Output.FirstOrDefault()), $"{_name} tells its ports");
        return (process, JsonSerializer.Deserialize<Dictionary<string, int>>(line)!);
    }

    /// <summary>The names of the client's cases, from its text: known before anything is started.</summary>
    public IEnumerable<string> Cases() =>
        _program is null ? [$"{_name} is not installed"] : Lines(ManagedProcess.RunAsync(_program, [.. _options, Script("client"), "--list"]).GetAwaiter().GetResult().Output);

    /// <summary>Runs every case against a port: for each its line.</summary>
    public async Task<Dictionary<string, JsonElement>> RunCasesAsync(int port, IEnumerable<string> missing)
    {
        if (_program is null)
        {
            return [];
        }

        var (_, output, errors) = await ManagedProcess.RunAsync(_program, [.. _options, Script("client"), $"{port}", .. missing], TimeSpan.FromSeconds(120));
        TestContext.Out.WriteLine(errors);
        return Lines(output).Select(line => JsonDocument.Parse(line).RootElement.Clone()).ToDictionary(line => line.GetProperty("name").GetString()!);
    }

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private string Script(string name) => Path.Combine(Executables.RepositoryRoot, "test/MeshProxy.Integration.Tests", _name, $"{name}.{_extension}");
}
