using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>GatewayClass, Gateway and ReferenceGrant.</summary>
internal static class GatewayBinder
{
    private const int MaxListeners = 64;

    public static GatewayClassDocument? GatewayClass(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'controllerName:' below it") is not { } spec)
        {
            return null;
        }

        var controller = spec.RequiredText("controllerName", $"write {GatewayClassDocument.OurController}");
        spec.Ignore("description");
        spec.NotImplemented("parametersRef", "parameters of a class are not implemented: remove it");
        spec.Close();
        return new GatewayClassDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name, ControllerName = controller ?? "" };
    }

    public static GatewayDocument? Gateway(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'gatewayClassName:' and 'listeners:' below it") is not { } spec)
        {
            return null;
        }

        var className = spec.RequiredText("gatewayClassName", $"write '{GatewayClassDocument.BuiltIn}' or the name of a GatewayClass", NameRules.CheckName);
        var addresses = ImmutableArray.CreateBuilder<string>();
        foreach (var address in spec.Maps("addresses", 16))
        {
            var type = address.Choice("type", "IPAddress", "Hostname") ?? "IPAddress";
            if (type != "IPAddress")
            {
                address.NotImplemented("type", "only addresses of type IPAddress can be bound");
            }

            if (address.RequiredText("value", "write the IP address to listen on", text => type == "IPAddress" ? ServiceBinder.CheckAddress(text, null) : null) is { } value)
            {
                addresses.Add(value);
            }

            address.Close();
        }

        var listeners = ImmutableArray.CreateBuilder<GatewayListener>();
        var names = new HashSet<string>();
        foreach (var fields in spec.Maps("listeners", MaxListeners))
        {
            if (Listener(fields, metadata) is not { } listener)
            {
                continue;
            }

            if (!names.Add(listener.Name))
            {
                fields.Fail("name", $"'{listener.Name}' is the name of an earlier listener: names are unique within a Gateway");
            }
            else if (listeners.Any(other => other.Port == listener.Port && other.Protocol == listener.Protocol && other.Hostname == listener.Hostname))
            {
                fields.Fail("port", "an earlier listener has the same port, protocol and hostname: change one of them");
            }

            listeners.Add(listener);
        }

        if (!spec.Has("listeners"))
        {
            spec.Fail("listeners", "is missing: write at least one listener");
        }

        spec.Ignore("infrastructure");
        spec.NotImplemented("allowedListeners", "listener sets are not implemented: write the listeners here");
        spec.NotImplemented("backendTLS", "client certificates towards backends are not implemented: remove it");
        spec.NotImplemented("tls", "TLS settings for a whole Gateway are not implemented: write them at each listener");
        spec.NotImplemented("defaultScope", "default Gateways are not implemented: name the Gateway in each route's parentRefs");
        spec.Close();
        return new GatewayDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ClassName = className ?? "",
            Addresses = addresses.DrainToImmutable(),
            Listeners = listeners.DrainToImmutable(),
        };
    }

    public static ReferenceGrantDocument? ReferenceGrant(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'from:' and 'to:' below it") is not { } spec)
        {
            return null;
        }

        var from = ImmutableArray.CreateBuilder<(string, string, string)>();
        foreach (var item in spec.Maps("from", 16))
        {
            var group = item.RequiredText("group", "write the group, such as gateway.networking.k8s.io");
            var kind = item.RequiredText("kind", "write the kind, such as HTTPRoute");
            var ns = item.RequiredText("namespace", "name the namespace that may refer here", NameRules.CheckLabel);
            item.Close();
            if (group is not null && kind is not null && ns is not null)
            {
                from.Add((group, kind, ns));
            }
        }

        var to = ImmutableArray.CreateBuilder<(string, string, string?)>();
        foreach (var item in spec.Maps("to", 16))
        {
            var group = item.RequiredText("group", "write the group, \"\" for Services and Secrets");
            var kind = item.RequiredText("kind", "write the kind, such as Service");
            var name = item.Text("name", NameRules.CheckName);
            // A name that is there but bad must not widen the grant to every name.
            var isWhole = name is not null || !item.Has("name");
            item.Close();
            if (group is not null && kind is not null && isWhole)
            {
                to.Add((group, kind, name));
            }
        }

        foreach (var list in (ReadOnlySpan<string>)["from", "to"])
        {
            if (!spec.Has(list))
            {
                spec.Fail(list, "is missing: write at least one element");
            }
        }

        spec.Close();
        return new ReferenceGrantDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name, From = from.DrainToImmutable(), To = to.DrainToImmutable() };
    }

    private static GatewayListener? Listener(Fields fields, Metadata metadata)
    {
        var name = fields.RequiredText("name", "name the listener", NameRules.CheckName);
        var hostname = fields.Text("hostname", NameRules.CheckHostname);
        var port = fields.RequiredNumber("port", 1, 65535, "write the port to listen on");
        var protocolName = fields.Choice("protocol", "HTTP", "HTTPS", "TLS", "TCP", "UDP");
        if (protocolName is null && !fields.Has("protocol"))
        {
            fields.Fail("protocol", "is missing: write HTTP, HTTPS, TLS or TCP");
        }

        if (protocolName == "UDP")
        {
            fields.NotImplemented("protocol", "UDP is not implemented: use HTTP, HTTPS, TLS or TCP");
        }

        ListenerProtocol? protocol = protocolName switch
        {
            "HTTP" => ListenerProtocol.Http,
            "HTTPS" => ListenerProtocol.Https,
            "TLS" => ListenerProtocol.Tls,
            "TCP" or "UDP" => ListenerProtocol.Tcp,
            _ => null,
        };
        if (hostname is not null && protocol == ListenerProtocol.Tcp)
        {
            fields.Fail("hostname", $"a {protocolName} listener cannot tell hostnames apart: remove it");
        }

        var (certificates, isPassthrough) = Tls(fields, metadata, protocol);
        var from = RouteNamespaces.Same;
        var selector = ImmutableDictionary<string, string>.Empty;
        var kinds = ImmutableArray.CreateBuilder<string>();
        if (fields.Map("allowedRoutes") is { } allowed)
        {
            if (allowed.Map("namespaces") is { } namespaces)
            {
                from = namespaces.Choice("from", "Same", "All", "Selector", "None") switch
                {
                    "All" => RouteNamespaces.All,
                    "Selector" => RouteNamespaces.Selector,
                    "None" => RouteNamespaces.None,
                    _ => RouteNamespaces.Same,
                };
                if (namespaces.Map("selector") is { } labels)
                {
                    selector = labels.TextMap("matchLabels", NameRules.CheckTagKey, NameRules.CheckTagValue);
                    labels.NotImplemented("matchExpressions", "matchExpressions are not implemented: use matchLabels");
                    labels.Close();
                }
                else if (from == RouteNamespaces.Selector)
                {
                    namespaces.Fail("selector", "is missing: write matchLabels, for instance kubernetes.io/metadata.name");
                }

                namespaces.Close();
            }

            foreach (var kind in allowed.Maps("kinds", 8))
            {
                var group = kind.Text("group") ?? DocumentReader.GatewayGroup;
                var kindName = kind.RequiredText("kind", "write the kind of routes, such as HTTPRoute");
                kind.Close();
                kinds.Add(group == DocumentReader.GatewayGroup ? kindName ?? "" : $"{group}/{kindName}");
            }

            allowed.Close();
        }

        fields.Close();
        return name is null || port is null || protocol is null ? null : new GatewayListener
        {
            Name = name,
            Port = port.Value,
            Protocol = isPassthrough ? ListenerProtocol.TlsPassthrough : protocol.Value,
            Hostname = hostname,
            CertificateRefs = certificates,
            From = from,
            NamespaceSelector = selector,
            AllowedKinds = kinds.DrainToImmutable(),
            Field = fields.Path,
        };
    }

    private static (ImmutableArray<SecretRef> Certificates, bool IsPassthrough) Tls(Fields fields, Metadata metadata, ListenerProtocol? protocol)
    {
        var needsTls = protocol is ListenerProtocol.Https or ListenerProtocol.Tls;
        if (fields.Map("tls") is not { } tls)
        {
            if (needsTls && !fields.Has("tls"))
            {
                fields.Fail("tls", "is missing: write certificateRefs with the name of a kubernetes.io/tls Secret");
            }

            return ([], false);
        }

        if (protocol is not null && !needsTls)
        {
            fields.Fail("tls", "only HTTPS and TLS listeners have TLS: change the protocol or remove it");
        }

        var mode = tls.Choice("mode", "Terminate", "Passthrough") ?? "Terminate";
        if (mode == "Passthrough" && protocol == ListenerProtocol.Https)
        {
            tls.Fail("mode", "an HTTPS listener terminates TLS: write Terminate, or use protocol TLS");
        }

        var secrets = ImmutableArray.CreateBuilder<SecretRef>();
        foreach (var reference in tls.Maps("certificateRefs", 64))
        {
            var group = reference.Text("group") ?? "";
            var kind = reference.Text("kind") ?? DocumentKinds.Secret;
            if (group.Length > 0 || kind != DocumentKinds.Secret)
            {
                reference.NotImplemented("kind", $"{kind} is not implemented as the source of a certificate: use a Secret");
            }

            var name = reference.RequiredText("name", "name a kubernetes.io/tls Secret", NameRules.CheckName);
            var ns = reference.Text("namespace", NameRules.CheckLabel) ?? metadata.Name.Namespace;
            reference.Close();
            if (name is not null)
            {
                secrets.Add(new SecretRef(new ResourceName(ns, name), reference.Path));
            }
        }

        if (!tls.Has("certificateRefs") && mode == "Terminate")
        {
            tls.Fail("certificateRefs", "is missing: name at least one kubernetes.io/tls Secret");
        }

        tls.NotImplemented("frontendValidation", "client certificates at the gateway are not implemented: remove it");
        tls.NotImplemented("options", "TLS options are not implemented: remove it");
        tls.Close();

        // Gateway API: certificateRefs mean nothing where nobody ends TLS.
        return mode == "Passthrough" ? ([], true) : (secrets.DrainToImmutable(), false);
    }
}
