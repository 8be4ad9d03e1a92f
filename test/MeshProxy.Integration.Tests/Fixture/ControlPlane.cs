namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>A control plane on a port that it keeps when it is started again.</summary>
internal sealed class ControlPlane : IAsyncDisposable
{
    private readonly List<ManagedProcess> _ended = [];
    private readonly string[] _more;

    private ControlPlane(string dataDirectory, string[] more)
    {
        DataDirectory = dataDirectory;
        _more = more;
        Port = FreePorts.Take();
        MetricsPort = FreePorts.Take();
    }

    public int Port { get; }

    public int MetricsPort { get; }

    public string Address => $"127.0.0.1:{Port}";

    public string DataDirectory { get; }

    public string Credential => Path.Combine(DataDirectory, "operator.pem");

    public string TrustBundle => Path.Combine(DataDirectory, "trust-bundle.pem");

    public Meshctl Meshctl => new(Address, Credential);

    public ManagedProcess Process { get; private set; } = null!;

    /// <summary>One that is not started yet.</summary>
    public static ControlPlane At(string dataDirectory, params string[] more) => new(dataDirectory, more);

    public static async Task<ControlPlane> StartAsync(string dataDirectory, params string[] more)
    {
        var control = At(dataDirectory, more);
        await control.StartAgainAsync();
        return control;
    }

    public async Task StartAgainAsync()
    {
        Process = ManagedProcess.Start("control", Executables.Control,
            ["--listen", Address, "--metrics", $"127.0.0.1:{MetricsPort}", "--data-dir", DataDirectory, .. _more]);
        await Process.LoggedAsync("listening");
    }

    public async Task StopAsync()
    {
        Process.Terminate();
        Assert.That(await Process.WaitForExitAsync(), Is.Zero, Process.Report());
        _ended.Add(Process);
    }

    public async Task KillAsync()
    {
        Process.Kill();
        await Process.WaitForExitAsync();
        _ended.Add(Process);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var process in _ended.Append(Process).OfType<ManagedProcess>().Distinct())
        {
            await process.DisposeAsync();
        }
    }
}
