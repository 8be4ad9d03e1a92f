using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Tests.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Tests.Compilation;

/// <summary>ClientTrafficPolicies: read, attached, merged, and what their conditions say.</summary>
public class ClientTrafficPolicyTests
{
    private const string Base =
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: meshproxy
          listeners:
          - {name: pay, port: 80, protocol: HTTP, hostname: pay.example.com}
          - {name: any, port: 80, protocol: HTTP}
          - {name: raw, port: 90, protocol: TCP}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: opaque, namespace: shop}
        spec: {gatewayClassName: meshproxy, listeners: [{name: raw, port: 91, protocol: TCP}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: payments, namespace: shop}
        spec: {selector: {app: payments}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}, {name: admin, port: 81, targetPort: 8081, appProtocol: http}, {name: raw, port: 82, targetPort: 8082, appProtocol: tcp}]}

        """;

    private const string Gateway = "{group: gateway.networking.k8s.io, kind: Gateway, name: edge}";
    private const string Pay = "{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: pay}";
    private const string Any = "{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: any}";
    private const string Service = "{kind: Service, name: payments}";

    private static readonly ResourceName Edge = new("shop", "edge");
    private static readonly ResourceName Payments = new("shop", "payments");

    [Test]
    public void Every_field_comes_through()
    {
        var mesh = Yaml.Compile(Base +
            """
            ---
            apiVersion: meshproxy.io/v1alpha1
            kind: ClientTrafficPolicy
            metadata: {name: p, namespace: shop}
            spec:
              targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
              path: {mergeSlashes: true, allow: [EncodedSlash, Backslash, EncodedNull]}
              headers:
                underscores: Drop
                forwarded: {mode: Append, format: Both, trustedHops: 2}
              via: true
              upgrade: {protocols: [websocket, connect-udp, irc/6.9]}
              callerDeadlines: true
              timeouts: {requestHead: 5s, idle: 1m, streamIdle: 2m, tlsHandshake: 3s, maxConnectionAge: 1h}
              http2: {maxConcurrentStreams: 250}
              maxRequestBodyBytes: 5000000000
            """);
        var expected = new ClientTrafficConfig
        {
            Path = new PathTrafficConfig(true, true, true, true),
            Underscores = UnderscorePolicy.Drop,
            Forwarded = new ForwardedConfig(ForwardedMode.Append, ForwardedFormat.Both, 2),
            AddsVia = true,
            UpgradeProtocols = ["websocket", "connect-udp", "irc/6.9"],
            BelievesDeadlines = true,
            Timeouts = new ClientTimeoutsConfig
            {
                RequestHead = TimeSpan.FromSeconds(5),
                Idle = TimeSpan.FromMinutes(1),
                StreamIdle = TimeSpan.FromMinutes(2),
                TlsHandshake = TimeSpan.FromSeconds(3),
                MaxConnectionAge = TimeSpan.FromHours(1),
            },
            MaxConcurrentStreams = 250,
            MaxRequestBodyBytes = 5_000_000_000,
        };
        Assert.That(mesh.Gateways[Edge].Select(listener => listener.ClientTraffic), Is.All.EqualTo(expected));
        Assert.That(Condition(mesh, "p"), Is.EqualTo((true, "Accepted", "")));
        Assert.That(mesh.Destinations[Payments].Ports[0].ClientTraffic, Is.EqualTo(ClientTrafficConfig.Default));
    }

    [Test]
    public void Of_a_listener_and_its_gateway_the_listener_wins_for_each_field()
    {
        var mesh = Yaml.Compile(Base
            + Policy("whole", Gateway, "{via: true, path: {mergeSlashes: true}, headers: {underscores: Reject, forwarded: {mode: Pass}}, maxRequestBodyBytes: 10, timeouts: {idle: 9s}}")
            + Policy("own", Pay, "{path: {allow: [Backslash]}, headers: {underscores: Drop}, upgrade: {protocols: []}}"));
        var pay = mesh.Gateways[Edge].Single(listener => listener.Id.EndsWith("/pay", StringComparison.Ordinal)).ClientTraffic;
        var any = mesh.Gateways[Edge].Single(listener => listener.Id.EndsWith("/any", StringComparison.Ordinal)).ClientTraffic;
        Assert.Multiple(() =>
        {
            Assert.That(pay.Path, Is.EqualTo(new PathTrafficConfig(AllowsBackslash: true)), "path as a whole");
            Assert.That((pay.Underscores, pay.Forwarded), Is.EqualTo((UnderscorePolicy.Drop, (ForwardedConfig?)null)), "headers as a whole");
            Assert.That((pay.AddsVia, pay.MaxRequestBodyBytes, pay.Timeouts.Idle), Is.EqualTo((true, (long?)10, (TimeSpan?)TimeSpan.FromSeconds(9))));
            Assert.That(pay.UpgradeProtocols, Is.Empty);
            Assert.That(any.Path, Is.EqualTo(new PathTrafficConfig(MergesSlashes: true)));
            Assert.That(any.Forwarded!.Mode, Is.EqualTo(ForwardedMode.Pass));
            Assert.That(any.UpgradeProtocols, Is.EqualTo(ClientTrafficConfig.DefaultUpgradeProtocols));
        });
    }

    [Test]
    public void A_policy_on_a_service_reaches_its_inbound_and_its_callers()
    {
        var workload = new LiveWorkload(
            new ResourceName("shop", "p1"), SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/payments"), "10.0.0.1", 15006,
            new Dictionary<string, string> { ["app"] = "payments" }, [("", 8080), ("", 8081), ("", 8082)], "", 1, true, false);
        var read = Yaml.Read(Base
            + Policy("whole", Service, "{maxRequestBodyBytes: 10}") + Policy("own", "{kind: Service, name: payments, sectionName: admin}", "{path: {allow: [EncodedSlash]}}"));
        Assert.That(read.Errors, Is.Empty);
        var mesh = MeshCompiler.Compile(new MeshInput(read.Documents, [workload], Yaml.Domain));
        var inbound = mesh.Inbounds[workload.Name].Ports.ToDictionary(port => port.Service.Port, port => port.ClientTraffic);
        var outbound = mesh.Destinations[Payments].Ports.ToDictionary(port => port.Cluster.Id.Port, port => port.ClientTraffic);
        Assert.Multiple(() =>
        {
            Assert.That(inbound[80], Is.EqualTo(new ClientTrafficConfig { MaxRequestBodyBytes = 10 }));
            Assert.That(inbound[81], Is.EqualTo(new ClientTrafficConfig { MaxRequestBodyBytes = 10, Path = new PathTrafficConfig(AllowsEncodedSlash: true) }));
            Assert.That(outbound, Is.EqualTo(inbound));
            Assert.That(MeshCompiler.WithWorkloads(mesh, [workload]).Inbounds[workload.Name].Ports[0].ClientTraffic, Is.EqualTo(inbound[80]), "also when workloads alone have changed");
        });
    }

    [Test]
    public void Of_two_for_one_target_the_older_wins_and_the_other_is_told()
    {
        var mesh = Yaml.Compile(Base + Policy("a-young", $"{Gateway}, {Service}", "{via: true}", "2026-02-01") + Policy("b-old", Gateway, "{maxRequestBodyBytes: 5}", "2026-01-01"));
        Assert.Multiple(() =>
        {
            Assert.That(mesh.Gateways[Edge].Select(listener => listener.ClientTraffic), Is.All.EqualTo(new ClientTrafficConfig { MaxRequestBodyBytes = 5 }));
            Assert.That(mesh.Destinations[Payments].Ports[0].ClientTraffic.AddsVia, Is.True, "its other target is its own");
            Assert.That(
                mesh.Conditions[("ClientTrafficPolicy", new ResourceName("shop", "a-young"))].Select(condition => (condition.Status, condition.Reason, condition.Parent)),
                Is.EqualTo(new[] { (false, "Conflicted", "Gateway shop/edge"), (true, "Accepted", "Service shop/payments") }));
            Assert.That(Condition(mesh, "b-old"), Is.EqualTo((true, "Accepted", "")));
        });
    }

    [TestCase("{group: gateway.networking.k8s.io, kind: Gateway, name: gone}", "{via: true}", "TargetNotFound", "there is no Gateway shop/gone")]
    [TestCase("{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: gone}", "{via: true}", "TargetNotFound", "no listener named 'gone'")]
    [TestCase("{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: raw}", "{via: true}", "Invalid", "carries no HTTP")]
    [TestCase("{group: gateway.networking.k8s.io, kind: Gateway, name: opaque}", "{via: true}", "Invalid", "carries no HTTP")]
    [TestCase("{kind: Service, name: gone}", "{via: true}", "TargetNotFound", "there is no Service shop/gone")]
    [TestCase("{kind: Service, name: payments, sectionName: gone}", "{via: true}", "TargetNotFound", "no port named 'gone'")]
    [TestCase("{kind: Service, name: payments, sectionName: raw}", "{via: true}", "Invalid", "carries no HTTP")]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}", "{via: true}", "Invalid", "is about a Gateway")]
    [TestCase(Service, "{timeouts: {tlsHandshake: 1s}}", "UnsupportedValue", "tlsHandshake")]
    [TestCase(Pay, "{timeouts: {idle: 1s}}", "UnsupportedValue", "write it for listener 'any'")]
    [TestCase(Pay, "{timeouts: {tlsHandshake: 1s}}", "UnsupportedValue", "write it for listener 'any'")]
    [TestCase(Pay, "{http2: {maxConcurrentStreams: 5}}", "UnsupportedValue", "write it for listener 'any'")]
    [TestCase(Pay, "{timeouts: {streamIdle: 1s}}", "Accepted", "")]
    [TestCase(Any, "{timeouts: {idle: 1s}, http2: {maxConcurrentStreams: 5}}", "Accepted", "")]
    public void What_can_not_be_enforced_is_told_and_not_applied(string target, string spec, string reason, string message)
    {
        var mesh = Yaml.Compile(Base + Policy("p", target, spec));
        var condition = Condition(mesh, "p");
        Assert.That((condition.Status, condition.Reason), Is.EqualTo((reason == "Accepted", reason)));
        Assert.That(condition.Message, reason == "Accepted" ? Is.Empty : Does.StartWith("spec.targetRefs[0]: ").And.Contains(message));
        var applied = mesh.Gateways[Edge].Select(listener => listener.ClientTraffic).Concat(mesh.Destinations[Payments].Ports.Select(port => port.ClientTraffic)).Distinct().Count();
        Assert.That(applied, Is.EqualTo(reason == "Accepted" ? 2 : 1));
    }

    [TestCase("{}", "spec.targetRefs", "is missing")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], pathes: {}}", "spec.pathes", "did you mean 'path'?")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], path: {allow: [Slash]}}", "spec.path.allow[0]", "use EncodedSlash, Backslash, EncodedNull")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], path: {merge: true}}", "spec.path.merge", "is not a field here")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], headers: {underscores: deny}}", "spec.headers.underscores", "use Allow, Reject, Drop")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], headers: {forwarded: {trustedHops: 1}}}", "spec.headers.forwarded.mode", "is missing")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], headers: {forwarded: {mode: Replace, trustedHops: 17}}}", "spec.headers.forwarded.trustedHops", "use 0 to 16")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], headers: {forwarded: {mode: Replace, format: X}}}", "spec.headers.forwarded.format", "use XForwarded, Forwarded, Both")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], via: \"yes\"}", "spec.via", "must be true or false")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], upgrade: {}}", "spec.upgrade.protocols", "is missing")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], upgrade: {protocols: [WebSocket]}}", "spec.upgrade.protocols[0]", "in lower case")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], upgrade: {protocols: [h2c]}}", "spec.upgrade.protocols[0]", "can not be asked for")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], timeouts: {idle: 0s}}", "spec.timeouts.idle", "use 100ms to 24h")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], timeouts: {requestHead: 6m}}", "spec.timeouts.requestHead", "6m is out of range: use 100ms to 5m")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], timeouts: {maxConnectionAge: 1}}", "spec.timeouts.maxConnectionAge", "must be a text")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], http2: {maxConcurrentStreams: 0}}", "spec.http2.maxConcurrentStreams", "use 1 to 65536")]
    [TestCase("{targetRefs: [{kind: Service, name: a}], maxRequestBodyBytes: 0}", "spec.maxRequestBodyBytes", "use 1 to")]
    public void A_mistake_is_told_with_its_field(string spec, string field, string message)
    {
        var read = Yaml.Read($"apiVersion: meshproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n");
        Assert.That(read.Documents, Is.Empty);
        Assert.That(read.Errors.Single(), Has.Property(nameof(DocumentError.Field)).EqualTo(field).And.Property(nameof(DocumentError.Message)).Contains(message).And.Property(nameof(DocumentError.Line)).EqualTo(4));
    }

    [Test]
    public void In_file_mode_a_policy_that_can_not_be_enforced_keeps_the_last_good_state()
    {
        var (config, errors) = FileConfiguration.Compile([new DocumentSource("edge.yaml", Base + Policy("p", "{kind: Service, name: gone}", "{via: true}"))], "1", out _);
        Assert.That(config, Is.Null);
        Assert.That(errors.Single(), Has.Property(nameof(DocumentError.Field)).EqualTo("spec.targetRefs[0]").And.Property(nameof(DocumentError.Message)).Contains("there is no Service shop/gone"));
        (config, errors) = FileConfiguration.Compile([new DocumentSource("edge.yaml", Base + Policy("p", Gateway, "{via: true}"))], "2", out _);
        Assert.That(errors, Is.Empty);
        Assert.That(config!.Listeners[0].ClientTraffic.AddsVia, Is.True);
    }

    [Test]
    public void It_is_written_back_as_it_was()
    {
        var document = Yaml.One(Policy("p", Gateway, "{timeouts: {idle: 9s}, upgrade: {protocols: []}}")[4..]);
        var again = Yaml.One(DocumentWriter.ToYaml(document));
        Assert.That(again.Fingerprint, Is.EqualTo(document.Fingerprint));
        Assert.That(DocumentKinds.TryParse("clienttrafficpolicies", out var kind) && kind == DocumentKinds.ClientTrafficPolicy);
    }

    private static string Policy(string name, string targets, string spec, string? created = null) =>
        $"---\napiVersion: meshproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: {name}, namespace: shop{(created is null ? "" : $", creationTimestamp: \"{created}T00:00:00Z\"")}}}\n"
        + $"spec: {{targetRefs: [{targets}], {spec[1..]}\n";

    private static (bool Status, string Reason, string Message) Condition(CompiledMesh mesh, string name)
    {
        var condition = mesh.Conditions[("ClientTrafficPolicy", new ResourceName("shop", name))].Single();
        return (condition.Status, condition.Reason, condition.Message);
    }
}
