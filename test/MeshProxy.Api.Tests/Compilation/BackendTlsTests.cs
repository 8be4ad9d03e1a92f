using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Tests.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.Api.Tests.Compilation;

/// <summary>BackendTLSPolicies: what they are about, whom they believe, what their conditions say; and that nothing they are about is left in plaintext.</summary>
public sealed class BackendTlsTests : IDisposable
{
    private readonly TestCa _ca = new();
    private readonly TestCa _second = new();
    private readonly string _base;

    public BackendTlsTests() => _base =
        $$"""
        apiVersion: v1
        kind: Service
        metadata: {name: ledger, namespace: shop}
        spec: {ports: [{name: web, port: 443, appProtocol: https}, {name: raw, port: 5432, appProtocol: tcp}]}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: ca, namespace: shop}
        data:
          ca.crt: |
            a comment that does not travel
        {{Indent(_ca.RootPem)}}
        ---
        apiVersion: v1
        kind: Secret
        metadata: {name: ca-secret, namespace: shop}
        stringData:
          ca.crt: |
        {{Indent(_second.RootPem)}}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: empty, namespace: shop}
        data: {other: "1", ca.crt: "no certificate"}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: without, namespace: shop}
        data: {other: "1"}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: broken, namespace: shop}
        data: {ca.crt: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}

        """;

    public void Dispose()
    {
        _ca.Dispose();
        _second.Dispose();
    }

    [TestCase("{kind: ConfigMap, name: ca}", "Accepted", "ResolvedRefs", true)]
    [TestCase("{group: \"\", kind: Secret, name: ca-secret}", "Accepted", "ResolvedRefs", true)]
    [TestCase("{kind: ConfigMap, name: ca}, {kind: Secret, name: ca-secret}", "Accepted", "ResolvedRefs", true)]
    [TestCase("{kind: ConfigMap, name: ca}, {kind: ConfigMap, name: gone}", "Accepted", "InvalidCACertificateRef", true)]
    [TestCase("{kind: ConfigMap, name: gone}", "NoValidCACertificate", "InvalidCACertificateRef", false)]
    [TestCase("{kind: Secret, name: gone}", "NoValidCACertificate", "InvalidCACertificateRef", false)]
    [TestCase("{kind: ConfigMap, name: without}", "NoValidCACertificate", "InvalidCACertificateRef", false)]
    [TestCase("{kind: ConfigMap, name: empty}", "NoValidCACertificate", "InvalidCACertificateRef", false)]
    [TestCase("{kind: ConfigMap, name: broken}", "NoValidCACertificate", "InvalidCACertificateRef", false)]
    [TestCase("{kind: Service, name: ca}", "NoValidCACertificate", "InvalidKind", false)]
    [TestCase("{group: x.io, kind: ConfigMap, name: ca}", "NoValidCACertificate", "InvalidKind", false)]
    public void Conditions_say_what_became_of_its_authorities(string references, string accepted, string resolved, bool isInForce)
    {
        var mesh = Yaml.Compile(_base + Policy("p", "{kind: Service, name: ledger}", $"caCertificateRefs: [{references}]"));
        var tls = Tls(mesh, 443)!;
        Assert.Multiple(() =>
        {
            Assert.That(Condition(mesh, "p", "Accepted"), Is.EqualTo((accepted == "Accepted", accepted)));
            Assert.That(Condition(mesh, "p", "ResolvedRefs"), Is.EqualTo((resolved == "ResolvedRefs", resolved)));
            Assert.That(tls.Invalid is null, Is.EqualTo(isInForce));
            Assert.That(tls.AuthoritiesPem.Length > 0, Is.EqualTo(isInForce));
            Assert.That(tls.AuthoritiesPem, Does.Not.Contain("comment"));
            Assert.That(mesh.Destinations[new("shop", "ledger")].Refused, Is.Null, "in force, so that no earlier plaintext state is");
        });
    }

    [Test]
    public void The_whole_of_it_reaches_every_cluster_that_names_the_service()
    {
        var mesh = Yaml.Compile(_base + Policy(
            "p", "{group: \"\", kind: Service, name: ledger}",
            "wellKnownCACertificates: System\n    subjectAltNames: [{type: Hostname, hostname: '*.example.com'}, {type: URI, uri: 'spiffe://example.com/ledger'}]") +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: edge, namespace: shop}
            spec: {gatewayClassName: meshproxy, listeners: [{name: http, port: 80, protocol: HTTP}]}
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{name: edge}, {group: "", kind: Service, name: ledger, port: 443}], rules: [{backendRefs: [{name: ledger, port: 443}]}]}
            """);
        var expected = new UpstreamTlsConfig { Policy = new("shop", "p"), ServerName = "ledger.example.com", Hostnames = ["*.example.com"], Uris = ["spiffe://example.com/ledger"] };
        Assert.Multiple(() =>
        {
            Assert.That(Tls(mesh, 443), Is.EqualTo(expected));
            Assert.That(Tls(mesh, 5432), Is.EqualTo(expected));
            Assert.That(mesh.Gateways[new("shop", "edge")].Single().BackendClusters.Single().Tls, Is.EqualTo(expected));
            Assert.That(mesh.Conditions[("HTTPRoute", new("shop", "r"))].All(condition => condition.Status), Is.True, "with a policy https takes requests");
        });
    }

    [Test]
    public void Without_a_policy_https_takes_no_requests()
    {
        var mesh = Yaml.Compile(_base +
            """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec: {parentRefs: [{group: "", kind: Service, name: ledger, port: 443}], rules: [{backendRefs: [{name: ledger, port: 443}]}]}
            """);
        Assert.That(mesh.Conditions[("HTTPRoute", new("shop", "r"))].Single().Reason, Is.EqualTo("NotAllowedByListeners"));
        Assert.That(Tls(mesh, 443), Is.Null);
    }

    [Test]
    public void A_port_goes_before_its_service_and_the_older_before_the_younger()
    {
        var mesh = Yaml.Compile(_base
            + Policy("whole", "{kind: Service, name: ledger}", "wellKnownCACertificates: System", "2026-01-02")
            + Policy("port", "{kind: Service, name: ledger, sectionName: web}", "wellKnownCACertificates: System", "2026-01-03")
            + Policy("late", "{kind: Service, name: ledger}", "wellKnownCACertificates: System", "2026-01-04")
            + Policy("a-late", "{kind: Service, name: ledger, sectionName: web}", "wellKnownCACertificates: System", "2026-01-04"));
        Assert.Multiple(() =>
        {
            Assert.That(Tls(mesh, 443)!.Policy.Name, Is.EqualTo("port"));
            Assert.That(Tls(mesh, 5432)!.Policy.Name, Is.EqualTo("whole"));
            Assert.That(Condition(mesh, "whole", "Accepted"), Is.EqualTo((true, "Accepted")));
            Assert.That(Condition(mesh, "port", "Accepted"), Is.EqualTo((true, "Accepted")));
            Assert.That(Condition(mesh, "late", "Accepted"), Is.EqualTo((false, "Conflicted")));
            Assert.That(Condition(mesh, "a-late", "Accepted"), Is.EqualTo((false, "Conflicted")));
        });
    }

    [TestCase("{kind: Service, name: gone}", "TargetNotFound")]
    [TestCase("{kind: Service, name: ledger, sectionName: gone}", "TargetNotFound")]
    [TestCase("{group: x.io, kind: Service, name: ledger}", "Invalid")]
    [TestCase("{group: gateway.networking.k8s.io, kind: Gateway, name: ledger}", "Invalid")]
    public void A_target_that_is_none_is_told(string target, string reason)
    {
        var mesh = Yaml.Compile(_base + Policy("p", target, "wellKnownCACertificates: System"));
        Assert.That(Condition(mesh, "p", "Accepted"), Is.EqualTo((false, reason)));
        Assert.That(Tls(mesh, 443), Is.Null);
    }

    [Test]
    public void Options_that_are_not_implemented_forbid_what_they_are_about()
    {
        var mesh = Yaml.Compile(_base + Policy("p", "{kind: Service, name: ledger}", "wellKnownCACertificates: System").Replace("  validation:", "  options: {example.com/min: '1.3'}\n  validation:"));
        Assert.That(Condition(mesh, "p", "Accepted"), Is.EqualTo((false, "UnsupportedValue")));
        Assert.That(Tls(mesh, 443)!.Invalid, Does.Contain("BackendTLSPolicy shop/p").And.Contain("spec.options"));
    }

    [TestCase("targetRefs: []", "spec.targetRefs", null)]
    [TestCase(null, "spec.targetRefs", "{kind: Service, name: a}, {kind: Service, name: a}")]
    [TestCase(null, "spec.targetRefs", "{kind: Service, name: a, sectionName: x}, {kind: Service, name: a, sectionName: x}")]
    [TestCase("validation: {hostname: a.b}", "spec.validation.caCertificateRefs", null)]
    [TestCase("validation: {hostname: a.b, wellKnownCACertificates: Mine}", "spec.validation.wellKnownCACertificates", null)]
    [TestCase("validation: {hostname: a.b, wellKnownCACertificates: System, caCertificateRefs: [{kind: ConfigMap, name: c}]}", "spec.validation.wellKnownCACertificates", null)]
    [TestCase("validation: {hostname: '*.b', wellKnownCACertificates: System}", "spec.validation.hostname", null)]
    [TestCase("validation: {hostname: 10.0.0.1, wellKnownCACertificates: System}", "spec.validation.hostname", null)]
    [TestCase("validation: {wellKnownCACertificates: System}", "spec.validation.hostname", null)]
    [TestCase("validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{}]}", "spec.validation.subjectAltNames[0].type", null)]
    [TestCase("validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: ledger}]}", "spec.validation.subjectAltNames[0].uri", null)]
    [TestCase("validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, uri: 'a:b', hostname: a}]}", "spec.validation.subjectAltNames[0].uri", null)]
    public void A_bad_policy_is_told_by_field(string? spec, string field, string? targets)
    {
        var lines = new List<string> { "apiVersion: gateway.networking.k8s.io/v1alpha3", "kind: BackendTLSPolicy", "metadata: {name: p}", "spec:" };
        lines.Add(spec?.StartsWith("targetRefs", StringComparison.Ordinal) == true ? "  # no targets" : $"  targetRefs: [{targets ?? "{kind: Service, name: a}"}]");
        lines.Add(spec?.StartsWith("validation", StringComparison.Ordinal) == true ? "  " + spec : "  validation: {hostname: a.b, wellKnownCACertificates: System}");
        Assert.That(Yaml.Read(string.Join('\n', lines) + "\n").Errors.Select(error => error.Field), Is.EqualTo(new[] { field }));
    }

    [Test]
    public void Files_with_authorities_that_are_not_there_are_an_error_with_its_line()
    {
        var (config, errors) = FileConfiguration.Compile([new DocumentSource("a.yaml", _base + Policy("p", "{kind: Service, name: ledger}", "caCertificateRefs: [{kind: ConfigMap, name: gone}]"))], "1", out _);
        Assert.That(config, Is.Null);
        Assert.That(errors.Select(error => error.Field), Has.All.EqualTo("spec.validation.caCertificateRefs[0]"));
        Assert.That(errors[0].Message, Does.Contain("there is no ConfigMap shop/gone"));
    }

    private static string Policy(string name, string target, string validation, string? created = null) =>
        $$"""
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: BackendTLSPolicy
        metadata: {name: {{name}}, namespace: shop{{(created is null ? "" : $", creationTimestamp: \"{created}T00:00:00Z\"")}}}
        spec:
          targetRefs: [{{target}}]
          validation:
            hostname: ledger.example.com
            {{validation}}

        """;

    private static string Indent(string text) => string.Join('\n', text.TrimEnd().Split('\n').Select(line => "    " + line));

    private static UpstreamTlsConfig? Tls(CompiledMesh mesh, int port) => mesh.Destinations[new("shop", "ledger")].Ports.Single(candidate => candidate.Cluster.Id.Port == port).Cluster.Tls;

    private static (bool, string) Condition(CompiledMesh mesh, string name, string type) =>
        mesh.Conditions[("BackendTLSPolicy", new ResourceName("shop", name))].Where(condition => condition.Type == type).Select(condition => (condition.Status, condition.Reason)).First();
}
