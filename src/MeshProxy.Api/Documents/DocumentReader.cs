using System.Collections.Immutable;
using MeshProxy.Api.Documents.Binding;
using MeshProxy.Api.Documents.Nodes;

namespace MeshProxy.Api.Documents;

/// <summary>The only reader of documents: YAML and JSON, with exact positions, without reflection.</summary>
public static class DocumentReader
{
    internal const string GatewayGroup = "gateway.networking.k8s.io";
    internal const string OurGroup = "meshproxy.io";

    /// <summary>Reads every document of every source. Never throws on bad input.</summary>
    /// <param name="sources">Files and their texts.</param>
    /// <param name="defaultNamespace">For documents without metadata.namespace.</param>
    public static ReadResult Read(IEnumerable<DocumentSource> sources, string defaultNamespace = "default")
    {
        var documents = ImmutableArray.CreateBuilder<Document>();
        var errors = ImmutableArray.CreateBuilder<DocumentError>();
        foreach (var source in sources)
        {
            foreach (var (root, error) in DocumentTree.Read(source.Text))
            {
                if (error is not null)
                {
                    errors.Add(new DocumentError(source.Name, error.Line, error.Column, "", error.Field, error.Message));
                }
                else if (root is not MappingNode mapping)
                {
                    errors.Add(new DocumentError(source.Name, root!.Line, root.Column, "", "", $"A document must be a mapping with apiVersion, kind, metadata and spec, not {root.Describe}."));
                }
                else
                {
                    Bind(source.Name, mapping, defaultNamespace, documents, errors);
                }
            }
        }

        return new ReadResult(documents.DrainToImmutable(), errors.DrainToImmutable());
    }

    private static void Bind(
        string source, MappingNode tree, string defaultNamespace, ImmutableArray<Document>.Builder documents, ImmutableArray<DocumentError>.Builder errors)
    {
        var scope = new DocumentScope(source, "");
        var root = new Fields(scope, tree, "");
        var kind = root.RequiredText("kind", $"write one of {string.Join(", ", DocumentKinds.All)}");
        var apiVersion = root.RequiredText("apiVersion", kind is not null && Versions(kind) is [var first, ..] ? $"write {first}" : "write the group and version of the kind");
        Document? document = null;
        if (kind is not null && apiVersion is not null)
        {
            scope.Title = kind;
            document = BindKind(root, kind, apiVersion, defaultNamespace);
        }

        if (scope.Errors.Count > 0 || document is null)
        {
            errors.AddRange(scope.Errors);
            return;
        }

        documents.Add(document);

        Document? BindKind(Fields fields, string boundKind, string version, string ns)
        {
            var versions = Versions(boundKind);
            if (versions.Length == 0)
            {
                fields.Fail("kind", $"'{boundKind}' is not known: use one of {string.Join(", ", DocumentKinds.All)}");
                return null;
            }

            if (!versions.Contains(version))
            {
                fields.Fail("apiVersion", $"'{version}' is not a version of {boundKind} that is read: use {string.Join(" or ", versions)}");
                return null;
            }

            if (Metadata.Read(fields, boundKind, version, ns) is not { } metadata)
            {
                return null;
            }

            Document? bound = boundKind switch
            {
                DocumentKinds.Service => ServiceBinder.Service(fields, metadata),
                DocumentKinds.EndpointSlice => ServiceBinder.EndpointSlice(fields, metadata),
                DocumentKinds.Secret => SecretBinder.Secret(fields, metadata),
                DocumentKinds.ConfigMap => BackendTlsBinder.ConfigMap(fields, metadata),
                DocumentKinds.GatewayClass => GatewayBinder.GatewayClass(fields, metadata),
                DocumentKinds.Gateway => GatewayBinder.Gateway(fields, metadata),
                DocumentKinds.ReferenceGrant => GatewayBinder.ReferenceGrant(fields, metadata),
                DocumentKinds.HttpRoute => RouteBinder.HttpRoute(fields, metadata),
                DocumentKinds.GrpcRoute => RouteBinder.GrpcRoute(fields, metadata),
                DocumentKinds.TcpRoute => RouteBinder.TcpRoute(fields, metadata),
                DocumentKinds.TlsRoute => RouteBinder.TlsRoute(fields, metadata),
                DocumentKinds.BackendTlsPolicy => BackendTlsBinder.Policy(fields, metadata),
                DocumentKinds.Workload => WorkloadBinder.Workload(fields, metadata),
                DocumentKinds.ClientTrafficPolicy => ClientTrafficBinder.Policy(fields, metadata),
                _ => PolicyBinder.Policy(fields, boundKind, metadata),
            };
            fields.Ignore("status");
            fields.Close();
            return bound is null ? null : bound with
            {
                Labels = metadata.Labels,
                Annotations = metadata.Annotations,
                CreatedAt = metadata.CreatedAt,
                Source = source,
                Line = tree.Line,
                Unsupported = [.. scope.Unsupported],
                Tree = tree,
                Fingerprint = CanonicalText.Fingerprint(tree, metadata.Name),
            };
        }
    }

    /// <summary>Versions of a kind that are read, the preferred one first.</summary>
    private static string[] Versions(string kind) => kind switch
    {
        DocumentKinds.Service or DocumentKinds.Secret or DocumentKinds.ConfigMap => ["v1"],
        DocumentKinds.EndpointSlice => ["discovery.k8s.io/v1"],
        DocumentKinds.GatewayClass or DocumentKinds.Gateway or DocumentKinds.HttpRoute => [GatewayGroup + "/v1", GatewayGroup + "/v1beta1"],
        DocumentKinds.GrpcRoute => [GatewayGroup + "/v1"],
        DocumentKinds.TcpRoute => [GatewayGroup + "/v1alpha2", GatewayGroup + "/v1"],
        DocumentKinds.TlsRoute => [GatewayGroup + "/v1alpha2", GatewayGroup + "/v1alpha3", GatewayGroup + "/v1"],
        DocumentKinds.ReferenceGrant => [GatewayGroup + "/v1beta1", GatewayGroup + "/v1"],
        DocumentKinds.BackendTlsPolicy => [GatewayGroup + "/v1", GatewayGroup + "/v1alpha3"],
        DocumentKinds.Workload or DocumentKinds.ClientTrafficPolicy or DocumentKinds.BackendTrafficPolicy or DocumentKinds.AuthorizationPolicy or DocumentKinds.RateLimitPolicy => [OurGroup + "/v1alpha1"],
        _ => [],
    };
}
