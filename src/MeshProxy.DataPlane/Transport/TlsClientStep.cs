using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>The client's half of a mesh handshake: mutual TLS 1.3 to a server that proves one of the SPIFFE IDs that may serve. Runs on the thread pool; a
/// refusal is a value.</summary>
/// <remarks>That the server accepted our certificate is known only with its first byte (TLS 1.3): until then any end is a failed connect.</remarks>
internal sealed class TlsClientStep(ISvidSource svids, ITrustView trust, TimeProvider time, BlockPool? pool = null)
{
    private static readonly TimeSpan CloseTimeout = TimeSpan.FromSeconds(5);

    private readonly BlockPool _pool = pool ?? BlockPool.Shared;

    /// <summary>Does the handshake. Never throws. After a refusal the caller disposes the raw connection; otherwise the session's connection owns it.</summary>
    public async ValueTask<TlsSession> AuthenticateAsync(
        ConnectionContext raw,
        string serverName,
        string alpn,
        IReadOnlyCollection<SpiffeId> allowedServers,
        TimeSpan timeout,
        CancellationToken cancellationToken)
    {
        await default(ThreadPoolHop);
        if (svids.Current is not { } svid)
        {
            return new TlsSession
            {
                Connection = raw,
                ServerName = serverName,
                Refused = "we have no certificate of our own yet: is the control plane reachable, or is one configured?",
            };
        }

        var judge = new PeerJudge(trust, time, allowedServers);
        var judged = false;
        var inner = new TlsInnerStream(raw.Transport);
        var stream = new SslStream(inner, leaveInnerStreamOpen: true);
        string? refused = null;
        using (var deadline = new HandshakeDeadline(raw, timeout, time, cancellationToken))
        {
            try
            {
                await stream.AuthenticateAsClientAsync(
                    new SslClientAuthenticationOptions
                    {
                        TargetHost = serverName,
                        ClientCertificateContext = svid.Context,
                        ApplicationProtocols = [new SslApplicationProtocol(alpn)],
                        EnabledSslProtocols = SslProtocols.Tls13,
                        AllowRenegotiation = false,
                        AllowTlsResume = false,
                        CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                        CertificateChainPolicy = PeerJudge.EnginePolicy(),
                        RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
                        {
                            judged = true;
                            return judge.Judge(sender, certificate, chain, errors);
                        },
                    },
                    CancellationToken.None);
                if (!judge.Verdict.IsAccepted)
                {
                    refused = judge.Verdict.Refused;
                }
                else if (stream.NegotiatedApplicationProtocol != new SslApplicationProtocol(alpn))
                {
                    refused = $"the server does not speak {alpn}: is it the inbound of a mesh proxy?";
                }
            }
            catch (Exception failure)
            {
                refused = judged && !judge.Verdict.IsAccepted
                    ? TlsRefusal.OfPeer(failure, judge.Verdict.Refused!, server: false)
                    : TlsRefusal.Of(failure, inner, deadline, server: false, SslProtocols.Tls13);
            }

            if (refused is null && deadline.Reason is { } late)
            {
                refused = late;
            }
        }

        if (refused is not null)
        {
            await stream.DisposeAsync();
            return new TlsSession { Connection = raw, Refused = refused, ServerName = serverName, Peer = judge.Verdict };
        }

        inner.EndHandshake();
        return new TlsSession
        {
            Connection = new TlsConnection(raw, stream, inner, _pool, CloseTimeout, time),
            ServerName = serverName,
            Alpn = alpn,
            Peer = judge.Verdict,
        };
    }
}
