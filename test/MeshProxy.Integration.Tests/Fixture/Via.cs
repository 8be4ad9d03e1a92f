using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Clients whose connections go to one local port whatever the URL says: what a redirect or a proxy setting does for an application.</summary>
internal static class Via
{
    /// <summary>A client of the stated version, nothing else.</summary>
    public static HttpClient Http(int port, Version? version = null) => new(Handler(port))
    {
        DefaultRequestVersion = version ?? HttpVersion.Version11,
        DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        Timeout = TimeSpan.FromSeconds(20),
    };

    public static GrpcChannel Grpc(int port, string authority) =>
        GrpcChannel.ForAddress($"http://{authority}", new GrpcChannelOptions { HttpHandler = Handler(port), DisposeHttpClient = true });

    public static async Task<NetworkStream> TcpAsync(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port));
        return new NetworkStream(socket, ownsSocket: true) { ReadTimeout = 20_000, WriteTimeout = 20_000 };
    }

    private static SocketsHttpHandler Handler(int port) => new()
    {
        UseProxy = false,
        AllowAutoRedirect = false,
        ConnectCallback = async (_, token) =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), token);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        },
    };
}
