using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Demo.Apps;

/// <summary>
/// What the three applications have in common: a plaintext server on loopback, and the way out through the own sidecar.
/// None of them knows of certificates, instances or retries; that is the mesh's part.
/// </summary>
internal static class AppHost
{
    public static Task RunAsync(AppOptions options) => options.Role switch
    {
        "checkout" => CheckoutApp.RunAsync(options),
        "payments" => PaymentsApp.RunAsync(options),
        "ledger" => LedgerApp.RunAsync(options),
        _ => throw new ArgumentException($"unknown application {options.Role}"),
    };

    public static WebApplicationBuilder CreateBuilder(AppOptions options, HttpProtocols protocols)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, options.Port, listen => listen.Protocols = protocols));
        return builder;
    }

    /// <summary>
    /// A channel to a service of the mesh. The address carries the service's name, so that :authority does; the connection itself always
    /// goes to the own sidecar's outbound listener.
    /// </summary>
    public static GrpcChannel ChannelThroughSidecar(AppOptions options, string service)
    {
        var sidecar = new IPEndPoint(IPAddress.Loopback, options.SidecarOutboundPort);
        var handler = new SocketsHttpHandler
        {
            UseProxy = false,
            EnableMultipleHttp2Connections = true,
            ConnectCallback = async (_, token) =>
            {
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                try
                {
                    await socket.ConnectAsync(sidecar, token);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
        };
        return GrpcChannel.ForAddress($"http://{service}", new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true });
    }
}
