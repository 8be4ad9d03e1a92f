using Google.Protobuf.WellKnownTypes;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Discovery;

/// <summary>What status tells of one sidecar. Immutable; the directory holds the latest.</summary>
internal sealed record SidecarRecord(ResourceName Workload, SpiffeId Identity)
{
    /// <summary>True while its stream is open.</summary>
    public bool Connected { get; init; }

    /// <summary>Since when it is, or is not.</summary>
    public DateTimeOffset Since { get; init; }

    /// <summary>What it says of itself.</summary>
    public string Version { get; init; } = "";

    /// <summary>The mesh revision up to which it has accepted everything that concerns it.</summary>
    public string AcceptedRevision { get; init; } = "";

    /// <summary>The mesh revision up to which it has been sent everything that concerns it.</summary>
    public string SentRevision { get; init; } = "";

    /// <summary>Unit, field and reason; empty: none is rejected now.</summary>
    public string LastRejection { get; init; } = "";

    /// <summary>When.</summary>
    public DateTimeOffset? LastRejectionAt { get; init; }

    /// <summary>As the wire has it.</summary>
    public SidecarStatus ToProto() => new()
    {
        Workload = ConfigMapping.ToProto(Workload),
        Identity = Identity.ToString(),
        Connected = Connected,
        Since = Since.ToTimestamp(),
        Version = Version,
        AcceptedRevision = AcceptedRevision,
        SentRevision = SentRevision,
        LastRejection = LastRejection,
        LastRejectionAt = LastRejectionAt?.ToTimestamp(),
    };
}
