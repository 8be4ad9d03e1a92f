using System.Net;
using System.Net.Sockets;
using System.Text;

namespace MeshProxy.Integration.Tests.Apps;

/// <summary>A TCP application: greets first, echoes until its caller half-closes, says goodbye, closes.</summary>
internal sealed class TcpApp : IAsyncDisposable
{
    public const string Greeting = "220 ready\r\n";
    public const string Farewell = "221 bye\r\n";
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;
    private int _connections;

    public TcpApp()
    {
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(128);
        _accepting = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    public int Connections => Volatile.Read(ref _connections);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _accepting;
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var socket = await _listener.AcceptAsync(_stop.Token);
                Interlocked.Increment(ref _connections);
                _ = ServeAsync(socket);
            }
            catch (Exception failure) when (failure is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using var stream = new NetworkStream(socket, ownsSocket: true);
            await stream.WriteAsync(Encoding.ASCII.GetBytes(Greeting), _stop.Token);
            var buffer = new byte[16 * 1024];
            for (int read; (read = await stream.ReadAsync(buffer, _stop.Token)) > 0;)
            {
                await stream.WriteAsync(buffer.AsMemory(0, read), _stop.Token);
            }

            await stream.WriteAsync(Encoding.ASCII.GetBytes(Farewell), _stop.Token);
        }
        catch (Exception failure) when (failure is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The caller left; the tests judge what it saw.
        }
    }
}
