using System.Collections.Immutable;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Tests.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.Api.Tests.Compilation;

/// <summary>TLSRoutes on Gateways and Services, and what their conditions say.</summary>
public class TlsRouteTests
{
    private const string Base =
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: infra}
        spec:
          gatewayClassName: meshproxy
          listeners:
          - {name: through, port: 443, protocol: TLS, hostname: "*.example.com", tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}}}
          - {name: any, port: 8443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: TLSRoute}]}}
          - {name: own, port: 9443, protocol: TLS, tls: {mode: Passthrough}}
          - {name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
          - {name: tcp, port: 81, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: db, namespace: shop}
        spec: {ports: [{name: tls, port: 443, appProtocol: tls}, {name: web, port: 80, appProtocol: http}, {name: raw, port: 90, appProtocol: tcp}]}

        """;

    private static readonly ResourceName Edge = new("infra", "edge");

    [TestCase("{name: edge, namespace: infra, sectionName: through}", "[pay.example.com]", "{name: db, port: 443}", "Accepted", "ResolvedRefs", "through pay.example.com")]
    [TestCase("{name: edge, namespace: infra, sectionName: through}", "[pay.example.com, pay.example.org, '*.com']", "{name: db, port: 443}", "Accepted", "ResolvedRefs", "through pay.example.com,*.example.com")]
    [TestCase("{name: edge, namespace: infra, port: 8443}", "['*.example.org']", "{name: db, port: 443}", "Accepted", "ResolvedRefs", "any *.example.org")]
    [TestCase("{name: edge, namespace: infra}", "[pay.example.com]", "{name: db, port: 443}", "Accepted", "ResolvedRefs", "through pay.example.com|any pay.example.com")]
    [TestCase("{name: edge, namespace: infra, sectionName: through}", "[pay.example.org, example.com]", "{name: db, port: 443}", "NoMatchingListenerHostname", null, "")]
    [TestCase("{name: edge, namespace: infra, sectionName: own}", "[pay.example.com]", "{name: db, port: 443}", "NotAllowedByListeners", null, "")]
    [TestCase("{name: edge, namespace: infra, sectionName: web}", "[pay.example.com]", "{name: db, port: 443}", "UnsupportedValue", null, "")]
    [TestCase("{name: edge, namespace: infra, sectionName: tcp}", "[pay.example.com]", "{name: db, port: 443}", "UnsupportedValue", null, "")]
    [TestCase("{name: edge, namespace: infra, sectionName: none}", "[pay.example.com]", "{name: db, port: 443}", "NoMatchingParent", null, "")]
    [TestCase("{name: edge, namespace: infra, sectionName: any}", "[a.b]", "{name: gone, port: 443}", "Accepted", "BackendNotFound", "any a.b")]
    [TestCase("{name: edge, namespace: infra, sectionName: any}", "[a.b]", "{name: other, namespace: bank, port: 443}", "Accepted", "RefNotPermitted", "any a.b")]
    [TestCase("{name: edge, namespace: infra, sectionName: any}", "[a.b]", "{group: x.io, kind: Thing, name: db}", "Accepted", "InvalidKind", "any a.b")]
    public void Conditions_and_server_names_on_a_gateway(string parent, string hostnames, string backend, string accepted, string? resolved, string attached)
    {
        var mesh = Yaml.Compile(Base + Route("r", parent, hostnames, backend));
        Assert.That(Condition(mesh, "r", "Accepted"), Is.EqualTo((accepted == "Accepted", accepted)));
        if (resolved is not null)
        {
            Assert.That(Condition(mesh, "r", "ResolvedRefs"), Is.EqualTo((resolved == "ResolvedRefs", resolved)));
        }

        Assert.That(
            string.Join('|', mesh.Gateways[Edge].SelectMany(listener => listener.TlsRoutes.Select(route => $"{listener.Id.Split('/')[2]} {string.Join(',', route.Hostnames)}"))),
            Is.EqualTo(attached));
        foreach (var listener in mesh.Gateways[Edge].Where(listener => !listener.TlsRoutes.IsEmpty))
        {
            Assert.That(listener.Protocol, Is.EqualTo(ListenerProtocol.TlsPassthrough));
            Assert.That(listener.TlsRoutes.Single().Backends.Single().Invalid is null, Is.EqualTo(resolved == "ResolvedRefs"));
            Assert.That(listener.BackendClusters.Length, Is.EqualTo(resolved == "ResolvedRefs" ? 1 : 0));
        }
    }

    [Test]
    public void A_grant_lets_a_route_refer_to_another_namespace()
    {
        var mesh = Yaml.Compile(Base +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1beta1
            kind: ReferenceGrant
            metadata: {name: g, namespace: bank}
            spec: {from: [{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: shop}], to: [{group: "", kind: Service}]}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: ledger, namespace: bank}
            spec: {ports: [{port: 443, appProtocol: tls}]}

            """ + Route("r", "{name: edge, namespace: infra, sectionName: any}", "[a.b]", "{name: ledger, namespace: bank, port: 443}"));
        Assert.That(Condition(mesh, "r", "ResolvedRefs"), Is.EqualTo((true, "ResolvedRefs")));
    }

    [Test]
    public void The_older_route_keeps_the_names_that_two_want()
    {
        var mesh = Yaml.Compile(Base
            + Route("young", "{name: edge, namespace: infra, sectionName: any}", "[a.b, c.d]", "{name: db, port: 443}", "2026-01-03")
            + Route("old", "{name: edge, namespace: infra, sectionName: any}", "[a.b]", "{name: db, port: 443}", "2026-01-01")
            + Route("late", "{name: edge, namespace: infra, sectionName: any}", "[c.d, a.b]", "{name: db, port: 443}", "2026-01-04"));
        var routes = mesh.Gateways[Edge].Single(listener => listener.Port == 8443).TlsRoutes;
        Assert.Multiple(() =>
        {
            Assert.That(routes.Select(route => $"{route.Id} {string.Join(',', route.Hostnames)}"), Is.EqualTo(new[] { "shop/old a.b", "shop/young c.d" }));
            Assert.That(Condition(mesh, "old", "Accepted"), Is.EqualTo((true, "Accepted")));
            Assert.That(Condition(mesh, "young", "Accepted"), Is.EqualTo((true, "Accepted")));
            Assert.That(Condition(mesh, "late", "Accepted"), Is.EqualTo((false, "Conflicted")));
        });
    }

    [Test]
    public void Two_parentRefs_to_one_listener_are_one_attachment()
    {
        var mesh = Yaml.Compile(Base + Route("r", "{name: edge, namespace: infra, sectionName: any}, {name: edge, namespace: infra, port: 8443}", "[a.b]", "{name: db, port: 443}"));
        Assert.That(mesh.Conditions[("TLSRoute", new("shop", "r"))].All(condition => condition.Status), Is.True);
        Assert.That(mesh.Gateways[Edge].Single(listener => listener.Port == 8443).TlsRoutes, Has.Length.EqualTo(1));
    }

    [TestCase("tls", "Accepted")]
    [TestCase("web", "NotAllowedByListeners")]
    [TestCase("raw", "NotAllowedByListeners")]
    public void On_a_service_it_needs_a_port_that_is_declared_to_speak_TLS(string section, string accepted)
    {
        var mesh = Yaml.Compile(Base + Route("r", $"{{group: \"\", kind: Service, name: db, sectionName: {section}}}", "[a.b]", "{name: db, port: 443}"));
        Assert.That(Condition(mesh, "r", "Accepted"), Is.EqualTo((accepted == "Accepted", accepted)));
        var ports = mesh.Destinations[new("shop", "db")].Ports;
        Assert.That(ports.SelectMany(port => port.TlsRoutes).SelectMany(route => route.Hostnames), Is.EqualTo(accepted == "Accepted" ? new[] { "a.b" } : []));
        Assert.That(ports.SelectMany(port => port.TcpBackends), Is.Empty);
    }

    [TestCase("protocol: HTTPS, hostname: a.b, tls: {certificateRefs: [{name: c}]}", "protocol: TLS, hostname: c.d, tls: {mode: Passthrough}", null)]
    [TestCase("protocol: TLS, tls: {certificateRefs: [{name: c}]}", "protocol: TLS, hostname: c.d, tls: {mode: Passthrough}", null)]
    [TestCase("protocol: TLS, hostname: c.d, tls: {certificateRefs: [{name: c}]}", "protocol: TLS, hostname: c.d, tls: {mode: Passthrough}", "HostnameConflict")]
    [TestCase("protocol: HTTP", "protocol: TLS, hostname: c.d, tls: {mode: Passthrough}", "ProtocolConflict")]
    [TestCase("protocol: TCP", "protocol: TLS, tls: {mode: Passthrough}", "ProtocolConflict")]
    public void Listeners_share_a_port_when_the_server_name_tells_them_apart(string first, string second, string? conflict)
    {
        using var ca = new TestCa();
        var pem = ca.ToPem(ca.IssueServer("c.d"));
        var key = pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal);
        var mesh = Yaml.Compile(
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: edge, namespace: infra}
            spec: {gatewayClassName: meshproxy, listeners: [{name: one, port: 443, {{first}}}, {name: two, port: 443, {{second}}}]}
            ---
            apiVersion: v1
            kind: Secret
            metadata: {name: c, namespace: infra}
            type: kubernetes.io/tls
            data: {tls.crt: {{Encode(pem[..key])}}, tls.key: {{Encode(pem[key..])}}}
            """);
        static string Encode(string text) => Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(text));
        var told = mesh.Conditions[("Gateway", Edge)].Where(condition => condition.Parent == "listener two" && condition.Type == "Accepted").Select(condition => (condition.Status, condition.Reason));
        Assert.That(told, Is.EqualTo(new[] { (conflict is null, conflict ?? "Accepted") }));
    }

    [TestCase("v1alpha2", "rules: [{backendRefs: [{name: a, port: 1}]}]", null)]
    [TestCase("v1alpha3", "rules: [{backendRefs: [{name: a, port: 1}]}]", "spec.hostnames")]
    [TestCase("v1", "rules: [{backendRefs: [{name: a, port: 1}]}]", "spec.hostnames")]
    [TestCase("v1", "hostnames: [10.0.0.1], rules: [{backendRefs: [{name: a, port: 1}]}]", "spec.hostnames[0]")]
    [TestCase("v1", "hostnames: ['a.*.b'], rules: [{backendRefs: [{name: a, port: 1}]}]", "spec.hostnames[0]")]
    [TestCase("v1", "hostnames: [a.b]", "spec.rules")]
    [TestCase("v1", "hostnames: [a.b], rules: [{filters: [], backendRefs: []}]", "spec.rules[0].filters")]
    public void A_bad_route_is_told_by_field(string version, string spec, string? field)
    {
        var read = Yaml.Read($"apiVersion: gateway.networking.k8s.io/{version}\nkind: TLSRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: [{{name: e}}], {spec}}}\n");
        Assert.That(read.Errors.Select(error => error.Field), Is.EqualTo(field is null ? [] : new[] { field }));
    }

    private static string Route(string name, string parents, string hostnames, string backend, string? created = null) =>
        $$"""
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: TLSRoute
        metadata: {name: {{name}}, namespace: shop{{(created is null ? "" : $", creationTimestamp: \"{created}T00:00:00Z\"")}}}
        spec: {parentRefs: [{{parents}}], hostnames: {{hostnames}}, rules: [{backendRefs: [{{backend}}]}]}

        """;

    private static (bool, string) Condition(CompiledMesh mesh, string name, string type) =>
        mesh.Conditions[("TLSRoute", new ResourceName("shop", name))].Where(condition => condition.Type == type).Select(condition => (condition.Status, condition.Reason)).First();
}
