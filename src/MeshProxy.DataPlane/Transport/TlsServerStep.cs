using System.Net.Security;
using System.Security.Authentication;
using MeshProxy.DataPlane.Identity;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>The server's half of a TLS handshake. Runs on the thread pool; a refusal is a value.</summary>
internal sealed class TlsServerStep
{
    private readonly TlsServerOptions _options;
    private readonly TimeProvider _time;
    private readonly BlockPool _pool;
    private readonly List<SslApplicationProtocol> _protocols;

    /// <summary>Takes how it is done.</summary>
    public TlsServerStep(TlsServerOptions options, TimeProvider time, BlockPool? pool = null)
    {
        _options = options;
        _time = time;
        _pool = pool ?? BlockPool.Shared;
        _protocols = [.. options.ApplicationProtocols];
    }

    // Fatal alert unrecognized_name (RFC 6066 section 3).
    private static ReadOnlySpan<byte> UnrecognizedName => [0x15, 3, 3, 0, 2, 2, 112];

    /// <summary>For the inbound: mutual TLS 1.3 with our SVID, clients of our trust domain, ALPN of mesh protocol 1, no resumption.</summary>
    public static TlsServerStep ForMesh(ISvidSource svids, ITrustView trust, TimeProvider time, BlockPool? pool = null)
    {
        TlsServerIdentity? last = null;
        return new TlsServerStep(
            new TlsServerOptions
            {
                // One identity object for each certificate; a race makes one too many, which is harmless.
                Select = _ => svids.Current is not { } svid ? null : last is { } known && known.Context == svid.Context ? known : last = new TlsServerIdentity(svid.Context),
                RequireClientCertificate = true,
                Trust = trust,
                Protocols = SslProtocols.Tls13,
                ApplicationProtocols = [SslApplicationProtocol.Http2, new SslApplicationProtocol(MeshAlpn.Tcp)],
                RequireApplicationProtocol = true,
            },
            time,
            pool);
    }

    /// <summary>For a gateway's edge: TLS 1.2 and 1.3, certificates by server name, no client certificate, ALPN h2 and http/1.1.</summary>
    public static TlsServerStep ForEdge(Func<string?, TlsServerIdentity?> select, TimeProvider time, BlockPool? pool = null) => new(
        new TlsServerOptions
        {
            Select = select,
            ApplicationProtocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11],
            AllowResume = true,
        },
        time,
        pool);

    /// <summary>Does the handshake. Never throws. After a refusal the caller disposes the raw connection; otherwise the session's connection owns it.</summary>
    public async ValueTask<TlsSession> AuthenticateAsync(ConnectionContext raw, TimeSpan timeout, CancellationToken cancellationToken)
    {
        await default(ThreadPoolHop);
        var inner = new TlsInnerStream(raw.Transport);
        var stream = new SslStream(inner, leaveInnerStreamOpen: true);
        var handshake = new Handshake(this);
        string? refused;
        using (var deadline = new HandshakeDeadline(raw, timeout, _time, cancellationToken))
        {
            try
            {
                await stream.AuthenticateAsServerAsync(static (_, hello, state, _) => ((Handshake)state!).Choose(hello), handshake, CancellationToken.None);
                refused = Check(stream, handshake);
            }
            catch (Exception failure)
            {
                refused = handshake.Refused ?? handshake.Judge?.Verdict.Refused switch
                {
                    { } verdict when handshake.Judge.HasSpoken && failure is AuthenticationException => TlsRefusal.OfPeer(failure, verdict, server: true),
                    _ => TlsRefusal.Of(failure, inner, deadline, server: true, _options.Protocols),
                };
                if (handshake.Refused is not null)
                {
                    await RefuseServerNameAsync(raw);
                }
            }

            if (refused is null && deadline.Reason is { } late)
            {
                refused = late;
            }
        }

        if (refused is not null)
        {
            await stream.DisposeAsync();
            return new TlsSession { Connection = raw, Refused = refused, ServerName = handshake.ServerName, Peer = handshake.Judge?.Verdict ?? default };
        }

        inner.EndHandshake();
        return new TlsSession
        {
            Connection = new TlsConnection(raw, stream, inner, _pool, _options.CloseTimeout, _time),
            ServerName = handshake.ServerName,
            Alpn = stream.NegotiatedApplicationProtocol.ToString(),
            Peer = handshake.Judge?.Verdict ?? default,
        };
    }

    /// <summary>Tells a client whose ClientHello nobody has answered that there is nothing by its server name.</summary>
    public static async ValueTask RefuseServerNameAsync(ConnectionContext raw)
    {
        try
        {
            await raw.Transport.Output.WriteAsync(UnrecognizedName.ToArray());
        }
        catch (InvalidOperationException)
        {
            // Completed meanwhile.
        }
    }

    private string? Check(SslStream stream, Handshake handshake)
    {
        if (handshake.Judge is { Verdict.IsAccepted: false } judge)
        {
            return judge.Verdict.Refused;
        }

        return _options.RequireApplicationProtocol && stream.NegotiatedApplicationProtocol.Protocol.IsEmpty
            ? $"the client offered no application protocol: expected one of {string.Join(", ", _protocols)} (is it a mesh proxy?)"
            : null;
    }

    private sealed class Handshake(TlsServerStep step)
    {
        public string? ServerName { get; private set; }

        public PeerJudge? Judge { get; private set; }

        public string? Refused { get; private set; }

        public ValueTask<SslServerAuthenticationOptions> Choose(SslClientHelloInfo hello)
        {
            var options = step._options;
            ServerName = string.IsNullOrEmpty(hello.ServerName) ? null : hello.ServerName.ToLowerInvariant();
            if (options.Select(ServerName) is not { } identity)
            {
                Refused = ServerName is null
                    ? "there is no certificate for clients that name no server"
                    : $"there is no certificate for the server name '{ServerName}': check the listeners' hostnames and their Secrets";
                throw new AuthenticationException(Refused);
            }

            if (!options.RequireClientCertificate && identity.Prepared is { } prepared && prepared.Owner == options)
            {
                return new ValueTask<SslServerAuthenticationOptions>(prepared.Options);
            }

            var made = new SslServerAuthenticationOptions
            {
                ServerCertificateContext = identity.Context,
                EnabledSslProtocols = options.Protocols,
                ApplicationProtocols = step._protocols,
                AllowRenegotiation = false,
                AllowTlsResume = options.AllowResume,
                CertificateRevocationCheckMode = System.Security.Cryptography.X509Certificates.X509RevocationMode.NoCheck,
            };
            if (options.RequireClientCertificate)
            {
                var judge = new SvidJudge(options.Trust ?? throw new InvalidOperationException("Client certificates need a trust view."), step._time, allowed: null);
                Judge = judge;
                made.ClientCertificateRequired = true;
                made.CertificateChainPolicy = judge.ChainPolicy;
                made.RemoteCertificateValidationCallback = judge.Judge;
            }
            else
            {
                identity.Prepared = (options, made);
            }

            return new ValueTask<SslServerAuthenticationOptions>(made);
        }
    }
}
