using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Tests.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Tests.Compilation;

/// <summary>What documents and workloads become together.</summary>
public class CompilerTests
{
    private const string Payments =
        """
        apiVersion: v1
        kind: Service
        metadata: {name: payments, namespace: shop}
        spec: {selector: {app: payments}, ports: [{name: grpc, port: 8080, targetPort: grpc, appProtocol: grpc}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: payments-v1, namespace: shop, annotations: {meshproxy.io/service-accounts: "payments, payments-canary"}}
        spec: {selector: {app: payments, version: v1}, ports: [{name: grpc, port: 8080, targetPort: 9090, appProtocol: grpc}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: payments-v2, namespace: shop, annotations: {meshproxy.io/service-accounts: payments}}
        spec: {selector: {app: payments, version: v2}, ports: [{name: grpc, port: 8080, targetPort: grpc, appProtocol: grpc}]}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: split, namespace: shop}
        spec:
          parentRefs: [{group: "", kind: Service, name: payments}]
          rules:
          - backendRefs: [{name: payments-v1, port: 8080, weight: 80}, {name: payments-v2, port: 8080, weight: 20}]

        """;

    private static readonly ResourceName PaymentsName = new("shop", "payments");

    [Test]
    public void A_route_on_a_service_splits_by_weight()
    {
        var mesh = Yaml.Compile(Payments);
        var port = mesh.Destinations[PaymentsName].Ports.Single();
        Assert.Multiple(() =>
        {
            Assert.That(mesh.Errors, Is.Empty);
            Assert.That(mesh.Destinations[PaymentsName].Refused, Is.Null);
            Assert.That(port.Cluster.Protocol, Is.EqualTo(AppProtocol.Grpc));
            Assert.That(port.HttpRoutes.Single().Id, Is.EqualTo("shop/split"));
            Assert.That(
                port.HttpRoutes.Single().Rules.Single().Backends.Select(backend => $"{backend.Cluster} {backend.Weight} {backend.Invalid}"),
                Is.EqualTo(new[] { "shop/payments-v1:8080 80 ", "shop/payments-v2:8080 20 " }));
            Assert.That(port.BackendClusters.Select(cluster => cluster.Id.ToString()), Is.EqualTo(new[] { "shop/payments-v1:8080", "shop/payments-v2:8080" }));
            Assert.That(port.BackendClusters[0].AllowedServers.Select(id => id.ToString()), Is.EqualTo(new[] { "spiffe://mesh.local/ns/shop/sa/payments", "spiffe://mesh.local/ns/shop/sa/payments-canary" }));
            Assert.That(Condition(mesh, "HTTPRoute", "split", "Accepted"), Is.EqualTo((true, "Accepted")));
            Assert.That(Condition(mesh, "HTTPRoute", "split", "ResolvedRefs"), Is.EqualTo((true, "ResolvedRefs")));
        });
    }

    [Test]
    public void A_selector_picks_live_workloads_of_its_namespace_with_an_allowed_identity_and_the_port()
    {
        var mesh = Yaml.Compile(
            Payments,
            Live("shop/p1", "payments", 1, "v1"),
            Live("shop/p2", "payments", 2, "v2") with { Draining = true, Weight = 3, Locality = "eu/a" },
            Live("shop/p3", "payments-canary", 3, "v1"),
            Live("shop/p4", "thief", 4, "v2"),
            Live("other/p5", "payments", 5, "v1"),
            Live("shop/p6", "payments", 6, "v1") with { Ports = [("web", 80)] });
        Assert.Multiple(() =>
        {
            Assert.That(Endpoints(mesh, "shop/payments:8080"), Is.EqualTo(new[] { "shop/p1 10.0.0.1:9090 via 15006", "shop/p2 10.0.0.2:9090 via 15006" }));
            Assert.That(Endpoints(mesh, "shop/payments-v1:8080"), Is.EqualTo(new[] { "shop/p1 10.0.0.1:9090 via 15006", "shop/p3 10.0.0.3:9090 via 15006" }));
            Assert.That(Endpoints(mesh, "shop/payments-v2:8080"), Is.EqualTo(new[] { "shop/p2 10.0.0.2:9090 via 15006" }));
            Assert.That(mesh.Endpoints[Cluster("shop/payments-v2:8080")].Endpoints.Single(), Has.Property("IsDraining").True.And.Property("Weight").EqualTo(3).And.Property("Locality").EqualTo("eu/a"));
            Assert.That(mesh.Addresses["10.0.0.1:9090"], Is.EqualTo(Cluster("shop/payments:8080")));
            Assert.That(mesh.Addresses, Does.Not.ContainKey("10.0.0.4:9090"));
            Assert.That(mesh.Refusals[new("shop", "p4")].Select(refusal => (refusal.Service.Name, refusal.IsIdentity)), Is.EqualTo(new[] { ("payments", true), ("payments-v2", true) }));
            Assert.That(mesh.Refusals[new("shop", "p6")].All(refusal => !refusal.IsIdentity), Is.True);
            Assert.That(mesh.Refusals, Does.Not.ContainKey(new ResourceName("other", "p5")));
            Assert.That(
                mesh.Inbounds[new("shop", "p1")].Ports.Select(port => $"{port.Service} -> {port.LocalPort} {port.Protocol}"),
                Is.EqualTo(new[] { "shop/payments:8080 -> 9090 Grpc", "shop/payments-v1:8080 -> 9090 Grpc" }));
            Assert.That(mesh.Inbounds[new("shop", "p4")].Ports, Is.Empty);
            Assert.That(mesh.Inbounds[new("other", "p5")].Ports, Is.Empty);
        });
    }

    [Test]
    public void A_workload_of_another_trust_domain_serves_nothing()
    {
        var mesh = Yaml.Compile(Payments, Live("shop/p1", "payments", 1, "v1") with { Identity = SpiffeId.Parse("spiffe://evil.local/ns/shop/sa/payments") });
        Assert.That(mesh.Endpoints[Cluster("shop/payments:8080")].Endpoints, Is.Empty);
        Assert.That(mesh.Refusals[new("shop", "p1")].All(refusal => refusal.IsIdentity), Is.True);
    }

    [Test]
    public void A_registered_workload_without_inbound_port_is_never_spoken_to_in_plaintext()
    {
        var mesh = Yaml.Compile(Payments, Live("shop/p1", "payments", 1, "v1") with { InboundPort = null });
        Assert.That(mesh.Endpoints[Cluster("shop/payments:8080")].Endpoints, Is.Empty);
    }

    [Test]
    public void The_cheap_path_gives_what_a_whole_compilation_gives()
    {
        LiveWorkload[] workloads = [Live("shop/p1", "payments", 1, "v1"), Live("shop/p2", "payments", 2, "v2")];
        var whole = Yaml.Compile(Payments, workloads);
        var cheap = MeshCompiler.WithWorkloads(Yaml.Compile(Payments, Live("shop/gone", "payments", 9, "v1")), [.. workloads.Reverse()]);
        Assert.Multiple(() =>
        {
            Assert.That(cheap.Endpoints.Select(pair => (pair.Key, pair.Value)), Is.EquivalentTo(whole.Endpoints.Select(pair => (pair.Key, pair.Value))));
            Assert.That(cheap.Addresses, Is.EquivalentTo(whole.Addresses));
            Assert.That(cheap.Inbounds.Keys, Is.EquivalentTo(whole.Inbounds.Keys));
        });
    }

    [Test]
    public void Declared_workloads_and_slices_are_endpoints_too()
    {
        var mesh = Yaml.Compile(
            Payments +
            """
            ---
            apiVersion: meshproxy.io/v1alpha1
            kind: Workload
            metadata: {name: old, namespace: shop, labels: {app: payments, version: v1}}
            spec: {address: 10.0.1.1, inboundPort: 15006, serviceAccount: payments, ports: [{name: grpc, port: 9090}]}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: legacy, namespace: shop}
            spec: {ports: [{name: web, port: 80, appProtocol: http}, {name: db, port: 5432, appProtocol: tcp}]}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: legacy-1, namespace: shop, labels: {kubernetes.io/service-name: legacy}}
            addressType: IPv4
            ports: [{name: web, port: 8081}]
            endpoints: [{addresses: [10.0.2.1], zone: a}, {addresses: [10.0.2.2], conditions: {ready: false}}]
            """);
        Assert.Multiple(() =>
        {
            Assert.That(Endpoints(mesh, "shop/payments-v1:8080"), Is.EqualTo(new[] { "shop/old 10.0.1.1:9090 via 15006" }));
            Assert.That(Endpoints(mesh, "shop/legacy:80"), Is.EqualTo(new[] { "10.0.2.1:8081 10.0.2.1:8081 via ", "10.0.2.2:8081 10.0.2.2:8081 via " }));
            Assert.That(mesh.Endpoints[Cluster("shop/legacy:80")].Endpoints.Select(endpoint => (endpoint.IsReady, endpoint.Locality)), Is.EqualTo(new[] { (true, "/a"), (false, "") }));
            Assert.That(mesh.Endpoints[Cluster("shop/legacy:5432")].Endpoints, Is.Empty);
            Assert.That(mesh.Inbounds.Keys, Does.Contain(new ResourceName("shop", "old")));
        });
    }

    private const string Edge =
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: infra}
        spec:
          gatewayClassName: meshproxy
          listeners:
          - {name: shop, port: 80, protocol: HTTP, hostname: "*.example.com", allowedRoutes: {namespaces: {from: All}}}
          - {name: own, port: 81, protocol: HTTP}
          - {name: db, port: 5432, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
        ---

        """;

    // A route's parentRef, hostnames and backend; what its conditions say. Index 0: Accepted, 1: ResolvedRefs.
    [TestCase("{name: edge, namespace: infra}", "[pay.example.com]", "{name: payments, port: 8080}", "Accepted", "ResolvedRefs")]
    [TestCase("{name: edge, namespace: infra, sectionName: shop}", "[]", "{name: payments, port: 8080}", "Accepted", "ResolvedRefs")]
    [TestCase("{name: edge, namespace: infra}", "[pay.example.org]", "{name: payments, port: 8080}", "NoMatchingListenerHostname", null)]
    [TestCase("{name: edge, namespace: infra}", "[example.com]", "{name: payments, port: 8080}", "NoMatchingListenerHostname", null)]
    [TestCase("{name: edge, namespace: infra, sectionName: own}", "[]", "{name: payments, port: 8080}", "NotAllowedByListeners", null)]
    [TestCase("{name: edge, namespace: infra, sectionName: db}", "[]", "{name: payments, port: 8080}", "NotAllowedByListeners", null)]
    [TestCase("{name: edge, namespace: infra, sectionName: none}", "[]", "{name: payments, port: 8080}", "NoMatchingParent", null)]
    [TestCase("{name: edge, namespace: infra, port: 82}", "[]", "{name: payments, port: 8080}", "NoMatchingParent", null)]
    [TestCase("{name: edge}", "[]", "{name: payments, port: 8080}", "NoMatchingParent", null)]
    [TestCase("{group: apps, kind: Deployment, name: edge}", "[]", "{name: payments, port: 8080}", "InvalidKind", null)]
    [TestCase("{group: \"\", kind: Service, name: payments, namespace: other}", "[]", "{name: payments, port: 8080}", "NoMatchingParent", null)]
    [TestCase("{name: edge, namespace: infra}", "[]", "{name: none, port: 8080}", "Accepted", "BackendNotFound")]
    [TestCase("{name: edge, namespace: infra}", "[]", "{name: payments, port: 1}", "Accepted", "BackendNotFound")]
    [TestCase("{name: edge, namespace: infra}", "[]", "{name: payments, namespace: infra, port: 1}", "Accepted", "RefNotPermitted")]
    [TestCase("{name: edge, namespace: infra}", "[]", "{kind: Pod, name: payments}", "Accepted", "InvalidKind")]
    public void Conditions_say_what_became_of_a_route(string parent, string hostnames, string backend, string accepted, string? resolved)
    {
        var mesh = Yaml.Compile(
            $$"""
            {{Payments}}---
            {{Edge}}apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{{parent}}], hostnames: {{hostnames}}, rules: [{backendRefs: [{{backend}}]}]}
            """);
        Assert.That(Condition(mesh, "HTTPRoute", "r", "Accepted"), Is.EqualTo((accepted == "Accepted", accepted)));
        if (resolved is not null)
        {
            Assert.That(Condition(mesh, "HTTPRoute", "r", "ResolvedRefs"), Is.EqualTo((resolved == "ResolvedRefs", resolved)));
            var used = mesh.Gateways[new("infra", "edge")].Single(listener => listener.Id == "infra/edge/shop").HttpRoutes.Single().Rules.Single().Backends.Single();
            Assert.That(used.Cluster is null, Is.EqualTo(resolved != "ResolvedRefs"));
            Assert.That(used.Invalid is null, Is.EqualTo(resolved == "ResolvedRefs"));
        }
        else
        {
            Assert.That(mesh.Gateways[new("infra", "edge")].SelectMany(listener => listener.HttpRoutes), Is.Empty);
        }
    }

    // Created first, then second; what becomes of each, and at which listener. An HTTPRoute and a GRPCRoute never share a hostname (GRPCRouteSpec.hostnames).
    [TestCase("GRPCRoute", "[pay.example.com]", "HTTPRoute", "[\"*.example.com\"]", true, false)]
    [TestCase("HTTPRoute", "[pay.example.com]", "GRPCRoute", "[pay.example.com, a.example.com]", true, false)]
    [TestCase("HTTPRoute", "[pay.example.com]", "GRPCRoute", "[]", true, false)]
    [TestCase("HTTPRoute", "[pay.example.com]", "GRPCRoute", "[other.example.com]", true, true)]
    [TestCase("HTTPRoute", "[pay.example.com]", "HTTPRoute", "[pay.example.com]", true, true)]
    public void Of_a_listener_a_hostname_belongs_to_routes_of_one_kind(string older, string olderNames, string newer, string newerNames, bool olderIsIn, bool newerIsIn)
    {
        static string Route(string kind, string name, string hostnames, int day) =>
            $"---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: \"2026-01-0{day}T00:00:00Z\"}}\nspec: {{parentRefs: [{{name: edge, namespace: infra, sectionName: shop}}], hostnames: {hostnames}, rules: [{{backendRefs: [{{name: payments, port: 8080}}]}}]}}\n";
        var mesh = Yaml.Compile(Edge + Payments + Route(newer, "a-newer", newerNames, 2) + Route(older, "z-older", olderNames, 1));
        Assert.Multiple(() =>
        {
            Assert.That(Condition(mesh, older, "z-older", "Accepted"), Is.EqualTo((olderIsIn, olderIsIn ? "Accepted" : "Conflicted")));
            Assert.That(Condition(mesh, newer, "a-newer", "Accepted"), Is.EqualTo((newerIsIn, newerIsIn ? "Accepted" : "Conflicted")));
            Assert.That(mesh.Gateways[new("infra", "edge")][0].HttpRoutes.Select(route => route.Id), Is.EquivalentTo(new[] { olderIsIn ? "shop/z-older" : "", newerIsIn ? "shop/a-newer" : "" }.Where(id => id.Length > 0)));
            Assert.That(mesh.Listeners[new("infra", "edge")][0].AttachedRoutes, Is.EqualTo((olderIsIn ? 1 : 0) + (newerIsIn ? 1 : 0)));
        });
    }

    [Test]
    public void On_a_service_a_grpc_route_goes_before_an_http_route_of_any_age()
    {
        var mesh = Yaml.Compile(Payments.Replace("name: split,", "name: split, creationTimestamp: \"2026-01-01T00:00:00Z\",") +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: GRPCRoute
            metadata: {name: g, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
            spec: {parentRefs: [{group: "", kind: Service, name: payments}], rules: [{backendRefs: [{name: payments-v1, port: 8080}]}]}
            """);
        Assert.That(Condition(mesh, "GRPCRoute", "g", "Accepted"), Is.EqualTo((true, "Accepted")));
        Assert.That(Condition(mesh, "HTTPRoute", "split", "Accepted"), Is.EqualTo((false, "Conflicted")));
        Assert.That(mesh.Destinations[PaymentsName].Ports.Single().HttpRoutes.Single().Id, Is.EqualTo("shop/g"));
    }

    [TestCase("requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}", 80)]
    [TestCase("requestRedirect: {scheme: https}", null)]
    [TestCase("requestRedirect: {port: 8443}", 8443)]
    public void A_redirect_keeps_the_listeners_port_unless_it_says_otherwise(string redirect, int? port)
    {
        var mesh = Yaml.Compile(Edge +
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{name: edge, namespace: infra, sectionName: shop}], rules: [{filters: [{type: RequestRedirect, {{redirect}}}]}]}
            """);
        var rule = mesh.Gateways[new("infra", "edge")][0].HttpRoutes.Single().Rules.Single();
        var compiled = (RedirectConfig)rule.Filters.Single();
        Assert.That((compiled.Port, compiled.IsListenerPort), Is.EqualTo((port, port == 80)));
    }

    [Test]
    public void Two_references_to_parts_of_one_gateway_attach_a_route_once_for_each_listener()
    {
        var mesh = Yaml.Compile(Edge + Payments +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{name: edge, namespace: infra, sectionName: shop}, {name: edge, namespace: infra, port: 80}, {name: edge, namespace: infra, sectionName: own}], rules: [{backendRefs: [{name: payments, port: 8080}]}]}
            """);
        Assert.That(mesh.Gateways[new("infra", "edge")][0].HttpRoutes, Has.Length.EqualTo(1));
        Assert.That(
            mesh.Conditions[("HTTPRoute", new("shop", "r"))].Where(condition => condition.Type == "Accepted").Select(condition => $"{condition.Parent} {condition.Reason}"),
            Is.EqualTo(new[] { "Gateway infra/edge/shop Accepted", "Gateway infra/edge:80 Accepted", "Gateway infra/edge/own NotAllowedByListeners" }));
    }

    // Two listeners of one Gateway; what the second one's conditions say.
    [TestCase("port: 80, protocol: HTTP, hostname: a.example.com", "port: 80, protocol: HTTP, hostname: b.example.com", "Conflicted=False NoConflicts, ResolvedRefs=True ResolvedRefs, Accepted=True Accepted, Programmed=True Programmed")]
    [TestCase("port: 80, protocol: HTTP", "port: 80, protocol: TCP", "Conflicted=True ProtocolConflict, ResolvedRefs=True ResolvedRefs, Accepted=False ProtocolConflict, Programmed=False Invalid")]
    [TestCase("port: 80, protocol: HTTP", "port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}, {kind: TCPRoute}]}", "Conflicted=False NoConflicts, ResolvedRefs=False InvalidRouteKinds, Accepted=True Accepted, Programmed=True Programmed")]
    [TestCase("port: 80, protocol: HTTP", "port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}]}", "Conflicted=False NoConflicts, ResolvedRefs=False InvalidRouteKinds, Accepted=True Accepted, Programmed=False Invalid")]
    public void A_listener_has_the_conditions_of_the_specification(string first, string second, string expected)
    {
        var mesh = Yaml.Compile(
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: edge, namespace: shop}
            spec: {gatewayClassName: meshproxy, listeners: [{name: one, {{first}}}, {name: two, {{second}}}]}
            """);
        var conditions = mesh.Conditions[("Gateway", new("shop", "edge"))].Where(condition => condition.Parent == "listener two");
        Assert.That(string.Join(", ", conditions.Select(condition => $"{condition.Type}={condition.Status} {condition.Reason}")), Is.EqualTo(expected));
        Assert.That(mesh.Gateways[new("shop", "edge")].Any(listener => listener.Id == "shop/edge/two"), Is.EqualTo(expected.EndsWith("Programmed")));
    }

    [Test]
    public void Status_is_written_as_the_specification_has_it()
    {
        const string Text = Edge + Payments +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{name: edge, namespace: infra, sectionName: shop}, {name: edge, namespace: other}], rules: [{backendRefs: [{name: gone, port: 8080}]}]}
            """;
        var read = Yaml.Read(Text);
        var mesh = Yaml.Compile(Text);
        string Written(string kind, string name) => DocumentWriter.ToYaml(
            read.Documents.Single(document => (document.Kind, document.Name.Name) == (kind, name)),
            mesh.StatusOf(read.Documents.Single(document => (document.Kind, document.Name.Name) == (kind, name)), 7)).ReplaceLineEndings("\n");
        Assert.That(Written("HTTPRoute", "r"), Does.EndWith(
            """
            status:
              parents:
              - parentRef:
                  group: gateway.networking.k8s.io
                  kind: Gateway
                  namespace: infra
                  name: edge
                  sectionName: shop
                controllerName: meshproxy.io/gateway-controller
                conditions:
                - type: Accepted
                  status: "True"
                  reason: Accepted
                  message: ""
                  observedGeneration: 7
                - type: ResolvedRefs
                  status: "False"
                  reason: BackendNotFound
                  message: "spec.rules[0].backendRefs[0]: there is no Service shop/gone"
                  observedGeneration: 7
              - parentRef:
                  group: gateway.networking.k8s.io
                  kind: Gateway
                  namespace: other
                  name: edge
                controllerName: meshproxy.io/gateway-controller
                conditions:
                - type: Accepted
                  status: "False"
                  reason: NoMatchingParent
                  message: "spec.parentRefs[1]: there is no Gateway other/edge"
                  observedGeneration: 7

            """));
        Assert.That(Written("Gateway", "edge"), Does.Contain(
            """
              listeners:
              - name: shop
                supportedKinds:
                - group: gateway.networking.k8s.io
                  kind: HTTPRoute
                - group: gateway.networking.k8s.io
                  kind: GRPCRoute
                attachedRoutes: 1
                conditions:
                - type: Conflicted
                  status: "False"
                  reason: NoConflicts
            """));
    }

    [Test]
    public void A_mirror_that_does_not_resolve_is_dropped_and_told()
    {
        static CompiledMesh Mirror(string name) => Yaml.Compile(Payments.Replace("  - backendRefs", $"  - filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 8080}}, percent: 5}}}}]\n    backendRefs")
            .Replace(", {name: payments-v2, port: 8080, weight: 20}", ""));
        var good = Mirror("payments-v2");
        Assert.That(good.Destinations[PaymentsName].Ports.Single().HttpRoutes.Single().Rules.Single().Filters.Single(), Is.EqualTo(new MirrorConfig(Cluster("shop/payments-v2:8080"), 5, 100)));
        Assert.That(good.Destinations[PaymentsName].Ports.Single().BackendClusters.Select(cluster => cluster.Id), Does.Contain(Cluster("shop/payments-v2:8080")));
        Assert.That(Condition(good, "HTTPRoute", "split", "ResolvedRefs"), Is.EqualTo((true, "ResolvedRefs")));
        var bad = Mirror("gone");
        Assert.That(bad.Destinations[PaymentsName].Ports.Single().HttpRoutes.Single().Rules.Single().Filters, Is.Empty);
        Assert.That(Condition(bad, "HTTPRoute", "split", "Accepted"), Is.EqualTo((true, "Accepted")));
        Assert.That(Condition(bad, "HTTPRoute", "split", "ResolvedRefs"), Is.EqualTo((false, "BackendNotFound")));
    }

    [Test]
    public void An_unresolved_backend_keeps_its_share()
    {
        var mesh = Yaml.Compile(Payments.Replace("{name: payments-v2, port: 8080, weight: 20}", "{name: gone, port: 8080, weight: 20}"));
        var backend = mesh.Destinations[PaymentsName].Ports.Single().HttpRoutes.Single().Rules.Single().Backends[1];
        Assert.That(backend, Has.Property("Cluster").Null.And.Property("Weight").EqualTo(20));
        Assert.That(backend.Invalid, Does.Contain("there is no Service shop/gone"));
    }

    [TestCase("", false)]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}|{group: \"\", kind: Service}", true)]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}|{group: \"\", kind: Service, name: ledger}", true)]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}|{group: \"\", kind: Service, name: other}", false)]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}|{group: \"\", kind: Service}", false)]
    [TestCase("{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: shop}|{group: \"\", kind: Service}", false)]
    [TestCase("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}|{group: \"\", kind: Secret}", false)]
    public void Another_namespace_needs_a_grant(string grant, bool isPermitted)
    {
        var parts = grant.Split('|');
        var document = grant.Length == 0 ? "" :
            $$"""
            ---
            apiVersion: gateway.networking.k8s.io/v1beta1
            kind: ReferenceGrant
            metadata: {name: g, namespace: bank}
            spec: {from: [{{parts[0]}}], to: [{{parts[1]}}]}
            """;
        var mesh = Yaml.Compile(
            Payments.Replace("{name: payments-v2, port: 8080, weight: 20}", "{name: ledger, namespace: bank, port: 80}") +
            """
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: ledger, namespace: bank}
            spec: {ports: [{port: 80}]}

            """ + document);
        Assert.That(Condition(mesh, "HTTPRoute", "split", "ResolvedRefs"), Is.EqualTo((isPermitted, isPermitted ? "ResolvedRefs" : "RefNotPermitted")));
    }

    [Test]
    public void A_route_that_cannot_be_followed_whole_refuses_its_destination()
    {
        var mesh = Yaml.Compile(Payments.Replace("  - backendRefs", "  - filters: [{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]\n    backendRefs"));
        Assert.That(Condition(mesh, "HTTPRoute", "split", "Accepted"), Is.EqualTo((false, "UnsupportedValue")));
        Assert.That(mesh.Destinations[PaymentsName].Refused, Does.Contain("HTTPRoute shop/split").And.Contain("spec.rules[0].filters[0]"));
        Assert.That(mesh.Destinations[new("shop", "payments-v1")].Refused, Is.Null);
    }

    [TestCase("AuthorizationPolicy", "meshproxy.io/v1alpha1", true)]
    [TestCase("RateLimitPolicy", "meshproxy.io/v1alpha1", true)]
    [TestCase("BackendTrafficPolicy", "meshproxy.io/v1alpha1", false)]
    public void A_policy_that_cannot_be_enforced_never_looks_applied(string kind, string version, bool closesInbound)
    {
        var policy =
            $$"""
            ---
            apiVersion: {{version}}
            kind: {{kind}}
            metadata: {name: p, namespace: shop}
            spec: {targetRefs: [{group: "", kind: Service, name: payments-v1}], whatever: {it: says} }
            """;
        var mesh = Yaml.Compile(Payments + policy, Live("shop/p1", "payments", 1, "v1"));
        Assert.Multiple(() =>
        {
            Assert.That(Condition(mesh, kind, "p", "Accepted"), Is.EqualTo((false, "UnsupportedValue")));
            Assert.That(mesh.Destinations[new("shop", "payments-v1")].Refused, Does.Contain($"{kind} shop/p"));
            Assert.That(mesh.Destinations[new("shop", "payments-v1")].Ports, closesInbound ? Is.Empty : Is.Not.Empty, "without ports no earlier state is served either");
            Assert.That(mesh.Destinations[PaymentsName].Refused, Is.Null);
            var share = mesh.Destinations[PaymentsName].Ports.Single().HttpRoutes.Single().Rules.Single().Backends[0];
            Assert.That(share.Cluster, Is.Null);
            Assert.That(share.Invalid, Does.Contain($"{kind} shop/p"));
            Assert.That(mesh.Inbounds[new("shop", "p1")].Ports.Any(port => port.Service == Cluster("shop/payments-v1:8080")), Is.EqualTo(!closesInbound));
            Assert.That(mesh.Inbounds[new("shop", "p1")].Ports.Any(port => port.Service == Cluster("shop/payments:8080")), Is.True);
        });
    }

    [Test]
    public void A_policy_with_no_target_means_its_namespace()
    {
        var mesh = Yaml.Compile(Payments + "---\napiVersion: meshproxy.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n");
        Assert.That(mesh.Destinations.Values.Select(destination => destination.Refused), Has.All.Contains("AuthorizationPolicy shop/p"));
    }

    [Test]
    public void A_policy_on_a_gateway_or_route_answers_500_there()
    {
        foreach (var target in new[] { "{group: gateway.networking.k8s.io, kind: Gateway, name: edge}", "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}" })
        {
            var mesh = Yaml.Compile(
                $$"""
                {{Edge.Replace("infra", "shop")}}{{Payments}}---
                apiVersion: gateway.networking.k8s.io/v1
                kind: HTTPRoute
                metadata: {name: r, namespace: shop}
                spec: {parentRefs: [{name: edge, sectionName: shop}], rules: [{matches: [{path: {value: /pay} }], backendRefs: [{name: payments, port: 8080}]}]}
                ---
                apiVersion: meshproxy.io/v1alpha1
                kind: RateLimitPolicy
                metadata: {name: p, namespace: shop}
                spec: {targetRefs: [{{target}}]}
                """);
            var rule = mesh.Gateways[new("shop", "edge")][0].HttpRoutes.Single().Rules.Single();
            Assert.That(rule.Matches.Single().Path!.Value, Is.EqualTo("/pay"));
            Assert.That(rule.Backends.Single(), Has.Property("Cluster").Null.And.Property("Invalid").Contains("RateLimitPolicy shop/p"));
        }
    }

    [Test]
    public void Tcp_routes_take_opaque_ports_and_the_older_wins()
    {
        const string Routes =
            """
            apiVersion: v1
            kind: Service
            metadata: {name: db, namespace: shop}
            spec: {ports: [{port: 5432, appProtocol: tcp}]}
            ---
            apiVersion: gateway.networking.k8s.io/v1alpha2
            kind: TCPRoute
            metadata: {name: a, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
            spec: {parentRefs: [{name: edge, namespace: infra}, {group: "", kind: Service, name: db}], rules: [{backendRefs: [{name: db, port: 5432, weight: 1}]}]}
            ---
            apiVersion: gateway.networking.k8s.io/v1alpha2
            kind: TCPRoute
            metadata: {name: b, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
            spec: {parentRefs: [{name: edge, namespace: infra}], rules: [{backendRefs: [{name: db, port: 5432, weight: 2}]}]}
            """;
        var mesh = Yaml.Compile(Edge + Routes);
        Assert.Multiple(() =>
        {
            Assert.That(mesh.Gateways[new("infra", "edge")].Single(listener => listener.Port == 5432).TcpBackends.Single().Weight, Is.EqualTo(2));
            Assert.That(mesh.Destinations[new("shop", "db")].Ports.Single().TcpBackends.Single().Weight, Is.EqualTo(1));
            Assert.That(Condition(mesh, "TCPRoute", "a", "Accepted"), Is.EqualTo((false, "Conflicted")));
            Assert.That(Condition(mesh, "TCPRoute", "b", "Accepted"), Is.EqualTo((true, "Accepted")));
        });
    }

    [Test]
    public void Routes_stand_oldest_first_then_by_name()
    {
        static string Route(string name, string created) =>
            $"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop{created}}}\nspec: {{parentRefs: [{{name: edge, namespace: infra, sectionName: shop}}], rules: [{{backendRefs: [{{name: payments, port: 8080}}]}}]}}\n";
        var mesh = Yaml.Compile(Edge + Payments + Route("c", ", creationTimestamp: \"2026-01-01T00:00:00Z\"") + Route("b", ", creationTimestamp: \"2026-01-02T00:00:00Z\"") + Route("a", ", creationTimestamp: \"2026-01-02T00:00:00Z\""));
        Assert.That(mesh.Gateways[new("infra", "edge")][0].HttpRoutes.Select(route => route.Id), Is.EqualTo(new[] { "shop/c", "shop/a", "shop/b" }));
        Assert.That(mesh.Gateways[new("infra", "edge")][0].HttpRoutes[0].Hostnames, Is.EqualTo(new[] { "*.example.com" }));
    }

    [Test]
    public void Two_documents_of_one_name_are_an_error_that_names_both()
    {
        var error = Yaml.Compile(Payments + "---\n" + Payments).Errors.First();
        Assert.That(error.Message, Does.Contain("already in test.yaml:1"));
        Assert.That(error.Field, Is.EqualTo("metadata.name"));
        Assert.That(error.Line, Is.GreaterThan(20));
    }

    [Test]
    public void Gateways_of_other_classes_are_not_ours()
    {
        var mesh = Yaml.Compile(Edge.Replace("gatewayClassName: meshproxy", "gatewayClassName: other"));
        Assert.That(mesh.Gateways, Is.Empty);
        Assert.That(Condition(mesh, "Gateway", "edge", "Accepted", "infra"), Is.EqualTo((false, "NoMatchingClass")));
        var named = Yaml.Compile(Edge.Replace("gatewayClassName: meshproxy", "gatewayClassName: other") + "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: other}\nspec: {controllerName: meshproxy.io/gateway-controller}\n");
        Assert.That(named.Gateways, Has.Count.EqualTo(1));
    }

    [Test]
    public void A_listener_without_its_certificate_is_not_served()
    {
        var mesh = Yaml.Compile(Edge.Replace("port: 81, protocol: HTTP", "port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}"));
        Assert.That(mesh.Gateways[new("infra", "edge")].Select(listener => listener.Port), Is.EqualTo(new[] { 80, 5432 }));
        Assert.That(mesh.Conditions[("Gateway", new("infra", "edge"))].Select(condition => $"{condition.Parent} {condition.Type} {condition.Reason}"), Does.Contain("listener own ResolvedRefs InvalidCertificateRef").And.Contain(" Programmed Invalid").And.Contain(" Accepted ListenersNotValid"));
    }

    [Test]
    public void File_configuration_is_whole_or_nothing()
    {
        var good = Edge.Replace("infra", "shop") + Payments;
        var (config, errors) = FileConfiguration.Compile([new DocumentSource("a.yaml", good)], "7", out _);
        Assert.That(errors, Is.Empty);
        Assert.That(config!.Revision, Is.EqualTo("7"));
        Assert.That(config.Listeners.Select(listener => listener.Id), Is.EqualTo(new[] { "shop/edge/shop", "shop/edge/own", "shop/edge/db" }));
        Assert.That(config.Destinations, Has.Count.EqualTo(3));

        var bad = FileConfiguration.Compile([new DocumentSource("a.yaml", good), new DocumentSource("b.yaml", "apiVersion: meshproxy.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n")], "8", out _);
        Assert.That(bad.Config, Is.Null);
        Assert.That(bad.Errors.Single(), Has.Property("Source").EqualTo("b.yaml").And.Property("Line").EqualTo(1).And.Property("Message").Contains("not implemented"));

        var twice = FileConfiguration.Compile([new DocumentSource("a.yaml", good + "---\n" + Edge)], "9", out _);
        Assert.That(twice.Config, Is.Null);
        Assert.That(twice.Errors.Select(error => error.Message), Has.Some.Contains("both want port 80"));
    }

    [Test]
    public void File_configuration_warns_of_backends_that_do_not_exist_with_their_line()
    {
        var (config, errors) = FileConfiguration.Compile([new DocumentSource("a.yaml", Payments.Replace("name: payments-v2, port: 8080, weight", "name: gone, port: 8080, weight"))], "1", out var warnings);
        Assert.That(errors, Is.Empty);
        Assert.That(config, Is.Not.Null);
        Assert.That(warnings.Single(), Has.Property("Line").EqualTo(22).And.Property("Field").EqualTo("spec.rules[0].backendRefs[1]").And.Property("Message").Contains("there is no Service shop/gone"));
    }

    [Test]
    public void A_thousand_services_compile_deterministically()
    {
        var text = string.Join("---\n", Enumerable.Range(0, 1000).Select(i => Payments.Replace("payments", $"s{i}").Replace("split", $"r{i}")));
        var read = Yaml.Read(text);
        LiveWorkload[] workloads = [.. Enumerable.Range(0, 1000).Select(i => Live($"shop/w{i}", $"s{i}", 1 + (i % 200), "v1") with { Labels = new Dictionary<string, string> { ["app"] = $"s{i}", ["version"] = "v1" } })];
        var one = MeshCompiler.Compile(new MeshInput(read.Documents, [.. workloads], Yaml.Domain));
        var two = MeshCompiler.Compile(new MeshInput([.. read.Documents.Reverse()], [.. workloads.Reverse()], Yaml.Domain));
        Assert.That(one.Destinations, Has.Count.EqualTo(3000));
        foreach (var (name, destination) in one.Destinations)
        {
            Assert.That(MeshProxy.Api.Mapping.ConfigMapping.ToProto(two.Destinations[name]), Is.EqualTo(MeshProxy.Api.Mapping.ConfigMapping.ToProto(destination)));
        }

        Assert.That(two.Addresses, Is.EquivalentTo(one.Addresses));
    }

    private static LiveWorkload Live(string name, string account, int host, string version)
    {
        Assert.That(ResourceName.TryParse(name, out var parsed), Is.True);
        return new LiveWorkload(
            parsed,
            new SpiffeId(Yaml.Domain, parsed.Namespace, account),
            $"10.0.0.{host}",
            15006,
            new Dictionary<string, string> { ["app"] = "payments", ["version"] = version },
            [("grpc", 9090)],
            "",
            1,
            Ready: true,
            Draining: false);
    }

    private static ClusterId Cluster(string text) => ClusterId.TryParse(text, out var id) ? id : throw new ArgumentException(text);

    private static IEnumerable<string> Endpoints(CompiledMesh mesh, string cluster) =>
        mesh.Endpoints[Cluster(cluster)].Endpoints.Select(endpoint => $"{endpoint.Id} {endpoint.Address}:{endpoint.Port} via {endpoint.InboundPort}");

    private static (bool Status, string Reason) Condition(CompiledMesh mesh, string kind, string name, string type, string ns = "shop")
    {
        var condition = mesh.Conditions[(kind, new ResourceName(ns, name))].First(condition => condition.Type == type);
        return (condition.Status, condition.Reason);
    }
}
