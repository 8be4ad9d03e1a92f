using MeshProxy.Api.Documents;
using MeshProxy.ControlPlane.Store;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>A document in force: as it is kept, and as it is read.</summary>
internal sealed record MeshDocument(StoredDocument Stored, Document Document)
{
    /// <summary>What names it.</summary>
    public (string Kind, ResourceName Name) Key => (Stored.Kind, Stored.Name);
}
