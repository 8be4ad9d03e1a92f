using System.Text.Json;

namespace MeshProxy.Demo.Mesh;

/// <summary>Asks the proxies themselves: metrics, readiness and, at the admin endpoint, whom they talk to.</summary>
internal sealed class ProxyWatch : IDisposable
{
    private readonly HttpClient _http = new(new SocketsHttpHandler { UseProxy = false, ConnectTimeout = TimeSpan.FromSeconds(1) })
    {
        Timeout = TimeSpan.FromSeconds(2),
    };

    public async Task<bool> IsReadyAsync(MeshMember member, CancellationToken token)
    {
        try
        {
            using var response = await _http.GetAsync($"http://127.0.0.1:{member.MetricsPort}/readyz", token);
            return response.IsSuccessStatusCode;
        }
        catch (Exception failure) when (IsNoAnswer(failure, token))
        {
            return false;
        }
    }

    /// <summary>Scrapes a member. False, and the member keeps its last figures, when it does not answer.</summary>
    public async Task<bool> ScrapeAsync(MeshMember member, CancellationToken token)
    {
        try
        {
            var text = await _http.GetStringAsync($"http://127.0.0.1:{member.MetricsPort}/metrics", token);
            member.Metrics = ProxyMetrics.From(PrometheusText.Parse(text), member.IsGateway ? "gateway" : "inbound");
        }
        catch (Exception failure) when (IsNoAnswer(failure, token))
        {
            return false;
        }

        try
        {
            using var connections = JsonDocument.Parse(await _http.GetStringAsync($"http://127.0.0.1:{member.AdminPort}/connections", token));
            member.Peers = [.. PeersOfInbound(connections.RootElement).Union(member.Peers).Order(StringComparer.Ordinal)];
        }
        catch (Exception failure) when (IsNoAnswer(failure, token) || failure is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // The table shows the peers it knew; the counters, which decide, were read above.
        }

        return true;
    }

    public void Dispose() => _http.Dispose();

    private static IEnumerable<string> PeersOfInbound(JsonElement connections) => connections
        .GetProperty("connections")
        .EnumerateArray()
        .Where(connection => connection.GetProperty("direction").GetString() == "inbound")
        .Select(connection => connection.TryGetProperty("peer", out var peer) ? peer.GetString() : null)
        .OfType<string>();

    private static bool IsNoAnswer(Exception failure, CancellationToken token) =>
        failure is HttpRequestException or TaskCanceledException && !token.IsCancellationRequested;
}
