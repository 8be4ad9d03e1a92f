using System.Net;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane;

/// <summary>
/// The half of a connection that an application of ours opened. A redirected connection goes to the service that its original address belongs to, and Host
/// never moves it elsewhere; on the explicit listener Host decides; a local listener (--upstream) is one service.
/// </summary>
internal sealed class Outbound(ProxyServices services)
{
    /// <summary>Serves one connection of the outbound listener. Never throws.</summary>
    public async Task ServeAsync(ConnectionContext connection)
    {
        var info = ConnectionInfo.Of(connection);
        if (OriginalDestination.TryGet(connection) is not { } original || original.Equals(connection.LocalEndPoint))
        {
            await ServeExplicitAsync(connection, info);
            return;
        }

        if (original.Port == services.Options.Outbound?.Port && IPAddress.IsLoopback(original.Address))
        {
            services.Refuse(connection, Direction.Outbound, "loop", $"the connection to {original} was redirected back to this proxy's own outbound listener: exclude the proxy's user from the redirect rules");
            return;
        }

        var port = Find(original);
        if (port is null && services.Demand is { } demand && await demand.RequestAddressAsync(original.ToString()))
        {
            port = Find(original);
        }

        if (port is not null)
        {
            await ServePortAsync(connection, info, port);
        }
        else if (services.Cell.Current.Config.Addresses.TryGetValue(original.ToString(), out var cluster))
        {
            // An address of the mesh is no egress: what is refused there must not be had by going around it.
            await ServeRefusedAsync(connection, info, cluster);
        }
        else if (services.Options.AllowEgress)
        {
            await services.ServeTcpAsync(connection, services.PassThrough(original), Direction.Outbound, info);
        }
        else if (await services.DetectHttpAsync(connection) is { } version)
        {
            await services.ServeHttpAsync(connection, version, new OutboundConnection(services, info, null, $"unknown_destination: no service of the mesh is at {original}; --egress allow passes such traffic through"));
        }
        else
        {
            services.Refuse(connection, Direction.Outbound, "unknown_destination", $"no service of the mesh is at {original}; --egress allow passes such traffic through");
        }
    }

    /// <summary>Serves one connection of a local listener for a service. Never throws.</summary>
    public async Task ServeUpstreamAsync(ConnectionContext connection, UpstreamListenerOptions upstream)
    {
        var info = ConnectionInfo.Of(connection);
        var authority = System.Text.Encoding.ASCII.GetBytes(upstream.Service);
        var port = FindPort(authority);
        if (port is null && services.Demand is { } demand
            && ServiceNames.TryParse(authority, services.Options.Namespace, out var service) && await demand.RequestAsync(service))
        {
            port = FindPort(authority);
        }

        if (port is null && services.Cell.Current.FindByHost(authority) is { Config.Refused: not null } destination)
        {
            await ServeRefusedAsync(connection, info, new ClusterId(destination.Config.Service, Authorities.PortOf(authority)));
        }
        else if (port is null)
        {
            services.Refuse(connection, Direction.Outbound, "unknown_destination", $"--upstream {upstream.Service}={upstream.LocalPort}: no such service, or it has several ports and none is named");
        }
        else
        {
            await ServePortAsync(connection, info, port);
        }
    }

    /// <summary>A service that is refused, or that nothing is known of yet: requests are told why, and opaque bytes go nowhere.</summary>
    private async Task ServeRefusedAsync(ConnectionContext connection, ConnectionInfo info, ClusterId cluster)
    {
        if (await services.DetectHttpAsync(connection) is { } version)
        {
            await services.ServeHttpAsync(connection, version, new OutboundConnection(services, info, cluster, null));
            return;
        }

        var refused = services.Cell.Current.Destinations.GetValueOrDefault(cluster.Service)?.Config.Refused;
        services.Refuse(connection, Direction.Outbound, refused is null ? "unknown_destination" : "refused_configuration", $"service {cluster.Service}: {refused ?? "its configuration has not come yet"}");
    }

    private async Task ServeExplicitAsync(ConnectionContext connection, ConnectionInfo info)
    {
        if (await services.DetectHttpAsync(connection, services.Options.HandshakeTimeout) is { } version)
        {
            await services.ServeHttpAsync(connection, version, new OutboundConnection(services, info, null, null));
            return;
        }

        if (ProxyServices.HasLeftUnheard(connection))
        {
            await connection.DisposeAsync();
            return;
        }

        services.Refuse(connection, Direction.Outbound, "no_destination", "a connection to the outbound listener itself must be HTTP, whose Host names the service; for TCP declare --upstream SERVICE=PORT");
    }

    private async Task ServePortAsync(ConnectionContext connection, ConnectionInfo info, DestinationPort port)
    {
        services.Demand?.Touch(port.Cluster.Service);
        if (!port.TlsRoutes.IsEmpty)
        {
            await ServeTlsRoutesAsync(connection, info, port);
            return;
        }

        HttpProtocolVersion? version = null;
        var isTls = false;
        if (port.Protocol.IsHttp())
        {
            version = await services.DetectDeclaredHttpAsync(connection);
        }
        else if (port.Protocol == AppProtocol.Undeclared || (port.OriginatesTls && port.Protocol != AppProtocol.Tcp))
        {
            // Where we would speak TLS, an application that does so itself is left to it. (On a port that is declared tcp the server may speak first.)
            var detected = await services.DetectAsync(connection, port.Protocol == AppProtocol.Undeclared ? services.Options.DetectionTimeout : services.Options.FirstByteTimeout);
            isTls = detected == DetectedProtocol.Tls;
            version = !port.TakesRequests ? null
                : detected == DetectedProtocol.Http1 ? HttpProtocolVersion.Http11
                : detected == DetectedProtocol.Http2 ? HttpProtocolVersion.Http2
                : null;
        }

        if (version is { } spoken)
        {
            await services.ServeHttpAsync(connection, spoken, new OutboundConnection(services, info, port.Cluster, null));
        }
        else
        {
            await services.ServeTcpAsync(connection, port.TcpBackends, Direction.Outbound, info, isTls: isTls);
        }
    }

    // The port is declared to speak TLS, so the client speaks first.
    private async Task ServeTlsRoutesAsync(ConnectionContext connection, ConnectionInfo info, DestinationPort port)
    {
        var (hello, serverName) = await services.PeekServerNameAsync(connection);
        info.ServerName = serverName;
        if (hello != ClientHelloResult.Complete)
        {
            services.Refuse(connection, Direction.Outbound, "no_client_hello", $"{port.Cluster} has TLSRoutes, and the application began with no ClientHello that can be read");
        }
        else if (port.TlsRoutes.Match(serverName) is { } route)
        {
            await services.ServeTcpAsync(connection, route, Direction.Outbound, info, isTls: true);
        }
        else
        {
            await services.RefuseServerNameAsync(connection, Direction.Outbound, info, $"no_route: no TLSRoute of service {port.Cluster} takes the server name '{serverName}'");
        }
    }

    private DestinationPort? Find(IPEndPoint original)
    {
        var snapshot = services.Cell.Current;
        return snapshot.Config.Addresses.TryGetValue(original.ToString(), out var cluster)
            && snapshot.Destinations.TryGetValue(cluster.Service, out var destination) && destination.Ports.TryGetValue(cluster.Port, out var port)
            ? port
            : null;
    }

    private DestinationPort? FindPort(ReadOnlySpan<byte> authority)
    {
        var destination = services.Cell.Current.FindByHost(authority);
        var number = Authorities.PortOf(authority);
        return number == 0 ? destination?.OnlyPort ?? destination?.DefaultHttpPort : destination?.Ports.GetValueOrDefault(number);
    }

    /// <summary>The HTTP side. With <paramref name="fixedTo"/> the destination is settled; with <paramref name="refusal"/> every request is refused.</summary>
    private sealed class OutboundConnection(ProxyServices services, ConnectionInfo info, ClusterId? fixedTo, string? refusal)
        : DownstreamConnection(services.Forwarding, info, services.Traffic.Default(Direction.Outbound))
    {
        public override Direction Direction => Direction.Outbound;

        public override RouteDecision Route(RequestHead request, RequestRecord record)
        {
            if (refusal is not null)
            {
                return RouteDecision.Refuse(FailureCause.NoRoute, refusal);
            }

            var snapshot = services.Cell.Current;
            Destination? destination;
            DestinationPort? port;
            if (fixedTo is { } cluster)
            {
                destination = snapshot.Destinations.GetValueOrDefault(cluster.Service);
                port = destination?.Ports.GetValueOrDefault(cluster.Port);
            }
            else
            {
                destination = snapshot.FindByHost(request.Authority);
                var number = Authorities.PortOf(request.Authority);
                port = number == 0 ? destination?.DefaultHttpPort : destination?.Ports.GetValueOrDefault(number);
            }

            if (destination is null)
            {
                return RouteDecision.Refuse(FailureCause.NoRoute, $"unknown_service: {Text(request.Authority)} is no service of the mesh that this proxy knows") with { MayBeDemanded = true };
            }

            services.Demand?.Touch(destination.Config.Service);
            if (destination.Config.Refused is { } refused)
            {
                return RouteDecision.Refuse(FailureCause.RefusedConfiguration, $"refused_configuration: service {destination.Config.Service}: {refused}");
            }

            if (port is null || !port.TakesRequests)
            {
                return RouteDecision.Refuse(FailureCause.NoRoute,
                    $"no_port: {Text(request.Authority)} does not name an HTTP port of service {destination.Config.Service}; it has {string.Join(", ", destination.Ports.Values.Select(p => $"{p.Cluster.Port} ({p.Protocol})"))}");
            }

            if (port.Traffic.Admit(request, record) is { IsFailure: true } refusedRequest)
            {
                return new RouteDecision(default, refusedRequest);
            }

            var match = port.Routes.Match(request);
            return match.Rule is null
                ? RouteDecision.Refuse(FailureCause.NoRoute, $"no_route: no route of service {port.Cluster} matches")
                : new RouteDecision(match, default, port.Traffic);
        }

        public override ValueTask<bool> DemandAsync(RequestHead request)
        {
            var service = fixedTo?.Service ?? default;
            return services.Demand is { } demand
                && (fixedTo is not null || ServiceNames.TryParse(request.Authority, services.Options.Namespace, out service))
                ? demand.RequestAsync(service)
                : ValueTask.FromResult(false);
        }

        private static string Text(ReadOnlySpan<byte> authority) => System.Text.Encoding.ASCII.GetString(authority[..Math.Min(authority.Length, 253)]);
    }
}
