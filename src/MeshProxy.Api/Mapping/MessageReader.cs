using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using MeshProxy.Model.Validation;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.Api.Mapping;

/// <summary>Message to model. Reads on after a fault with stand-ins and keeps the first fault; <see cref="Ended(out string, out string)"/> tells.</summary>
internal sealed class MessageReader
{
    /// <summary>google.protobuf.Timestamp's range.</summary>
    private const long EarliestSecond = -62135596800;
    private const long LatestSecond = 253402300799;

    /// <summary>No timeout of ours is longer than 366 days.</summary>
    private const long LongestSeconds = 366L * 24 * 3600;

    private string? _field;
    private string? _reason;

    public bool Ended(out string field, out string reason)
    {
        field = _field ?? "";
        reason = _reason ?? "";
        return _reason is null;
    }

    public bool Ended<T>([NotNullWhen(true)] ref T? value, out string field, out string reason)
        where T : class
    {
        if (!Ended(out field, out reason))
        {
            value = null;
        }

        return value is not null;
    }

    public ResourceName Name(Wire.ResourceRef? message, string field)
    {
        if (message is null)
        {
            return Fault(field, "is missing", default(ResourceName));
        }

        Check(NameRules.CheckLabel(message.Namespace), field + ".namespace");
        Check(NameRules.CheckName(message.Name), field + ".name");
        return new ResourceName(message.Namespace, message.Name);
    }

    public ClusterId ClusterId(Wire.ClusterRef? message, string field) =>
        message is null ? Fault(field, "is missing", default(ClusterId)) : new ClusterId(Name(message.Service, field + ".service"), Port(message.Port, field + ".port"));

    public DestinationConfig Destination(Wire.Destination message) => new()
    {
        Service = Name(message.Service, "service"),
        Refused = message.HasRefused ? message.Refused : null,
        Ports = Each(message.Ports, "ports", (port, field) => new DestinationPortConfig
        {
            Cluster = Cluster(port.Cluster, field + ".cluster"),
            Name = port.Name,
            HttpRoutes = Each(port.HttpRoutes, field + ".http_routes", HttpRoute),
            TcpBackends = Each(port.TcpBackends, field + ".tcp_backends", Backend),
            BackendClusters = Each(port.BackendClusters, field + ".backend_clusters", Cluster),
            TlsRoutes = Each(port.TlsRoutes, field + ".tls_routes", TlsRoute),
            ClientTraffic = ClientTraffic(port.ClientTraffic, field + ".client_traffic"),
        }),
    };

    public EndpointSetConfig EndpointSet(Wire.EndpointSet message) => new(
        ClusterId(message.Cluster, "cluster"),
        Each(message.Endpoints, "endpoints", (endpoint, field) => new EndpointConfig
        {
            Id = endpoint.Id.Length > 0 ? endpoint.Id : Fault(field + ".id", "is empty", ""),
            Address = Address(endpoint.Address, field + ".address"),
            Port = Port(endpoint.Port, field + ".port"),
            InboundPort = endpoint.HasInboundPort ? Port(endpoint.InboundPort, field + ".inbound_port") : null,
            IsReady = endpoint.Ready,
            IsDraining = endpoint.Draining,
            Weight = Count(endpoint.Weight, field + ".weight", 1, 1_000_000),
            Locality = endpoint.Locality,
        }));

    public InboundConfig Inbound(Wire.Inbound message) => new()
    {
        Workload = Name(message.Workload, "workload"),
        Identity = Identity(message.Identity, "identity"),
        Ports = Each(message.Ports, "ports", (port, field) => new InboundPortConfig(
            ClusterId(port.Service, field + ".service"), Port(port.LocalPort, field + ".local_port"), Protocol(port.Protocol, field + ".protocol"))
        {
            ClientTraffic = ClientTraffic(port.ClientTraffic, field + ".client_traffic"),
        }),
    };

    public ListenerConfig Listener(Wire.Listener message) => new()
    {
        Id = message.Id.Length > 0 ? message.Id : Fault("id", "is empty", ""),
        Address = message.Address.Length > 0 ? Address(message.Address, "address") : "",
        Port = Port(message.Port, "port"),
        Protocol = message.Protocol switch
        {
            Wire.Listener.Types.Protocol.Http => ListenerProtocol.Http,
            Wire.Listener.Types.Protocol.Https => ListenerProtocol.Https,
            Wire.Listener.Types.Protocol.Tls => ListenerProtocol.Tls,
            Wire.Listener.Types.Protocol.Tcp => ListenerProtocol.Tcp,
            Wire.Listener.Types.Protocol.TlsPassthrough => ListenerProtocol.TlsPassthrough,
            _ => Fault("protocol", $"has the unknown value {(int)message.Protocol}", ListenerProtocol.Http),
        },
        Hostname = message.HasHostname ? Hostname(message.Hostname, "hostname") : null,
        Certificates = Each(message.Certificates, "certificates", (certificate, field) =>
            new ServerCertificateConfig(Name(certificate.Secret, field + ".secret"), certificate.CertificateChainPem, certificate.PrivateKeyPem)),
        HttpRoutes = Each(message.HttpRoutes, "http_routes", HttpRoute),
        TcpBackends = Each(message.TcpBackends, "tcp_backends", Backend),
        BackendClusters = Each(message.BackendClusters, "backend_clusters", Cluster),
        TlsRoutes = Each(message.TlsRoutes, "tls_routes", TlsRoute),
        ClientTraffic = ClientTraffic(message.ClientTraffic, "client_traffic"),
    };

    private ClientTrafficConfig ClientTraffic(Wire.ClientTraffic? message, string field)
    {
        if (message is null)
        {
            return ClientTrafficConfig.Default;
        }

        var traffic = new ClientTrafficConfig
        {
            Path = new PathTrafficConfig(message.MergesSlashes, message.AllowsEncodedSlash, message.AllowsBackslash, message.AllowsEncodedNull),
            Underscores = message.Underscores switch
            {
                Wire.ClientTraffic.Types.Underscores.Allow => UnderscorePolicy.Allow,
                Wire.ClientTraffic.Types.Underscores.Reject => UnderscorePolicy.Reject,
                Wire.ClientTraffic.Types.Underscores.Drop => UnderscorePolicy.Drop,
                _ => Fault(field + ".underscores", $"has the unknown value {(int)message.Underscores}", UnderscorePolicy.Reject),
            },
            Forwarded = message.Forwarded is { } forwarded ? Forwarded(forwarded, field + ".forwarded") : null,
            AddsVia = message.AddsVia,
            UpgradeProtocols = [.. message.UpgradeProtocols],
            BelievesDeadlines = message.HasBelievesDeadlines ? message.BelievesDeadlines : null,
            Timeouts = new ClientTimeoutsConfig
            {
                RequestHead = Time(message.RequestHeadTimeout, field + ".request_head_timeout"),
                Idle = Time(message.IdleTimeout, field + ".idle_timeout"),
                StreamIdle = Time(message.StreamIdleTimeout, field + ".stream_idle_timeout"),
                TlsHandshake = Time(message.TlsHandshakeTimeout, field + ".tls_handshake_timeout"),
                MaxConnectionAge = Time(message.MaxConnectionAge, field + ".max_connection_age"),
            },
            MaxConcurrentStreams = message.HasMaxConcurrentStreams ? Count(message.MaxConcurrentStreams, field + ".max_concurrent_streams", 1, ClientTrafficLimits.MaxConcurrentStreams) : null,
            MaxRequestBodyBytes = message.HasMaxRequestBodyBytes ? (long)Math.Min(message.MaxRequestBodyBytes, long.MaxValue) : null,
        };
        Check(ClientTrafficRules.Check(traffic, out var wrong), $"{field}.{wrong}");
        return traffic;
    }

    private ForwardedConfig Forwarded(Wire.ForwardedFields message, string field) => new(
        message.Mode switch
        {
            Wire.ForwardedFields.Types.Mode.Pass => ForwardedMode.Pass,
            Wire.ForwardedFields.Types.Mode.Remove => ForwardedMode.Remove,
            Wire.ForwardedFields.Types.Mode.Replace => ForwardedMode.Replace,
            Wire.ForwardedFields.Types.Mode.Append => ForwardedMode.Append,
            _ => Fault(field + ".mode", $"has the unknown value {(int)message.Mode}", ForwardedMode.Replace),
        },
        message.Format switch
        {
            Wire.ForwardedFields.Types.Format.XForwarded => ForwardedFormat.XForwarded,
            Wire.ForwardedFields.Types.Format.Forwarded => ForwardedFormat.Forwarded,
            Wire.ForwardedFields.Types.Format.Both => ForwardedFormat.Both,
            _ => Fault(field + ".format", $"has the unknown value {(int)message.Format}", ForwardedFormat.XForwarded),
        },
        Count(message.TrustedHops, field + ".trusted_hops", 0, ClientTrafficLimits.MaxTrustedHops));

    private TlsRouteConfig TlsRoute(Wire.TlsRoute message, string field) => new()
    {
        Id = message.Id.Length > 0 ? message.Id : Fault(field + ".id", "is empty", ""),
        Hostnames = Each(message.Hostnames, field + ".hostnames", Hostname),
        Backends = Each(message.Backends, field + ".backends", Backend),
    };

    private ClusterConfig Cluster(Wire.Cluster? message, string field)
    {
        if (message is null)
        {
            return Fault(field, "is missing", new ClusterConfig { Id = default });
        }

        var defaults = new CircuitBreakerConfig();
        return new ClusterConfig
        {
            Id = ClusterId(message.Id, field + ".id"),
            Protocol = Protocol(message.Protocol, field + ".protocol"),
            AllowedServers = Each(message.AllowedServers, field + ".allowed_servers", Identity),
            ConnectTimeout = Time(message.ConnectTimeout, field + ".connect_timeout") ?? TimeSpan.FromSeconds(1),
            Tls = message.Tls is { } tls ? Tls(tls, field + ".tls") : null,
            CircuitBreaker = message.CircuitBreaker is not { } breaker ? defaults : new CircuitBreakerConfig
            {
                MaxConnections = Count(breaker.MaxConnections, field + ".circuit_breaker.max_connections", 1, int.MaxValue),
                MaxPendingRequests = Count(breaker.MaxPendingRequests, field + ".circuit_breaker.max_pending_requests", 1, int.MaxValue),
                MaxRequests = Count(breaker.MaxRequests, field + ".circuit_breaker.max_requests", 1, int.MaxValue),
            },
        };
    }

    private UpstreamTlsConfig Tls(Wire.UpstreamTls message, string field) => new()
    {
        Policy = Name(message.Policy, field + ".policy"),
        ServerName = Hostname(message.ServerName, field + ".server_name"),
        Hostnames = Each(message.Hostnames, field + ".hostnames", Hostname),
        Uris = Each(message.Uris, field + ".uris", (uri, at) => uri.Length > 0 ? uri : Fault(at, "is empty", "")),
        AuthoritiesPem = message.AuthoritiesPem,
        Invalid = message.HasInvalid ? message.Invalid : null,
    };

    private HttpRouteConfig HttpRoute(Wire.HttpRoute message, string field) => new()
    {
        Id = message.Id.Length > 0 ? message.Id : Fault(field + ".id", "is empty", ""),
        Hostnames = Each(message.Hostnames, field + ".hostnames", Hostname),
        CreatedAt = Instant(message.CreatedAt, field + ".created_at"),
        Rules = Each(message.Rules, field + ".rules", (rule, at) => new HttpRouteRuleConfig
        {
            Name = rule.Name,
            Matches = Each(rule.Matches, at + ".matches", Match),
            Filters = Each(rule.Filters, at + ".filters", Filter),
            Backends = Each(rule.Backends, at + ".backends", Backend),
            RequestTimeout = Time(rule.RequestTimeout, at + ".request_timeout"),
            BackendRequestTimeout = Time(rule.BackendRequestTimeout, at + ".backend_request_timeout"),
        }),
    };

    private HttpMatchConfig Match(Wire.HttpMatch message, string field) => new()
    {
        Path = message.Path is { Kind: not Wire.PathMatch.Types.Kind.Grpc } path ? Path(path, field + ".path") : null,
        Grpc = message.Path is { Kind: Wire.PathMatch.Types.Kind.Grpc } grpc ? Grpc(grpc.Grpc, field + ".path.grpc") : null,
        Method = message.HasMethod ? Token(message.Method, field + ".method") : null,
        Headers = Each(message.Headers, field + ".headers", (match, at) => Value(match, at) with { Name = FieldName(match.Name, at + ".name") }),
        QueryParameters = Each(message.QueryParameters, field + ".query_parameters", Value),
    };

    private PathMatchConfig Path(Wire.PathMatch message, string field)
    {
        PathMatchKind? kind = message.Kind switch
        {
            Wire.PathMatch.Types.Kind.Exact => PathMatchKind.Exact,
            Wire.PathMatch.Types.Kind.Prefix => PathMatchKind.Prefix,
            Wire.PathMatch.Types.Kind.RegularExpression => PathMatchKind.RegularExpression,
            _ => null,
        };
        if (kind is null)
        {
            return Fault(field + ".kind", $"has the unknown value {(int)message.Kind}", new PathMatchConfig(PathMatchKind.Exact, "/"));
        }

        Check(kind == PathMatchKind.RegularExpression ? HttpRules.CheckExpression(message.Value) : HttpRules.CheckPath(message.Value), field + ".value");
        return new PathMatchConfig(kind.Value, message.Value);
    }

    private GrpcMatchConfig Grpc(Wire.GrpcMethod? message, string field)
    {
        if (message is null)
        {
            return Fault(field, "is missing", new GrpcMatchConfig(null, null, false));
        }

        Func<string, string?> check = message.RegularExpression ? HttpRules.CheckExpression : HttpRules.CheckGrpcName;
        if (message.HasService)
        {
            Check(check(message.Service), field + ".service");
        }

        if (message.HasMethod)
        {
            Check(check(message.Method), field + ".method");
        }

        return new GrpcMatchConfig(message.HasService ? message.Service : null, message.HasMethod ? message.Method : null, message.RegularExpression);
    }

    private ValueMatchConfig Value(Wire.ValueMatch message, string field)
    {
        if (message.Name.Length == 0)
        {
            Check("is empty", field + ".name");
        }

        if (message.RegularExpression)
        {
            Check(HttpRules.CheckExpression(message.Value, HttpRules.MaxFieldValueLength), field + ".value");
        }

        return new ValueMatchConfig(message.Name, message.Value, message.RegularExpression);
    }

    private BackendConfig Backend(Wire.Backend message, string field)
    {
        if (message.Cluster is null && !message.HasInvalid)
        {
            Check("is missing, and invalid does not say why", field + ".cluster");
        }

        return new BackendConfig(
            message.Cluster is null ? null : ClusterId(message.Cluster, field + ".cluster"),
            Count(message.Weight, field + ".weight", 0, 1_000_000),
            message.HasInvalid ? message.Invalid : null)
        {
            Filters = Each(message.Filters, field + ".filters", Filter),
        };
    }

    private HttpFilterConfig Filter(Wire.HttpFilter message, string field)
    {
        switch (message.FilterCase)
        {
            case Wire.HttpFilter.FilterOneofCase.HeaderModifier:
                var modifier = message.HeaderModifier;
                return new HeaderModifierConfig(
                    modifier.OnResponse,
                    Each(modifier.Set, field + ".header_modifier.set", Field),
                    Each(modifier.Add, field + ".header_modifier.add", Field),
                    Each(modifier.Remove, field + ".header_modifier.remove", ChangeableName));
            case Wire.HttpFilter.FilterOneofCase.Redirect:
                var redirect = message.Redirect;
                return new RedirectConfig(
                    !redirect.HasScheme ? null : redirect.Scheme is "http" or "https" ? redirect.Scheme : Fault(field + ".redirect.scheme", $"'{redirect.Scheme}' is neither http nor https", ""),
                    redirect.HasHostname ? Hostname(redirect.Hostname, field + ".redirect.hostname") : null,
                    Rewrite(redirect.Path, field + ".redirect.path"),
                    redirect.HasPort ? Port(redirect.Port, field + ".redirect.port") : null,
                    Count(redirect.Status, field + ".redirect.status", 300, 399)) { IsListenerPort = redirect.IsListenerPort };
            case Wire.HttpFilter.FilterOneofCase.UrlRewrite:
                return new UrlRewriteConfig(
                    message.UrlRewrite.HasHostname ? Hostname(message.UrlRewrite.Hostname, field + ".url_rewrite.hostname") : null,
                    Rewrite(message.UrlRewrite.Path, field + ".url_rewrite.path"));
            case Wire.HttpFilter.FilterOneofCase.Mirror:
                var denominator = Count(message.Mirror.Denominator, field + ".mirror.denominator", 1, int.MaxValue);
                return new MirrorConfig(
                    ClusterId(message.Mirror.Cluster, field + ".mirror.cluster"), Count(message.Mirror.Numerator, field + ".mirror.numerator", 0, denominator), denominator);
            case Wire.HttpFilter.FilterOneofCase.Cors:
                var cors = message.Cors;
                return new CorsConfig(
                    Each(cors.AllowOrigins, field + ".cors.allow_origins", (text, at) => Check(HttpRules.CheckOrigin(text), at) ? text : "*"),
                    cors.AllowCredentials,
                    Each(cors.AllowMethods, field + ".cors.allow_methods", Token),
                    Each(cors.AllowHeaders, field + ".cors.allow_headers", FieldName),
                    Each(cors.ExposeHeaders, field + ".cors.expose_headers", FieldName),
                    Count(cors.MaxAgeSeconds, field + ".cors.max_age_seconds", 1, int.MaxValue));
            default:
                return Fault(field, "is a filter that this version does not know", new UrlRewriteConfig(null, null));
        }
    }

    private KeyValuePair<string, string> Field(Wire.HeaderModifier.Types.Field message, string field)
    {
        Check(HttpRules.CheckFieldValue(message.Value), field + ".value");
        return new(ChangeableName(message.Name, field + ".name"), message.Value);
    }

    private PathRewriteConfig? Rewrite(Wire.PathRewrite? message, string field)
    {
        if (message is null)
        {
            return null;
        }

        if (message.Value.Length > 0 || !message.ReplacesPrefixOnly)
        {
            Check(HttpRules.CheckPath(message.Value), field + ".value");
        }

        return new PathRewriteConfig(message.ReplacesPrefixOnly, message.Value);
    }

    private AppProtocol Protocol(Wire.AppProtocol protocol, string field) => protocol switch
    {
        Wire.AppProtocol.Undeclared => AppProtocol.Undeclared,
        Wire.AppProtocol.Http => AppProtocol.Http,
        Wire.AppProtocol.Http2 => AppProtocol.Http2,
        Wire.AppProtocol.Grpc => AppProtocol.Grpc,
        Wire.AppProtocol.WebSocket => AppProtocol.WebSocket,
        Wire.AppProtocol.Https => AppProtocol.Https,
        Wire.AppProtocol.Tls => AppProtocol.Tls,
        Wire.AppProtocol.Tcp => AppProtocol.Tcp,
        _ => Fault(field, $"has the unknown value {(int)protocol}", AppProtocol.Tcp),
    };

    private SpiffeId Identity(string text, string field) => SpiffeId.TryParse(text, out var id) ? id : Fault(field, $"'{text}' is no SPIFFE ID of a mesh", default(SpiffeId));

    private string Hostname(string text, string field) => Check(NameRules.CheckHostname(text), field) ? text : "";

    private string Address(string text, string field) => IPAddress.TryParse(text, out _) ? text : Fault(field, $"'{text}' is no IP address", "");

    private string Token(string text, string field) => Check(HttpRules.CheckFieldName(text) is null ? null : $"'{text}' is no method", field) ? text : "";

    private string FieldName(string text, string field) => Check(HttpRules.CheckFieldName(text), field) ? text : "";

    private string ChangeableName(string text, string field) => Check(HttpRules.CheckChangeableFieldName(text), field) ? text : "";

    private int Port(uint port, string field) => Check(HttpRules.CheckPort(port), field) ? (int)port : 1;

    private int Count(uint value, string field, int min, int max) =>
        value >= min && value <= max ? (int)value : Fault(field, $"is {value}, {min} to {max} is allowed", min);

    private TimeSpan? Time(Duration? message, string field)
    {
        if (message is null)
        {
            return null;
        }

        return message.Seconds is >= 0 and <= LongestSeconds && message.Nanos is >= 0 and <= 999_999_999
            ? TimeSpan.FromSeconds(message.Seconds) + TimeSpan.FromTicks(message.Nanos / 100)
            : Fault(field, "is negative or out of range", default(TimeSpan?));
    }

    private DateTimeOffset Instant(Timestamp? message, string field)
    {
        if (message is null)
        {
            return default;
        }

        return message.Seconds is >= EarliestSecond and <= LatestSecond && message.Nanos is >= 0 and <= 999_999_999
            ? DateTimeOffset.FromUnixTimeSeconds(message.Seconds).AddTicks(message.Nanos / 100)
            : Fault(field, "is out of range", default(DateTimeOffset));
    }

    private static ImmutableArray<TOut> Each<TIn, TOut>(RepeatedField<TIn> messages, string field, Func<TIn, string, TOut> read)
    {
        var values = ImmutableArray.CreateBuilder<TOut>(messages.Count);
        for (var i = 0; i < messages.Count; i++)
        {
            values.Add(read(messages[i], $"{field}[{i}]"));
        }

        return values.MoveToImmutable();
    }

    private bool Check(string? problem, string field)
    {
        if (problem is not null && _reason is null)
        {
            _field = field;
            _reason = problem;
        }

        return problem is null;
    }

    private T Fault<T>(string field, string reason, T standIn)
    {
        Check(reason, field);
        return standIn;
    }
}
