using MeshProxy.Model.Identity;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>What became of a handshake.</summary>
internal sealed class TlsSession
{
    /// <summary>The decrypted connection, which owns the raw one. After a refusal: the raw one, good only for being disposed.</summary>
    public required ConnectionContext Connection { get; init; }

    /// <summary>The server name the client asked for; null when it named none.</summary>
    public string? ServerName { get; init; }

    /// <summary>The application protocol agreed on; empty when the client offered none.</summary>
    public string Alpn { get; init; } = "";

    /// <summary>What the peer's certificate proved. Default where none was asked for.</summary>
    public PeerVerdict Peer { get; init; }

    /// <summary>Null: the session stands. Else what failed and what to check, for the log.</summary>
    public string? Refused { get; init; }
}
