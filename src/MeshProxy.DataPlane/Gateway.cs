using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane;

/// <summary>
/// The north-south half of a connection: TLS at the edge where the listener says so, then HTTP by the listener's routes, or opaque bytes to its backends.
/// </summary>
internal sealed class Gateway
{
    private readonly ProxyServices _services;
    private readonly string _address;
    private readonly int _port;
    private readonly TlsServerStep _https;
    private readonly TlsServerStep _tls;

    public Gateway(ProxyServices services, string address, int port)
    {
        _services = services;
        _address = address;
        _port = port;
        _https = TlsServerStep.ForEdge(SelectCertificate, services.Forwarding.Time);
        _tls = new TlsServerStep(new TlsServerOptions { Select = SelectCertificate, ApplicationProtocols = [], AllowResume = true }, services.Forwarding.Time);
    }

    /// <summary>Serves one connection. Never throws.</summary>
    public async Task ServeAsync(ConnectionContext connection)
    {
        var info = ConnectionInfo.Of(connection);
        if (Port() is not { } gatewayPort)
        {
            _services.Refuse(connection, Direction.Gateway, "no_listener", $"port {_port} is no longer a listener of the gateway");
            return;
        }

        var protocol = gatewayPort.Protocol;
        if (gatewayPort.NeedsServerName)
        {
            var (hello, serverName) = await _services.PeekServerNameAsync(connection);
            info.ServerName = serverName;
            if (hello != ClientHelloResult.Complete)
            {
                _services.Refuse(connection, Direction.Gateway, "tls_failed", hello == ClientHelloResult.Invalid
                    ? $"port {_port} takes TLS, and this is no ClientHello that can be read"
                    : $"port {_port} takes TLS, and no whole ClientHello came in time");
                return;
            }

            if (gatewayPort.Find(Encoding.ASCII.GetBytes(serverName ?? "")) is not { } named)
            {
                await _services.RefuseServerNameAsync(connection, Direction.Gateway, info, $"no_listener: no listener of port {_port} takes the server name '{serverName}'");
                return;
            }

            if (named.Protocol == ListenerProtocol.TlsPassthrough)
            {
                await PassThroughAsync(connection, info, named);
                return;
            }

            protocol = named.Protocol;
        }

        var version = HttpProtocolVersion.Http11;
        if (protocol.IsTls())
        {
            var step = protocol == ListenerProtocol.Https ? _https : _tls;
            var session = await step.AuthenticateAsync(connection, gatewayPort.Traffic.HandshakeTimeout ?? _services.Options.HandshakeTimeout, CancellationToken.None);
            if (session.Refused is { } refused)
            {
                _services.Refuse(connection, Direction.Gateway, "tls_failed", refused);
                return;
            }

            connection = session.Connection;
            info.IsTls = true;
            info.ServerName = session.ServerName;
            version = session.Alpn == "h2" ? HttpProtocolVersion.Http2 : HttpProtocolVersion.Http11;
        }
        else if (protocol == ListenerProtocol.Http
            && await _services.DetectDeclaredHttpAsync(connection, gatewayPort.Traffic.FirstByteTimeout) == HttpProtocolVersion.Http2)
        {
            version = HttpProtocolVersion.Http2;
        }

        if (protocol is ListenerProtocol.Http or ListenerProtocol.Https)
        {
            var traffic = (info.ServerName is { } name ? gatewayPort.Find(Encoding.ASCII.GetBytes(name)) : null)?.Traffic ?? gatewayPort.Traffic;
            await _services.ServeHttpAsync(connection, version, new GatewayConnection(this, _services, info, traffic));
            return;
        }

        var section = gatewayPort.Find(Encoding.ASCII.GetBytes(info.ServerName ?? ""));
        if (section is null)
        {
            _services.Refuse(connection, Direction.Gateway, "no_listener", $"no listener of port {_port} takes the server name '{info.ServerName}'");
            return;
        }

        if (section.TlsRoutes.Match(info.ServerName) is { } route)
        {
            await _services.ServeTcpAsync(connection, route, Direction.Gateway, info);
        }
        else if (section.TlsRoutes.IsEmpty || section.TcpBackends.All.Count > 0)
        {
            await _services.ServeTcpAsync(connection, section.TcpBackends, Direction.Gateway, info);
        }
        else
        {
            _services.RefuseRoute(connection, Direction.Gateway, info, NoRoute(section, info));
        }
    }

    private async Task PassThroughAsync(ConnectionContext connection, ConnectionInfo info, GatewaySection section)
    {
        if (section.TlsRoutes.Match(info.ServerName) is { } route)
        {
            await _services.ServeTcpAsync(connection, route, Direction.Gateway, info, isTls: true);
        }
        else
        {
            await _services.RefuseServerNameAsync(connection, Direction.Gateway, info, NoRoute(section, info));
        }
    }

    private static string NoRoute(GatewaySection section, ConnectionInfo info) =>
        $"no_route: no TLSRoute of listener {section.Id} takes {(info.ServerName is null ? "a client that names no server" : $"the server name '{info.ServerName}'")}";

    // A client that names no server gets the first certificate of the port; one that names a server nobody here is gets none, and the handshake fails.
    private TlsServerIdentity? SelectCertificate(string? serverName)
    {
        if (Port() is not { } current)
        {
            return null;
        }

        var section = string.IsNullOrEmpty(serverName) ? current.Sections[0] : current.Find(Encoding.ASCII.GetBytes(serverName));
        return section?.Certificates?.Choose(serverName);
    }

    private GatewayPort? Port()
    {
        foreach (var candidate in _services.Cell.Current.GatewayPorts)
        {
            if (candidate.Port == _port && candidate.Address == _address)
            {
                return candidate;
            }
        }

        return null;
    }

    private sealed class GatewayConnection(Gateway gateway, ProxyServices services, ConnectionInfo info, ClientTraffic traffic)
        : DownstreamConnection(services.Forwarding, info, traffic)
    {
        public override Direction Direction => Direction.Gateway;

        public override bool TellsDetail => false;

        public override bool ConvertsGrpcWeb => true;

        public override RouteDecision Route(RequestHead request, RequestRecord record)
        {
            var port = gateway.Port();
            var host = Authorities.WithoutPort(request.Authority);
            var section = port?.Find(host);
            if (section is not null && Info.ServerName is { } name && !Ascii.EqualsIgnoreCase(host, name) && !ReferenceEquals(section, FindByName(port!, name)))
            {
                // HTTP/2 clients use a connection for every name in its certificate (RFC 9113 section 9.1.1), and whoever wants to gets a connection by a harmless name.
                return RouteDecision.Refuse(FailureCause.Misdirected, $"misdirected: the connection was made to {name}, whose listener is not that of the request's host ({section.Id})");
            }

            // On a port that also passes TLS through, a name of such a listener is none of ours.
            if (section is not { Protocol: ListenerProtocol.Http or ListenerProtocol.Https })
            {
                return RouteDecision.Refuse(FailureCause.NoRoute, "no_listener: no listener takes this host");
            }

            if (section.Traffic.Admit(request, record) is { IsFailure: true } refused)
            {
                return new RouteDecision(default, refused);
            }

            var match = section.Routes.Match(request);
            return match.Rule is null
                ? RouteDecision.Refuse(FailureCause.NoRoute, $"no_route: no route of listener {section.Id} matches")
                : new RouteDecision(match, default, section.Traffic);
        }

        private static GatewaySection? FindByName(GatewayPort port, string name)
        {
            Span<byte> host = stackalloc byte[256];
            return Encoding.ASCII.TryGetBytes(name, host, out var length) ? port.Find(host[..length]) : null;
        }
    }
}
