using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Compilation;

/// <summary>What takes routes: a listener of a Gateway, or a port of a Service.</summary>
internal abstract class RouteSlot
{
    private readonly List<(RouteDocument Route, ImmutableArray<string> Hostnames)> _routes = [];

    public List<HttpRouteConfig> HttpRoutes { get; } = [];

    public ImmutableArray<BackendConfig> TcpBackends { get; set; } = [];

    /// <summary>The route that has the bytes of an opaque listener or port.</summary>
    public RouteDocument? TcpRoute { get; set; }

    /// <summary>The TLSRoutes, each with the server names that no older one has.</summary>
    public List<TlsRouteConfig> TlsRoutes { get; } = [];

    /// <summary>The HTTPRoute or GRPCRoute of the other kind that already has one of these hostnames: Gateway API lets only one of the two in.</summary>
    public RouteDocument? Rival(RouteDocument route, ImmutableArray<string> hostnames) =>
        _routes.FirstOrDefault(other => other.Route.Kind != route.Kind && Hostnames.Overlap(other.Hostnames, hostnames)).Route;

    /// <summary>Takes a route; false when it is here already, by another parentRef.</summary>
    public bool TryAdd(RouteDocument route, ImmutableArray<string> hostnames)
    {
        if (_routes.Any(other => other.Route == route))
        {
            return false;
        }

        _routes.Add((route, hostnames));
        return true;
    }
}

/// <summary>One listener of a Gateway that takes routes.</summary>
internal sealed class ListenerSlot(GatewayListener listener, ImmutableArray<string> kinds, bool isServed) : RouteSlot
{
    private readonly HashSet<RouteDocument> _accepted = new(ReferenceEqualityComparer.Instance);

    public GatewayListener Listener { get; } = listener;

    /// <summary>The kinds of routes that it takes.</summary>
    public ImmutableArray<string> Kinds { get; } = kinds;

    /// <summary>False: something it needs is missing or in conflict. Routes attach all the same, nothing listens.</summary>
    public bool IsServed { get; } = isServed;

    /// <summary>How many routes are attached and accepted.</summary>
    public int AttachedRoutes => _accepted.Count;

    public void OnAccepted(RouteDocument route) => _accepted.Add(route);
}

/// <summary>One port of a Service that takes routes.</summary>
internal sealed class ServiceSlot(ServicePort port) : RouteSlot
{
    public ServicePort Port { get; } = port;
}

/// <summary>
/// Attaches routes to their parents and resolves their backends. A route that cannot be followed whole is never followed in part: at a Gateway its
/// requests get 500 with the reason, at a Service the whole destination is refused.
/// </summary>
internal sealed class RouteCompiler
{
    private readonly DocumentIndex _index;
    private readonly TrustDomain _trustDomain;
    private readonly PolicyRefusals _policies;
    private readonly BackendTlsPolicies _backendTls;
    private readonly ConditionBook _conditions;
    private readonly Dictionary<ResourceName, List<ListenerSlot>> _gateways;
    private readonly Dictionary<ResourceName, List<ServiceSlot>> _services;
    private readonly Dictionary<ResourceName, string> _refused = [];

    public RouteCompiler(DocumentIndex index, TrustDomain trustDomain, PolicyRefusals policies, BackendTlsPolicies backendTls, ConditionBook conditions, Dictionary<ResourceName, List<ListenerSlot>> gateways)
    {
        _index = index;
        _trustDomain = trustDomain;
        _policies = policies;
        _backendTls = backendTls;
        _conditions = conditions;
        _gateways = gateways;
        _services = index.Services.ToDictionary(pair => pair.Key, pair => pair.Value.Ports.Select(port => new ServiceSlot(port)).ToList());
    }

    /// <summary>Attaches every route, oldest first; to Services the GRPCRoutes first, which there go before HTTPRoutes of any age (GAMMA).</summary>
    public void Run()
    {
        foreach (var route in _index.Routes)
        {
            if (route.ParentRefs.IsEmpty)
            {
                _conditions.Refuse(route, "NoMatchingParent", "the route has no parentRefs, so nothing sends it requests: name a Gateway or a Service");
            }

            foreach (var parent in route.ParentRefs.Where(parent => !IsService(parent)))
            {
                if ((parent.Group, parent.Kind) == (DocumentReader.GatewayGroup, DocumentKinds.Gateway))
                {
                    AttachToGateway(route, parent, Broken(route));
                }
                else
                {
                    _conditions.Refuse(route, "InvalidKind", $"{parent.Field}: a route attaches to a Gateway or (group \"\") a Service, not to {parent.Group}/{parent.Kind}", parent.ToString());
                }
            }
        }

        foreach (var route in _index.Routes.OrderBy(route => route is GrpcRouteDocument ? 0 : 1))
        {
            foreach (var parent in route.ParentRefs.Where(IsService))
            {
                AttachToService(route, parent, Broken(route));
            }
        }

        static bool IsService(ParentRef parent) => (parent.Group, parent.Kind) == ("", DocumentKinds.Service);
    }

    /// <summary>The unit of a service.</summary>
    public DestinationConfig Destination(ServiceDocument service, ClientTrafficPolicies clientTraffic)
    {
        var refused = service.Unsupported is [var first, ..] ? $"{service.Title}: {first.Field}: {first.Message}"
            : _policies.OfService(service.Name) ?? _refused.GetValueOrDefault(service.Name);
        return new DestinationConfig
        {
            Service = service.Name,
            Refused = refused,

            // Whoever has earlier routes may keep them, but not where a policy closes the service: that must not be served without it.
            Ports = _policies.Closed.Contains(service.Name) ? [] : [.. _services[service.Name].Select(slot =>
            {
                var own = new ClusterId(service.Name, slot.Port.Port);
                return new DestinationPortConfig
                {
                    Cluster = Cluster(own)!,
                    Name = slot.Port.Name,
                    HttpRoutes = [.. slot.HttpRoutes],
                    TcpBackends = slot.TcpBackends,
                    TlsRoutes = [.. slot.TlsRoutes],
                    BackendClusters = Clusters(slot.HttpRoutes, [.. slot.TcpBackends, .. slot.TlsRoutes.SelectMany(route => route.Backends)], own),
                    ClientTraffic = clientTraffic.OfPort(service.Name, slot.Port.Name),
                };
            })],
        };
    }

    /// <summary>Every cluster that routes name, but for one.</summary>
    public ImmutableArray<ClusterConfig> Clusters(IEnumerable<HttpRouteConfig> routes, ImmutableArray<BackendConfig> opaque, ClusterId? except = null) =>
    [
        .. routes.SelectMany(route => route.Rules).SelectMany(rule => rule.Backends).Concat(opaque)
            .Select(backend => backend.Cluster).OfType<ClusterId>().Concat(Mirrors(routes)).Distinct().Where(id => id != except)
            .OrderBy(id => id.ToString(), StringComparer.Ordinal).Select(Cluster).OfType<ClusterConfig>(),
    ];

    private string? Broken(RouteDocument route) => route.Unsupported is [var first, ..] ? $"{first.Field}: {first.Message}" : _policies.OfRoute(route);

    private static IEnumerable<ClusterId> Mirrors(IEnumerable<HttpRouteConfig> routes) =>
        routes.SelectMany(route => route.Rules).SelectMany(rule => rule.Filters.Concat(rule.Backends.SelectMany(backend => backend.Filters)))
            .OfType<MirrorConfig>().Select(mirror => mirror.Cluster);

    private ClusterConfig? Cluster(ClusterId id)
    {
        if (!_index.Services.TryGetValue(id.Service, out var service) || service.Ports.FirstOrDefault(port => port.Port == id.Port) is not { } port)
        {
            return null;
        }

        return new ClusterConfig
        {
            Id = id,
            Protocol = port.Protocol,
            AllowedServers = [.. ServiceIndex.AllowedServers(_trustDomain, service)],
            Tls = _backendTls.Of(id.Service, port),
        };
    }

    private void AttachToGateway(RouteDocument route, ParentRef parent, string? broken)
    {
        if (!_index.Gateways.TryGetValue(parent.Name, out var gateway))
        {
            _conditions.Refuse(route, "NoMatchingParent", $"{parent.Field}: there is no Gateway {parent.Name}", parent.ToString());
            return;
        }

        if (!_gateways.TryGetValue(parent.Name, out var slots))
        {
            _conditions.Refuse(route, "NoMatchingParent", $"{parent.Field}: {gateway.Title} is not accepted: see its own conditions", parent.ToString());
            return;
        }

        var named = slots.Where(slot => (parent.SectionName is null || slot.Listener.Name == parent.SectionName) && (parent.Port is null || slot.Listener.Port == parent.Port)).ToArray();
        if (named.Length == 0)
        {
            _conditions.Refuse(route, "NoMatchingParent", $"{parent.Field}: {gateway.Title} has no listener with this name and port", parent.ToString());
            return;
        }

        if (route is TlsRouteDocument && !named.Any(slot => slot.Listener.Protocol is ListenerProtocol.Tls or ListenerProtocol.TlsPassthrough))
        {
            _conditions.Refuse(route, "UnsupportedValue", $"{parent.Field}: a TLSRoute attaches to listeners of protocol TLS, and {gateway.Title} has none by this name and port", parent.ToString());
            return;
        }

        var allowed = named.Where(slot => Allows(slot, gateway, route)).ToArray();
        if (allowed.Length == 0)
        {
            _conditions.Refuse(
                route,
                "NotAllowedByListeners",
                $"{parent.Field}: no listener of {gateway.Title} takes a {route.Kind} from namespace {route.Name.Namespace}: check protocol and allowedRoutes",
                parent.ToString());
            return;
        }

        var matching = allowed.Select(slot => (Slot: slot, Names: route is TcpRouteDocument ? [] : Hostnames.Intersect(slot.Listener.Hostname, route.Hostnames)))
            .Where(pair => pair.Names is not null).ToArray();
        if (matching.Length == 0)
        {
            _conditions.Refuse(route, "NoMatchingListenerHostname", $"{parent.Field}: no listener of {gateway.Title} serves one of the route's hostnames", parent.ToString());
            return;
        }

        broken ??= _policies.OfGateway(parent.Name);
        var isTaken = false;
        foreach (var (slot, names) in matching)
        {
            if (route is HttpRouteDocument or GrpcRouteDocument)
            {
                isTaken |= !TryAttach(slot, route, parent, names!.Value, broken, slot.Listener.Port, $"listener {slot.Listener.Name} of {gateway.Title}");
            }
            else if (route is TlsRouteDocument)
            {
                if (Take(slot.TlsRoutes, route, names!.Value, broken) is { } taken)
                {
                    isTaken = true;
                    _conditions.Refuse(route, "Conflicted", $"{parent.Field}: listener {slot.Listener.Name} of {gateway.Title} already sends {taken}", parent.ToString());
                }
            }
            else if (slot.TcpRoute is { } older && older != route)
            {
                isTaken = true;
                _conditions.Refuse(route, "Conflicted", $"{parent.Field}: listener {slot.Listener.Name} of {gateway.Title} already sends its connections where {older.Title} says", parent.ToString());
            }
            else
            {
                slot.TcpRoute = route;
                slot.TcpBackends = Opaque(route, broken);
            }

            if (broken is null && !isTaken)
            {
                slot.OnAccepted(route);
            }
        }

        Report(route, parent, broken, isTaken);
    }

    /// <summary>False: a route of the other kind has these hostnames.</summary>
    private bool TryAttach(RouteSlot slot, RouteDocument route, ParentRef parent, ImmutableArray<string> hostnames, string? broken, int port, string place)
    {
        if (slot.Rival(route, hostnames) is { } rival)
        {
            _conditions.Refuse(
                route, "Conflicted", $"{parent.Field}: {place} already has {rival.Title}, and an HTTPRoute and a GRPCRoute cannot share a hostname: write both in one kind, or give them hostnames of their own", parent.ToString());
            return false;
        }

        if (slot.TryAdd(route, hostnames))
        {
            slot.HttpRoutes.Add(HttpRoute(route, hostnames, broken, port));
        }

        return true;
    }

    private static bool Allows(ListenerSlot slot, GatewayDocument gateway, RouteDocument route)
    {
        var listener = slot.Listener;
        if (!slot.Kinds.Contains(route.Kind))
        {
            return false;
        }

        return listener.From switch
        {
            RouteNamespaces.All => true,
            RouteNamespaces.Same => route.Name.Namespace == gateway.Name.Namespace,
            RouteNamespaces.Selector => listener.NamespaceSelector.All(label => label.Key == "kubernetes.io/metadata.name" && label.Value == route.Name.Namespace)
                && !listener.NamespaceSelector.IsEmpty,
            _ => false,
        };
    }

    private void AttachToService(RouteDocument route, ParentRef parent, string? broken)
    {
        if (!_index.Services.TryGetValue(parent.Name, out var service))
        {
            _conditions.Refuse(route, "NoMatchingParent", $"{parent.Field}: there is no Service {parent.Name}", parent.ToString());
            return;
        }

        if (parent.Name.Namespace != route.Name.Namespace)
        {
            // A route beside its callers changes what they alone get. Nothing here tells callers apart, and a foreign namespace must not steer everybody's requests.
            _conditions.Refuse(route, "UnsupportedValue", $"{parent.Field}: a route in another namespace than its Service is not implemented: put it into {parent.Name.Namespace}", parent.ToString());
            return;
        }

        var named = _services[service.Name].Where(slot => (parent.SectionName is null || slot.Port.Name == parent.SectionName) && (parent.Port is null || slot.Port.Port == parent.Port)).ToArray();
        if (named.Length == 0)
        {
            _conditions.Refuse(route, "NoMatchingParent", $"{parent.Field}: {service.Title} has no such port", parent.ToString());
            return;
        }

        var isHttp = route is HttpRouteDocument or GrpcRouteDocument;
        var fitting = named.Where(slot => Fits(service.Name, slot.Port, route)).ToArray();
        if (fitting.Length == 0)
        {
            _conditions.Refuse(route, "NotAllowedByListeners", $"{parent.Field}: no port of {service.Title} has an appProtocol that a {route.Kind} can route", parent.ToString());
            return;
        }

        if (broken is not null)
        {
            _refused.TryAdd(service.Name, $"{route.Title}: {broken}");
        }

        var isTaken = false;
        foreach (var slot in fitting)
        {
            if (isHttp)
            {
                // Whoever reached the Service by its name means it: hostnames of a route do not count here (GEP-1294).
                isTaken |= !TryAttach(slot, route, parent, [], broken, slot.Port.Port, $"port {slot.Port.Port} of {service.Title}");
            }
            else if (route is TlsRouteDocument)
            {
                // Its hostnames do count: the server name is all that a TLSRoute matches.
                if (Take(slot.TlsRoutes, route, route.Hostnames, broken) is { } taken)
                {
                    isTaken = true;
                    _conditions.Refuse(route, "Conflicted", $"{parent.Field}: port {slot.Port.Port} of {service.Title} already sends {taken}", parent.ToString());
                }
            }
            else if (slot.TcpRoute is { } older && older != route)
            {
                isTaken = true;
                _conditions.Refuse(route, "Conflicted", $"{parent.Field}: port {slot.Port.Port} of {service.Title} already sends its connections where {older.Title} says", parent.ToString());
            }
            else
            {
                slot.TcpRoute = route;
                slot.TcpBackends = Opaque(route, broken);
            }
        }

        Report(route, parent, broken, isTaken);
    }

    /// <summary>A TLSRoute needs a ClientHello to come first, and where nothing is declared the server might speak first.</summary>
    private bool Fits(ResourceName service, ServicePort port, RouteDocument route) => route switch
    {
        HttpRouteDocument or GrpcRouteDocument => TakesRequests(service, port),
        TlsRouteDocument => port.Protocol is AppProtocol.Tls or AppProtocol.Https,
        _ => port.Protocol == AppProtocol.Undeclared || port.Protocol.IsOpaque(),
    };

    /// <summary>Whether the proxy can speak HTTP to a port: https only where a policy says how its server is judged.</summary>
    private bool TakesRequests(ResourceName service, ServicePort port) =>
        !port.Protocol.IsOpaque() || (port.Protocol == AppProtocol.Https && _backendTls.Of(service, port) is not null);

    /// <summary>Gives a TLSRoute the server names that no older route of this place has.</summary>
    /// <returns>Null: it has at least one; else what an older route has already.</returns>
    private string? Take(List<TlsRouteConfig> routes, RouteDocument route, ImmutableArray<string> names, string? broken)
    {
        var id = route.Name.ToString();
        if (routes.Any(earlier => earlier.Id == id))
        {
            // Two of its parentRefs mean one place.
            return null;
        }

        ImmutableArray<string> free = [.. names.Distinct().Where(name => !routes.Any(older => older.Hostnames.Contains(name)))];
        if (names.IsEmpty ? routes.Any(older => older.Hostnames.IsEmpty) : free.IsEmpty)
        {
            var older = routes.First(older => names.IsEmpty ? older.Hostnames.IsEmpty : older.Hostnames.Contains(names[0]));
            return $"{(names.IsEmpty ? "every server name" : string.Join(", ", names))} where TLSRoute {older.Id} says";
        }

        routes.Add(new TlsRouteConfig { Id = id, Hostnames = free, Backends = Opaque(route, broken) });
        return null;
    }

    private void Report(RouteDocument route, ParentRef parent, string? broken, bool isTaken)
    {
        if (broken is not null)
        {
            _conditions.Refuse(route, "UnsupportedValue", broken, parent.ToString());
        }
        else if (!isTaken)
        {
            _conditions.Accept(route, parent.ToString());
        }

        var problem = route.Rules.SelectMany(References).Select(backend => Resolve(route, backend)).FirstOrDefault(found => found.Reason is not null);
        _conditions.Add(route, "ResolvedRefs", problem.Reason is null, problem.Reason ?? "ResolvedRefs", problem.Message ?? "", parent.ToString());
    }

    private HttpRouteConfig HttpRoute(RouteDocument route, ImmutableArray<string> hostnames, string? broken, int port)
    {
        var rules = route.Rules.Select(rule => new HttpRouteRuleConfig
        {
            Name = rule.Name,
            Matches = rule.Matches,
            Filters = broken is null ? Filters(route, rule.Filters, port) : [],
            Backends = broken is null ? [.. rule.Backends.Select(backend => Backend(route, backend, port))] : [Broken(route, broken)],
            RequestTimeout = rule.RequestTimeout,
            BackendRequestTimeout = rule.BackendRequestTimeout,
        }).ToImmutableArray();
        if (rules.IsEmpty)
        {
            // Gateway API's default: one rule that matches everything, here with nowhere to send it.
            rules = [new HttpRouteRuleConfig { Name = "0", Backends = [Broken(route, broken ?? "the route has no rules")] }];
        }

        return new HttpRouteConfig { Id = route.Name.ToString(), Hostnames = hostnames, Rules = rules, CreatedAt = route.CreatedAt };
    }

    /// <summary>Everything that a rule sends requests to, or copies of them.</summary>
    private static IEnumerable<BackendRef> References(RouteRule rule) =>
        rule.Backends.Concat(rule.Filters.Concat(rule.Backends.SelectMany(backend => backend.Filters)).OfType<MirrorRef>().Select(mirror => mirror.Backend));

    /// <summary>Gateway API: a redirect that names neither scheme nor port keeps the port of the listener; a mirror that does not resolve is dropped.</summary>
    private ImmutableArray<HttpFilterConfig> Filters(RouteDocument route, ImmutableArray<HttpFilterConfig> filters, int port) =>
    [
        .. filters.Select(filter => filter switch
        {
            RedirectConfig { Scheme: null, Port: null } redirect => redirect with { Port = port, IsListenerPort = true },
            MirrorRef { Backend: var backend } mirror => Resolve(route, backend).Reason is null && _policies.OfService(backend.Name) is null
                ? new MirrorConfig(new ClusterId(backend.Name, backend.Port!.Value), mirror.Numerator, mirror.Denominator)
                : null,
            _ => filter,
        }).OfType<HttpFilterConfig>(),
    ];

    private ImmutableArray<BackendConfig> Opaque(RouteDocument route, string? broken)
    {
        if (broken is not null)
        {
            return [Broken(route, broken)];
        }

        var backends = route.Rules.Take(1).SelectMany(rule => rule.Backends).Select(backend => Backend(route, backend, 0)).ToImmutableArray();
        return backends.IsEmpty ? [Broken(route, "the rule has no backendRefs")] : backends;
    }

    private static BackendConfig Broken(RouteDocument route, string why) => new(null, 1, $"{route.Title}: {why}");

    private BackendConfig Backend(RouteDocument route, BackendRef backend, int port)
    {
        var (_, message) = Resolve(route, backend);
        var id = message is null ? new ClusterId(backend.Name, backend.Port!.Value) : default(ClusterId?);
        if (id is not null && _policies.OfService(backend.Name) is { } refused)
        {
            (id, message) = (null, refused);
        }

        return new BackendConfig(id, backend.Weight, message is null ? null : $"{route.Title}: {message}") { Filters = Filters(route, backend.Filters, port) };
    }

    private (string? Reason, string? Message) Resolve(RouteDocument route, BackendRef backend)
    {
        if (backend.Group.Length > 0 || backend.Kind != DocumentKinds.Service)
        {
            return ("InvalidKind", $"{backend.Field}: a backend is a Service (group \"\"), not {backend.Group}/{backend.Kind}");
        }

        if (!_index.MayRefer(route, "", DocumentKinds.Service, backend.Name))
        {
            return ("RefNotPermitted", $"{backend.Field}: no ReferenceGrant in namespace {backend.Name.Namespace} lets a {route.Kind} of {route.Name.Namespace} refer to Service {backend.Name.Name}");
        }

        if (!_index.Services.TryGetValue(backend.Name, out var service))
        {
            return ("BackendNotFound", $"{backend.Field}: there is no Service {backend.Name}");
        }

        if (service.Ports.FirstOrDefault(port => port.Port == backend.Port) is not { } port)
        {
            return ("BackendNotFound", $"{backend.Field}: Service {backend.Name} has no port {backend.Port}: it has {string.Join(", ", service.Ports.Select(known => known.Port))}");
        }

        return route is HttpRouteDocument or GrpcRouteDocument && !TakesRequests(backend.Name, port)
            ? ("UnsupportedProtocol", $"{backend.Field}: port {backend.Port} of Service {backend.Name} is opaque, and a {route.Kind} sends requests: check its appProtocol"
                + (port.Protocol == AppProtocol.Https ? ", and write a BackendTLSPolicy that says how its server is judged" : ""))
            : (null, null);
    }
}
