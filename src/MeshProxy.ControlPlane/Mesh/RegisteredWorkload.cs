using Google.Protobuf;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Store;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>An instance that registered itself, and its last word on its readiness.</summary>
internal sealed record RegisteredWorkload(ResourceName Name, SpiffeId Identity, string LeaseId, RegisterRequest Registration, bool Ready, bool Draining)
{
    /// <summary>Reads it from the store.</summary>
    public static RegisteredWorkload FromStore(StoredWorkload stored) => new(
        stored.Name, stored.Identity, stored.LeaseId, RegisterRequest.Parser.ParseFrom(stored.Registration), stored.Ready, stored.Draining);

    /// <summary>As the store keeps it.</summary>
    public StoredWorkload ToStore() => new(Name, Identity, LeaseId, Registration.ToByteArray(), Ready, Draining);

    /// <summary>As the compiler takes it.</summary>
    public LiveWorkload ToLive() => new(
        Name,
        Identity,
        Registration.Address,
        Registration.InboundPort == 0 ? null : (int)Registration.InboundPort,
        Registration.Labels,
        [.. Registration.Ports.Select(port => (port.Name, (int)port.Port))],
        Registration.Locality,
        (int)Math.Max(1, Registration.Weight),
        Ready,
        Draining);
}
