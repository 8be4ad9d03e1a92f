using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>A running <c>meshproxy</c> and its ports.</summary>
internal sealed partial class Proxy : IAsyncDisposable
{
    private static readonly HttpClient s_http = new(new SocketsHttpHandler { UseProxy = false }) { Timeout = TimeSpan.FromSeconds(10) };
    private readonly Dictionary<string, IPEndPoint> _listeners = [];

    private Proxy(ManagedProcess process) => Process = process;

    public ManagedProcess Process { get; }

    public int Outbound => _listeners["outbound"].Port;

    public int Inbound => _listeners["inbound"].Port;

    public int Admin => _listeners["admin"].Port;

    public int Metrics => _listeners["metrics"].Port;

    /// <summary>Every listener by the name that the proxy gives it.</summary>
    public IReadOnlyDictionary<string, IPEndPoint> Listeners => _listeners;

    /// <summary>Starts it and waits until it listens.</summary>
    public static async Task<Proxy> StartAsync(string name, params string[] arguments)
    {
        var proxy = Launch(name, arguments);
        await proxy.WaitUntilListeningAsync();
        return proxy;
    }

    /// <summary>Starts it and waits for nothing.</summary>
    public static Proxy Launch(string name, params string[] arguments) => new(ManagedProcess.Start(name, Executables.Proxy, arguments));

    /// <summary>Starts it inside a network namespace and waits until it listens; the ports are reachable from there alone.</summary>
    public static async Task<Proxy> StartInNamespaceAsync(string name, string networkNamespace, params string[] arguments)
    {
        var proxy = new Proxy(ManagedProcess.Start(name, Tool.Need("ip"), ["netns", "exec", networkNamespace, Executables.Proxy, .. arguments]));
        try
        {
            await proxy.WaitUntilListeningAsync();
            return proxy;
        }
        catch
        {
            await proxy.DisposeAsync();
            throw;
        }
    }

    /// <summary>A gateway from files, everything else off or on free ports.</summary>
    public static Task<Proxy> StartGatewayAsync(string config, params string[] more) =>
        StartAsync("gateway", ["--config", config, "--outbound", "off", "--admin", "0", "--metrics", "127.0.0.1:0", .. more]);

    public async Task WaitUntilListeningAsync()
    {
        var line = await Process.LoggedAsync("listening");
        foreach (Match listener in ListenerPattern().Matches(line.GetProperty("meshproxy.listeners").GetString()!))
        {
            _listeners[listener.Groups["name"].Value] = IPEndPoint.Parse(listener.Groups["at"].Value);
        }
    }

    public async Task<JsonElement> AdminAsync(string path)
    {
        using var json = JsonDocument.Parse(await s_http.GetStringAsync($"http://127.0.0.1:{Admin}{path}"));
        return json.RootElement.Clone();
    }

    public Task<string> AdminTextAsync(string path) => s_http.GetStringAsync($"http://127.0.0.1:{Admin}{path}");

    public Task<string> MetricsTextAsync() => s_http.GetStringAsync($"http://127.0.0.1:{Metrics}/metrics");

    public async Task<int> StatusOfAsync(string path)
    {
        using var response = await s_http.GetAsync($"http://127.0.0.1:{Metrics}{path}");
        return (int)response.StatusCode;
    }

    public Task WaitUntilReadyAsync() => Eventually.IsTrueAsync(async () =>
    {
        Assert.That(Process.HasExited, Is.False, Process.Report());
        return await StatusOfAsync("/readyz") == 200;
    }, $"{Process.Name} is ready");

    /// <summary>SIGTERM, and how it ended.</summary>
    public Task<int> StopAsync()
    {
        Process.Terminate();
        return Process.WaitForExitAsync();
    }

    public ValueTask DisposeAsync() => Process.DisposeAsync();

    [GeneratedRegex(@"(?<name>\S+) (?<at>\[?[0-9a-fA-F.:]+\]?:\d+)")]
    private static partial Regex ListenerPattern();
}
