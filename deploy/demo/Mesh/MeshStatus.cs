using System.Text.Json;

namespace MeshProxy.Demo.Mesh;

/// <summary>What <c>meshctl status -o json</c> says.</summary>
internal sealed record MeshStatus(long Revision, IReadOnlyList<SidecarStatus> Sidecars)
{
    public static MeshStatus From(JsonElement root) => new(
        root.GetProperty("revision").GetInt64(),
        [.. root.GetProperty("sidecars").EnumerateArray().Select(sidecar => new SidecarStatus(
            sidecar.GetProperty("name").GetString() ?? "",
            sidecar.GetProperty("connected").GetBoolean(),
            sidecar.GetProperty("acceptedRevision").GetInt64()))]);

    public bool AllConnected(IEnumerable<string> names) => names.All(name => Sidecars.Any(sidecar => sidecar.Name == name && sidecar.Connected));

    public bool AllAccepted(IEnumerable<string> names, long revision) =>
        names.All(name => Sidecars.Any(sidecar => sidecar.Name == name && sidecar.Connected && sidecar.AcceptedRevision >= revision));
}

internal sealed record SidecarStatus(string Name, bool Connected, long AcceptedRevision);
