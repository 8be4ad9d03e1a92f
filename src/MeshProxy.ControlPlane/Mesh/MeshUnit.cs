using System.Collections.Immutable;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>A unit ready to be sent.</summary>
/// <param name="Message">The message; shared by every stream, never changed.</param>
/// <param name="Clusters">Every cluster that it names: their endpoint sets follow it.</param>
internal sealed record MeshUnit(Unit Message, ImmutableArray<ClusterId> Clusters)
{
    /// <summary>Capabilities without which a sidecar would enforce less than it says.</summary>
    public ImmutableArray<string> Needs { get; init; } = [];

    /// <summary>Its name.</summary>
    public string Name => Message.Name;

    /// <summary>Hash of its bytes.</summary>
    public string Revision => Message.Revision;

    /// <summary>Makes a unit whose revision is the hash of its content.</summary>
    public static MeshUnit Make(string name, Unit content, ImmutableArray<ClusterId> clusters)
    {
        content.Name = name;
        content.Revision = ConfigMapping.Revision(content); // while it has none itself
        return new MeshUnit(content, clusters);
    }

    /// <summary>The answer for what is not there.</summary>
    public static MeshUnit Absent(string name, string reason) => Make(name, new Unit { Removed = new Removed { Reason = reason } }, []);
}
