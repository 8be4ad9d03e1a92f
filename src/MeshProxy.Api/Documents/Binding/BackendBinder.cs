using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Reads which Service a route, or the copies of its requests, go to (Gateway API BackendObjectReference).</summary>
internal static class BackendBinder
{
    /// <summary>Reads the reference; what else stands beside it is the caller's to read, before he closes <paramref name="fields"/>.</summary>
    /// <returns>The backend with weight 1; null when it has no name, which was told.</returns>
    public static BackendRef? Reference(Fields fields, Metadata metadata)
    {
        var group = fields.Text("group") ?? "";
        var kind = fields.Text("kind") ?? DocumentKinds.Service;
        var name = fields.RequiredText("name", "name the Service", NameRules.CheckName);
        var ns = fields.Text("namespace", NameRules.CheckLabel) ?? metadata.Name.Namespace;
        var port = group.Length == 0 && kind == DocumentKinds.Service
            ? fields.RequiredNumber("port", 1, 65535, "write the port of the Service")
            : fields.Number("port", 1, 65535);
        return name is null ? null : new BackendRef(group, kind, new ResourceName(ns, name), port, 1, fields.Path);
    }
}
