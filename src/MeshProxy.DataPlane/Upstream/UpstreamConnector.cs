using System.Net.Security;
using System.Net.Sockets;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>A dialed connection, or why there is none.</summary>
/// <param name="Connection">The connection; null: <paramref name="Failure"/> tells.</param>
/// <param name="Version">What HTTP is spoken on it.</param>
/// <param name="PeerNotAfter">When the peer's certificate ends.</param>
/// <param name="Failure">Why there is none.</param>
internal readonly record struct DialResult(ConnectionContext? Connection, HttpProtocolVersion Version, DateTimeOffset PeerNotAfter, Failure Failure);

/// <summary>Dials endpoints: TCP, then TLS with the demanded identity inside the mesh, or as a BackendTLSPolicy says outside it. Nothing of a request has been sent
/// when it fails.</summary>
internal sealed class UpstreamConnector(IConnectionFactory dialer, TlsClientStep tls)
{
    /// <summary>ALPN of HTTP between sidecars.</summary>
    public const string HttpAlpn = "h2";

    /// <summary>ALPN of one opaque TCP connection between sidecars, mesh protocol 1.</summary>
    public const string TcpAlpn = "meshproxy-tcp/1";

    private static readonly IReadOnlyList<SslApplicationProtocol> Http2Only = [SslApplicationProtocol.Http2];
    private static readonly IReadOnlyList<SslApplicationProtocol> Http1Only = [SslApplicationProtocol.Http11];
    private static readonly IReadOnlyList<SslApplicationProtocol> Either = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11];

    /// <summary>Dials <paramref name="key"/>. The timeout bounds TCP and TLS together.</summary>
    /// <param name="key">Where, and who must answer.</param>
    /// <param name="isOpaque">Whether bytes are carried, not HTTP.</param>
    /// <param name="timeout">How long it may take.</param>
    /// <param name="time">The clock.</param>
    public async ValueTask<DialResult> DialAsync(PoolKey key, bool isOpaque, TimeSpan timeout, TimeProvider time)
    {
        if (key.IsMesh && !tls.HasIdentity)
        {
            return Fail($"no_identity: {key.Address} is in the mesh, but this proxy has no certificate to prove itself with; start it with --control");
        }

        if (key.Tls?.Config.Invalid is { } invalid)
        {
            return Fail($"policy_invalid: {invalid}");
        }

        using var deadline = new CancellationTokenSource(timeout, time);
        ConnectionContext raw;
        try
        {
            raw = await dialer.ConnectAsync(key.Address, deadline.Token);
        }
        catch (OperationCanceledException)
        {
            return Fail($"connect_timeout: {key.Address} did not accept a connection within {timeout.TotalMilliseconds:0} ms");
        }
        catch (Exception error)
        {
            // Whatever a dialer can throw: nothing was sent, and a request waits for the answer.
            return Fail($"connect_failed: {key.Address}: {Describe(error)}");
        }

        var version = key.Version ?? HttpProtocolVersion.Http11;
        if (!key.IsMesh && key.Tls is null)
        {
            return new DialResult(raw, version, DateTimeOffset.MaxValue, default);
        }

        var session = key.IsMesh
            ? await tls.AuthenticateAsync(raw, key.ServerName!, isOpaque ? TcpAlpn : HttpAlpn, key.AllowedServers, timeout, deadline.Token)
            : await tls.AuthenticateAsync(raw, key.Tls!, isOpaque ? [] : Offer(key.Version), timeout, deadline.Token);
        if (session.Refused is { } refused)
        {
            await session.Connection.DisposeAsync();
            return Fail($"tls_failed: {key.Address} ({session.ServerName}): {refused}");
        }

        return new DialResult(session.Connection, key.Version ?? (session.Alpn == HttpAlpn ? HttpProtocolVersion.Http2 : version), session.Peer.NotAfter, default);
    }

    /// <summary>A failure to get a connection: safe to try elsewhere.</summary>
    public static Failure ConnectFailure(string detail) =>
        new(FailureCause.ConnectFailed, FailureStage.Connecting, RetrySafety.Always, Initiator.Peer, detail);

    private static IReadOnlyList<SslApplicationProtocol> Offer(HttpProtocolVersion? version) => version switch
    {
        null => Either,
        HttpProtocolVersion.Http2 => Http2Only,
        _ => Http1Only,
    };

    private static DialResult Fail(string detail) => new(null, default, default, ConnectFailure(detail));

    private static string Describe(Exception error) => error switch
    {
        SocketException { SocketErrorCode: SocketError.ConnectionRefused } => "connection refused, nothing listens there",
        SocketException { SocketErrorCode: SocketError.NetworkUnreachable or SocketError.HostUnreachable } => "no route to it",
        SocketException socket => socket.SocketErrorCode.ToString(),
        _ => error.Message,
    };
}
