namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>A control plane, its operator, and the sidecars that a test lets join. Ends and removes all of it.</summary>
internal sealed class Mesh : IAsyncDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly List<Proxy> _proxies = [];

    private Mesh()
    {
    }

    public ControlPlane Control { get; private set; } = null!;

    public Meshctl Meshctl => Control.Meshctl;

    public string Directory => _directory.Path;

    public static async Task<Mesh> StartAsync(params string[] controlArguments)
    {
        var mesh = new Mesh();
        mesh.Control = ControlPlane.At(mesh._directory.File("control"), controlArguments);
        try
        {
            await mesh.Control.StartAgainAsync();
            return mesh;
        }
        catch
        {
            await mesh.DisposeAsync();
            throw;
        }
    }

    /// <summary>What every sidecar of a test is started with: free ports and a state directory of its own.</summary>
    public string[] Arguments(string name, string serviceAccount, string tokenFile, params string[] more) =>
    [
        "--control", Control.Address, "--join-token-file", tokenFile, "--namespace", "shop", "--service-account", serviceAccount, "--name", name,
        "--state-dir", StateDirectory(name), "--admin", "0", .. Default(more, "--metrics", "127.0.0.1:0"), .. Default(more, "--outbound", "0"), .. Default(more, "--inbound", "127.0.0.1:0"), .. more,
    ];

    public string StateDirectory(string name) => _directory.File($"state-{name}");

    public string File(string name) => _directory.File(name);

    /// <summary>A file with a fresh token.</summary>
    public async Task<string> TokenFileAsync(string serviceAccount, string ttl = "1h")
    {
        var path = _directory.File($"token-{Guid.NewGuid():N}");
        await System.IO.File.WriteAllTextAsync(path, await Meshctl.CreateTokenAsync(serviceAccount, ttl: ttl) + "\n");
        return path;
    }

    /// <summary>Lets a sidecar join: label <c>app</c> is its service account. Waits until it listens and is ready.</summary>
    public async Task<Proxy> JoinAsync(string name, string serviceAccount, params string[] more)
    {
        var proxy = await LaunchAsync(name, serviceAccount, more);
        await proxy.WaitUntilListeningAsync();
        await proxy.WaitUntilReadyAsync();
        return proxy;
    }

    /// <summary>The same, without waiting for anything.</summary>
    public async Task<Proxy> LaunchAsync(string name, string serviceAccount, params string[] more) =>
        Launch(name, Arguments(name, serviceAccount, await TokenFileAsync(serviceAccount), ["--label", $"app={serviceAccount}", .. more]));

    public Proxy Launch(string name, params string[] arguments)
    {
        var proxy = Proxy.Launch(name, arguments);
        _proxies.Add(proxy);
        return proxy;
    }

    /// <summary>Waits until the sidecar has so many endpoints to choose from for a cluster, "namespace/service:port".</summary>
    public static Task WaitForEndpointsAsync(Proxy from, string cluster, int count) => Eventually.IsTrueAsync(
        async () => (await from.AdminAsync("/clusters")).GetProperty("clusters").EnumerateArray().Any(entry =>
            entry.GetProperty("name").GetString() == cluster
            && entry.GetProperty("endpoints").EnumerateArray().Count(endpoint => endpoint.GetProperty("eligible").GetBoolean()) == count),
        $"{from.Process.Name} has {count} endpoints for {cluster}");

    /// <summary>Waits until the registry has taken the sidecar's workload.</summary>
    public static Task WaitUntilRegisteredAsync(Proxy proxy) => proxy.Process.LoggedAsync("registered");

    /// <summary>Everything that the processes wrote last.</summary>
    public string Report() => string.Join('\n', _proxies.Select(proxy => proxy.Process).Append(Control.Process).Select(process => process.Report()));

    public async ValueTask DisposeAsync()
    {
        foreach (var proxy in _proxies)
        {
            await proxy.DisposeAsync();
        }

        await Control.DisposeAsync();
        _directory.Dispose();
    }

    private static string[] Default(string[] given, string flag, string value) => given.Contains(flag) ? [] : [flag, value];
}
