using System.Buffers.Text;

namespace MeshProxy.DataPlane.Routing;

/// <summary>Takes an authority (RFC 3986 section 3.2) apart.</summary>
internal static class Authorities
{
    /// <summary>The host, without a port; the brackets of an IPv6 literal stay.</summary>
    public static ReadOnlySpan<byte> WithoutPort(ReadOnlySpan<byte> authority)
    {
        var colon = authority.LastIndexOf((byte)':');
        return colon < 0 || authority[colon..].Contains((byte)']') ? authority : authority[..colon];
    }

    /// <summary>The port, or 0 when there is none (or none that is valid).</summary>
    public static int PortOf(ReadOnlySpan<byte> authority)
    {
        var port = authority[WithoutPort(authority).Length..];
        return port.Length > 1 && Utf8Parser.TryParse(port[1..], out int value, out var consumed) && consumed == port.Length - 1 && value is > 0 and <= 65535
            ? value
            : 0;
    }
}
