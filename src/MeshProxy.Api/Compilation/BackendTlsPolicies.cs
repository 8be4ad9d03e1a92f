using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>
/// BackendTLSPolicies by the service ports that they are about. Of two for one target the older wins (documents are ordered); one that names a port goes before
/// one for the whole Service. A policy that cannot be enforced forbids its targets instead of leaving them in plaintext.
/// </summary>
internal sealed class BackendTlsPolicies
{
    /// <summary>The key of a ConfigMap or Secret that holds certificates of authorities.</summary>
    private const string AuthoritiesKey = "ca.crt";

    private readonly Dictionary<(ResourceName Service, string? Section), (BackendTlsPolicyDocument Policy, UpstreamTlsConfig Config)> _byTarget = [];
    private readonly DocumentIndex _index;

    public BackendTlsPolicies(DocumentIndex index, ConditionBook conditions)
    {
        _index = index;
        foreach (var policy in index.Policies.OfType<BackendTlsPolicyDocument>())
        {
            var (config, reason, problem) = Resolve(policy);
            foreach (var target in policy.TargetRefs)
            {
                var parent = policy.TargetRefs.Length > 1 ? target.ToString() : "";
                if (Attach(policy, target, config) is { } refused)
                {
                    conditions.Refuse(policy, refused.Reason, refused.Message, parent);
                }
                else if (policy.Unsupported is [var first, ..])
                {
                    conditions.Refuse(policy, "UnsupportedValue", $"{first.Field}: {first.Message}", parent);
                }
                else if (config.Invalid is not null)
                {
                    conditions.Refuse(policy, "NoValidCACertificate", problem!, parent);
                }
                else
                {
                    conditions.Accept(policy, parent);
                }

                conditions.Add(policy, "ResolvedRefs", problem is null, reason ?? "ResolvedRefs", problem ?? "", parent);
            }
        }
    }

    /// <summary>How a port of a Service is dialed outside the mesh; null: in plaintext.</summary>
    public UpstreamTlsConfig? Of(ResourceName service, ServicePort port) =>
        port.Name.Length > 0 && _byTarget.TryGetValue((service, port.Name), out var found) ? found.Config
        : _byTarget.TryGetValue((service, null), out found) ? found.Config
        : null;

    private (string Reason, string Message)? Attach(BackendTlsPolicyDocument policy, TargetRef target, UpstreamTlsConfig config)
    {
        if (target.Group.Length > 0 || target.Kind != DocumentKinds.Service)
        {
            return ("Invalid", $"{target.Field}: a BackendTLSPolicy is about a Service (group \"\"), not {target.Group}/{target.Kind}");
        }

        if (!_index.Services.TryGetValue(target.Name, out var service))
        {
            return ("TargetNotFound", $"{target.Field}: there is no Service {target.Name}");
        }

        if (target.SectionName is not null && service.Ports.All(port => port.Name != target.SectionName))
        {
            return ("TargetNotFound", $"{target.Field}: {service.Title} has no port named '{target.SectionName}'");
        }

        return _byTarget.TryAdd((target.Name, target.SectionName), (policy, config)) ? null
            : ("Conflicted", $"{target.Field}: {target} is already under {_byTarget[(target.Name, target.SectionName)].Policy.Title}");
    }

    private (UpstreamTlsConfig Config, string? Reason, string? Problem) Resolve(BackendTlsPolicyDocument policy)
    {
        var authorities = new StringBuilder();
        (string Reason, string Message)? problem = null;
        foreach (var reference in policy.Authorities)
        {
            if (Read(reference, authorities) is { } bad)
            {
                problem ??= (bad.Reason, $"{reference.Field}: {bad.Message}");
            }
        }

        var invalid = policy.Unsupported is [var first, ..] ? $"{first.Field}: {first.Message}"
            : authorities.Length == 0 && !policy.UsesSystemAuthorities ? problem?.Message ?? "no authority is named"
            : null;
        var config = new UpstreamTlsConfig
        {
            Policy = policy.Name,
            ServerName = policy.ServerName,
            Hostnames = policy.Hostnames,
            Uris = policy.Uris,
            AuthoritiesPem = authorities.ToString(),
            Invalid = invalid is null ? null : $"{policy.Title}: {invalid}",
        };
        return (config, problem?.Reason, problem?.Message);
    }

    private (string Reason, string Message)? Read(AuthorityRef reference, StringBuilder authorities)
    {
        if (reference.Group.Length > 0 || reference.Kind is not (DocumentKinds.ConfigMap or DocumentKinds.Secret))
        {
            return ("InvalidKind", $"certificates of authorities are read from a ConfigMap or a Secret (group \"\"), not from {reference.Group}/{reference.Kind}");
        }

        string? pem;
        if (reference.Kind == DocumentKinds.ConfigMap)
        {
            if (!_index.ConfigMaps.TryGetValue(reference.Name, out var map))
            {
                return ("InvalidCACertificateRef", $"there is no ConfigMap {reference.Name}");
            }

            pem = map.Data.GetValueOrDefault(AuthoritiesKey);
        }
        else
        {
            if (!_index.Secrets.TryGetValue(reference.Name, out var secret))
            {
                return ("InvalidCACertificateRef", $"there is no Secret {reference.Name}");
            }

            pem = secret.Data.TryGetValue(AuthoritiesKey, out var bytes) ? Encoding.UTF8.GetString(bytes.AsSpan()) : null;
        }

        if (pem is null)
        {
            return ("InvalidCACertificateRef", $"{reference.Kind} {reference.Name} has no key {AuthoritiesKey}");
        }

        // Written anew: what stands around the certificates, a private key say, must not travel.
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(pem);
            foreach (var certificate in certificates)
            {
                authorities.Append(certificate.ExportCertificatePem()).Append('\n');
            }
        }
        catch (CryptographicException)
        {
            return ("InvalidCACertificateRef", $"{AuthoritiesKey} of {reference.Kind} {reference.Name} holds a PEM block that is no X.509 certificate");
        }
        finally
        {
            foreach (var certificate in certificates)
            {
                certificate.Dispose();
            }
        }

        return certificates.Count == 0 ? ("InvalidCACertificateRef", $"{AuthoritiesKey} of {reference.Kind} {reference.Name} holds no PEM block 'CERTIFICATE'") : null;
    }
}
