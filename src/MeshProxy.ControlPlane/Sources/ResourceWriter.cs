using System.Buffers;
using System.Collections.Immutable;
using System.Text;
using System.Text.Json;
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
    private const string ApiVersion = "meshproxy.io/v1alpha1";

    /// <summary>A document with what became of it.</summary>
    public static Resource Write(MeshDocument document, CompiledMesh mesh) => Write(document.Document, mesh.StatusOf(document.Document, document.Stored.Generation));

    /// <summary>A registered instance.</summary>
    public static Resource Write(RegisteredWorkload workload, CompiledMesh mesh)
    {
        var live = workload.ToLive();
        ImmutableArray<ConditionInfo> conditions =
        [
            new("Ready", live.Ready && !live.Draining, live.Draining ? "Draining" : live.Ready ? "Ready" : "NotReady", "The instance's last word over its lease."),
            .. mesh.Refusals.TryGetValue(live.Name, out var refusals)
                ? refusals.Select(refusal => new ConditionInfo("Serving", false, refusal.IsIdentity ? "NotAllowed" : "PortMissing", refusal.Reason, $"Service {refusal.Service}"))
                : [],
        ];
        var text = ToJson(live);
        var read = DocumentReader.Read([new DocumentSource(live.Name.ToString(), text)], live.Name.Namespace);
        if (read.Documents is [var document])
        {
            return Write(document, new DocumentStatus(conditions, 1));
        }

        // A label that an operator could not have written; JSON is YAML.
        var resource = new Resource { ApiVersion = ApiVersion, Kind = DocumentKinds.Workload, Namespace = live.Name.Namespace, Name = live.Name.Name, Generation = 1, Yaml = text, Json = text };
        resource.Conditions.AddRange(conditions.Select(ConfigMapping.ToProto));
        return resource;
    }

    /// <summary>What became of a document.</summary>
    public static ImmutableArray<ConditionInfo> Conditions(CompiledMesh mesh, (string Kind, ResourceName Name) key) =>
        mesh.Conditions.TryGetValue(key, out var conditions) ? conditions : [];

    /// <summary>The document that an operator would write for it.</summary>
    private static string ToJson(LiveWorkload workload)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("apiVersion", ApiVersion);
            json.WriteString("kind", DocumentKinds.Workload);
            json.WriteStartObject("metadata");
            json.WriteString("name", workload.Name.Name);
            json.WriteString("namespace", workload.Name.Namespace);
            json.WriteStartObject("labels");
            foreach (var (key, value) in workload.Labels.OrderBy(label => label.Key, StringComparer.Ordinal))
            {
                json.WriteString(key, value);
            }

            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteStartObject("spec");
            json.WriteString("address", workload.Address);
            if (workload.InboundPort is { } inboundPort)
            {
                json.WriteNumber("inboundPort", inboundPort);
            }

            json.WriteString("serviceAccount", workload.Identity.ServiceAccount);
            json.WriteStartArray("ports");
            foreach (var (name, port) in workload.Ports)
            {
                json.WriteStartObject();
                if (name.Length > 0)
                {
                    json.WriteString("name", name);
                }

                json.WriteNumber("port", port);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            if (workload.Locality.Length > 0)
            {
                json.WriteString("locality", workload.Locality);
            }

            json.WriteNumber("weight", workload.Weight);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static Resource Write(Document document, DocumentStatus status)
    {
        var resource = new Resource
        {
            ApiVersion = document.ApiVersion,
            Kind = document.Kind,
            Namespace = document.Name.Namespace,
            Name = document.Name.Name,
            Yaml = DocumentWriter.ToYaml(document, status),
            Json = DocumentWriter.ToJson(document, status),
            Generation = status.Generation,
            CreatedAt = document.CreatedAt == default ? null : document.CreatedAt.ToTimestamp(),
        };
        resource.Conditions.AddRange(status.Conditions.Select(ConfigMapping.ToProto));
        return resource;
    }
}
