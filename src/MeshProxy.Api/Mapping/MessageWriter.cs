using Google.Protobuf.WellKnownTypes;
using MeshProxy.Model.Config;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.Api.Mapping;

/// <summary>Model to message. A field that is added to the model is added here, in <see cref="MessageReader"/> and in the golden messages of the tests.</summary>
internal static class MessageWriter
{
    public static Wire.Destination Write(DestinationConfig destination)
    {
        var message = new Wire.Destination { Service = ConfigMapping.ToProto(destination.Service) };
        if (destination.Refused is not null)
        {
            message.Refused = destination.Refused;
        }

        foreach (var port in destination.Ports)
        {
            var written = new Wire.DestinationPort { Cluster = Write(port.Cluster), Name = port.Name };
            written.HttpRoutes.AddRange(port.HttpRoutes.Select(Write));
            written.TcpBackends.AddRange(port.TcpBackends.Select(Write));
            written.BackendClusters.AddRange(port.BackendClusters.Select(Write));
            written.TlsRoutes.AddRange(port.TlsRoutes.Select(Write));
            written.ClientTraffic = Write(port.ClientTraffic);
            message.Ports.Add(written);
        }

        return message;
    }

    public static Wire.EndpointSet Write(EndpointSetConfig endpoints)
    {
        var message = new Wire.EndpointSet { Cluster = ConfigMapping.ToProto(endpoints.Cluster) };
        foreach (var endpoint in endpoints.Endpoints)
        {
            var written = new Wire.Endpoint
            {
                Id = endpoint.Id,
                Address = endpoint.Address,
                Port = (uint)endpoint.Port,
                Ready = endpoint.IsReady,
                Draining = endpoint.IsDraining,
                Weight = (uint)endpoint.Weight,
                Locality = endpoint.Locality,
            };
            if (endpoint.InboundPort is { } inbound)
            {
                written.InboundPort = (uint)inbound;
            }

            message.Endpoints.Add(written);
        }

        return message;
    }

    public static Wire.Inbound Write(InboundConfig inbound)
    {
        var message = new Wire.Inbound { Workload = ConfigMapping.ToProto(inbound.Workload), Identity = inbound.Identity.ToString() };
        message.Ports.AddRange(inbound.Ports.Select(port => new Wire.InboundPort
        {
            Service = ConfigMapping.ToProto(port.Service),
            LocalPort = (uint)port.LocalPort,
            Protocol = Write(port.Protocol),
            ClientTraffic = Write(port.ClientTraffic),
        }));
        return message;
    }

    public static Wire.Listener Write(ListenerConfig listener)
    {
        var message = new Wire.Listener
        {
            Id = listener.Id,
            Address = listener.Address,
            Port = (uint)listener.Port,
            Protocol = listener.Protocol switch
            {
                ListenerProtocol.Http => Wire.Listener.Types.Protocol.Http,
                ListenerProtocol.Https => Wire.Listener.Types.Protocol.Https,
                ListenerProtocol.Tls => Wire.Listener.Types.Protocol.Tls,
                ListenerProtocol.Tcp => Wire.Listener.Types.Protocol.Tcp,
                ListenerProtocol.TlsPassthrough => Wire.Listener.Types.Protocol.TlsPassthrough,
                _ => throw new ArgumentOutOfRangeException(nameof(listener), listener.Protocol, "no such protocol"),
            },
        };
        if (listener.Hostname is not null)
        {
            message.Hostname = listener.Hostname;
        }

        message.Certificates.AddRange(listener.Certificates.Select(certificate => new Wire.ServerCertificate
        {
            Secret = ConfigMapping.ToProto(certificate.Secret),
            CertificateChainPem = certificate.CertificateChainPem,
            PrivateKeyPem = certificate.PrivateKeyPem,
        }));
        message.HttpRoutes.AddRange(listener.HttpRoutes.Select(Write));
        message.TcpBackends.AddRange(listener.TcpBackends.Select(Write));
        message.BackendClusters.AddRange(listener.BackendClusters.Select(Write));
        message.TlsRoutes.AddRange(listener.TlsRoutes.Select(Write));
        message.ClientTraffic = Write(listener.ClientTraffic);
        return message;
    }

    private static Wire.ClientTraffic? Write(ClientTrafficConfig traffic)
    {
        if (traffic == ClientTrafficConfig.Default)
        {
            return null;
        }

        var message = new Wire.ClientTraffic
        {
            MergesSlashes = traffic.Path.MergesSlashes,
            AllowsEncodedSlash = traffic.Path.AllowsEncodedSlash,
            AllowsBackslash = traffic.Path.AllowsBackslash,
            AllowsEncodedNull = traffic.Path.AllowsEncodedNull,
            Underscores = traffic.Underscores switch
            {
                UnderscorePolicy.Allow => Wire.ClientTraffic.Types.Underscores.Allow,
                UnderscorePolicy.Reject => Wire.ClientTraffic.Types.Underscores.Reject,
                UnderscorePolicy.Drop => Wire.ClientTraffic.Types.Underscores.Drop,
                _ => throw new ArgumentOutOfRangeException(nameof(traffic), traffic.Underscores, "no such policy"),
            },
            Forwarded = traffic.Forwarded is { } forwarded ? Write(forwarded) : null,
            AddsVia = traffic.AddsVia,
            RequestHeadTimeout = Write(traffic.Timeouts.RequestHead),
            IdleTimeout = Write(traffic.Timeouts.Idle),
            StreamIdleTimeout = Write(traffic.Timeouts.StreamIdle),
            TlsHandshakeTimeout = Write(traffic.Timeouts.TlsHandshake),
            MaxConnectionAge = Write(traffic.Timeouts.MaxConnectionAge),
        };
        message.UpgradeProtocols.AddRange(traffic.UpgradeProtocols);
        if (traffic.BelievesDeadlines is { } believes)
        {
            message.BelievesDeadlines = believes;
        }

        if (traffic.MaxConcurrentStreams is { } streams)
        {
            message.MaxConcurrentStreams = (uint)streams;
        }

        if (traffic.MaxRequestBodyBytes is { } bytes)
        {
            message.MaxRequestBodyBytes = (ulong)bytes;
        }

        return message;
    }

    private static Wire.ForwardedFields Write(ForwardedConfig forwarded) => new()
    {
        Mode = forwarded.Mode switch
        {
            ForwardedMode.Pass => Wire.ForwardedFields.Types.Mode.Pass,
            ForwardedMode.Remove => Wire.ForwardedFields.Types.Mode.Remove,
            ForwardedMode.Replace => Wire.ForwardedFields.Types.Mode.Replace,
            ForwardedMode.Append => Wire.ForwardedFields.Types.Mode.Append,
            _ => throw new ArgumentOutOfRangeException(nameof(forwarded), forwarded.Mode, "no such mode"),
        },
        Format = forwarded.Format switch
        {
            ForwardedFormat.XForwarded => Wire.ForwardedFields.Types.Format.XForwarded,
            ForwardedFormat.Forwarded => Wire.ForwardedFields.Types.Format.Forwarded,
            ForwardedFormat.Both => Wire.ForwardedFields.Types.Format.Both,
            _ => throw new ArgumentOutOfRangeException(nameof(forwarded), forwarded.Format, "no such format"),
        },
        TrustedHops = (uint)forwarded.TrustedHops,
    };

    private static Duration? Write(TimeSpan? time) => time is { } set ? Duration.FromTimeSpan(set) : null;

    private static Wire.Cluster Write(ClusterConfig cluster)
    {
        var message = new Wire.Cluster
        {
            Id = ConfigMapping.ToProto(cluster.Id),
            Protocol = Write(cluster.Protocol),
            ConnectTimeout = Duration.FromTimeSpan(cluster.ConnectTimeout),
            CircuitBreaker = new Wire.CircuitBreaker
            {
                MaxConnections = (uint)cluster.CircuitBreaker.MaxConnections,
                MaxPendingRequests = (uint)cluster.CircuitBreaker.MaxPendingRequests,
                MaxRequests = (uint)cluster.CircuitBreaker.MaxRequests,
            },
        };
        message.AllowedServers.AddRange(cluster.AllowedServers.Select(id => id.ToString()));
        message.Tls = cluster.Tls is { } tls ? Write(tls) : null;
        return message;
    }

    private static Wire.UpstreamTls Write(UpstreamTlsConfig tls)
    {
        var message = new Wire.UpstreamTls { Policy = ConfigMapping.ToProto(tls.Policy), ServerName = tls.ServerName, AuthoritiesPem = tls.AuthoritiesPem };
        message.Hostnames.AddRange(tls.Hostnames);
        message.Uris.AddRange(tls.Uris);
        if (tls.Invalid is not null)
        {
            message.Invalid = tls.Invalid;
        }

        return message;
    }

    private static Wire.AppProtocol Write(AppProtocol protocol) => protocol switch
    {
        AppProtocol.Undeclared => Wire.AppProtocol.Undeclared,
        AppProtocol.Http => Wire.AppProtocol.Http,
        AppProtocol.Http2 => Wire.AppProtocol.Http2,
        AppProtocol.Grpc => Wire.AppProtocol.Grpc,
        AppProtocol.WebSocket => Wire.AppProtocol.WebSocket,
        AppProtocol.Https => Wire.AppProtocol.Https,
        AppProtocol.Tls => Wire.AppProtocol.Tls,
        AppProtocol.Tcp => Wire.AppProtocol.Tcp,
        _ => throw new ArgumentOutOfRangeException(nameof(protocol), protocol, "no such protocol"),
    };

    private static Wire.TlsRoute Write(TlsRouteConfig route)
    {
        var message = new Wire.TlsRoute { Id = route.Id };
        message.Hostnames.AddRange(route.Hostnames);
        message.Backends.AddRange(route.Backends.Select(Write));
        return message;
    }

    private static Wire.HttpRoute Write(HttpRouteConfig route)
    {
        var message = new Wire.HttpRoute { Id = route.Id, CreatedAt = Timestamp.FromDateTimeOffset(route.CreatedAt) };
        message.Hostnames.AddRange(route.Hostnames);
        foreach (var rule in route.Rules)
        {
            var written = new Wire.HttpRouteRule { Name = rule.Name };
            written.Matches.AddRange(rule.Matches.Select(Write));
            written.Filters.AddRange(rule.Filters.Select(Write));
            written.Backends.AddRange(rule.Backends.Select(Write));
            written.RequestTimeout = rule.RequestTimeout is { } request ? Duration.FromTimeSpan(request) : null;
            written.BackendRequestTimeout = rule.BackendRequestTimeout is { } attempt ? Duration.FromTimeSpan(attempt) : null;
            message.Rules.Add(written);
        }

        return message;
    }

    private static Wire.HttpMatch Write(HttpMatchConfig match)
    {
        var message = new Wire.HttpMatch();
        if (match.Path is { } path)
        {
            message.Path = new Wire.PathMatch
            {
                Value = path.Value,
                Kind = path.Kind switch
                {
                    PathMatchKind.Exact => Wire.PathMatch.Types.Kind.Exact,
                    PathMatchKind.Prefix => Wire.PathMatch.Types.Kind.Prefix,
                    PathMatchKind.RegularExpression => Wire.PathMatch.Types.Kind.RegularExpression,
                    _ => throw new ArgumentOutOfRangeException(nameof(match), path.Kind, "no such kind of path"),
                },
            };
        }

        if (match.Method is not null)
        {
            message.Method = match.Method;
        }

        if (match.Grpc is { } grpc)
        {
            var method = new Wire.GrpcMethod { RegularExpression = grpc.IsRegularExpression };
            if (grpc.Service is not null)
            {
                method.Service = grpc.Service;
            }

            if (grpc.Method is not null)
            {
                method.Method = grpc.Method;
            }

            message.Path = new Wire.PathMatch { Kind = Wire.PathMatch.Types.Kind.Grpc, Grpc = method };
        }

        message.Headers.AddRange(match.Headers.Select(Write));
        message.QueryParameters.AddRange(match.QueryParameters.Select(Write));
        return message;
    }

    private static Wire.ValueMatch Write(ValueMatchConfig match) => new() { Name = match.Name, Value = match.Value, RegularExpression = match.IsRegularExpression };

    private static Wire.Backend Write(BackendConfig backend)
    {
        var message = new Wire.Backend { Weight = (uint)backend.Weight, Cluster = backend.Cluster is { } cluster ? ConfigMapping.ToProto(cluster) : null };
        if (backend.Invalid is not null)
        {
            message.Invalid = backend.Invalid;
        }

        message.Filters.AddRange(backend.Filters.Select(Write));
        return message;
    }

    private static Wire.HttpFilter Write(HttpFilterConfig filter)
    {
        switch (filter)
        {
            case HeaderModifierConfig modifier:
                var written = new Wire.HeaderModifier { OnResponse = modifier.OnResponse };
                written.Set.AddRange(modifier.Set.Select(Write));
                written.Add.AddRange(modifier.Add.Select(Write));
                written.Remove.AddRange(modifier.Remove);
                return new Wire.HttpFilter { HeaderModifier = written };
            case RedirectConfig redirect:
                var answer = new Wire.Redirect { Status = (uint)redirect.Status, Path = Write(redirect.Path), IsListenerPort = redirect.IsListenerPort };
                if (redirect.Scheme is not null)
                {
                    answer.Scheme = redirect.Scheme;
                }

                if (redirect.Hostname is not null)
                {
                    answer.Hostname = redirect.Hostname;
                }

                if (redirect.Port is { } port)
                {
                    answer.Port = (uint)port;
                }

                return new Wire.HttpFilter { Redirect = answer };
            case UrlRewriteConfig rewrite:
                var change = new Wire.UrlRewrite { Path = Write(rewrite.Path) };
                if (rewrite.Hostname is not null)
                {
                    change.Hostname = rewrite.Hostname;
                }

                return new Wire.HttpFilter { UrlRewrite = change };
            case MirrorConfig mirror:
                return new Wire.HttpFilter
                {
                    Mirror = new Wire.Mirror { Cluster = ConfigMapping.ToProto(mirror.Cluster), Numerator = (uint)mirror.Numerator, Denominator = (uint)mirror.Denominator },
                };
            case CorsConfig cors:
                var policy = new Wire.Cors { AllowCredentials = cors.AllowCredentials, MaxAgeSeconds = (uint)cors.MaxAge };
                policy.AllowOrigins.AddRange(cors.AllowOrigins);
                policy.AllowMethods.AddRange(cors.AllowMethods);
                policy.AllowHeaders.AddRange(cors.AllowHeaders);
                policy.ExposeHeaders.AddRange(cors.ExposeHeaders);
                return new Wire.HttpFilter { Cors = policy };
            default:
                throw new ArgumentOutOfRangeException(nameof(filter), filter, "no message for this filter");
        }
    }

    private static Wire.HeaderModifier.Types.Field Write(KeyValuePair<string, string> field) => new() { Name = field.Key, Value = field.Value };

    private static Wire.PathRewrite? Write(PathRewriteConfig? path) =>
        path is null ? null : new Wire.PathRewrite { ReplacesPrefixOnly = path.ReplacesPrefixOnly, Value = path.Value };
}
