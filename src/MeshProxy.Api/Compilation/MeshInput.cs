using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Compilation;

/// <summary>Everything that decides what a mesh does.</summary>
public sealed record MeshInput(ImmutableArray<Document> Documents, ImmutableArray<LiveWorkload> Workloads, TrustDomain TrustDomain);

/// <summary>An instance that registered itself.</summary>
/// <param name="Name">"namespace/name", unique.</param>
/// <param name="Identity">What its certificate proved.</param>
/// <param name="Address">An IP address.</param>
/// <param name="InboundPort">The port of its sidecar.</param>
/// <param name="Labels">Picked by Service.spec.selector.</param>
/// <param name="Ports">Its application's ports; a Service's targetPort may name one.</param>
/// <param name="Locality">"region/zone/sub-zone".</param>
/// <param name="Weight">At least 1.</param>
/// <param name="Ready">Up and willing.</param>
/// <param name="Draining">Finishing what it has.</param>
public sealed record LiveWorkload(
    ResourceName Name,
    SpiffeId Identity,
    string Address,
    int? InboundPort,
    IReadOnlyDictionary<string, string> Labels,
    ImmutableArray<(string Name, int Port)> Ports,
    string Locality,
    int Weight,
    bool Ready,
    bool Draining);
