using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>Documents by kind and name, ordered: older first, then by "namespace/name" (Gateway API), which decides every conflict.</summary>
internal sealed class DocumentIndex
{
    public DocumentIndex(ImmutableArray<Document> documents, ICollection<DocumentError> errors)
    {
        var seen = new Dictionary<(string, ResourceName), Document>();
        foreach (var document in documents)
        {
            if (!seen.TryAdd((document.Kind, document.Name), document))
            {
                var first = seen[(document.Kind, document.Name)];
                errors.Add(document.Error("metadata.name", $"{document.Title} is already in {first.Source}:{first.Line}: keep one of the two"));
            }
        }

        var ordered = seen.Values.OrderBy(document => document.CreatedAt).ThenBy(document => document.Name.ToString(), StringComparer.Ordinal)
            .ThenBy(document => document.Kind, StringComparer.Ordinal).ToArray();
        All = ordered;
        Services = ordered.OfType<ServiceDocument>().ToDictionary(service => service.Name);
        Gateways = ordered.OfType<GatewayDocument>().ToDictionary(gateway => gateway.Name);
        GatewayClasses = ordered.OfType<GatewayClassDocument>().ToDictionary(@class => @class.Name.Name);
        Secrets = ordered.OfType<SecretDocument>().ToDictionary(secret => secret.Name);
        ConfigMaps = ordered.OfType<ConfigMapDocument>().ToDictionary(map => map.Name);
        Routes = [.. ordered.OfType<RouteDocument>()];
        Policies = [.. ordered.OfType<PolicyDocument>()];
        _grants = ordered.OfType<ReferenceGrantDocument>().ToLookup(grant => grant.Name.Namespace);
    }

    private readonly ILookup<string, ReferenceGrantDocument> _grants;

    public IReadOnlyList<Document> All { get; }

    public Dictionary<ResourceName, ServiceDocument> Services { get; }

    public Dictionary<ResourceName, GatewayDocument> Gateways { get; }

    public Dictionary<string, GatewayClassDocument> GatewayClasses { get; }

    public Dictionary<ResourceName, SecretDocument> Secrets { get; }

    public Dictionary<ResourceName, ConfigMapDocument> ConfigMaps { get; }

    public ImmutableArray<RouteDocument> Routes { get; }

    public ImmutableArray<PolicyDocument> Policies { get; }

    /// <summary>True when a document may refer to another: in its own namespace always, elsewhere when a ReferenceGrant there says so.</summary>
    public bool MayRefer(Document from, string toGroup, string toKind, ResourceName to) => from.Name.Namespace == to.Namespace
        || _grants[to.Namespace].Any(grant =>
            grant.From.Contains((DocumentReader.GatewayGroup, from.Kind, from.Name.Namespace))
            && grant.To.Any(target => target.Group == toGroup && target.Kind == toKind && (target.Name is null || target.Name == to.Name)));
}
