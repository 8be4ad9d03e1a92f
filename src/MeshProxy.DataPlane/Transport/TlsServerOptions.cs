using System.Net.Security;
using System.Security.Authentication;
using MeshProxy.DataPlane.Identity;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A certificate with its key, and what is sent with it. Make one for each certificate, not for each handshake: prepared state hangs on it.</summary>
internal sealed class TlsServerIdentity(SslStreamCertificateContext context)
{
    /// <summary>The certificate.</summary>
    public SslStreamCertificateContext Context { get; } = context;

    /// <summary>The options made for it last; they can be shared when nothing in them is of one connection.</summary>
    internal (TlsServerOptions Owner, SslServerAuthenticationOptions Options)? Prepared { get; set; }
}

/// <summary>How a server's handshake is done.</summary>
internal sealed record TlsServerOptions
{
    /// <summary>The certificate for a server name (null: the client named none); null: there is none, refuse.</summary>
    public required Func<string?, TlsServerIdentity?> Select { get; init; }

    /// <summary>Whether the client must prove a SPIFFE ID of our trust domain.</summary>
    public bool RequireClientCertificate { get; init; }

    /// <summary>The roots to judge clients by; needed with <see cref="RequireClientCertificate"/>.</summary>
    public ITrustView? Trust { get; init; }

    /// <summary>TLS versions.</summary>
    public SslProtocols Protocols { get; init; } = SslProtocols.Tls12 | SslProtocols.Tls13;

    /// <summary>What we speak, most wanted first.</summary>
    public required IReadOnlyList<SslApplicationProtocol> ApplicationProtocols { get; init; }

    /// <summary>Whether a client without ALPN is refused.</summary>
    public bool RequireApplicationProtocol { get; init; }

    /// <summary>Whether sessions may be resumed. In the mesh never: a resumed session would not be judged again.</summary>
    public bool AllowResume { get; init; }

    /// <summary>How long a close may wait for a peer that does not read.</summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(5);
}

/// <summary>Application protocol names of the mesh and its edges.</summary>
internal static class MeshAlpn
{
    /// <summary>HTTP/2.</summary>
    public const string Http2 = "h2";

    /// <summary>HTTP/1.1.</summary>
    public const string Http11 = "http/1.1";

    /// <summary>One TCP connection inside the mesh (mesh protocol 1).</summary>
    public const string Tcp = "meshproxy-tcp/1";
}
