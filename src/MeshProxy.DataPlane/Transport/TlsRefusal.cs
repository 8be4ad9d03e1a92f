using System.Security.Authentication;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Words for handshakes that failed: what failed and what to check.</summary>
internal static class TlsRefusal
{
    /// <summary>The peer's certificate did not convince.</summary>
    public static string OfPeer(Exception failure, string verdict, bool server) =>
        failure.InnerException is null || verdict.Length > 0 ? verdict : $"the {(server ? "client" : "server")} was refused: {failure.Message}";

    /// <summary>Anything else.</summary>
    public static string Of(Exception failure, TlsInnerStream inner, HandshakeDeadline deadline, bool server, SslProtocols protocols)
    {
        if (deadline.Reason is { } reason)
        {
            return reason;
        }

        var peer = server ? "client" : "server";
        if (inner.FirstByte is >= 0 and not 0x16 and not 0x15)
        {
            return $"the {peer} spoke plaintext where TLS is required (first byte 0x{inner.FirstByte:x2}): check that it goes through its sidecar";
        }

        if (inner.RawHasEnded() || failure is ConnectionResetException || failure.InnerException is ConnectionResetException)
        {
            return $"the {peer} closed the connection during the TLS handshake: its own log tells why (a certificate that it refuses, a protocol that it lacks)";
        }

        var detail = failure.InnerException?.Message ?? failure.Message;
        return $"the TLS handshake with the {peer} failed ({Shorten(detail)}): check that both ends have TLS {(protocols == SslProtocols.Tls13 ? "1.3" : "1.2 or 1.3")} "
            + "and an application protocol (ALPN) in common, and that the certificates are accepted";
    }

    private static string Shorten(string text) => text.Length <= 300 ? text : text[..300];
}
