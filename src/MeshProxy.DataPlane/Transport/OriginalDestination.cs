using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Where a connection wanted to go before a REDIRECT rule of iptables or nftables sent it to us (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST).</summary>
internal static class OriginalDestination
{
    private const int LevelIPv4 = 0;
    private const int LevelIPv6 = 41;
    private const int OptionOriginalDestination = 80;

    /// <summary>Asks the kernel's connection tracking.</summary>
    /// <returns>Null where nothing was redirected, or where there is no connection tracking to ask.</returns>
    public static IPEndPoint? TryGet(ConnectionContext connection)
    {
        if (!OperatingSystem.IsLinux() || connection.LocalEndPoint is not IPEndPoint local)
        {
            return null;
        }

        Span<byte> address = stackalloc byte[28];
        address.Clear();
        // A dual mode listener shows IPv4 peers as IPv4; the kernel keeps their original address under the IPv4 option.
        var ipv4 = local.AddressFamily == AddressFamily.InterNetwork || local.Address.IsIPv4MappedToIPv6;
        var level = ipv4 ? LevelIPv4 : LevelIPv6;
        var span = ipv4 ? address[..16] : address;
        if (connection is SocketConnection own)
        {
            if (LinuxSocket.GetOption(own.Descriptor, level, OptionOriginalDestination, span) < 0)
            {
                return null;
            }
        }
        else
        {
            try
            {
                if (connection.Features.Get<IConnectionSocketFeature>()?.Socket.GetRawSocketOption(level, OptionOriginalDestination, span) is null)
                {
                    return null;
                }
            }
            catch (SocketException)
            {
                return null;
            }
        }

        var port = BinaryPrimitives.ReadUInt16BigEndian(address[2..]);
        var original = new IPEndPoint(new IPAddress(ipv4 ? address.Slice(4, 4) : address.Slice(8, 16)), port);

        // Connection tracking answers for every connection it knows, redirected or not.
        var own4 = local.Address.IsIPv4MappedToIPv6 ? local.Address.MapToIPv4() : local.Address;
        return port == 0 || (original.Port == local.Port && original.Address.Equals(own4)) ? null : original;
    }
}
