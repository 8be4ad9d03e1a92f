using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;

namespace MeshProxy.DataPlane.Transport;

/// <summary>The class library's transport behind the same two interfaces: for systems other than Linux, and to measure ours against. It can not close one
/// direction: completing its output ends reading too, so half-closed TCP and mesh connections are cut there.</summary>
public sealed class KestrelTransport : IConnectionListenerFactory, IConnectionFactory, IDisposable
{
    private readonly SocketTransportFactory _listeners;
    private readonly SocketConnectionContextFactory _connections;
    private readonly SocketTransportOptions _options;

    /// <summary>Makes one; both directions run their continuations inline.</summary>
    public KestrelTransport(SocketTransportOptions? options = null)
    {
        _options = options ?? new SocketTransportOptions();
        _listeners = new SocketTransportFactory(
            Options.Create(new Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets.SocketTransportOptions
            {
                Backlog = _options.Backlog,
                UnsafePreferInlineScheduling = true,
                IOQueueCount = 0,
            }),
            NullLoggerFactory.Instance);
        _connections = new SocketConnectionContextFactory(
            new SocketConnectionFactoryOptions { UnsafePreferInlineScheduling = true, IOQueueCount = 0 },
            NullLogger.Instance);
    }

    /// <inheritdoc/>
    public void Dispose() => _connections.Dispose();

    /// <inheritdoc/>
    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
        _listeners.BindAsync(endpoint, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask<ConnectionContext> ConnectAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        var socket = endpoint is UnixDomainSocketEndPoint
            ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            : endpoint is IPEndPoint
                ? new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true }
                : new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(endpoint, cancellationToken);
            return _connections.Create(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
