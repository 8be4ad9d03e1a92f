using System.Net;
using System.Text;

namespace MeshProxy.Http.Http1;

/// <summary>Which authorities are well-formed, and when two are the same (RFC 9110 sections 4.2 and 7.2, RFC 3986 section 3.2).</summary>
internal static class AuthorityRules
{
    /// <summary>uri-host [ ":" port ]: not empty, no user information, port 0 to 65535.</summary>
    public static bool IsValid(ReadOnlySpan<byte> authority)
    {
        if (!TrySplit(authority, out var host, out var port) || host.IsEmpty)
        {
            return false;
        }

        if (port.Length > 5)
        {
            return false;
        }

        var number = 0;
        foreach (var b in port)
        {
            if (!Http1Syntax.IsDigit(b))
            {
                return false;
            }

            number = (number * 10) + (b - '0');
        }

        return number <= 65535 && IsValidHost(host);
    }

    /// <summary>Whether a port is there, and one that can be connected to.</summary>
    public static bool HasPort(ReadOnlySpan<byte> authority) => TrySplit(authority, out _, out var port) && !WithoutZeros(port).IsEmpty;

    /// <summary>Same host without regard to case, same port after the scheme's default.</summary>
    public static bool AreEqual(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right, ReadOnlySpan<byte> scheme)
    {
        if (left.SequenceEqual(right))
        {
            return true;
        }

        if (!TrySplit(left, out var leftHost, out var leftPort) || !TrySplit(right, out var rightHost, out var rightPort))
        {
            return false;
        }

        var standard = scheme.SequenceEqual("https"u8) ? "443"u8 : "80"u8;
        return Ascii.EqualsIgnoreCase(leftHost, rightHost)
            && WithoutZeros(leftPort.IsEmpty ? standard : leftPort).SequenceEqual(WithoutZeros(rightPort.IsEmpty ? standard : rightPort));
    }

    private static ReadOnlySpan<byte> WithoutZeros(ReadOnlySpan<byte> port) => port.TrimStart((byte)'0');

    private static bool TrySplit(ReadOnlySpan<byte> authority, out ReadOnlySpan<byte> host, out ReadOnlySpan<byte> port)
    {
        port = default;
        host = authority;
        if (!authority.IsEmpty && authority[0] == '[')
        {
            var close = authority.IndexOf((byte)']');
            if (close < 0)
            {
                return false;
            }

            host = authority[..(close + 1)];
            var rest = authority[(close + 1)..];
            if (rest.IsEmpty)
            {
                return true;
            }

            port = rest[1..];
            return rest[0] == ':';
        }

        var colon = authority.IndexOf((byte)':');
        if (colon >= 0)
        {
            host = authority[..colon];
            port = authority[(colon + 1)..];
        }

        return true;
    }

    // RFC 3986 section 3.2.2: an octet has no leading zero. The class library lets some pass, and other readers take them for octal.
    private static bool HasOctalLook(ReadOnlySpan<byte> ipv4)
    {
        foreach (var octet in ipv4.Split((byte)'.'))
        {
            var text = ipv4[octet];
            if (text.Length > 1 && text[0] == '0' && text.Length != ipv4.Length)
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsValidHost(ReadOnlySpan<byte> host)
    {
        if (host[0] == '[')
        {
            var inner = host[1..^1];
            return inner.Contains((byte)':') && inner.IndexOfAnyExcept(Http1Syntax.IpLiteral) < 0 && IPAddress.IsValidUtf8(inner)
                && !HasOctalLook(inner[(inner.LastIndexOf((byte)':') + 1)..]);
        }

        while (true)
        {
            var odd = host.IndexOfAnyExcept(Http1Syntax.RegisteredName);
            if (odd < 0)
            {
                return true;
            }

            // pct-encoded is legal; an encoded control, space or delimiter is not worth passing on.
            if (host[odd] != '%' || host.Length < odd + 3 || !char.IsAsciiHexDigit((char)host[odd + 1]) || !char.IsAsciiHexDigit((char)host[odd + 2])
                || host[odd + 1] is (byte)'0' or (byte)'1' or (byte)'2')
            {
                return false;
            }

            host = host[(odd + 3)..];
        }
    }
}
