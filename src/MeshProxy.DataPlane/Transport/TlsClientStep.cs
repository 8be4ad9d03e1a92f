using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>The client's half of a handshake: in the mesh mutual TLS 1.3 to a server that proves one of the SPIFFE IDs that may serve, outside it TLS 1.2 or 1.3
/// as a BackendTLSPolicy says. Runs on the thread pool; a refusal is a value.</summary>
/// <remarks>That a server of the mesh accepted our certificate is known only with its first byte (TLS 1.3): until then any end is a failed connect.</remarks>
internal sealed class TlsClientStep(ISvidSource? svids, ITrustView? trust, TimeProvider time, BlockPool? pool = null)
{
    private static readonly TimeSpan CloseTimeout = TimeSpan.FromSeconds(5);

    private readonly BlockPool _pool = pool ?? BlockPool.Shared;

    /// <summary>Whether there is an identity to prove in the mesh.</summary>
    public bool HasIdentity => svids is not null && trust is not null;

    /// <summary>Does a handshake of the mesh. Never throws. After a refusal the caller disposes the raw connection; otherwise the session's connection owns it.</summary>
    public ValueTask<TlsSession> AuthenticateAsync(
        ConnectionContext raw,
        string serverName,
        string alpn,
        IReadOnlyCollection<SpiffeId> allowedServers,
        TimeSpan timeout,
        CancellationToken cancellationToken)
    {
        if (trust is null || svids?.Current is not { } svid)
        {
            return ValueTask.FromResult(new TlsSession
            {
                Connection = raw,
                ServerName = serverName,
                Refused = "we have no certificate of our own yet: is the control plane reachable, or is one configured?",
            });
        }

        var judge = new SvidJudge(trust, time, allowedServers);
        var options = Options(serverName, judge, SslProtocols.Tls13, [new SslApplicationProtocol(alpn)]);
        options.ClientCertificateContext = svid.Context;
        return HandshakeAsync(raw, options, judge, $"the server does not speak {alpn}: is it the inbound of a mesh proxy?", timeout, cancellationToken);
    }

    /// <summary>Does a handshake outside the mesh, under the same terms.</summary>
    /// <param name="raw">The connection.</param>
    /// <param name="tls">By whose policy.</param>
    /// <param name="protocols">What is offered, most wanted first; empty: no ALPN.</param>
    /// <param name="timeout">Bounds the handshake.</param>
    /// <param name="cancellationToken">Gives it up.</param>
    public ValueTask<TlsSession> AuthenticateAsync(
        ConnectionContext raw,
        UpstreamTls tls,
        IReadOnlyList<SslApplicationProtocol> protocols,
        TimeSpan timeout,
        CancellationToken cancellationToken)
    {
        var judge = new ServerNameJudge(tls, time);
        var options = Options(tls.Config.ServerName, judge, SslProtocols.Tls12 | SslProtocols.Tls13, protocols);

        // HTTP/2 over TLS needs ALPN (RFC 9113 section 3.2); HTTP/1.1 is what a server without it speaks.
        return HandshakeAsync(raw, options, judge, protocols is [var only] && only == SslApplicationProtocol.Http2 ? "the server does not speak h2 (ALPN): check the port's appProtocol" : null, timeout, cancellationToken);
    }

    private static SslClientAuthenticationOptions Options(string serverName, PeerJudge judge, SslProtocols versions, IReadOnlyList<SslApplicationProtocol> protocols) => new()
    {
        TargetHost = serverName,
        ApplicationProtocols = protocols.Count == 0 ? null : [.. protocols],
        EnabledSslProtocols = versions,
        AllowRenegotiation = false,

        // A resumed session would not be judged again.
        AllowTlsResume = false,
        CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        CertificateChainPolicy = judge.ChainPolicy,
        RemoteCertificateValidationCallback = judge.Judge,
    };

    /// <param name="raw">The connection.</param>
    /// <param name="options">How.</param>
    /// <param name="judge">Who judges the server.</param>
    /// <param name="withoutProtocol">Why a session without an agreed protocol is refused; null: it is not.</param>
    /// <param name="timeout">Bounds the handshake.</param>
    /// <param name="cancellationToken">Gives it up.</param>
    private async ValueTask<TlsSession> HandshakeAsync(
        ConnectionContext raw,
        SslClientAuthenticationOptions options,
        PeerJudge judge,
        string? withoutProtocol,
        TimeSpan timeout,
        CancellationToken cancellationToken)
    {
        await default(ThreadPoolHop);
        var inner = new TlsInnerStream(raw.Transport);
        var stream = new SslStream(inner, leaveInnerStreamOpen: true);
        string? refused = null;
        using (var deadline = new HandshakeDeadline(raw, timeout, time, cancellationToken))
        {
            try
            {
                await stream.AuthenticateAsClientAsync(options, CancellationToken.None);
                if (!judge.Verdict.IsAccepted)
                {
                    refused = judge.Verdict.Refused;
                }
                else if (withoutProtocol is not null && !options.ApplicationProtocols!.Contains(stream.NegotiatedApplicationProtocol))
                {
                    refused = withoutProtocol;
                }
            }
            catch (Exception failure)
            {
                refused = judge.HasSpoken && !judge.Verdict.IsAccepted
                    ? TlsRefusal.OfPeer(failure, judge.Verdict.Refused!, server: false)
                    : TlsRefusal.Of(failure, inner, deadline, server: false, options.EnabledSslProtocols);
            }

            if (refused is null && deadline.Reason is { } late)
            {
                refused = late;
            }
        }

        if (refused is not null)
        {
            await stream.DisposeAsync();
            return new TlsSession { Connection = raw, Refused = refused, ServerName = options.TargetHost, Peer = judge.Verdict };
        }

        inner.EndHandshake();
        return new TlsSession
        {
            Connection = new TlsConnection(raw, stream, inner, _pool, CloseTimeout, time),
            ServerName = options.TargetHost,
            Alpn = stream.NegotiatedApplicationProtocol.ToString(),
            Peer = judge.Verdict,
        };
    }
}
