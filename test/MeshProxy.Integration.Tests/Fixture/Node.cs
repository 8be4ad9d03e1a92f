using System.Text.Json;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Node.js and the scripts in <c>Node/</c>. <c>npm ci</c> there gives them grpc-js, ws and undici; what is missing is skipped.</summary>
internal sealed class Node : IAsyncDisposable
{
    private readonly ManagedProcess _process;

    private Node(ManagedProcess process, JsonElement ports)
    {
        _process = process;
        (Http1Port, Http2Port, GrpcPort) = (ports.GetProperty("h1").GetInt32(), ports.GetProperty("h2").GetInt32(), ports.GetProperty("grpc").GetInt32());
    }

    /// <summary>http with ws upon it.</summary>
    public int Http1Port { get; }

    /// <summary>http2 with prior knowledge.</summary>
    public int Http2Port { get; }

    /// <summary>grpc-js; 0 where it is not installed.</summary>
    public int GrpcPort { get; }

    private static string Folder => Path.Combine(Executables.RepositoryRoot, "test/MeshProxy.Integration.Tests/Node");

    /// <summary>Starts the upstreams of <c>server.js</c>.</summary>
    public static async Task<Node> StartAsync()
    {
        var process = ManagedProcess.Start("node", Tool.Need("node"), [Path.Combine(Folder, "server.js")]);
        var line = await Eventually.GetAsync(() => Task.FromResult(process.Output.FirstOrDefault()), "node tells its ports");
        return new Node(process, JsonDocument.Parse(line).RootElement.Clone());
    }

    /// <summary>The names of the cases in <c>client.js</c>, from its text: known before anything is started.</summary>
    public static IEnumerable<string> Cases() =>
        Tool.Find("node") is { } node ? ManagedProcess.RunAsync(node, [Path.Combine(Folder, "client.js"), "--list"]).GetAwaiter().GetResult().Output.Split('\n', StringSplitOptions.RemoveEmptyEntries) : ["node is not installed"];

    /// <summary>Runs every case of <c>client.js</c> against a gateway: for each its line.</summary>
    public static async Task<Dictionary<string, JsonElement>> RunCasesAsync(int port)
    {
        var (_, output, errors) = await ManagedProcess.RunAsync(Tool.Need("node"), [Path.Combine(Folder, "client.js"), $"{port}"], TimeSpan.FromSeconds(120));
        TestContext.Out.WriteLine(errors);
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement.Clone()).ToDictionary(line => line.GetProperty("name").GetString()!);
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}
