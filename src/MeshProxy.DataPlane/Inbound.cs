using System.Net;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane;

/// <summary>
/// The half of a connection that another sidecar opened: mutual TLS, the peer's identity, the target from SNI and the protocol from ALPN (mesh protocol 1).
/// Only service ports that the workload declared are reachable; :authority never chooses a port.
/// </summary>
internal sealed class Inbound(ProxyServices services, TlsServerStep tls)
{
    /// <summary>Serves one connection. Never throws.</summary>
    public async Task ServeAsync(ConnectionContext connection)
    {
        var info = ConnectionInfo.Of(connection);
        if (services.Options.MutualTls == MutualTlsMode.Permissive && await TakePlaintextAsync(connection, info))
        {
            return;
        }

        var session = await tls.AuthenticateAsync(connection, services.Options.HandshakeTimeout, CancellationToken.None);
        if (session.Refused is { } refused)
        {
            services.Refuse(connection, Direction.Inbound, "tls_failed", refused);
            return;
        }

        info.IsTls = true;
        info.IsMutualTls = true;
        info.ServerName = session.ServerName;
        info.PeerIdentity = session.Peer.Identity.ToString();
        if (!ClusterId.TryParseMeshServerName(session.ServerName, services.Options.TrustDomain?.Name ?? "", out var service)
            || services.Cell.Current.Inbound.GetValueOrDefault(service) is not { } target)
        {
            services.Refuse(session.Connection, Direction.Inbound, "undeclared_port",
                $"{info.PeerIdentity} asked for {session.ServerName}, which this workload does not serve; it serves {string.Join(", ", services.Cell.Current.Inbound.Keys)}");
            return;
        }

        if (session.Alpn == UpstreamConnector.TcpAlpn)
        {
            await services.ServeTcpAsync(session.Connection, new WeightedBackends([target.Opaque]), Direction.Inbound, info, sendsReadyByte: true);
            return;
        }

        await services.ServeHttpAsync(session.Connection, HttpProtocolVersion.Http2, new InboundConnection(services, info, service, target.Traffic), session.Peer.NotAfter);
    }

    /// <summary>PERMISSIVE: plaintext, and TLS that is the application's own, go to the declared local port that the connection was meant for.</summary>
    /// <returns>False when it is TLS of the mesh.</returns>
    private async Task<bool> TakePlaintextAsync(ConnectionContext connection, ConnectionInfo info)
    {
        var detected = await services.DetectAsync(connection, services.Options.DetectionTimeout);
        if (detected == DetectedProtocol.Tls)
        {
            var (_, serverName) = await services.PeekServerNameAsync(connection);
            if (ClusterId.TryParseMeshServerName(serverName, services.Options.TrustDomain?.Name ?? "", out _))
            {
                return false;
            }
        }

        var targets = services.Cell.Current.Inbound.Values;
        var original = OriginalDestination.TryGet(connection)?.Port;
        var target = original is null || original == (connection.LocalEndPoint as IPEndPoint)?.Port
            ? targets.Length == 1 ? targets[0] : null
            : targets.FirstOrDefault(candidate => candidate.LocalPort == original);
        if (target is null)
        {
            services.Refuse(connection, Direction.Inbound, "undeclared_port", $"plaintext for port {original?.ToString() ?? "unknown"}, which this workload does not declare");
            return true;
        }

        if (target.Protocol.IsOpaque() || detected is DetectedProtocol.Tls or DetectedProtocol.Opaque)
        {
            await services.ServeTcpAsync(connection, new WeightedBackends([target.Opaque]), Direction.Inbound, info, sendsReadyByte: false);
        }
        else
        {
            var version = detected == DetectedProtocol.Http2 ? HttpProtocolVersion.Http2 : HttpProtocolVersion.Http11;
            await services.ServeHttpAsync(connection, version, new InboundConnection(services, info, target.Service, target.Traffic));
        }

        return true;
    }

    private sealed class InboundConnection(ProxyServices services, ConnectionInfo info, ClusterId service, ClientTraffic traffic)
        : DownstreamConnection(services.Forwarding, info, traffic)
    {
        public override Direction Direction => Direction.Inbound;

        // Only the data plane where a request enters the mesh retries.
        public override bool Retries => false;

        public override RouteDecision Route(RequestHead request, RequestRecord record)
        {
            if (services.Cell.Current.Inbound.GetValueOrDefault(service) is not { } target)
            {
                return RouteDecision.Refuse(FailureCause.NoRoute, $"undeclared_port: this workload does not serve {service} any more");
            }

            if (target.Protocol.IsOpaque())
            {
                return RouteDecision.Refuse(FailureCause.Unsupported, $"opaque_port: {service} is declared {target.Protocol}, and a request came: declare its appProtocol http, http2 or grpc");
            }

            if (target.Traffic.Admit(request, record) is { IsFailure: true } refused)
            {
                return new RouteDecision(default, refused);
            }

            var http2 = target.Protocol.IsHttp2() || (target.Protocol == AppProtocol.Undeclared && GrpcKinds.Of(request.Fields) == GrpcKind.Grpc);
            return new RouteDecision(new RouteMatch(http2 ? target.Http2 : target.Http1, 0), default, target.Traffic);
        }
    }
}
