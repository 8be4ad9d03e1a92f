using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// Listens and dials. On Linux over <see cref="EventLoop"/>; elsewhere use <see cref="KestrelTransport"/>, which implements the same two interfaces.
/// Everything that awaits a connection's pipes continues on an event loop, so it must not block.
/// </summary>
public sealed class SocketTransport(SocketTransportOptions? options = null) : IConnectionListenerFactory, IConnectionFactory
{
    private readonly SocketTransportOptions _options = options ?? new SocketTransportOptions();

    /// <summary>Listens. The wildcard "::" takes IPv4 too.</summary>
    /// <exception cref="AddressInUseException">The port is taken.</exception>
    /// <exception cref="SocketException">It can not be opened for another reason.</exception>
    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
        new(SocketListener.Bind(endpoint, _options));

    /// <summary>Gives the blocks that its pool keeps for all threads, and nobody uses, to the garbage collector.</summary>
    public void Trim() => _options.Pool.Trim();

    /// <summary>Dials.</summary>
    /// <exception cref="SocketException">There is no connection.</exception>
    /// <exception cref="OperationCanceledException">It took too long for the caller.</exception>
    public async ValueTask<ConnectionContext> ConnectAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        if (endpoint is not DnsEndPoint name)
        {
            return await SocketConnect.ConnectAsync(endpoint, _options, cancellationToken);
        }

        var addresses = await Dns.GetHostAddressesAsync(name.Host, name.AddressFamily, cancellationToken);
        SocketException? last = null;
        foreach (var address in addresses)
        {
            try
            {
                return await SocketConnect.ConnectAsync(new IPEndPoint(address, name.Port), _options, cancellationToken);
            }
            catch (SocketException failure)
            {
                last = failure;
            }
        }

        throw last ?? new SocketException((int)SocketError.HostNotFound);
    }
}
