using System.Collections.Immutable;
using Google.Protobuf.WellKnownTypes;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Mapping;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Sources;

/// <summary>Shows documents, and registered instances as the Workloads they are, to operators. The data of Secrets is never in it.</summary>
internal static class ResourceWriter
{
    /// <summary>A document with what became of it.</summary>
    public static Resource Write(MeshDocument document, CompiledMesh mesh) => Write(document.Document, document.Stored.Generation, Conditions(mesh, document.Key));

    /// <summary>A registered instance.</summary>
    public static Resource Write(RegisteredWorkload workload, CompiledMesh mesh)
    {
        var live = workload.ToLive();
        var document = new WorkloadDocument
        {
            ApiVersion = "meshproxy.io/v1alpha1",
            Name = live.Name,
            Labels = live.Labels.ToImmutableDictionary(),
            Address = live.Address,
            InboundPort = live.InboundPort,
            ServiceAccount = live.Identity.ServiceAccount,
            Ports = live.Ports,
            Locality = live.Locality,
            Weight = live.Weight,
        };
        ImmutableArray<ConditionInfo> conditions =
        [
            new("Ready", live.Ready && !live.Draining, live.Draining ? "Draining" : live.Ready ? "Ready" : "NotReady", "The instance's last word over its lease."),
            .. mesh.Refusals.TryGetValue(live.Name, out var refusals)
                ? refusals.Select(refusal => new ConditionInfo("Serving", false, refusal.IsIdentity ? "NotAllowed" : "PortMissing", refusal.Reason, $"Service {refusal.Service}"))
                : [],
        ];
        return Write(document, 1, conditions);
    }

    /// <summary>What became of a document.</summary>
    public static ImmutableArray<ConditionInfo> Conditions(CompiledMesh mesh, (string Kind, ResourceName Name) key) =>
        mesh.Conditions.TryGetValue(key, out var conditions) ? conditions : [];

    private static Resource Write(Document document, ulong generation, ImmutableArray<ConditionInfo> conditions)
    {
        var resource = new Resource
        {
            ApiVersion = document.ApiVersion,
            Kind = document.Kind,
            Namespace = document.Name.Namespace,
            Name = document.Name.Name,
            Yaml = DocumentWriter.ToYaml(document, conditions),
            Json = DocumentWriter.ToJson(document, conditions),
            Generation = generation,
            CreatedAt = document.CreatedAt == default ? null : document.CreatedAt.ToTimestamp(),
        };
        resource.Conditions.AddRange(conditions.Select(ConfigMapping.ToProto));
        return resource;
    }
}
