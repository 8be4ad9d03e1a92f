using System.Collections.Immutable;
using System.Net;
using MeshProxy.Api.Documents.Nodes;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Service and EndpointSlice.</summary>
internal static class ServiceBinder
{
    private const int MaxPorts = 100;
    private const int MaxEndpoints = 1000;

    public static ServiceDocument? Service(Fields root, Metadata metadata)
    {
        var accounts = Accounts(root, metadata);
        if (root.RequiredMap("spec", "write 'spec:' with 'ports:' below it") is not { } spec)
        {
            return null;
        }

        var selector = spec.TextMap("selector", NameRules.CheckTagKey, NameRules.CheckTagValue);
        var ports = Ports(spec);
        if (spec.Choice("type", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName") == "ExternalName")
        {
            spec.NotImplemented("type", "ExternalName services are not implemented: use an EndpointSlice with addresses");
        }

        if (spec.Choice("sessionAffinity", "None", "ClientIP") == "ClientIP")
        {
            spec.NotImplemented("sessionAffinity", "ClientIP affinity is not implemented: remove it, or write None");
        }

        spec.NotImplemented("externalName", "ExternalName services are not implemented: use an EndpointSlice with addresses");
        spec.NotImplemented("sessionAffinityConfig", "session affinity is not implemented: remove it");
        if (spec.Flag("publishNotReadyAddresses") == true)
        {
            spec.NotImplemented("publishNotReadyAddresses", "endpoints that are not ready never get traffic: remove it");
        }

        spec.Ignore(
            "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "externalTrafficPolicy", "externalIPs", "loadBalancerIP",
            "loadBalancerSourceRanges", "loadBalancerClass", "allocateLoadBalancerNodePorts", "healthCheckNodePort", "trafficDistribution");
        spec.Close();
        return new ServiceDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            Selector = selector,
            Ports = ports,
            ServiceAccounts = accounts,
        };
    }

    public static EndpointSliceDocument? EndpointSlice(Fields root, Metadata metadata)
    {
        if (!metadata.Labels.TryGetValue(EndpointSliceDocument.ServiceLabel, out var service) || service.Length == 0)
        {
            root.Scope.Fail(
                root.Node.Find("metadata.labels"), $"metadata.labels[\"{EndpointSliceDocument.ServiceLabel}\"]", "is missing: name the Service that these endpoints belong to");
        }

        var addressType = root.Choice("addressType", "IPv4", "IPv6", "FQDN");
        if (addressType is null && !root.Has("addressType"))
        {
            root.Fail("addressType", "is missing: write IPv4 or IPv6");
        }
        else if (addressType == "FQDN")
        {
            root.NotImplemented("addressType", "names as endpoints are not implemented: use IPv4 or IPv6");
        }

        var ports = ImmutableArray.CreateBuilder<(string, int)>();
        foreach (var port in root.Maps("ports", MaxPorts))
        {
            var name = port.Text("name", NameRules.CheckLabel) ?? "";
            var number = port.RequiredNumber("port", 1, 65535, "write the port that the endpoints listen on");
            TcpOnly(port);
            port.Text("appProtocol");
            port.Close();
            if (number is { } value)
            {
                ports.Add((name, value));
            }
        }

        var endpoints = ImmutableArray.CreateBuilder<SliceEndpoint>();
        foreach (var endpoint in root.Maps("endpoints", MaxEndpoints))
        {
            var addresses = endpoint.Texts("addresses", 100, address => addressType == "FQDN" ? null : CheckAddress(address, addressType));
            if (addresses.IsEmpty && !endpoint.Has("addresses"))
            {
                endpoint.Fail("addresses", "is missing: write at least one IP address");
            }

            var ready = true;
            var terminating = false;
            if (endpoint.Map("conditions") is { } conditions)
            {
                ready = conditions.Flag("ready") ?? true;
                terminating = conditions.Flag("terminating") ?? false;
                conditions.Flag("serving");
                conditions.Close();
            }

            var zone = endpoint.Text("zone") ?? "";
            endpoint.Ignore("hostname", "nodeName", "targetRef", "deprecatedTopology", "hints");
            endpoint.Close();
            endpoints.Add(new SliceEndpoint(addresses, ready, terminating, zone));
        }

        return new EndpointSliceDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ServiceName = service ?? "",
            Ports = ports.DrainToImmutable(),
            Endpoints = endpoints.DrainToImmutable(),
        };
    }

    /// <summary>Null when the text is an IP address of the family ("IPv4", "IPv6", null: either).</summary>
    public static string? CheckAddress(string text, string? family) =>
        !IPAddress.TryParse(text, out var address) || (!text.Contains(':') && text.Count(c => c == '.') != 3) ? $"'{text}' is no IP address"
        : family == "IPv4" && address.AddressFamily != System.Net.Sockets.AddressFamily.InterNetwork ? $"'{text}' is no IPv4 address"
        : family == "IPv6" && address.AddressFamily != System.Net.Sockets.AddressFamily.InterNetworkV6 ? $"'{text}' is no IPv6 address"
        : null;

    private static ImmutableArray<string> Accounts(Fields root, Metadata metadata)
    {
        if (!metadata.Annotations.TryGetValue(ServiceDocument.ServiceAccountsAnnotation, out var text))
        {
            return [metadata.Name.Name];
        }

        var accounts = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        var field = $"metadata.annotations[\"{ServiceDocument.ServiceAccountsAnnotation}\"]";
        var at = root.Node.Find(field);
        if (accounts.Length == 0)
        {
            root.Scope.Fail(at, field, "names no service account: write \"account\" or \"account-a,account-b\", or remove it");
        }

        foreach (var account in accounts)
        {
            if (NameRules.CheckName(account) is { } problem)
            {
                root.Scope.Fail(at, field, $"has an account that {problem}");
            }
        }

        return [.. accounts.Distinct().Order(StringComparer.Ordinal)];
    }

    private static ImmutableArray<ServicePort> Ports(Fields spec)
    {
        var ports = ImmutableArray.CreateBuilder<ServicePort>();
        var names = new HashSet<string>();
        var numbers = new HashSet<int>();
        var items = spec.Items("ports", MaxPorts);
        if (items.Count == 0 && !spec.Has("ports"))
        {
            spec.Fail("ports", "is missing: write at least one port");
        }

        foreach (var item in items)
        {
            if (spec.MapOf(item.Node, item.Path) is not { } port)
            {
                continue;
            }

            var name = port.Text("name", NameRules.CheckLabel) ?? "";
            var number = port.RequiredNumber("port", 1, 65535, "write the port that callers use");
            var target = Target(port, number ?? 0);
            TcpOnly(port);
            var protocol = AppProtocol.Undeclared;
            if (port.Text("appProtocol") is { } declared && !AppProtocols.TryParse(declared, out protocol))
            {
                port.Fail("appProtocol", $"'{declared}' is not known: use one of {AppProtocols.Accepted}, or leave it out");
            }

            port.Ignore("nodePort");
            port.Close();
            if (name.Length == 0 && items.Count > 1 && !port.Has("name"))
            {
                port.Fail("name", "is missing: with more than one port each needs a name");
            }
            else if (name.Length > 0 && !names.Add(name))
            {
                port.Fail("name", $"'{name}' is the name of an earlier port: names are unique within a Service");
            }

            if (number is { } value)
            {
                if (!numbers.Add(value))
                {
                    port.Fail("port", $"{value} is already an earlier port of this Service");
                }

                ports.Add(new ServicePort(name, value, target, protocol));
            }
        }

        return ports.DrainToImmutable();
    }

    private static PortTarget Target(Fields port, int number)
    {
        if (port.Take("targetPort") is not { } node)
        {
            return new PortTarget(number, null);
        }

        if (node is ScalarNode { Kind: ScalarKind.Integer })
        {
            return new PortTarget(port.NumberOf(node, port.PathOf("targetPort"), 1, 65535) ?? 0, null);
        }

        return new PortTarget(0, port.TextOf(node, port.PathOf("targetPort"), NameRules.CheckLabel));
    }

    private static void TcpOnly(Fields port)
    {
        if (port.Choice("protocol", "TCP", "UDP", "SCTP") is { } protocol and not "TCP")
        {
            port.NotImplemented("protocol", $"{protocol} is not implemented: only TCP ports are served");
        }
    }
}
