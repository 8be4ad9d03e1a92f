using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks.Sources;

namespace MeshProxy.DataPlane.Transport;

/// <summary>One connect under way.</summary>
internal sealed class SocketConnect : IEventTarget, IValueTaskSource<int>
{
    private readonly int _descriptor;
    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<int> _done;
    private bool _isDone;

    private SocketConnect(int descriptor) => _descriptor = descriptor;

    /// <summary>Dials one address.</summary>
    public static async ValueTask<SocketConnection> ConnectAsync(EndPoint endPoint, SocketTransportOptions options, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var loop = EventLoop.Near();
        var descriptor = LinuxSocket.Open(endPoint);
        try
        {
            if (endPoint is IPEndPoint)
            {
                LinuxSocket.SetNoDelay(descriptor);
                if (options.KeepAlive is { } keepAlive)
                {
                    LinuxSocket.SetKeepAlive(descriptor, Math.Max(1, (int)keepAlive.TotalSeconds));
                }
            }

            var error = LinuxSocket.Connect(descriptor, endPoint);
            if (error == LinuxSocket.InProgress)
            {
                error = await WaitAsync(descriptor, loop, cancellationToken);
            }

            if (error != 0)
            {
                throw new SocketException(LinuxSocket.ToSocketError(error));
            }

            var connection = new SocketConnection(descriptor, loop, endPoint, options);
            connection.Start();
            descriptor = -1;
            return connection;
        }
        finally
        {
            if (descriptor >= 0)
            {
                _ = LinuxSocket.Close(descriptor);
            }
        }
    }

    /// <inheritdoc/>
    public void OnEvents(uint events)
    {
        // A socket that is not connected yet hangs up with "out"; both mean that the attempt is over.
        if ((events & (LinuxSocket.EventOut | LinuxSocket.EventError | LinuxSocket.EventHangUp)) != 0)
        {
            End(cancelled: false);
        }
    }

    int IValueTaskSource<int>.GetResult(short token) => _done.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<int>.GetStatus(short token) => _done.GetStatus(token);

    void IValueTaskSource<int>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _done.OnCompleted(continuation, state, token, flags);

    // Registered by itself first and by the connection's channel afterwards: epoll knows a descriptor once, so it goes out in between.
    private static async ValueTask<int> WaitAsync(int descriptor, EventLoop loop, CancellationToken cancellationToken)
    {
        var connect = new SocketConnect(descriptor);
        var slot = loop.Register(descriptor, connect, LinuxSocket.EventOut);
        try
        {
            await using (cancellationToken.UnsafeRegister(static state => ((SocketConnect)state!).End(cancelled: true), connect))
            {
                return await new ValueTask<int>(connect, connect._done.Version);
            }
        }
        finally
        {
            loop.Unregister(descriptor, slot);
        }
    }

    private void End(bool cancelled)
    {
        lock (_gate)
        {
            if (_isDone)
            {
                return;
            }

            _isDone = true;
        }

        if (cancelled)
        {
            _done.SetException(new OperationCanceledException("The connect was cancelled before the peer answered."));
        }
        else
        {
            _done.SetResult(LinuxSocket.TakeError(_descriptor));
        }
    }
}
