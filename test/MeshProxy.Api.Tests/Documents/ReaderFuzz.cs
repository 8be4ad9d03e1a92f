using System.Text;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Tests.Documents;

/// <summary>Whatever the text: the reader, the compiler and the writer do not throw, positions lie in the text, and what was read reads back the same.</summary>
public class ReaderFuzz
{
    private static readonly string[] Seeds =
    [
        """
        apiVersion: v1
        kind: Service
        metadata: {name: payments, namespace: shop, labels: {a: b}, annotations: {meshproxy.io/service-accounts: "a,b"}}
        spec:
          selector: {app: payments}
          ports:
          - {name: grpc, port: 8080, targetPort: app, appProtocol: grpc}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: payments, namespace: shop}
        spec:
          parentRefs: [{group: "", kind: Service, name: payments}, {name: edge, sectionName: http, port: 80}]
          hostnames: ["*.example.com", a.b]
          rules:
          - name: one
            matches:
            - path: {type: RegularExpression, value: "/a.*"}
              headers: [{name: x, value: y}]
              queryParams: [{name: x, value: "1", type: RegularExpression}]
              method: POST
            filters:
            - type: RequestHeaderModifier
              requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}
            - type: URLRewrite
              urlRewrite: {hostname: a.b, path: {type: ReplaceFullPath, replaceFullPath: /x}}
            timeouts: {request: 10s, backendRequest: 500ms}
            backendRefs: [{name: payments, port: 8080, weight: 80}, {name: other, namespace: n, port: 1}]
          - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301, port: 443}}]
        """,
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: meshproxy
          addresses: [{type: IPAddress, value: 127.0.0.1}]
          listeners:
          - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}, kinds: [{kind: HTTPRoute}]}}
          - {name: tls, port: 443, protocol: HTTPS, tls: {mode: Terminate, certificateRefs: [{name: s, namespace: t}]}}
          - {name: tcp, port: 81, protocol: TCP}
        ---
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": {"name": "g"}, "spec": {"parentRefs": [{"name": "edge"}],
         "rules": [{"matches": [{"method": {"service": "a.B", "method": "C"}}], "backendRefs": [{"name": "payments", "port": 8080}]}]}}
        ---
        apiVersion: gateway.networking.k8s.io/v1alpha2
        kind: TCPRoute
        metadata: {name: t, namespace: shop}
        spec: {parentRefs: [{name: edge, sectionName: tcp}], rules: [{backendRefs: [{name: payments, port: 8080}]}]}
        ---
        apiVersion: meshproxy.io/v1alpha1
        kind: Workload
        metadata: {name: w, namespace: shop, labels: {app: payments}}
        spec: {address: "::1", inboundPort: 15006, identity: spiffe://mesh.local/ns/shop/sa/payments, ports: [{name: app, port: 1}], locality: a/b/c, weight: 3}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: payments}}
        addressType: IPv4
        ports: [{name: grpc, port: 8080}]
        endpoints: [{addresses: [10.0.0.1], conditions: {ready: true, terminating: false}, zone: a}]
        ---
        apiVersion: gateway.networking.k8s.io/v1beta1
        kind: ReferenceGrant
        metadata: {name: r, namespace: n}
        spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}
        ---
        apiVersion: meshproxy.io/v1alpha1
        kind: ClientTrafficPolicy
        metadata: {name: c, namespace: shop}
        spec: {targetRefs: [{kind: Service, name: payments}], path: {mergeSlashes: true, allow: [Backslash]}, headers: {underscores: Drop, forwarded: {mode: Append, format: Both, trustedHops: 2}}, upgrade: {protocols: [websocket]}, timeouts: {idle: 1m}, http2: {maxConcurrentStreams: 5}, maxRequestBodyBytes: 7}
        ---
        apiVersion: meshproxy.io/v1alpha1
        kind: AuthorizationPolicy
        metadata: {name: p, namespace: shop}
        spec: {targetRefs: [{kind: Service, name: payments}], rules: [{anything: 1}]}
        ---
        apiVersion: v1
        kind: Secret
        metadata: {name: s, namespace: t}
        type: kubernetes.io/tls
        data: {tls.crt: aGVsbG8=, tls.key: aGVsbG8=}
        """,
    ];

    private static readonly string[] Pieces =
    [
        "\n", " ", "  ", "- ", ": ", ":", "{", "}", "[", "]", ",", "\"", "'", "#", "&a", "*a", "!!", "!<x>", "|", ">", "|2-\n", "---\n", "...\n", "? ", "%YAML 1.1\n", "\t", "\0", "\u0085", "\u2028", "\uFEFF",
        "\\", "\\x", "\\u12", "null", "~", "true", "0x7fffffffffffffffff", "1e999", "-0", "99999999999999999999", ".inf", "<<: ", "é", "\U0001F4B8", "/", "..", "$", "(", "(?=", "*.", "spec", "name", "\r\n", "\r",
    ];

    [Test]
    public void Mutated_documents_never_break_it([Range(1, 8)] int seed)
    {
        var random = new Random(seed);
        for (var round = 0; round < 1_500; round++)
        {
            var text = Mutate(random, Seeds[random.Next(Seeds.Length)]);
            try
            {
                Check(text);
            }
            catch (Exception e) when (e is not AssertionException)
            {
                Assert.Fail($"seed {seed}, round {round}: {e}\n{text}");
            }
        }
    }

    [Test]
    public void Truncated_documents_never_break_it()
    {
        foreach (var seed in Seeds)
        {
            for (var length = 0; length <= seed.Length; length += 3)
            {
                Check(seed[..length]);
            }
        }
    }

    private static void Check(string text)
    {
        var read = DocumentReader.Read([new DocumentSource("f", text)]);
        var lines = text.Split('\n', '\r', '\u0085', '\u2028', '\u2029').Length + 1;
        foreach (var error in read.Errors)
        {
            Assert.That(error.Line, Is.InRange(1, lines), error.ToString());
            Assert.That(error.Message, Is.Not.Empty);
        }

        var mesh = MeshCompiler.Compile(new MeshInput(read.Documents, [], Yaml.Domain));
        foreach (var document in read.Documents)
        {
            foreach (var written in new[] { DocumentWriter.ToYaml(document, mesh.StatusOf(document, 3), showSecrets: true), DocumentWriter.ToJson(document, showSecrets: true) })
            {
                var again = DocumentReader.Read([new DocumentSource("g", written)]);
                Assert.That(again.Errors, Is.Empty, written);
                Assert.That(again.Documents.Single().Fingerprint, Is.EqualTo(document.Fingerprint), $"{text}\n=====\n{written}");
            }
        }

        // What compiles can be sent and is understood by the other end.
        foreach (var destination in mesh.Destinations.Values)
        {
            Assert.That(MeshProxy.Api.Mapping.ConfigMapping.TryToModel(MeshProxy.Api.Mapping.ConfigMapping.ToProto(destination), out _, out var field, out var reason), Is.True, $"{field}: {reason}\n{text}");
        }

        foreach (var listener in mesh.Gateways.Values.SelectMany(listeners => listeners))
        {
            Assert.That(MeshProxy.Api.Mapping.ConfigMapping.TryToModel(MeshProxy.Api.Mapping.ConfigMapping.ToProto(listener), out _, out var field, out var reason), Is.True, $"{field}: {reason}\n{text}");
        }
    }

    private static string Mutate(Random random, string seed)
    {
        var text = new StringBuilder(seed);
        for (var count = random.Next(1, 6); count > 0 && text.Length > 0; count--)
        {
            var at = random.Next(text.Length);
            switch (random.Next(5))
            {
                case 0:
                    text.Remove(at, Math.Min(random.Next(1, 20), text.Length - at));
                    break;
                case 1:
                    text.Insert(at, Pieces[random.Next(Pieces.Length)]);
                    break;
                case 2:
                    text[at] = (char)random.Next(1, 0x250);
                    break;
                case 3:
                    var length = Math.Min(random.Next(1, 80), text.Length - at);
                    text.Insert(random.Next(text.Length), text.ToString(at, length));
                    break;
                default:
                    var piece = Pieces[random.Next(Pieces.Length)];
                    text.Remove(at, Math.Min(piece.Length, text.Length - at)).Insert(at, piece);
                    break;
            }
        }

        return text.ToString();
    }
}
