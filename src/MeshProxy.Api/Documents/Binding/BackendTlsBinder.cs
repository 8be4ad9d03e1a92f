using System.Collections.Immutable;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>BackendTLSPolicy, and the ConfigMap that holds its authorities.</summary>
internal static class BackendTlsBinder
{
    // Gateway API's own bounds.
    private const int MaxTargets = 16;
    private const int MaxAuthorities = 8;
    private const int MaxNames = 5;
    private const int MaxUriLength = 253;

    public static BackendTlsPolicyDocument? Policy(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'targetRefs:' and 'validation:' below it") is not { } spec)
        {
            return null;
        }

        var targets = PolicyBinder.Targets(spec, metadata, MaxTargets);
        if (!spec.Has("targetRefs"))
        {
            spec.Fail("targetRefs", "is missing: name the Service whose endpoints are dialed with TLS");
        }

        foreach (var group in targets.GroupBy(target => (target.Group, target.Kind, target.Name)).Where(group => group.Count() > 1))
        {
            if (group.Any(target => target.SectionName is null) || group.Select(target => target.SectionName).Distinct().Count() < group.Count())
            {
                spec.Fail("targetRefs", $"names {group.First().Kind} {group.Key.Name.Name} more than once: give each a sectionName of its own");
            }
        }

        var document = new BackendTlsPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name, TargetRefs = targets };
        if (spec.RequiredMap("validation", "write hostname, and caCertificateRefs or wellKnownCACertificates") is { } validation)
        {
            document = Validation(validation, document);
        }

        spec.NotImplemented("options", "TLS options are not implemented: remove it");
        spec.Close();
        return document;
    }

    public static ConfigMapDocument ConfigMap(Fields root, Metadata metadata)
    {
        var data = root.TextMap("data");
        root.NotImplemented("binaryData", "only text is read from a ConfigMap: use data");
        root.Flag("immutable");
        return new ConfigMapDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name, Data = data };
    }

    private static BackendTlsPolicyDocument Validation(Fields fields, BackendTlsPolicyDocument document)
    {
        var hostname = fields.RequiredText("hostname", "write the name that the certificate is for; it is sent as SNI", CheckPreciseHostname);
        var authorities = ImmutableArray.CreateBuilder<AuthorityRef>();
        foreach (var reference in fields.Maps("caCertificateRefs", MaxAuthorities))
        {
            var group = reference.Text("group") ?? "";
            var kind = reference.RequiredText("kind", "write ConfigMap, or Secret");
            var name = reference.RequiredText("name", "name the object whose key ca.crt holds the certificates", NameRules.CheckName);
            reference.Close();
            if (kind is not null && name is not null)
            {
                authorities.Add(new AuthorityRef(group, kind, document.Name with { Name = name }, reference.Path));
            }
        }

        var wellKnown = fields.Choice("wellKnownCACertificates", "System");
        if (authorities.Count > 0 && wellKnown is not null)
        {
            fields.Fail("wellKnownCACertificates", "is given besides caCertificateRefs: write one of the two");
        }
        else if (!fields.Has("caCertificateRefs") && !fields.Has("wellKnownCACertificates"))
        {
            fields.Fail("caCertificateRefs", "is missing: name a ConfigMap with the key ca.crt, or write wellKnownCACertificates: System");
        }

        var hostnames = ImmutableArray.CreateBuilder<string>();
        var uris = ImmutableArray.CreateBuilder<string>();
        foreach (var name in fields.Maps("subjectAltNames", MaxNames))
        {
            switch (name.Choice("type", "Hostname", "URI"))
            {
                case "Hostname":
                    if (name.RequiredText("hostname", "write the DNS name", NameRules.CheckHostname) is { } dns)
                    {
                        hostnames.Add(dns);
                    }

                    break;
                case "URI":
                    if (name.RequiredText("uri", "write the URI, such as spiffe://example.com/ns/shop/sa/payments", CheckUri) is { } uri)
                    {
                        uris.Add(uri);
                    }

                    break;
                default:
                    if (!name.Has("type"))
                    {
                        name.Fail("type", "is missing: write Hostname or URI");
                    }

                    break;
            }

            name.Close();
        }

        fields.Close();
        return document with
        {
            ServerName = hostname ?? "",
            Authorities = authorities.DrainToImmutable(),
            UsesSystemAuthorities = wellKnown is not null,
            Hostnames = hostnames.DrainToImmutable(),
            Uris = uris.DrainToImmutable(),
        };
    }

    private static string? CheckPreciseHostname(string text) =>
        text.StartsWith('*') ? $"'{text}' is a wildcard: a server name is one name" : NameRules.CheckHostname(text);

    private static string? CheckUri(string text) =>
        text.Length is > 0 and <= MaxUriLength && text.All(c => c is > ' ' and < '\x7F') && Uri.TryCreate(text, UriKind.Absolute, out var uri) && uri.Scheme.Length > 0 && text.Contains(':')
            ? null
            : "is no absolute URI of at most 253 characters: write scheme and the rest, such as spiffe://example.com/payments";
}
