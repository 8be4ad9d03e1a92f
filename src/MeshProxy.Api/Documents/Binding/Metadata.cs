using System.Collections.Immutable;
using System.Globalization;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>What every document says about itself.</summary>
internal sealed record Metadata(
    string ApiVersion,
    ResourceName Name,
    ImmutableDictionary<string, string> Labels,
    ImmutableDictionary<string, string> Annotations,
    DateTimeOffset CreatedAt)
{
    /// <summary>Reads metadata and settles the document's title.</summary>
    public static Metadata? Read(Fields root, string kind, string apiVersion, string defaultNamespace)
    {
        if (root.RequiredMap("metadata", "write 'metadata:' with 'name:' below it") is not { } fields)
        {
            return null;
        }

        // Services and Gateways are labels of mesh names and of listener IDs; everything else may have dots.
        var name = fields.RequiredText("name", "name the document", kind == DocumentKinds.Service ? NameRules.CheckLabel : NameRules.CheckName);
        var isNamespaced = DocumentKinds.IsNamespaced(kind);
        var @namespace = fields.Text("namespace", NameRules.CheckLabel) ?? (isNamespaced ? defaultNamespace : "");
        if (!isNamespaced && fields.Has("namespace"))
        {
            fields.Fail("namespace", $"a {kind} has no namespace: remove it");
        }

        root.Scope.Title = name is null ? kind : isNamespaced ? $"{kind} {@namespace}/{name}" : $"{kind} {name}";
        var labels = fields.TextMap("labels", NameRules.CheckTagKey, NameRules.CheckTagValue);
        var annotations = fields.TextMap("annotations", NameRules.CheckTagKey);
        var createdAt = default(DateTimeOffset);
        if (fields.Text("creationTimestamp") is { } text
            && !DateTimeOffset.TryParseExact(text, ["yyyy-MM-dd'T'HH:mm:ssK", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFFK"], CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out createdAt))
        {
            fields.Fail("creationTimestamp", $"'{text}' is no time: write it like 2026-01-31T12:00:00Z, or leave it out");
        }

        fields.Ignore(
            "uid", "resourceVersion", "generation", "managedFields", "selfLink", "ownerReferences", "finalizers", "deletionTimestamp",
            "deletionGracePeriodSeconds", "generateName");
        fields.Close();
        return name is null ? null : new Metadata(apiVersion, new ResourceName(@namespace, name), labels, annotations, createdAt);
    }
}
