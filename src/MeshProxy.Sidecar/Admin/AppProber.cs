using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using MeshProxy.DataPlane.Listening;

namespace MeshProxy.Sidecar.Admin;

/// <summary>
/// Forwards an orchestrator's probe to the application: the kubelet can not speak mutual TLS, so it asks here. Answers 200 or 503; never more than the status
/// of the application's answer, because this port is open to the network.
/// </summary>
internal sealed class AppProber(IReadOnlyList<AppProbe> probes, string address, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(3);

    private readonly Lazy<HttpClient> _http = new(() => new HttpClient(new SocketsHttpHandler
    {
        UseProxy = false,
        UseCookies = false,
        AllowAutoRedirect = false,
        ActivityHeadersPropagator = null,
        PooledConnectionIdleTimeout = TimeSpan.FromSeconds(1),
    }));

    /// <summary>Asks the application.</summary>
    public async Task<LocalResponse> ProbeAsync(string name)
    {
        var probe = probes.FirstOrDefault(probe => probe.Name == name);
        if (probe is null)
        {
            return LocalResponse.Text(404, "no such probe is declared (--app-probe)");
        }

        using var late = new CancellationTokenSource(Timeout, time);
        try
        {
            var failure = probe.Kind switch
            {
                AppProbeKind.Tcp => await ConnectAsync(probe, late.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding),
                AppProbeKind.Grpc => await CheckGrpcAsync(probe, late.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding),
                _ => await GetAsync(probe, late.Token).ConfigureAwait(ConfigureAwaitOptions.ForceYielding),
            };
            return failure is null ? LocalResponse.Text(200, "ok") : LocalResponse.Text(503, failure);
        }
        catch (OperationCanceledException)
        {
            return LocalResponse.Text(503, $"the application did not answer within {Timeout.TotalSeconds:0} s");
        }
        catch (Exception exception) when (exception is HttpRequestException or SocketException or IOException)
        {
            return LocalResponse.Text(503, $"the application could not be asked on port {probe.Port}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_http.IsValueCreated)
        {
            _http.Value.Dispose();
        }
    }

    private Uri Target(AppProbe probe, string path) => new($"http://{new IPEndPoint(IPAddress.Parse(address), probe.Port)}{path}");

    private async Task<string?> ConnectAsync(AppProbe probe, CancellationToken cancellation)
    {
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Parse(address), probe.Port, cancellation).ConfigureAwait(false);
        return null;
    }

    private async Task<string?> GetAsync(AppProbe probe, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, Target(probe, probe.Path));
        request.Headers.ConnectionClose = true;
        using var response = await _http.Value.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        return (int)response.StatusCode is >= 200 and < 400 ? null : $"the application answered {(int)response.StatusCode}";
    }

    /// <summary>grpc.health.v1.Health/Check with an empty request; SERVING is field 1 = 1.</summary>
    private async Task<string?> CheckGrpcAsync(AppProbe probe, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Target(probe, "/grpc.health.v1.Health/Check"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(new byte[5]),
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        using var response = await _http.Value.SendAsync(request, cancellation).ConfigureAwait(false);
        var body = await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false);
        var status = response.TrailingHeaders.TryGetValues("grpc-status", out var values) || response.Headers.TryGetValues("grpc-status", out values)
            ? values.FirstOrDefault() ?? "" : "";
        if (status != "0")
        {
            return $"the application answered grpc-status {status}";
        }

        var isServing = body.Length >= 7 && BinaryPrimitives.ReadUInt32BigEndian(body.AsSpan(1)) >= 2 && body[5] == 0x08 && body[6] == 1;
        return isServing ? null : "the application is not SERVING";
    }
}
