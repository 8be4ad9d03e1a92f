using MeshProxy.Demo.Processes;

namespace MeshProxy.Demo.Mesh;

/// <summary>The control plane's process, which can be stopped and started again on the same data and ports.</summary>
internal sealed class ControlPlane(Fleet fleet, string program, string dataDirectory, int port, int metricsPort)
{
    private static readonly TimeSpan StopBound = TimeSpan.FromSeconds(5);

    public ChildProcess? Process { get; private set; }

    public int Port => port;

    public int MetricsPort => metricsPort;

    public string Credential => Path.Combine(dataDirectory, "operator.pem");

    public void Start() => Process = fleet.Start(
        "control", program, ["--listen", $"127.0.0.1:{port}", "--metrics", $"127.0.0.1:{metricsPort}", "--data-dir", dataDirectory]);

    /// <summary>SIGTERM, and SIGKILL if it does not go: what matters to the demonstration is that it is away.</summary>
    public async Task StopAsync(CancellationToken token)
    {
        Process!.Terminate();
        try
        {
            await Process.WaitForExitAsync(token).WaitAsync(StopBound, token);
        }
        catch (TimeoutException)
        {
            Process.Kill();
            await Process.WaitForExitAsync(token);
        }
    }
}
