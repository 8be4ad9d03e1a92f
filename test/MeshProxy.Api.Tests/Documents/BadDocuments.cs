using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Tests.Documents;

/// <summary>Each mistake is told with its line, its field and what to do.</summary>
public class BadDocuments
{
    private const string Route =
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata:
          name: payments
          namespace: shop
        spec:
          parentRefs:
          - {group: "", kind: Service, name: payments}
          rules:
          - matches:
            - path: {type: PathPrefix, value: /pay}
              method: GET
            filters:
            - type: RequestHeaderModifier
              requestHeaderModifier:
                set:
                - {name: x-a, value: b}
            timeouts: {request: 10s, backendRequest: 2s}
            backendRefs:
            - name: payments-v1
              port: 8080
              weight: 80
        """;

    private const string Service =
        """
        apiVersion: v1
        kind: Service
        metadata:
          name: payments
          annotations: {meshproxy.io/service-accounts: "payments, payments-canary"}
        spec:
          selector: {app: payments}
          ports:
          - {name: http, port: 80, targetPort: web, appProtocol: http}
          - {name: db, port: 5432, targetPort: 5432, appProtocol: tcp}
        """;

    private const string Gateway =
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata:
          name: edge
        spec:
          gatewayClassName: meshproxy
          listeners:
          - name: https
            port: 443
            protocol: HTTPS
            hostname: shop.example.com
            tls: {certificateRefs: [{name: edge-tls}]}
          - {name: http, port: 80, protocol: HTTP}
        """;

    private const string Workload =
        """
        apiVersion: meshproxy.io/v1alpha1
        kind: Workload
        metadata: {name: ledger-1}
        spec:
          address: 10.0.0.1
          inboundPort: 15006
          serviceAccount: ledger
          locality: eu/a
          ports:
          - {name: db, port: 5432}
        """;

    private const string Slice =
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: legacy-1
          labels: {kubernetes.io/service-name: legacy}
        addressType: IPv4
        ports:
        - {name: http, port: 8080}
        endpoints:
        - addresses: [10.0.0.9]
        """;

    [TestCase(nameof(Route)), TestCase(nameof(Service)), TestCase(nameof(Gateway)), TestCase(nameof(Workload)), TestCase(nameof(Slice))]
    public void What_the_rows_below_break_is_good(string which) => Assert.That(Yaml.Read(Text(which)).Errors, Is.Empty);

    // Names and shapes
    [TestCase(nameof(Route), "kind: HTTPRoute", "kind: HttpRoute", 2, "kind", "'HttpRoute' is not known")]
    [TestCase(nameof(Route), "gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v2", 1, "apiVersion", "use gateway.networking.k8s.io/v1")]
    [TestCase(nameof(Route), "name: payments\n", "name: Payments\n", 4, "metadata.name", "use lower-case")]
    [TestCase(nameof(Route), "  name: payments\n", "  labels: {a: b}\n", 4, "metadata.name", "is missing")]
    [TestCase(nameof(Route), "namespace: shop", "namespace: my.shop", 5, "metadata.namespace", "is no name")]
    [TestCase(nameof(Route), "namespace: shop", "nameSpace: shop", 5, "metadata.nameSpace", "did you mean 'namespace'?")]
    [TestCase(nameof(Route), "namespace: shop", "namespace: 12", 5, "metadata.namespace", "write \"12\" in quotes")]
    [TestCase(nameof(Route), "spec:", "specs:", 6, "specs", "did you mean 'spec'?")]
    [TestCase(nameof(Route), "  rules:\n", "  rules: {}\n  x:\n", 9, "spec.rules", "must be a list")]
    // HTTPRoute
    [TestCase(nameof(Route), "backendRefs:", "backendRef:", 19, "spec.rules[0].backendRef", "did you mean 'backendRefs'?")]
    [TestCase(nameof(Route), "weight: 80", "weight: -1", 22, "spec.rules[0].backendRefs[0].weight", "use 0 to 1000000")]
    [TestCase(nameof(Route), "weight: 80", "weight: \"80\"", 22, "spec.rules[0].backendRefs[0].weight", "remove the quotes")]
    [TestCase(nameof(Route), "weight: 80", "weight: 010", 22, "spec.rules[0].backendRefs[0].weight", "ambiguous")]
    [TestCase(nameof(Route), "port: 8080", "port: 70000", 21, "spec.rules[0].backendRefs[0].port", "1 to 65535")]
    [TestCase(nameof(Route), "      port: 8080\n", "", 20, "spec.rules[0].backendRefs[0].port", "is missing")]
    [TestCase(nameof(Route), "value: /pay", "value: pay", 11, "spec.rules[0].matches[0].path.value", "must start with '/'")]
    [TestCase(nameof(Route), "value: /pay", "value: /a//b", 11, "spec.rules[0].matches[0].path.value", "must not contain '//'")]
    [TestCase(nameof(Route), "value: /pay", "value: /a/%2F", 11, "spec.rules[0].matches[0].path.value", "must not contain '%2F'")]
    [TestCase(nameof(Route), "value: /pay", "value: \"/a?b\"", 11, "spec.rules[0].matches[0].path.value", "queryParams")]
    [TestCase(nameof(Route), "type: PathPrefix, value: /pay", "type: RegularExpression, value: \"(a\"", 11, "spec.rules[0].matches[0].path.value", "no regular expression")]
    [TestCase(nameof(Route), "type: PathPrefix, value: /pay", "type: RegularExpression, value: \"(?=a)b\"", 11, "spec.rules[0].matches[0].path.value", "backtracking")]
    [TestCase(nameof(Route), "type: PathPrefix", "type: Prefix", 11, "spec.rules[0].matches[0].path.type", "use Exact, PathPrefix, RegularExpression")]
    [TestCase(nameof(Route), "method: GET", "method: get", 12, "spec.rules[0].matches[0].method", "is no method")]
    [TestCase(nameof(Route), "type: RequestHeaderModifier", "type: RequestHeaderModify", 14, "spec.rules[0].filters[0].type", "is not known")]
    [TestCase(nameof(Route), "type: RequestHeaderModifier", "type: URLRewrite", 14, "spec.rules[0].filters[0].urlRewrite", "is missing")]
    [TestCase(nameof(Route), "name: x-a", "name: \"x a\"", 17, "spec.rules[0].filters[0].requestHeaderModifier.set[0].name", "is no header name")]
    [TestCase(nameof(Route), "name: x-a", "name: Content-Length", 17, "spec.rules[0].filters[0].requestHeaderModifier.set[0].name", "cannot be changed")]
    [TestCase(nameof(Route), "name: x-a", "name: X-MeshProxy-Failure", 17, "spec.rules[0].filters[0].requestHeaderModifier.set[0].name", "cannot be changed")]
    [TestCase(nameof(Route), "value: b}", "value: \"b\\r\\nc: d\"}", 17, "spec.rules[0].filters[0].requestHeaderModifier.set[0].value", "U+000D")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 101}}\n", 14, "spec.rules[0].filters[0].requestMirror.percent", "use 0 to 100")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}}\n", 14, "spec.rules[0].filters[0].requestMirror.fraction", "exclude each other")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 2, denominator: 1}}}\n", 14, "spec.rules[0].filters[0].requestMirror.fraction.numerator", "more than all")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: RequestMirror, requestMirror: {percent: 1}}\n", 14, "spec.rules[0].filters[0].requestMirror.backendRef", "is missing")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowOrigins: [\"*\", \"https://a\"]}}\n", 14, "spec.rules[0].filters[0].cors.allowOrigins", "write it alone")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowOrigins: [\"ftp://a\"]}}\n", 14, "spec.rules[0].filters[0].cors.allowOrigins[0]", "http:// or https://")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowOrigins: [\"https://a.*.b\"]}}\n", 14, "spec.rules[0].filters[0].cors.allowOrigins[0]", "no valid host")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowOrigins: [\"https://a/b\"]}}\n", 14, "spec.rules[0].filters[0].cors.allowOrigins[0]", "no valid host")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowOrigins: [\"https://a:0\"]}}\n", 14, "spec.rules[0].filters[0].cors.allowOrigins[0]", "no valid port")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {allowMethods: [get]}}\n", 14, "spec.rules[0].filters[0].cors.allowMethods[0]", "is no method")]
    [TestCase(nameof(Route), "    filters:\n", "    filters:\n    - {type: CORS, cors: {maxAge: 0}}\n", 14, "spec.rules[0].filters[0].cors.maxAge", "out of range")]
    [TestCase(nameof(Route), "request: 10s", "request: 10", 18, "spec.rules[0].timeouts.request", "write \"10\" in quotes")]
    [TestCase(nameof(Route), "request: 10s", "request: 10 s", 18, "spec.rules[0].timeouts.request", "is no duration")]
    [TestCase(nameof(Route), "backendRequest: 2s", "backendRequest: 1m", 18, "spec.rules[0].timeouts.backendRequest", "longer than request")]
    [TestCase(nameof(Route), "weight: 80", "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}, {type: URLRewrite, urlRewrite: {hostname: a.b}}]", 22, "spec.rules[0].backendRefs[0].filters[1].type", "only once")]
    [TestCase(nameof(Route), "type: PathPrefix, value: /pay}\n      method: GET\n    filters:", "type: Exact, value: /pay}\n    filters:\n    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}", 13, "spec.rules[0].filters", "exactly one match, of type PathPrefix")]
    [TestCase(nameof(Route), "      method: GET\n    filters:", "    - path: {value: /b}\n    filters:\n    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}", 14, "spec.rules[0].filters", "exactly one match, of type PathPrefix")]
    [TestCase(nameof(Route), "  rules:\n", "  - {group: \"\", kind: Service, name: payments, port: 80}\n  rules:\n", 8, "spec.parentRefs", "names Service shop/payments twice")]
    [TestCase(nameof(Route), "group: \"\", kind: Service", "kind: Service", 8, "spec.parentRefs[0].group", "write group: \"\"")]
    // Service
    [TestCase(nameof(Service), "appProtocol: http", "appProtocol: htpp", 9, "spec.ports[0].appProtocol", "use one of http, http2")]
    [TestCase(nameof(Service), "name: db, port: 5432", "port: 5432", 10, "spec.ports[1].name", "each needs a name")]
    [TestCase(nameof(Service), "name: db", "name: http", 10, "spec.ports[1].name", "unique")]
    [TestCase(nameof(Service), "port: 80,", "port: 5432,", 10, "spec.ports[1].port", "already")]
    [TestCase(nameof(Service), "targetPort: web", "targetPort: 0", 9, "spec.ports[0].targetPort", "1 to 65535")]
    [TestCase(nameof(Service), "\"payments, payments-canary\"", "\" , \"", 5, "metadata.annotations[\"meshproxy.io/service-accounts\"]", "names no service account")]
    [TestCase(nameof(Service), "\"payments, payments-canary\"", "\"spiffe://x\"", 5, "metadata.annotations[\"meshproxy.io/service-accounts\"]", "has an account that")]
    [TestCase(nameof(Service), "name: payments", "name: pay.ments", 4, "metadata.name", "is no name")]
    [TestCase(nameof(Service), "app: payments", "app: \"no way\"", 7, "spec.selector.app", "is no label value")]
    // Gateway
    [TestCase(nameof(Gateway), "protocol: HTTPS", "protocol: https", 10, "spec.listeners[0].protocol", "use HTTP, HTTPS")]
    [TestCase(nameof(Gateway), "    tls: {certificateRefs: [{name: edge-tls}]}\n", "", 8, "spec.listeners[0].tls", "is missing")]
    [TestCase(nameof(Gateway), "shop.example.com", "shop.example.com:443", 11, "spec.listeners[0].hostname", "has a port")]
    [TestCase(nameof(Gateway), "shop.example.com", "10.0.0.1", 11, "spec.listeners[0].hostname", "IP address")]
    [TestCase(nameof(Gateway), "shop.example.com", "\"*example.com\"", 11, "spec.listeners[0].hostname", "is no hostname")]
    [TestCase(nameof(Gateway), "name: http,", "name: https,", 13, "spec.listeners[1].name", "unique")]
    [TestCase(nameof(Gateway), "protocol: HTTP}", "protocol: TCP, hostname: a.b}", 13, "spec.listeners[1].hostname", "cannot tell hostnames apart")]
    [TestCase(nameof(Gateway), "protocol: HTTP}", "protocol: HTTP, tls: {certificateRefs: [{name: a}]}}", 13, "spec.listeners[1].tls", "only HTTPS and TLS")]
    // Workload and EndpointSlice
    [TestCase(nameof(Workload), "address: 10.0.0.1", "address: ledger", 5, "spec.address", "is no IP address")]
    [TestCase(nameof(Workload), "  serviceAccount: ledger\n", "", 5, "spec.serviceAccount", "is missing")]
    [TestCase(nameof(Workload), "  inboundPort: 15006\n", "", 5, "spec.inboundPort", "is missing")]
    [TestCase(nameof(Workload), "serviceAccount: ledger", "identity: spiffe://mesh.local/ns/other/sa/ledger", 7, "spec.identity", "is of namespace other")]
    [TestCase(nameof(Workload), "locality: eu/a", "locality: a/b/c/d", 8, "spec.locality", "region/zone/sub-zone")]
    [TestCase(nameof(Slice), "kubernetes.io/service-name: legacy", "app: legacy", 5, "metadata.labels[\"kubernetes.io/service-name\"]", "is missing")]
    [TestCase(nameof(Slice), "10.0.0.9", "\"::1\"", 10, "endpoints[0].addresses[0]", "is no IPv4 address")]
    public void Is_told_where_and_why(string which, string good, string bad, int line, string field, string message)
    {
        var text = Text(which);
        Assert.That(text, Does.Contain(good), "the row does not fit the document");
        var at = text.IndexOf(good, StringComparison.Ordinal);
        var read = Yaml.Read(text[..at] + bad + text[(at + good.Length)..]);
        Assert.That(read.Documents, Is.Empty);
        var error = read.Errors.FirstOrDefault(error => error.Field == field);
        Assert.That(error, Is.Not.Null, string.Join('\n', read.Errors));
        Assert.Multiple(() =>
        {
            Assert.That(error!.Line, Is.EqualTo(line), error.ToString());
            Assert.That(error.Column, Is.GreaterThan(0));
            Assert.That(error.Source, Is.EqualTo("test.yaml"));
            Assert.That(error.Message, Does.Contain(message));
        });
    }

    // What is no document at all
    [TestCase("a: b\n c: d\n", 2, "", "not YAML")]
    [TestCase("kind: Service\nkind: Gateway\n", 2, "kind", "already on line 1")]
    [TestCase("spec: {a: 1, b: {c: 1, c: 2}}\n", 1, "spec.b.c", "already on line 1")]
    [TestCase("- a\n", 1, "", "must be a mapping")]
    [TestCase("just words\n", 1, "", "must be a mapping")]
    [TestCase("a: &x [1]\nb: *x\n", 1, "a", "Anchors (&x)")]
    [TestCase("a: 1\nb: *x\n", 2, "b", "x")]
    [TestCase("a: !!binary aGk=\n", 1, "a", "tag:yaml.org,2002:binary")]
    [TestCase("{{ template }}: 1\n", 1, "", "key")]
    [TestCase("a: \"\\ud800\"\n", 1, "", "not YAML")]
    [TestCase("a: [1, 2\n", 2, "", "not YAML")]
    [TestCase("{\"kind\": \"Service\", \"kind\": \"Service\"}", 1, "kind", "already on line 1")]
    public void Is_no_document(string text, int line, string field, string message)
    {
        var read = Yaml.Read(text);
        Assert.That(read.Documents, Is.Empty);
        var error = read.Errors.First();
        Assert.Multiple(() =>
        {
            Assert.That(error.Line, Is.EqualTo(line), error.ToString());
            Assert.That(error.Field, Is.EqualTo(field));
            Assert.That(error.Message, Does.Contain(message));
        });
    }

    [Test]
    public void Depth_is_bounded()
    {
        var deeper = new string('[', DocumentLimits.MaxDepth + 1) + new string(']', DocumentLimits.MaxDepth + 1);
        Assert.That(Yaml.Read(deeper).Errors.Single().Message, Does.Contain($"deeper than {DocumentLimits.MaxDepth}"));
    }

    // The scanner's work is quadratic in open brackets: 100,000 of them would take it half a minute.
    [TestCase("["), TestCase("{a: "), TestCase("- "), TestCase("? "), TestCase("[\n"), TestCase("{\n"), TestCase("--- "), TestCase("a: [b], "), TestCase("&a "), TestCase("! "), TestCase("\"")]
    [CancelAfter(10_000)]
    public void What_is_made_to_be_slow_is_refused_quickly(string piece, CancellationToken cancellation)
    {
        var text = string.Concat(Enumerable.Repeat(piece, 200_000 / piece.Length));
        var read = Task.Run(() => Yaml.Read(text), cancellation);
        Assert.That(read.Wait(TimeSpan.FromSeconds(8), cancellation), Is.True);
        Assert.That(read.Result.Documents, Is.Empty);
    }

    [Test]
    public void Half_a_surrogate_pair_is_no_text()
    {
        var error = Yaml.Read("a: 'b\ud800'\n").Errors.Single();
        Assert.That(error.Field, Is.EqualTo("a"));
        Assert.That(error.Message, Does.Contain("surrogate"));
    }

    [Test]
    public void Size_is_bounded()
    {
        var read = Yaml.Read("a: " + new string('b', DocumentLimits.MaxSourceCharacters));
        Assert.That(read.Errors.Single().Message, Does.Contain("split it"));
    }

    [Test]
    public void One_bad_document_leaves_its_neighbours_readable_and_is_named()
    {
        var read = Yaml.Read($"{Service}\n---\n{Route.Replace("weight: 80", "weight: x")}\n---\n# nothing\n---\n{Workload}\n");
        Assert.That(read.Documents.Select(document => document.Title), Is.EqualTo(new[] { "Service default/payments", "Workload default/ledger-1" }));
        Assert.That(read.Errors.Single().Document, Is.EqualTo("HTTPRoute shop/payments"));
        Assert.That(read.Errors.Single().Line, Is.EqualTo(11 + 22));
    }

    [Test]
    public void Every_mistake_of_a_document_is_told_at_once()
    {
        var read = Yaml.Read(Route.Replace("weight: 80", "weight: x").Replace("method: GET", "method: get").Replace("value: /pay", "value: pay"));
        Assert.That(read.Errors.Select(error => error.Line), Is.EquivalentTo(new[] { 11, 12, 22 }));
    }

    private static string Text(string which) => which switch
    {
        nameof(Route) => Route,
        nameof(Service) => Service,
        nameof(Gateway) => Gateway,
        nameof(Workload) => Workload,
        _ => Slice,
    };
}
