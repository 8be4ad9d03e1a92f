using System.Globalization;
using System.Net;

namespace MeshProxy.Sidecar;

/// <summary>Reads where to listen: "PORT", "ADDRESS", "ADDRESS:PORT" (an IPv6 address in brackets), or "off". Port 0 is any free one.</summary>
internal static class ListenAddress
{
    /// <summary>Reads <paramref name="text"/>; null when the listener is off.</summary>
    /// <returns>False when it is none of these.</returns>
    public static bool TryParse(string text, IPEndPoint defaults, out IPEndPoint? endPoint)
    {
        endPoint = null;
        if (text == "off")
        {
            return true;
        }

        if (text.AsSpan().ContainsOnlyDigits())
        {
            var isPort = ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port);
            endPoint = isPort ? new IPEndPoint(defaults.Address, port) : null;
            return isPort;
        }

        if (IPAddress.TryParse(text.Trim('[', ']'), out var address))
        {
            endPoint = new IPEndPoint(address, defaults.Port);
            return true;
        }

        // Taken apart here because IPEndPoint.TryParse takes a missing port for 0.
        var colon = text.LastIndexOf(':');
        if (colon > 0
            && IPAddress.TryParse(text[..colon].Trim('[', ']'), out address)
            && ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            endPoint = new IPEndPoint(address, number);
            return true;
        }

        return false;
    }

    private static bool ContainsOnlyDigits(this ReadOnlySpan<char> text) => text.Length > 0 && !text.ContainsAnyExceptInRange('0', '9');
}
