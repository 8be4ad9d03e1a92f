using Google.Protobuf;
using MeshProxy.Api.Mapping;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.Api.Tests.Mapping;

/// <summary>Model to message and back; messages of earlier versions stay readable; what is not understood is refused.</summary>
public class MappingTests
{
    private static readonly ClusterId Own = new(new ResourceName("shop", "payments"), 8080);
    private static readonly ClusterId Canary = new(new ResourceName("shop", "payments-v2"), 8080);

    // Every field of the model set to something that is not its default.
    private static readonly DestinationConfig Destination = new()
    {
        Service = Own.Service,
        Refused = "AuthorizationPolicy shop/p is not implemented",
        Ports =
        [
            new DestinationPortConfig
            {
                Name = "grpc",
                Cluster = new ClusterConfig
                {
                    Id = Own,
                    Protocol = AppProtocol.Grpc,
                    AllowedServers = [SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/payments")],
                    ConnectTimeout = TimeSpan.FromMilliseconds(1500),
                    CircuitBreaker = new CircuitBreakerConfig { MaxConnections = 1, MaxPendingRequests = 2, MaxRequests = 3 },
                },
                TcpBackends = [new BackendConfig(null, 0, "gone")],
                BackendClusters = [new ClusterConfig { Id = Canary, Protocol = AppProtocol.Tcp }],
                HttpRoutes =
                [
                    new HttpRouteConfig
                    {
                        Id = "shop/split",
                        Hostnames = ["*.example.com"],
                        CreatedAt = new DateTimeOffset(2026, 1, 31, 12, 0, 0, TimeSpan.Zero).AddTicks(1),
                        Rules =
                        [
                            new HttpRouteRuleConfig
                            {
                                Name = "one",
                                Matches =
                                [
                                    new HttpMatchConfig
                                    {
                                        Path = new PathMatchConfig(PathMatchKind.RegularExpression, "/a.*"),
                                        Method = "POST",
                                        Headers = [new ValueMatchConfig("x-env", "canary", false)],
                                        QueryParameters = [new ValueMatchConfig("V", "[0-9]", true)],
                                    },
                                    new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.Exact, "/b") },
                                    new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.Prefix, "/c") },
                                    new HttpMatchConfig { Grpc = new GrpcMatchConfig("shop.v1.Payments", "P.*", true) },
                                ],
                                Filters =
                                [
                                    new HeaderModifierConfig(true, [new("a", "1")], [new("b", "2")], ["c"]),
                                    new RedirectConfig("https", "a.b", new PathRewriteConfig(false, "/x"), 8443, 308),
                                    new UrlRewriteConfig("c.d", new PathRewriteConfig(true, "")),
                                    new MirrorConfig(Canary, 1, 3),
                                    new CorsConfig(["https://*.e.f:8443"], true, ["PUT"], ["x-g"], ["x-h"], 600),
                                ],
                                Backends = [new BackendConfig(Canary, 20) { Filters = [new HeaderModifierConfig(false, [], [new("d", "")], [])] }],
                                RequestTimeout = TimeSpan.Zero,
                                BackendRequestTimeout = TimeSpan.FromTicks(12_345_678),
                            },
                        ],
                    },
                ],
            },
        ],
    };

    private static readonly EndpointSetConfig Endpoints = new(Own,
    [
        new EndpointConfig { Id = "shop/p1", Address = "10.0.0.1", Port = 9090, InboundPort = 15006, IsReady = false, IsDraining = true, Weight = 7, Locality = "eu/a/b" },
        new EndpointConfig { Id = "[::1]:80", Address = "::1", Port = 80 },
    ]);

    private static readonly InboundConfig Inbound = new()
    {
        Workload = new ResourceName("shop", "p1"),
        Identity = SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/payments"),
        Ports = [new InboundPortConfig(Own, 9090, AppProtocol.WebSocket)],
    };

    private static readonly ListenerConfig Listener = new()
    {
        Id = "shop/edge/https",
        Address = "127.0.0.1",
        Port = 443,
        Protocol = ListenerProtocol.Https,
        Hostname = "*.example.com",
        Certificates = [new ServerCertificateConfig(new ResourceName("shop", "tls"), "chain", "key")],
        HttpRoutes = Destination.Ports[0].HttpRoutes,
        TcpBackends = [new BackendConfig(Own, 1)],
        BackendClusters = [new ClusterConfig { Id = Own }],
    };

    private static readonly ListenerConfig Passthrough = new()
    {
        Id = "shop/edge/tls",
        Port = 8443,
        Protocol = ListenerProtocol.TlsPassthrough,
        TlsRoutes = [new TlsRouteConfig { Id = "shop/pay", Hostnames = ["pay.example.com", "*.pay.example.com"], Backends = [new BackendConfig(Own, 3), new BackendConfig(null, 1, "gone")] }],
        BackendClusters = [new ClusterConfig { Id = Own, Protocol = AppProtocol.Tls }],
    };

    // Every field set to something that is not its default.
    private static readonly ClientTrafficConfig Traffic = new()
    {
        Path = new PathTrafficConfig(true, true, true, true),
        Underscores = UnderscorePolicy.Drop,
        Forwarded = new ForwardedConfig(ForwardedMode.Append, ForwardedFormat.Both, 2),
        AddsVia = true,
        UpgradeProtocols = ["websocket", "connect-udp"],
        BelievesDeadlines = false,
        Timeouts = new ClientTimeoutsConfig
        {
            RequestHead = TimeSpan.FromSeconds(1),
            Idle = TimeSpan.FromSeconds(2),
            StreamIdle = TimeSpan.FromSeconds(3),
            TlsHandshake = TimeSpan.FromSeconds(4),
            MaxConnectionAge = TimeSpan.FromSeconds(5),
        },
        MaxConcurrentStreams = 6,
        MaxRequestBodyBytes = 7_000_000_000,
    };

    private static readonly ListenerConfig TrafficListener = new() { Id = "shop/edge/http", Port = 80, Protocol = ListenerProtocol.Http, ClientTraffic = Traffic };

    private static readonly InboundConfig TrafficInbound = new()
    {
        Workload = new ResourceName("shop", "p1"),
        Identity = Inbound.Identity,
        Ports = [new InboundPortConfig(Own, 9090, AppProtocol.Http) { ClientTraffic = Traffic with { Forwarded = null, UpgradeProtocols = [], BelievesDeadlines = null } }],
    };

    private static readonly DestinationConfig TrafficDestination = new()
    {
        Service = Own.Service,
        Ports = [new DestinationPortConfig { Cluster = new ClusterConfig { Id = Own }, ClientTraffic = new ClientTrafficConfig { Underscores = UnderscorePolicy.Reject } }],
    };

    private static readonly DestinationConfig TlsDestination = new()
    {
        Service = Own.Service,
        Ports = [new DestinationPortConfig { Cluster = new ClusterConfig { Id = Own, Protocol = AppProtocol.Tls }, TlsRoutes = Passthrough.TlsRoutes }],
    };

    private static readonly DestinationConfig BackendTls = new()
    {
        Service = Own.Service,
        Ports =
        [
            new DestinationPortConfig
            {
                Cluster = new ClusterConfig
                {
                    Id = Own,
                    Protocol = AppProtocol.Https,
                    Tls = new UpstreamTlsConfig
                    {
                        Policy = new ResourceName("shop", "strict"),
                        ServerName = "pay.example.com",
                        Hostnames = ["*.example.com"],
                        Uris = ["spiffe://example.com/pay"],
                        AuthoritiesPem = "pem",
                        Invalid = "why",
                    },
                },
            },
        ],
    };

    private static readonly (string Name, IMessage Message)[] Messages =
    [
        ("destination", ConfigMapping.ToProto(Destination)),
        ("endpoints", ConfigMapping.ToProto(Endpoints)),
        ("inbound", ConfigMapping.ToProto(Inbound)),
        ("listener", ConfigMapping.ToProto(Listener)),
        ("listener-passthrough", ConfigMapping.ToProto(Passthrough)),
        ("destination-tls", ConfigMapping.ToProto(TlsDestination)),
        ("destination-backend-tls", ConfigMapping.ToProto(BackendTls)),
        ("listener-traffic", ConfigMapping.ToProto(TrafficListener)),
        ("inbound-traffic", ConfigMapping.ToProto(TrafficInbound)),
        ("destination-traffic", ConfigMapping.ToProto(TrafficDestination)),
    ];

    [Test]
    public void What_is_written_reads_back()
    {
        Assert.Multiple(() =>
        {
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(Destination), out var destination, out var field, out var reason), Is.True, $"{field} {reason}");
            Assert.That(ConfigMapping.ToProto(destination!), Is.EqualTo(ConfigMapping.ToProto(Destination)));
            Assert.That(destination!.Refused, Is.EqualTo(Destination.Refused));
            Assert.That(destination.Ports[0].HttpRoutes[0].CreatedAt, Is.EqualTo(Destination.Ports[0].HttpRoutes[0].CreatedAt));
            Assert.That(destination.Ports[0].HttpRoutes[0].Rules[0].RequestTimeout, Is.EqualTo(TimeSpan.Zero));
            Assert.That(destination.Ports[0].HttpRoutes[0].Rules[0].BackendRequestTimeout, Is.EqualTo(TimeSpan.FromTicks(12_345_678)));
            Assert.That(destination.Ports[0].HttpRoutes[0].Rules[0].Filters[1], Is.EqualTo(Destination.Ports[0].HttpRoutes[0].Rules[0].Filters[1]));
            Assert.That(destination.Ports[0].Cluster.CircuitBreaker, Is.EqualTo(Destination.Ports[0].Cluster.CircuitBreaker));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(Endpoints), out var endpoints, out _, out _), Is.True);
            Assert.That(endpoints, Is.EqualTo(Endpoints));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(Inbound), out var inbound, out _, out _), Is.True);
            Assert.That(inbound!.Ports, Is.EqualTo(Inbound.Ports));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(Listener), out var listener, out _, out _), Is.True);
            Assert.That(ConfigMapping.ToProto(listener!), Is.EqualTo(ConfigMapping.ToProto(Listener)));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(Passthrough), out var passthrough, out _, out _), Is.True);
            Assert.That(passthrough!.Protocol, Is.EqualTo(ListenerProtocol.TlsPassthrough));
            Assert.That(ConfigMapping.ToProto(passthrough), Is.EqualTo(ConfigMapping.ToProto(Passthrough)));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(BackendTls), out var backendTls, out _, out _), Is.True);
            Assert.That(backendTls!.Ports[0].Cluster.Tls, Is.EqualTo(BackendTls.Ports[0].Cluster.Tls));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(TlsDestination), out var tls, out _, out _), Is.True);
            Assert.That(tls!.Ports[0].TlsRoutes[0].Hostnames, Is.EqualTo(Passthrough.TlsRoutes[0].Hostnames));
            Assert.That(ConfigMapping.ToProto(tls), Is.EqualTo(ConfigMapping.ToProto(TlsDestination)));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(TrafficListener), out var traffic, out _, out _), Is.True);
            Assert.That(traffic!.ClientTraffic, Is.EqualTo(Traffic));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(TrafficInbound), out inbound, out _, out _), Is.True);
            Assert.That(inbound!.Ports, Is.EqualTo(TrafficInbound.Ports));
            Assert.That(ConfigMapping.TryToModel(ConfigMapping.ToProto(TrafficDestination), out destination, out _, out _), Is.True);
            Assert.That(destination!.Ports[0].ClientTraffic, Is.EqualTo(TrafficDestination.Ports[0].ClientTraffic));
            Assert.That(ConfigMapping.ToProto(Listener).ClientTraffic, Is.Null, "the defaults are not written, so that they may change");
            Assert.That(listener!.Certificates[0].PrivateKeyPem, Is.EqualTo("key"));
            Assert.That(listener.Certificates[0].ToString(), Does.Not.Contain("key"));
        });
    }

    [Test]
    public void A_redirect_s_port_says_whose_it_is([Values] bool isListeners)
    {
        var message = ConfigMapping.ToProto(Destination);
        message.Ports[0].HttpRoutes[0].Rules[0].Filters[1].Redirect.IsListenerPort = isListeners;
        Assert.That(ConfigMapping.TryToModel(message, out var read, out _, out _), Is.True);
        Assert.That(((RedirectConfig)read!.Ports[0].HttpRoutes[0].Rules[0].Filters[1]).IsListenerPort, Is.EqualTo(isListeners));
        Assert.That(ConfigMapping.ToProto(read), Is.EqualTo(message));
    }

    /// <summary>The bytes of version 0.1. A row that fails says that older sidecars would read something else: numbers and types of fields never change.</summary>
    [Test]
    public void Golden_messages_stay_as_they_are([Values("destination", "endpoints", "inbound", "listener", "listener-passthrough", "destination-tls", "destination-backend-tls", "listener-traffic", "inbound-traffic", "destination-traffic")] string name)
    {
        var file = Path.Combine(TestContext.CurrentContext.TestDirectory, "Golden", name + ".hex");
        var message = Messages.Single(pair => pair.Name == name).Message;
        var written = Convert.ToHexStringLower(message.ToByteArray());
        Assert.That(written, Is.EqualTo(File.ReadAllText(file).ReplaceLineEndings("")));
    }

    [Test]
    public void Golden_messages_are_read()
    {
        static byte[] Golden(string name) => Convert.FromHexString(File.ReadAllText(Path.Combine(TestContext.CurrentContext.TestDirectory, "Golden", name + ".hex")).ReplaceLineEndings(""));
        Assert.Multiple(() =>
        {
            Assert.That(ConfigMapping.TryToModel(Wire.Destination.Parser.ParseFrom(Golden("destination")), out var destination, out _, out _), Is.True);
            Assert.That(destination!.Ports.Single().Cluster.AllowedServers.Single(), Is.EqualTo(Inbound.Identity));
            Assert.That(ConfigMapping.TryToModel(Wire.EndpointSet.Parser.ParseFrom(Golden("endpoints")), out var endpoints, out _, out _), Is.True);
            Assert.That(endpoints, Is.EqualTo(Endpoints));
            Assert.That(ConfigMapping.TryToModel(Wire.Inbound.Parser.ParseFrom(Golden("inbound")), out var inbound, out _, out _), Is.True);
            Assert.That(inbound!.Ports.Single(), Is.EqualTo(Inbound.Ports.Single()));
        });
    }

    /// <summary>What earlier versions wrote and kept: "destination.1" is from before gRPC methods were matched as such.</summary>
    [TestCase("destination.1"), TestCase("listener.1")]
    public void Golden_messages_of_earlier_versions_are_read(string name)
    {
        var bytes = Convert.FromHexString(File.ReadAllText(Path.Combine(TestContext.CurrentContext.TestDirectory, "Golden", name + ".hex")).ReplaceLineEndings(""));
        string field, reason;
        var isRead = name.StartsWith("destination", StringComparison.Ordinal)
            ? ConfigMapping.TryToModel(Wire.Destination.Parser.ParseFrom(bytes), out DestinationConfig? _, out field, out reason)
            : ConfigMapping.TryToModel(Wire.Listener.Parser.ParseFrom(bytes), out ListenerConfig? _, out field, out reason);
        Assert.That(isRead, Is.True, $"{field} {reason}");
    }

    [Test]
    public void Equal_content_has_an_equal_revision_and_other_content_another()
    {
        Assert.That(ConfigMapping.Revision(ConfigMapping.ToProto(Destination)), Is.EqualTo(ConfigMapping.Revision(ConfigMapping.ToProto(Destination with { }))));
        Assert.That(ConfigMapping.Revision(ConfigMapping.ToProto(Destination)), Is.Not.EqualTo(ConfigMapping.Revision(ConfigMapping.ToProto(Destination with { Refused = null }))));
        Assert.That(ConfigMapping.Revision(ConfigMapping.ToProto(Inbound)), Does.Match("^[0-9a-f]{16}$"));
    }

    private static IEnumerable<TestCaseData> NotUnderstood()
    {
        static TestCaseData Row(string field, Action<Wire.Destination> spoil) => new(field, spoil) { TestName = $"Not understood: {field}" };
        yield return Row("service", message => message.Service = null);
        yield return Row("service.name", message => message.Service.Name = "");
        yield return Row("service.namespace", message => message.Service.Namespace = "A");
        yield return Row("ports[0].cluster", message => message.Ports[0].Cluster = null);
        yield return Row("ports[0].cluster.id.port", message => message.Ports[0].Cluster.Id.Port = 65536);
        yield return Row("ports[0].cluster.protocol", message => message.Ports[0].Cluster.Protocol = (Wire.AppProtocol)99);
        yield return Row("ports[0].cluster.allowed_servers[0]", message => message.Ports[0].Cluster.AllowedServers[0] = "spiffe://mesh.local/x");
        yield return Row("ports[0].cluster.connect_timeout", message => message.Ports[0].Cluster.ConnectTimeout.Seconds = -1);
        yield return Row("ports[0].cluster.connect_timeout", message => message.Ports[0].Cluster.ConnectTimeout.Seconds = long.MaxValue);
        yield return Row("ports[0].cluster.circuit_breaker.max_requests", message => message.Ports[0].Cluster.CircuitBreaker.MaxRequests = 0);
        yield return Row("ports[0].tcp_backends[0].cluster", message => message.Ports[0].TcpBackends[0].ClearInvalid());
        yield return Row("ports[0].tcp_backends[0].weight", message => message.Ports[0].TcpBackends[0].Weight = uint.MaxValue);
        yield return Row("ports[0].http_routes[0].created_at", message => message.Ports[0].HttpRoutes[0].CreatedAt.Seconds = long.MinValue);
        yield return Row("ports[0].http_routes[0].hostnames[0]", message => message.Ports[0].HttpRoutes[0].Hostnames[0] = "a:1");
        yield return Row("ports[0].http_routes[0].rules[0].matches[0].path.kind", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[0].Path.Kind = 0);
        yield return Row("ports[0].http_routes[0].rules[0].matches[0].path.value", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[0].Path.Value = "(?=a)");
        yield return Row("ports[0].http_routes[0].rules[0].matches[0].query_parameters[0].value", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[0].QueryParameters[0].Value = "(");
        yield return Row("ports[0].http_routes[0].rules[0].matches[0].headers[0].name", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[0].Headers[0].Name = "a b");
        yield return Row("ports[0].http_routes[0].rules[0].matches[3].path.grpc", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[3].Path.Grpc = null);
        yield return Row("ports[0].http_routes[0].rules[0].matches[3].path.grpc.method", message => message.Ports[0].HttpRoutes[0].Rules[0].Matches[3].Path.Grpc.Method = "(");
        yield return Row("ports[0].http_routes[0].rules[0].filters[0]", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[0].ClearFilter());
        yield return Row("ports[0].http_routes[0].rules[0].filters[0].header_modifier.set[0].name", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[0].HeaderModifier.Set[0].Name = "transfer-encoding");
        yield return Row("ports[0].http_routes[0].rules[0].filters[0].header_modifier.set[0].value", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[0].HeaderModifier.Set[0].Value = "a\r\nb");
        yield return Row("ports[0].http_routes[0].rules[0].filters[1].redirect.status", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[1].Redirect.Status = 200);
        yield return Row("ports[0].http_routes[0].rules[0].filters[3].mirror.numerator", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[3].Mirror.Numerator = 4);
        yield return Row("ports[0].http_routes[0].rules[0].filters[3].mirror.denominator", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[3].Mirror.Denominator = 0);
        yield return Row("ports[0].http_routes[0].rules[0].filters[4].cors.allow_origins[0]", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[4].Cors.AllowOrigins[0] = "x");
        yield return Row("ports[0].http_routes[0].rules[0].filters[4].cors.max_age_seconds", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[4].Cors.MaxAgeSeconds = 0);
        yield return Row("ports[0].http_routes[0].rules[0].filters[1].redirect.scheme", message => message.Ports[0].HttpRoutes[0].Rules[0].Filters[1].Redirect.Scheme = "ftp");
    }

    [Test]
    public void A_policy_for_TLS_that_is_not_understood_is_refused()
    {
        foreach (var (field, spoil) in new (string, Action<Wire.UpstreamTls>)[]
        {
            ("policy", tls => tls.Policy = null),
            ("server_name", tls => tls.ServerName = ""),
            ("hostnames[0]", tls => tls.Hostnames[0] = "a:1"),
            ("uris[0]", tls => tls.Uris[0] = ""),
        })
        {
            var message = ConfigMapping.ToProto(BackendTls);
            spoil(message.Ports[0].Cluster.Tls);
            Assert.That(ConfigMapping.TryToModel(message, out _, out var told, out _), Is.False);
            Assert.That(told, Does.StartWith("ports[0].cluster.tls." + field));
        }
    }

    [TestCaseSource(nameof(NotUnderstood))]
    public void What_is_not_understood_is_refused(string field, Action<Wire.Destination> spoil)
    {
        var message = ConfigMapping.ToProto(Destination);
        spoil(message);
        Assert.That(ConfigMapping.TryToModel(message, out var model, out var told, out var reason), Is.False);
        Assert.That(model, Is.Null);
        Assert.That(told, Is.EqualTo(field));
        Assert.That(reason, Is.Not.Empty);
    }

    private static IEnumerable<TestCaseData> TrafficNotUnderstood()
    {
        static TestCaseData Row(string field, Action<Wire.ClientTraffic> spoil) => new(field, spoil) { TestName = $"Traffic not understood: {field}" };
        yield return Row("underscores", message => message.Underscores = (Wire.ClientTraffic.Types.Underscores)9);
        yield return Row("forwarded.mode", message => message.Forwarded.Mode = 0);
        yield return Row("forwarded.format", message => message.Forwarded.Format = 0);
        yield return Row("forwarded.trusted_hops", message => message.Forwarded.TrustedHops = 17);
        yield return Row("upgrade_protocols", message => message.UpgradeProtocols.Add("a b"));
        yield return Row("request_head_timeout", message => message.RequestHeadTimeout.Seconds = 0);
        yield return Row("idle_timeout", message => message.IdleTimeout.Seconds = 24 * 3600 + 1);
        yield return Row("stream_idle_timeout", message => message.StreamIdleTimeout.Seconds = -1);
        yield return Row("tls_handshake_timeout", message => message.TlsHandshakeTimeout.Seconds = 301);
        yield return Row("max_connection_age", message => message.MaxConnectionAge.Seconds = 0);
        yield return Row("max_concurrent_streams", message => message.MaxConcurrentStreams = 0);
        yield return Row("max_request_body_bytes", message => message.MaxRequestBodyBytes = ulong.MaxValue);
    }

    [TestCaseSource(nameof(TrafficNotUnderstood))]
    public void What_is_not_understood_of_client_traffic_is_refused(string field, Action<Wire.ClientTraffic> spoil)
    {
        var message = ConfigMapping.ToProto(TrafficListener);
        spoil(message.ClientTraffic);
        Assert.That(ConfigMapping.TryToModel(message, out _, out var told, out var reason), Is.False);
        Assert.That((told, reason), Is.EqualTo(("client_traffic." + field, reason)));
        Assert.That(reason, Is.Not.Empty);
    }

    [Test]
    public void Spoiled_bytes_never_throw_past_the_parser()
    {
        var random = new Random(7);
        foreach (var (name, message) in Messages)
        {
            var bytes = message.ToByteArray();
            for (var round = 0; round < 3_000; round++)
            {
                var spoiled = (byte[])bytes.Clone();
                for (var count = random.Next(1, 4); count > 0; count--)
                {
                    spoiled[random.Next(spoiled.Length)] = (byte)random.Next(256);
                }

                try
                {
                    var parsed = message.Descriptor.Parser.ParseFrom(spoiled);
                    var isGood = parsed switch
                    {
                        Wire.Destination destination => ConfigMapping.TryToModel(destination, out _, out _, out _),
                        Wire.EndpointSet endpoints => ConfigMapping.TryToModel(endpoints, out _, out _, out _),
                        Wire.Inbound inbound => ConfigMapping.TryToModel(inbound, out _, out _, out _),
                        _ => ConfigMapping.TryToModel((Wire.Listener)parsed, out _, out _, out _),
                    };
                    _ = isGood;
                }
                catch (InvalidProtocolBufferException)
                {
                    // The parser's own refusal.
                }
                catch (Exception e)
                {
                    Assert.Fail($"{name}, round {round}: {e}");
                }
            }
        }
    }

    /// <summary>Run by hand when a message gains a field: writes Golden/*.hex beside the sources.</summary>
    [Test, Explicit("writes files")]
    public void Write_golden_messages()
    {
        var folder = Path.Combine(Path.GetDirectoryName(Here())!, "..", "Golden");
        foreach (var (name, message) in Messages)
        {
            File.WriteAllText(Path.Combine(folder, name + ".hex"), string.Join('\n', Convert.ToHexStringLower(message.ToByteArray()).Chunk(120).Select(line => new string(line))) + "\n");
        }

        static string Here([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;
    }
}
