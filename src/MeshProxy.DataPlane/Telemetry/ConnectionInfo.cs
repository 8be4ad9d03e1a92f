using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>What logs say about one downstream connection. Filled by the connection's owner before its first exchange, read-only from then on.</summary>
internal sealed class ConnectionInfo
{
    private byte[]? _fragment;
    private byte[]? _source;

    /// <summary>What a connection tells of itself before anything was read from it.</summary>
    public static ConnectionInfo Of(ConnectionContext connection) => new()
    {
        Source = connection.RemoteEndPoint as IPEndPoint,
        Local = connection.LocalEndPoint as IPEndPoint,
    };

    /// <summary>The downstream's address.</summary>
    public IPEndPoint? Source { get; set; }

    /// <summary>The address it connected to: the original destination where a redirect was at work.</summary>
    public IPEndPoint? Local { get; set; }

    /// <summary>The SPIFFE ID that the peer proved.</summary>
    public string? PeerIdentity { get; set; }

    /// <summary>The SNI it asked for.</summary>
    public string? ServerName { get; set; }

    /// <summary>Encrypted, with or without a client certificate.</summary>
    public bool IsTls { get; set; }

    /// <summary>Both sides proved who they are.</summary>
    public bool IsMutualTls { get; set; }

    /// <summary>The label value for metrics.</summary>
    public string TlsLabel => IsMutualTls ? "mutual" : IsTls ? "tls" : "none";

    /// <summary>The downstream's address as text, "unknown" when it has none: rendered once.</summary>
    public ReadOnlySpan<byte> SourceAddressText => _source ??= Source is null ? "unknown"u8.ToArray() : Encoding.ASCII.GetBytes(WithoutScope(Plain(Source.Address)).ToString());

    /// <summary>The part of a log line that is the same for every exchange of this connection: rendered once, at the first line.</summary>
    public ReadOnlySpan<byte> LogFragment => _fragment ??= Render();

    private byte[] Render()
    {
        var line = new JsonLine(stackalloc byte[2048]);
        WriteEndPoint(ref line, ",\"source.ip\":"u8, ",\"source.port\":"u8, Source);
        WriteEndPoint(ref line, ",\"destination.ip\":"u8, ",\"destination.port\":"u8, Local);
        if (IsTls || IsMutualTls)
        {
            line.Raw(",\"tls.established\":true"u8);
        }

        if (ServerName is { Length: > 0 })
        {
            line.Raw(",\"tls.client.server_name\":"u8);
            line.Text(ServerName, 256);
        }

        if (PeerIdentity is { Length: > 0 })
        {
            line.Raw(",\"meshproxy.peer\":"u8);
            line.Text(PeerIdentity, 256);
        }

        return line.Written.ToArray();
    }

    // A scope means something on one machine alone.
    private static IPAddress WithoutScope(IPAddress address) => address.ToString().Contains('%') ? new IPAddress(address.GetAddressBytes()) : address;

    private static IPAddress Plain(IPAddress address) =>
        address is { AddressFamily: AddressFamily.InterNetworkV6, IsIPv4MappedToIPv6: true } ? address.MapToIPv4() : address;

    private static void WriteEndPoint(ref JsonLine line, ReadOnlySpan<byte> ipName, ReadOnlySpan<byte> portName, IPEndPoint? endPoint)
    {
        if (endPoint is null)
        {
            return;
        }

        var address = Plain(endPoint.Address);
        line.Raw(ipName);
        Span<byte> text = stackalloc byte[64];
        line.Text(address.TryFormat(text, out var length) ? text[..length] : default, 64);
        line.Raw(portName);
        line.Number(endPoint.Port);
    }
}
