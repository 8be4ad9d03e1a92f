using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A listening socket. One accept at a time.</summary>
internal sealed class SocketListener : IConnectionListener, IEventTarget
{
    // A bound for the last look at the queue: callers that never stop coming must not hold up the end.
    private const int LastAccepts = 4096;

    private readonly Queue<SocketConnection> _last = new();
    private readonly SocketTransportOptions _options;
    private readonly EventLoop _loop = EventLoop.Next();
    private readonly Lock _gate = new();
    private int _descriptor;
    private int _slot;
    private uint _opened;
    private bool _readable = true;
    private TaskCompletionSource? _waiter;

    private SocketListener(int descriptor, EndPoint endPoint, SocketTransportOptions options)
    {
        _descriptor = descriptor;
        _options = options;
        EndPoint = endPoint;
    }

    /// <inheritdoc/>
    public EndPoint EndPoint { get; }

    /// <summary>Opens a listening socket.</summary>
    public static SocketListener Bind(EndPoint endPoint, SocketTransportOptions options)
    {
        var descriptor = LinuxSocket.Open(endPoint);
        try
        {
            if (endPoint is IPEndPoint ip)
            {
                LinuxSocket.SetReuseAddress(descriptor);
                // Accepted sockets inherit these, which saves a call for each.
                LinuxSocket.SetNoDelay(descriptor);
                if (options.KeepAlive is { } keepAlive)
                {
                    LinuxSocket.SetKeepAlive(descriptor, Math.Max(1, (int)keepAlive.TotalSeconds));
                }

                if (ip.Address.Equals(IPAddress.IPv6Any))
                {
                    LinuxSocket.SetDualMode(descriptor);
                }
            }

            var error = LinuxSocket.Bind(descriptor, endPoint);
            if (error == 0 && LinuxSocket.Listen(descriptor, options.Backlog) != 0)
            {
                error = LinuxSocket.LastError;
            }

            if (error != 0)
            {
                var failure = new SocketException(LinuxSocket.ToSocketError(error));
                throw error == LinuxSocket.AddressInUse ? new AddressInUseException(failure.Message, failure) : failure;
            }

            var listener = new SocketListener(descriptor, LinuxSocket.LocalAddress(descriptor) ?? endPoint, options);
            listener._slot = listener._loop.Register(descriptor, listener, LinuxSocket.EventIn);
            descriptor = -1;
            return listener;
        }
        finally
        {
            if (descriptor >= 0)
            {
                _ = LinuxSocket.Close(descriptor);
            }
        }
    }

    /// <summary>Takes the next connection.</summary>
    /// <returns>Null once the listener is unbound.</returns>
    /// <exception cref="SocketException">The process is out of descriptors or memory: try again later.</exception>
    public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            Task wait;
            lock (_gate)
            {
                if (_descriptor < 0)
                {
                    return _last.TryDequeue(out var last) ? last : null;
                }

                if (_readable)
                {
                    var descriptor = LinuxSocket.Accept(_descriptor, out var remote);
                    if (descriptor >= 0)
                    {
                        return Open(descriptor, remote);
                    }

                    var error = LinuxSocket.LastError;
                    if (LinuxSocket.IsTooMany(error))
                    {
                        throw new SocketException(LinuxSocket.ToSocketError(error));
                    }

                    // Other errors are those of a connection that died in the queue: take the next one.
                    _readable = error != LinuxSocket.Again;
                    continue;
                }

                _waiter = new TaskCompletionSource();
                wait = _waiter.Task;
            }

            await (cancellationToken.CanBeCanceled ? wait.WaitAsync(cancellationToken) : wait);
        }
    }

    /// <inheritdoc/>
    public ValueTask UnbindAsync(CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (_descriptor >= 0)
            {
                // Closing resets whoever stands in the kernel's queue, perhaps with a request on its way: they are taken in first.
                for (var i = 0; i < LastAccepts && LinuxSocket.Accept(_descriptor, out var remote) is >= 0 and var accepted; i++)
                {
                    _last.Enqueue(Open(accepted, remote));
                }

                _loop.Forget(_slot);
                _ = LinuxSocket.Close(_descriptor);
                _descriptor = -1;
            }
        }

        Wake();
        return default;
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => UnbindAsync();

    /// <inheritdoc/>
    public void OnEvents(uint events)
    {
        lock (_gate)
        {
            _readable = true;
        }

        Wake();
    }

    private void Wake()
    {
        TaskCompletionSource? waiter;
        lock (_gate)
        {
            waiter = _waiter;
            _waiter = null;
        }

        waiter?.TrySetResult();
    }

    private SocketConnection Open(int descriptor, EndPoint? remote)
    {
        try
        {
            // Each loop in turn, by this listener's own count: connections of others between them must not bring all of these to one loop.
            var loop = EventLoop.All[(int)(((uint)_loop.Number + ++_opened) % (uint)EventLoop.All.Length)];
            var connection = new SocketConnection(descriptor, loop, remote, _options);
            connection.Start();
            return connection;
        }
        catch
        {
            _ = LinuxSocket.Close(descriptor);
            throw;
        }
    }
}
