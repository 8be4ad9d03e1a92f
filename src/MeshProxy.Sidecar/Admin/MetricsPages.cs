using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Telemetry;

namespace MeshProxy.Sidecar.Admin;

/// <summary>The pages for Prometheus and for the orchestrator's probes. Nothing here is secret: the port is open to the network.</summary>
internal sealed class MetricsPages(Meters meters, Func<SidecarStatus> status, AppProber prober)
{
    private const string AppHealthPrefix = "/app-health/";

    /// <summary>Answers a request.</summary>
    public async Task<LocalResponse> HandleAsync(LocalRequest request)
    {
        if (request.Method != "GET")
        {
            return LocalResponse.Text(405, "GET only");
        }

        switch (request.Path)
        {
            case "/metrics":
                return new LocalResponse(200, "text/plain; version=0.0.4; charset=utf-8", await meters.ExportAsync());
            case "/livez":
                return LocalResponse.Text(200, "alive");
            case "/readyz":
                var now = status();
                return now.IsReady ? LocalResponse.Text(200, "ready")
                    : LocalResponse.Text(503, now.IsDraining ? "draining" : "not ready: no configuration is in force yet");
            default:
                return request.Path.StartsWith(AppHealthPrefix, StringComparison.Ordinal)
                    ? await prober.ProbeAsync(request.Path[AppHealthPrefix.Length..])
                    : LocalResponse.Text(404, "GET /metrics /livez /readyz /app-health/NAME");
        }
    }
}
