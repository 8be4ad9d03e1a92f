using System.Text.Json;
using MeshProxy.Demo.Processes;

namespace MeshProxy.Demo.Mesh;

/// <summary>What <c>meshctl status -o json</c> says. Revisions are opaque: a sidecar is up to date when it names the mesh's.</summary>
internal sealed record MeshStatus(string Revision, IReadOnlyList<SidecarStatus> Sidecars)
{
    /// <exception cref="DemoFailure">It is not the JSON that was agreed on.</exception>
    public static MeshStatus Parse(string text)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            var root = json.RootElement;
            return new MeshStatus(Text(root, "mesh_revision"), [.. root.GetProperty("sidecars").EnumerateArray().Select(Sidecar)]);
        }
        catch (Exception failure) when (failure is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new DemoFailure($"meshctl status -o json: {failure.Message}\n{text}");
        }
    }

    public bool AllConnected(IEnumerable<string> names) => names.All(name => Sidecars.Any(sidecar => sidecar.Name == name && sidecar.Connected));

    /// <summary>Whether every named sidecar has acknowledged the revision that the mesh has now.</summary>
    public bool AllAccepted(IEnumerable<string> names) =>
        names.All(name => Sidecars.Any(sidecar => sidecar.Name == name && sidecar.Connected && sidecar.AcceptedRevision == Revision));

    public override string ToString() => $"mesh revision {Revision}; " + string.Join(", ", Sidecars);

    private static SidecarStatus Sidecar(JsonElement sidecar) => new(
        // "namespace/name"; everything here is in one namespace.
        Text(sidecar, "workload").Split('/')[^1],
        sidecar.GetProperty("connected").GetBoolean(),
        Text(sidecar, "accepted_revision"),
        Text(sidecar, "last_rejection"));

    private static string Text(JsonElement element, string property) => element.TryGetProperty(property, out var value) ? value.ToString() : "";
}

internal sealed record SidecarStatus(string Name, bool Connected, string AcceptedRevision, string LastRejection)
{
    public override string ToString() => Connected
        ? $"{Name} at {AcceptedRevision}{(LastRejection.Length > 0 ? $" (rejected: {LastRejection})" : "")}"
        : $"{Name} not connected";
}
