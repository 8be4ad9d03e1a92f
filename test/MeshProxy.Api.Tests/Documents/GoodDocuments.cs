using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Tests.Documents;

/// <summary>What good documents mean.</summary>
public class GoodDocuments
{
    [Test]
    public void Service_takes_names_numbers_and_accounts()
    {
        var service = (ServiceDocument)Yaml.One(
            """
            apiVersion: v1
            kind: Service
            metadata: {name: payments, namespace: shop, creationTimestamp: "2026-01-31T12:00:00Z", managedFields: [{a: b}], uid: x}
            spec:
              clusterIP: 10.96.0.1
              type: ClusterIP
              selector: {app: payments}
              ports:
              - {name: grpc, port: 8080, targetPort: app, appProtocol: kubernetes.io/h2c, protocol: TCP}
              - {name: db, port: 5432}
            status: {loadBalancer: {}}
            """);
        Assert.Multiple(() =>
        {
            Assert.That(service.Name, Is.EqualTo(new ResourceName("shop", "payments")));
            Assert.That(service.CreatedAt, Is.EqualTo(new DateTimeOffset(2026, 1, 31, 12, 0, 0, TimeSpan.Zero)));
            Assert.That(service.ServiceAccounts, Is.EqualTo(new[] { "payments" }));
            Assert.That(service.Ports, Is.EqualTo(new[]
            {
                new ServicePort("grpc", 8080, new PortTarget(0, "app"), AppProtocol.Http2),
                new ServicePort("db", 5432, new PortTarget(5432, null), AppProtocol.Undeclared),
            }));
            Assert.That(service.Unsupported, Is.Empty);
        });
    }

    [Test]
    public void Json_is_read_like_yaml()
    {
        var service = (ServiceDocument)Yaml.One("{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n \"metadata\":{\"name\":\"a\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
        Assert.That(service.Ports.Single().Port, Is.EqualTo(80));
    }

    [Test]
    public void Http_route_becomes_matches_and_filters_of_the_model()
    {
        var route = (HttpRouteDocument)Yaml.One(
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r}
            spec:
              parentRefs: [{name: edge, sectionName: https}]
              hostnames: [shop.example.com, "*.shop.example.com"]
              rules:
              - matches:
                - path: {value: /pay/}
                  headers: [{name: X-Env, value: canary}, {name: x-env, value: ignored}, {type: RegularExpression, name: x-b, value: "a.*"}]
                  queryParams: [{name: V, value: "2"}]
                filters:
                - type: URLRewrite
                  urlRewrite: {hostname: inner.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}
                - type: ResponseHeaderModifier
                  responseHeaderModifier: {add: [{name: X-Served-By, value: mesh}], remove: [Server]}
                timeouts: {request: 1m30s, backendRequest: 500ms}
                backendRefs: [{name: a, port: 80}, {name: b, namespace: other, port: 81, weight: 0}]
              - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 443, statusCode: 301}}]
            """);
        var rule = route.Rules[0];
        var match = rule.Matches.Single();
        Assert.Multiple(() =>
        {
            Assert.That(route.ParentRefs.Single().ToString(), Is.EqualTo("Gateway default/edge/https"));
            Assert.That(route.Hostnames, Is.EqualTo(new[] { "shop.example.com", "*.shop.example.com" }));
            Assert.That(match.Path, Is.EqualTo(new PathMatchConfig(PathMatchKind.Prefix, "/pay")));
            Assert.That(match.Headers, Is.EqualTo(new[] { new ValueMatchConfig("x-env", "canary", false), new ValueMatchConfig("x-b", "a.*", true) }));
            Assert.That(match.QueryParameters, Is.EqualTo(new[] { new ValueMatchConfig("V", "2", false) }));
            Assert.That(rule.Filters[0], Is.EqualTo(new UrlRewriteConfig("inner.example.com", new PathRewriteConfig(true, "/v2"))));
            Assert.That(((HeaderModifierConfig)rule.Filters[1]).Remove, Is.EqualTo(new[] { "server" }));
            Assert.That(((HeaderModifierConfig)rule.Filters[1]).OnResponse, Is.True);
            Assert.That(rule.RequestTimeout, Is.EqualTo(TimeSpan.FromSeconds(90)));
            Assert.That(rule.BackendRequestTimeout, Is.EqualTo(TimeSpan.FromMilliseconds(500)));
            Assert.That(rule.Backends.Select(backend => (backend.Name.ToString(), backend.Port, backend.Weight)), Is.EqualTo(new (string, int?, int)[] { ("default/a", 80, 1), ("other/b", 81, 0) }));
            Assert.That(route.Rules[1].Filters.Single(), Is.EqualTo(new RedirectConfig("https", null, null, 443, 301)));
        });
    }

    [Test]
    public void Mirrors_and_cors_become_filters()
    {
        var route = (HttpRouteDocument)Yaml.One(
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r}
            spec:
              parentRefs: [{name: edge}]
              rules:
              - filters:
                - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}
                - {type: RequestMirror, requestMirror: {backendRef: {name: b, namespace: other, port: 81}, percent: 5}}
                - {type: RequestMirror, requestMirror: {backendRef: {name: c, port: 82}, fraction: {numerator: 1, denominator: 1000}}}
                - {type: CORS, cors: {allowOrigins: ["https://*.example.com:8443", "http://a"], allowCredentials: true, allowMethods: [GET, PUT], allowHeaders: ["*"], exposeHeaders: [X-A]}}
                backendRefs: [{name: a, port: 80}]
            """);
        var filters = route.Rules.Single().Filters;
        Assert.That(
            filters.OfType<MirrorRef>().Select(mirror => $"{mirror.Backend.Name}:{mirror.Backend.Port} {mirror.Numerator}/{mirror.Denominator}"),
            Is.EqualTo(new[] { "default/a:80 100/100", "other/b:81 5/100", "default/c:82 1/1000" }));
        var cors = filters.OfType<CorsConfig>().Single();
        Assert.Multiple(() =>
        {
            Assert.That(cors.AllowOrigins, Is.EqualTo(new[] { "https://*.example.com:8443", "http://a" }));
            Assert.That((cors.AllowCredentials, cors.MaxAge), Is.EqualTo((true, 5)));
            Assert.That(cors.AllowMethods, Is.EqualTo(new[] { "GET", "PUT" }));
            Assert.That(cors.AllowHeaders, Is.EqualTo(new[] { "*" }));
            Assert.That(cors.ExposeHeaders, Is.EqualTo(new[] { "X-A" }));
        });
    }

    [TestCase("{service: shop.v1.Payments, method: Pay}", "shop.v1.Payments", "Pay", false)]
    [TestCase("{service: shop.v1.Payments}", "shop.v1.Payments", null, false)]
    [TestCase("{service: \"\", method: Pay}", null, "Pay", false)]
    [TestCase("{type: RegularExpression, service: \"shop.*|a\"}", "shop.*|a", null, true)]
    public void Grpc_method_is_kept_as_service_and_method(string match, string? service, string? method, bool isExpression)
    {
        var route = (GrpcRouteDocument)Yaml.One(
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: GRPCRoute
            metadata: {name: r}
            spec:
              parentRefs: [{name: edge}]
              rules:
              - matches: [{method: {{match}}}]
                backendRefs: [{name: a, port: 80}]
            """);
        Assert.That(route.Rules.Single().Matches.Single().Grpc, Is.EqualTo(new GrpcMatchConfig(service, method, isExpression)));
    }

    [TestCase("HTTPRoute", "spec.rules[0].filters[0]", "rules: [{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC}}]}]")]
    [TestCase("HTTPRoute", "spec.rules[0].filters[0]", "rules: [{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]}]")]
    [TestCase("HTTPRoute", "spec.rules[0].retry", "rules: [{retry: {attempts: 2}}]")]
    [TestCase("HTTPRoute", "spec.rules[0].sessionPersistence", "rules: [{sessionPersistence: {}}]")]
    [TestCase("GRPCRoute", "spec.rules[0].sessionPersistence", "rules: [{sessionPersistence: {type: Cookie}}]")]
    [TestCase("TLSRoute", "spec.rules", "hostnames: [a.example]\n  rules: [{backendRefs: [{name: a, port: 80}]}, {backendRefs: [{name: b, port: 80}]}]")]
    public void What_the_standard_has_and_we_do_not_is_kept_as_unsupported(string kind, string field, string rules)
    {
        var document = Yaml.One($"apiVersion: gateway.networking.k8s.io/{(kind == "TLSRoute" ? "v1alpha2" : "v1")}\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{name: edge}}]\n  {rules}\n");
        Assert.That(document.Unsupported.Single().Field, Is.EqualTo(field));
    }

    [Test]
    public void Fingerprint_is_of_what_was_meant()
    {
        const string Text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: \"2026-01-01T00:00:00Z\"}\nspec:\n  ports: [{port: 80, targetPort: 81}]\nstatus: {}\n";
        var same = Yaml.One("kind: Service\n# comment\nspec: {ports: [{targetPort: 81, port: 80}]}\nmetadata: {namespace: default, name: \"a\", resourceVersion: \"7\"}\napiVersion: v1\n");
        var other = Yaml.One(Text.Replace("81", "82"));
        Assert.That(same.Fingerprint, Is.EqualTo(Yaml.One(Text).Fingerprint));
        Assert.That(other.Fingerprint, Is.Not.EqualTo(same.Fingerprint));
    }

    [Test]
    public void Written_json_and_yaml_read_back_as_the_same()
    {
        var document = Yaml.One(
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata:
              name: r
              annotations: {note: "multi\nline: \"quoted\" # no comment\u2028 \u0085 \t end ", empty: "", yes: "yes", number: "12", tilde: "~", dash: "- a"}
            spec:
              parentRefs: [{name: edge}]
              hostnames: []
              rules:
              - matches: [{path: {type: RegularExpression, value: "/a[0-9]{2}: .*"}}]
                backendRefs: [{name: a, port: 0x50}]
            """) with { CreatedAt = new DateTimeOffset(2026, 1, 31, 12, 0, 0, TimeSpan.Zero).AddTicks(1_234_567) };
        var status = new DocumentStatus([new ConditionInfo("Accepted", false, "UnsupportedValue", "no: way", "Gateway default/edge")], 3);
        foreach (var text in new[] { DocumentWriter.ToJson(document, status), DocumentWriter.ToYaml(document, status) })
        {
            Assert.That(text, Does.Contain("UnsupportedValue"));
            var again = Yaml.One(text);
            Assert.That(again.Fingerprint, Is.EqualTo(document.Fingerprint), text);
            Assert.That(again.CreatedAt, Is.EqualTo(document.CreatedAt));
            Assert.That(again.Annotations["note"], Is.EqualTo(document.Annotations["note"]));
        }
    }
}
