using System.Collections.Immutable;
using MeshProxy.Api.Control.V1;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>A unit ready to be sent.</summary>
/// <param name="Message">The message; shared by every stream, never changed.</param>
/// <param name="Clusters">Every cluster that it names: their endpoint sets follow it.</param>
internal sealed record MeshUnit(Unit Message, ImmutableArray<ClusterId> Clusters)
{
    /// <summary>The revision of a negative answer starts with this, so that it never equals a hash.</summary>
    private const string AbsentPrefix = "absent";

    /// <summary>Its name.</summary>
    public string Name => Message.Name;

    /// <summary>Hash of its bytes.</summary>
    public string Revision => Message.Revision;

    /// <summary>The answer for what is not there.</summary>
    public static MeshUnit Absent(string name, string reason) => new(new Unit { Name = name, Revision = AbsentPrefix, Removed = new Removed { Reason = reason } }, []);
}
