using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace MeshProxy.Integration.Tests.Apps;

/// <summary>What the recording servers have in common: a port on loopback, and what they write down.</summary>
internal abstract class RecordingListener : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;

    protected RecordingListener()
    {
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>"METHOD target body" for each whole request; "broken ..." and "rubbish ..." for what was none.</summary>
    public ConcurrentQueue<string> Seen { get; } = new();

    /// <summary>The heads as they came, a field on each line.</summary>
    public ConcurrentQueue<string> Heads { get; } = new();

    /// <summary>Ends with the server.</summary>
    protected CancellationToken Stopping => _stop.Token;

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        _stop.Dispose();
    }

    /// <summary>Serves a connection to its end, and closes it.</summary>
    protected abstract Task ServeAsync(Socket socket);

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                _ = ServeAsync(await _listener.AcceptSocketAsync(_stop.Token));
            }
            catch (Exception failure) when (failure is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }
        }
    }
}
