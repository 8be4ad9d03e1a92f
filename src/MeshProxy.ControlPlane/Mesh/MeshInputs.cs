using System.Collections.Immutable;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>Everything that decides what the mesh does: documents of operators, and instances that registered themselves.</summary>
internal sealed record MeshInputs(
    ImmutableDictionary<(string Kind, ResourceName Name), MeshDocument> Documents,
    ImmutableDictionary<ResourceName, RegisteredWorkload> Workloads)
{
    /// <summary>For the compiler, in an order that does not depend on when things came.</summary>
    public MeshInput ToCompilerInput(TrustDomain trustDomain) => new(
        [.. Documents.Values.Select(document => document.Document).OrderBy(document => document.Title, StringComparer.Ordinal)],
        LiveWorkloads(),
        trustDomain);

    /// <summary>The instances, by name.</summary>
    public ImmutableArray<LiveWorkload> LiveWorkloads() =>
        [.. Workloads.Values.OrderBy(workload => workload.Name.ToString(), StringComparer.Ordinal).Select(workload => workload.ToLive())];

    /// <summary>Every Service of a namespace.</summary>
    public IEnumerable<ServiceDocument> ServicesOf(string @namespace) =>
        Documents.Values.Select(document => document.Document).OfType<ServiceDocument>().Where(service => service.Name.Namespace == @namespace);
}
