using System.Collections.Immutable;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>A unit that can not be put in force, and why.</summary>
/// <param name="Unit">"service/namespace/name", "gateway", "inbound".</param>
/// <param name="Field">What in it.</param>
/// <param name="Reason">Why, and what to do.</param>
public sealed record UnitRejection(string Unit, string Field, string Reason);

/// <summary>
/// Compiles what was told into what requests are judged by. A unit is taken or refused as one: a refused destination keeps its last good routes, and with
/// none its requests are answered 500 with the reason. Runs on the configuration thread, never on an event loop.
/// </summary>
internal sealed class SnapshotCompiler(ClusterStore clusters, Meters meters, ClientTrafficCompiler traffic, string ownNamespace)
{
    private const string NoRoute = "-";

    private Dictionary<(string Address, int Port, ListenerProtocol Protocol, ServerCertificateConfig Certificate), TlsServerIdentity> _identities = [];

    /// <summary>Compiles <paramref name="config"/>; what is unchanged since <paramref name="previous"/> is taken over. Nothing that is in force changes by it, but
    /// for endpoints, which stand alone.</summary>
    public (ProxySnapshot Snapshot, IReadOnlyList<UnitRejection> Rejections) Compile(ProxyConfig config, ProxySnapshot previous)
    {
        foreach (var set in config.Endpoints.Values)
        {
            clusters.Update(set);
        }

        var rejections = new List<UnitRejection>();
        var destinations = config.Destinations.Values.Select(wanted => TakeOrRefuse(wanted, config, previous.Destinations.GetValueOrDefault(wanted.Service), rejections)).ToList();
        var inbound = (config.Inbound?.Ports ?? []).Select(CompileInbound).ToList();
        var gatewayPorts = previous.GatewayPorts;
        try
        {
            gatewayPorts = CompileGateway(config.Listeners, config, previous);
        }
        catch (Exception error) when (IsRefusal(error))
        {
            rejections.Add(new UnitRejection("gateway", "spec.listeners", error.Message));
            var last = gatewayPorts;
            gatewayPorts = KeepRoutes(() => CompileGateway(ListenerConfig.Under([.. Listeners(last)], config.Listeners), config, previous), last);
        }

        // What is shown as in force is in force: a refused unit stands there with its last good state.
        var inForce = rejections.Count == 0 ? config : config with
        {
            Destinations = destinations.ToImmutableDictionary(destination => destination.Config.Service, destination => destination.Config),
            Listeners = [.. Listeners(gatewayPorts)],
        };
        return (new ProxySnapshot(inForce, destinations, inbound, gatewayPorts, ownNamespace), rejections);
    }

    private static IEnumerable<ListenerConfig> Listeners(ImmutableArray<GatewayPort> ports) => ports.SelectMany(port => port.Sections).Select(section => section.Config);

    private static bool IsRefusal(Exception error) => error is ArgumentException or FormatException or InvalidOperationException or NotSupportedException or CryptographicException;

    private Destination TakeOrRefuse(DestinationConfig wanted, ProxyConfig config, Destination? last, List<UnitRejection> rejections)
    {
        if (last is not null && ReferenceEquals(last.Config, wanted))
        {
            return last;
        }

        if (wanted.Refused is not null)
        {
            // Its ports are there for whoever has earlier routes; nobody may be served by them.
            return new Destination(wanted, [], []);
        }

        try
        {
            return CompileDestination(wanted, config);
        }
        catch (Exception error) when (IsRefusal(error))
        {
            rejections.Add(new UnitRejection($"service/{wanted.Service}", "", error.Message));
            return last is null or { Ports.Count: 0 }
                ? new Destination(wanted with { Refused = error.Message, Ports = [] }, [], [])
                : KeepRoutes(() => CompileDestination(last.Config.Under(wanted), config), last);
        }
    }

    /// <summary>The last good routes of a refused unit under the policies that the unit brought: when the fault is in a route, they hold all the same. When the
    /// fault is in them, its last good state as it was.</summary>
    private static T KeepRoutes<T>(Func<T> underNewPolicies, T last)
    {
        try
        {
            return underNewPolicies();
        }
        catch (Exception error) when (IsRefusal(error))
        {
            return last;
        }
    }

    private Destination CompileDestination(DestinationConfig wanted, ProxyConfig config)
    {
        var used = new HashSet<Cluster>();
        return new Destination(wanted, [.. wanted.Ports.Select(port =>
        {
            var own = Bring(port.Cluster);
            var byId = new Dictionary<ClusterId, Cluster>();
            foreach (var backend in port.BackendClusters)
            {
                byId[backend.Id] = Bring(backend);
            }

            byId[own.Config.Id] = own;
            var ownBackend = Backend(own, 1, MessageFilters.None, meters.ForRoute(Direction.Outbound, own.ServiceName, NoRoute));
            var routes = port.HttpRoutes.IsEmpty
                ? new RouteTable(new RouteRule("", new WeightedBackends([ownBackend]), null, null))
                : Table(port.HttpRoutes, byId, Direction.Outbound);
            var tcp = port.TcpBackends.IsEmpty
                ? new WeightedBackends([ownBackend])
                : new WeightedBackends(port.TcpBackends.Select(backend => Backend(backend, byId, Direction.Outbound, NoRoute)));
            var takesRequests = !port.Cluster.Protocol.IsOpaque() || port.Cluster is { Protocol: AppProtocol.Https, Tls: not null };
            return new DestinationPort(
                port.Cluster.Id, port.Cluster.Protocol, takesRequests, routes, tcp, TlsTable(port.TlsRoutes, byId, Direction.Outbound), traffic.CompileOutbound(port.ClientTraffic));
        })], used);

        Cluster Bring(ClusterConfig cluster)
        {
            var live = clusters.Bring(cluster, config.Endpoints.GetValueOrDefault(cluster.Id));
            used.Add(live);
            return live;
        }
    }

    private InboundTarget CompileInbound(InboundPortConfig port)
    {
        var service = port.Service.Service.ToString();
        var backend = (AppProtocol protocol) =>
            new RouteBackend(clusters.BringLocal(port, protocol), 1, null, MessageFilters.None, meters.ForRoute(Direction.Inbound, service, NoRoute));
        var rule = (AppProtocol protocol) => new RouteRule("", new WeightedBackends([backend(protocol)]), null, null);
        return new InboundTarget(port.Service, port.LocalPort, port.Protocol, rule(AppProtocol.Http), rule(AppProtocol.Http2), backend(AppProtocol.Tcp),
            traffic.Compile(port.ClientTraffic, Direction.Inbound));
    }

    private ImmutableArray<GatewayPort> CompileGateway(ImmutableArray<ListenerConfig> listeners, ProxyConfig config, ProxySnapshot previous)
    {
        // A listener that is the same as before is taken over: a hundred thousand routes are not compiled again because some service changed.
        var compiled = previous.GatewayPorts.SelectMany(port => port.Sections).ToDictionary<GatewaySection, ListenerConfig>(section => section.Config, ReferenceEqualityComparer.Instance);
        var identities = new Dictionary<(string, int, ListenerProtocol, ServerCertificateConfig), TlsServerIdentity>();
        var ports = ImmutableArray.CreateBuilder<GatewayPort>();
        foreach (var group in listeners.GroupBy(listener => (listener.Address, listener.Port)))
        {
            var first = group.First();
            if (group.Skip(1).FirstOrDefault(listener => !listener.Protocol.SharesPortWith(first.Protocol)) is { } other)
            {
                throw new InvalidOperationException(
                    $"listeners {first.Id} ({first.Protocol}) and {other.Id} ({other.Protocol}) share port {first.Port}, and nothing tells them apart");
            }

            var sections = group.OrderBy(listener => Specificity(listener.Hostname)).Select(listener =>
            {
                var byId = listener.BackendClusters.Select(cluster => clusters.Bring(cluster, config.Endpoints.GetValueOrDefault(cluster.Id))).ToDictionary(cluster => cluster.Config.Id);
                return compiled.GetValueOrDefault(listener) ?? new GatewaySection(
                    listener,
                    listener.Id,
                    listener.Protocol,
                    listener.Hostname,
                    Table(listener.HttpRoutes, byId, Direction.Gateway),
                    new WeightedBackends(listener.TcpBackends.Select(backend => Backend(backend, byId, Direction.Gateway, NoRoute))),
                    TlsTable(listener.TlsRoutes, byId, Direction.Gateway),
                    listener.Certificates.IsEmpty ? null : new ServerCertificates([.. listener.Certificates.Select(certificate => Identity(listener, certificate, identities))]),
                    [.. byId.Values],
                    traffic.Compile(listener.ClientTraffic, Direction.Gateway));
            });
            ports.Add(new GatewayPort(first.Address, first.Port, [.. sections]));
        }

        _identities = identities;
        return ports.ToImmutable();
    }

    // Prepared state and the keys of session tickets hang on an identity: one whose certificate has not changed is kept.
    private TlsServerIdentity Identity(ListenerConfig listener, ServerCertificateConfig certificate, Dictionary<(string, int, ListenerProtocol, ServerCertificateConfig), TlsServerIdentity> made)
    {
        var key = (listener.Address, listener.Port, listener.Protocol, certificate);
        if (!made.TryGetValue(key, out var identity))
        {
            made[key] = identity = _identities.GetValueOrDefault(key) ?? LoadCertificate(certificate);
        }

        return identity;
    }

    private static int Specificity(string? hostname) =>
        hostname is null ? int.MaxValue : hostname.StartsWith("*.", StringComparison.Ordinal) ? 10_000 - hostname.Length : 0;

    private static TlsServerIdentity LoadCertificate(ServerCertificateConfig config)
    {
        // Leaf first. The key goes through PKCS #12 in memory, because a certificate made straight from PEM holds an ephemeral key that handshakes copy.
        using var pem = X509Certificate2.CreateFromPem(config.CertificateChainPem, config.PrivateKeyPem);
        var leaf = X509CertificateLoader.LoadPkcs12(pem.Export(X509ContentType.Pkcs12), null);
        var chain = new X509Certificate2Collection();
        chain.ImportFromPem(config.CertificateChainPem);
        chain.RemoveAt(0);
        return new TlsServerIdentity(SslStreamCertificateContext.Create(leaf, chain, offline: true));
    }

    private RouteTable Table(ImmutableArray<HttpRouteConfig> routes, Dictionary<ClusterId, Cluster> byId, Direction direction) =>
        new(routes, (route, rule) => new RouteRule(
            route.Id,
            new WeightedBackends(Backends(rule).Select(backend => Backend(backend, byId, direction, route.Id, rule.Filters))),
            rule.RequestTimeout,
            rule.BackendRequestTimeout)
        {
            AllowsConnect = rule.Matches.Any(match => match.Method == "CONNECT"),
            HasCors = rule.Filters.Concat(rule.Backends.SelectMany(backend => backend.Filters)).OfType<CorsConfig>().Any(),
        });

    private ServerNameTable TlsTable(ImmutableArray<TlsRouteConfig> routes, Dictionary<ClusterId, Cluster> byId, Direction direction) =>
        new(routes.Select(route => ((IReadOnlyList<string>)route.Hostnames, new WeightedBackends(route.Backends.Select(backend => Backend(backend, byId, direction, route.Id))))));

    private static ImmutableArray<BackendConfig> Backends(HttpRouteRuleConfig rule) =>
        rule.Backends.IsEmpty && rule.Filters.OfType<RedirectConfig>().Any() ? [new BackendConfig(null, 1, "the rule redirects")] : rule.Backends;

    private RouteBackend Backend(BackendConfig config, Dictionary<ClusterId, Cluster> byId, Direction direction, string route, ImmutableArray<HttpFilterConfig> ofRule = default)
    {
        var cluster = config.Cluster is { } id && byId.TryGetValue(id, out var live) ? live : null;
        ofRule = ofRule.IsDefault ? [] : ofRule;
        var filters = new MessageFilters(ofRule, config.Filters);
        var routeMeters = meters.ForRoute(direction, cluster?.ServiceName ?? "-", route);
        var backend = cluster is null
            ? new RouteBackend(null, config.Weight, config.Invalid ?? $"backend {config.Cluster} is not known", filters, routeMeters)
            : Backend(cluster, config.Weight, filters, routeMeters);
        return backend with { Mirrors = [.. Mirrors(ofRule, new MessageFilters(ofRule, []), byId), .. Mirrors(config.Filters, filters, byId)] };
    }

    private IEnumerable<RouteMirror> Mirrors(ImmutableArray<HttpFilterConfig> filters, MessageFilters applied, Dictionary<ClusterId, Cluster> byId) =>
        filters.OfType<MirrorConfig>().Where(mirror => byId.TryGetValue(mirror.Cluster, out var cluster) && cluster.Config.Tls?.Invalid is null)
            .Select(mirror => new RouteMirror(byId[mirror.Cluster], mirror.Numerator, mirror.Denominator, applied, clusters.NextRandom()));

    // A policy that cannot be enforced answers its share of requests; it never lets them go in plaintext.
    private static RouteBackend Backend(Cluster cluster, int weight, MessageFilters filters, RouteMeters routeMeters) =>
        cluster.Config.Tls?.Invalid is { } invalid ? new RouteBackend(null, weight, invalid, filters, routeMeters) : new RouteBackend(cluster, weight, null, filters, routeMeters);
}
