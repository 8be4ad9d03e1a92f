using System.Net.Sockets;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>A dialed connection, or why there is none.</summary>
internal readonly record struct DialResult(ConnectionContext? Connection, DateTimeOffset PeerNotAfter, Failure Failure);

/// <summary>Dials endpoints: TCP, and inside the mesh TLS with the demanded identity. Nothing of a request has been sent when it fails.</summary>
internal sealed class UpstreamConnector(IConnectionFactory dialer, TlsClientStep? tls)
{
    /// <summary>ALPN of HTTP between sidecars.</summary>
    public const string HttpAlpn = "h2";

    /// <summary>ALPN of one opaque TCP connection between sidecars, mesh protocol 1.</summary>
    public const string TcpAlpn = "meshproxy-tcp/1";

    /// <summary>Dials <paramref name="key"/>. The timeout bounds TCP and TLS together.</summary>
    public async ValueTask<DialResult> DialAsync(PoolKey key, string alpn, TimeSpan timeout, TimeProvider time)
    {
        if (key.IsMesh && tls is null)
        {
            return Fail($"no_identity: {key.Address} is in the mesh, but this proxy has no certificate to prove itself with; start it with --control");
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

        if (!key.IsMesh)
        {
            return new DialResult(raw, DateTimeOffset.MaxValue, default);
        }

        var session = await tls!.AuthenticateAsync(raw, key.ServerName!, alpn, key.AllowedServers, timeout, deadline.Token);
        if (session.Refused is { } refused)
        {
            await session.Connection.DisposeAsync();
            return Fail($"tls_failed: {key.Address} ({key.ServerName}): {refused}");
        }

        return new DialResult(session.Connection, session.Peer.NotAfter, default);
    }

    /// <summary>A failure to get a connection: safe to try elsewhere.</summary>
    public static Failure ConnectFailure(string detail) =>
        new(FailureCause.ConnectFailed, FailureStage.Connecting, RetrySafety.Always, Initiator.Peer, detail);

    private static DialResult Fail(string detail) => new(null, default, ConnectFailure(detail));

    private static string Describe(Exception error) => error switch
    {
        SocketException { SocketErrorCode: SocketError.ConnectionRefused } => "connection refused, nothing listens there",
        SocketException { SocketErrorCode: SocketError.NetworkUnreachable or SocketError.HostUnreachable } => "no route to it",
        SocketException socket => socket.SocketErrorCode.ToString(),
        _ => error.Message,
    };
}
