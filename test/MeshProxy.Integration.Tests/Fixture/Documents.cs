namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Documents that several tests start from.</summary>
internal static class Documents
{
    /// <summary>A Service in namespace shop that picks the workloads labelled with its account. Ports are "name number protocol".</summary>
    public static string Service(string name, string account, params string[] ports) =>
        $$"""
        apiVersion: v1
        kind: Service
        metadata:
          name: {{name}}
          namespace: shop
          annotations: {meshproxy.io/service-accounts: "{{account}}"}
        spec:
          selector: {app: {{account}}}
          ports:
        {{string.Join('\n', ports.Select(Port))}}
        ---

        """;

    /// <summary>A Service with a fixed plaintext endpoint on loopback: what a gateway from files sends to.</summary>
    public static string Static(string name, int port, string protocol = "http") =>
        $$"""
        apiVersion: v1
        kind: Service
        metadata: {name: {{name}}, namespace: shop}
        spec:
          ports:
          - {name: main, port: 80, appProtocol: {{protocol}}}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: {{name}}-1
          namespace: shop
          labels: {kubernetes.io/service-name: {{name}}}
        addressType: IPv4
        endpoints:
        - addresses: [127.0.0.1]
        ports:
        - {name: main, port: {{port}}}
        ---

        """;

    public static string HttpGateway(int port) => Gateway($"name: http, port: {port}, protocol: HTTP");

    /// <summary>The Gateway "edge" on loopback; listeners are what stands between their braces.</summary>
    public static string Gateway(params string[] listeners) =>
        $$"""
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: meshproxy
          addresses: [{type: IPAddress, value: 127.0.0.1}]
          listeners:
        {{string.Join('\n', listeners.Select(listener => $"  - {{{listener}}}"))}}
        ---

        """;

    /// <summary>An HTTPRoute from the Gateway "edge", or one listener of it, everything to one service.</summary>
    public static string Route(string service, int port = 80, string? listener = null) =>
        $$"""
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: {{service}}, namespace: shop}
        spec:
          parentRefs: [{name: edge{{(listener is null ? "" : $", sectionName: {listener}")}}}]
          rules:
          - backendRefs: [{name: {{service}}, port: {{port}}}]
        ---

        """;

    private static string Port(string text)
    {
        var parts = text.Split(' ');
        return $"  - {{name: {parts[0]}, port: {parts[1]}, targetPort: {parts[0]}{(parts.Length > 2 ? $", appProtocol: {parts[2]}" : "")}}}";
    }
}
