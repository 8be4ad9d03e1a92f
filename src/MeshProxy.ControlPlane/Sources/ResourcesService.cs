using System.Collections.Immutable;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Mapping;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Sources;

/// <summary>resources.proto, the documents of operators.</summary>
internal sealed class ResourcesService(MeshState mesh, CallLifetime lifetime, TimeProvider time, EventLog log) : Resources.ResourcesBase
{
    /// <inheritdoc/>
    public override async Task<ApplyReply> Apply(ApplyRequest request, ServerCallContext context)
    {
        var read = DocumentReader.Read(
            request.Sources.Select(source => new DocumentSource(source.Name, source.Text)), request.DefaultNamespace.Length > 0 ? request.DefaultNamespace : "default");
        var reply = new ApplyReply();
        reply.Errors.AddRange(read.Errors.Concat(Twice(read.Documents)).Select(ConfigMapping.ToProto));
        if (reply.Errors.Count > 0)
        {
            reply.MeshRevision = mesh.Current.RevisionText;
            return reply;
        }

        List<(MeshDocument Document, AppliedResource.Types.Change Change)> applied = [];
        var result = await mesh.ChangeDocumentsAsync(
            inputs =>
            {
                applied = [.. read.Documents.Select(document => Plan(document, inputs))];
                return new DocumentChange([.. applied.Where(one => one.Change != AppliedResource.Types.Change.Unchanged).Select(one => one.Document)], []);
            },
            commit: !request.DryRun,
            context.CancellationToken);
        reply.MeshRevision = result.Revision.ToString(System.Globalization.CultureInfo.InvariantCulture);
        reply.Errors.AddRange(result.Errors.Select(ConfigMapping.ToProto));
        if (reply.Errors.Count > 0)
        {
            return reply;
        }

        foreach (var (document, change) in applied)
        {
            var resource = new AppliedResource { Kind = document.Stored.Kind, Namespace = document.Stored.Name.Namespace, Name = document.Stored.Name.Name, Change = change };
            resource.Conditions.AddRange(ResourceWriter.Conditions(result.Mesh, document.Key).Select(ConfigMapping.ToProto));
            reply.Resources.Add(resource);
            if (change != AppliedResource.Types.Change.Unchanged && !request.DryRun)
            {
                log.Info("document_applied", $"{document.Document.Title} {change.ToString().ToLowerInvariant()}", ("user.name", CallerInterceptor.OperatorOf(context).Name),
                    ("meshproxy.document", document.Document.Title), ("meshproxy.generation", (long)document.Stored.Generation), ("meshproxy.revision", result.Revision));
            }
        }

        return reply;
    }

    /// <inheritdoc/>
    public override Task<ResourceReply> Get(GetRequest request, ServerCallContext context)
    {
        var (kind, name) = Key(request.Key);
        var snapshot = mesh.Current;
        var resource = snapshot.Inputs.Documents.TryGetValue((kind, name), out var document) ? ResourceWriter.Write(document, snapshot.Mesh)
            : kind == DocumentKinds.Workload && snapshot.Inputs.Workloads.TryGetValue(name, out var workload) ? ResourceWriter.Write(workload, snapshot.Mesh)
            : throw NotFound(kind, name);
        return Task.FromResult(new ResourceReply { Resource = resource });
    }

    /// <inheritdoc/>
    public override Task<ListReply> List(ListRequest request, ServerCallContext context)
    {
        var reply = new ListReply();
        reply.Resources.AddRange(Listed(mesh.Current, Kind(request.Kind), request.Namespace).Values);
        return Task.FromResult(reply);
    }

    /// <inheritdoc/>
    public override async Task<DeleteReply> Delete(DeleteRequest request, ServerCallContext context)
    {
        var keys = request.Keys.Select(Key).Distinct().ToImmutableArray();
        var result = await mesh.ChangeDocumentsAsync(
            inputs =>
            {
                foreach (var (kind, name) in keys)
                {
                    if (!inputs.Documents.ContainsKey((kind, name)))
                    {
                        throw kind == DocumentKinds.Workload && inputs.Workloads.ContainsKey(name)
                            ? new RpcException(new Status(StatusCode.FailedPrecondition, $"Workload {name} registered itself and goes when its sidecar stops. Nothing was deleted."))
                            : NotFound(kind, name, " Nothing was deleted.");
                    }
                }

                return new DocumentChange([], keys);
            },
            commit: true,
            context.CancellationToken);
        if (result.Errors.Length > 0)
        {
            throw new RpcException(new Status(StatusCode.FailedPrecondition, $"Nothing was deleted: {result.Errors[0]}"));
        }

        foreach (var (kind, name) in keys)
        {
            log.Info("document_deleted", $"{kind} {name} deleted", ("user.name", CallerInterceptor.OperatorOf(context).Name), ("meshproxy.document", $"{kind} {name}"), ("meshproxy.revision", result.Revision));
        }

        return new DeleteReply { MeshRevision = result.Revision.ToString(System.Globalization.CultureInfo.InvariantCulture) };
    }

    /// <inheritdoc/>
    public override async Task Watch(ListRequest request, IServerStreamWriter<ResourceEvent> responseStream, ServerCallContext context)
    {
        var kind = Kind(request.Kind);
        await lifetime.RunAsync(context, CallerInterceptor.OperatorOf(context).NotAfter, async cancellation =>
        {
            var signal = new ChangeSignal();
            using var watch = mesh.Watch(signal);
            var sent = new SortedDictionary<string, Resource>(StringComparer.Ordinal);
            while (true)
            {
                var present = Listed(mesh.Current, kind, request.Namespace);
                foreach (var (key, gone) in sent.Where(one => !present.ContainsKey(one.Key)).ToList())
                {
                    await responseStream.WriteAsync(new ResourceEvent { Change = ResourceEvent.Types.Change.Removed, Resource = gone }, cancellation);
                }

                foreach (var (key, resource) in present)
                {
                    if (!sent.TryGetValue(key, out var before) || !before.Equals(resource))
                    {
                        await responseStream.WriteAsync(new ResourceEvent { Change = ResourceEvent.Types.Change.Present, Resource = resource }, cancellation);
                    }
                }

                sent = present;
                await signal.WaitAsync(cancellation);
            }
        });
    }

    private static SortedDictionary<string, Resource> Listed(MeshSnapshot snapshot, string kind, string @namespace)
    {
        var resources = new SortedDictionary<string, Resource>(StringComparer.Ordinal);
        if (kind == DocumentKinds.Workload)
        {
            foreach (var workload in snapshot.Inputs.Workloads.Values.Where(workload => @namespace.Length == 0 || workload.Name.Namespace == @namespace))
            {
                resources[workload.Name.ToString()] = ResourceWriter.Write(workload, snapshot.Mesh);
            }
        }

        foreach (var document in snapshot.Inputs.Documents.Values)
        {
            if (document.Stored.Kind == kind && (@namespace.Length == 0 || document.Stored.Name.Namespace == @namespace || !DocumentKinds.IsNamespaced(kind)))
            {
                resources[document.Stored.Name.ToString()] = ResourceWriter.Write(document, snapshot.Mesh);
            }
        }

        return resources;
    }

    private static IEnumerable<Api.Documents.DocumentError> Twice(ImmutableArray<Document> documents) =>
        documents.GroupBy(document => (document.Kind, document.Name)).Where(group => group.Count() > 1).Select(group =>
        {
            var first = group.First();
            return group.Skip(1).First().Error("metadata.name", $"{first.Title} is also at {first.Source}:{first.Line}; give each document once.");
        });

    private static string Kind(string text) => DocumentKinds.TryParse(text, out var kind)
        ? kind
        : throw new RpcException(new Status(StatusCode.InvalidArgument, $"'{text}' is no kind of resource: use one of {string.Join(", ", DocumentKinds.All)}."));

    private static (string Kind, ResourceName Name) Key(ResourceKey? key)
    {
        var kind = Kind(key?.Kind ?? "");
        return (kind, new ResourceName(DocumentKinds.IsNamespaced(kind) ? key!.Namespace.Length > 0 ? key.Namespace : "default" : "", key!.Name));
    }

    private static RpcException NotFound(string kind, ResourceName name, string then = "") =>
        new(new Status(StatusCode.NotFound, $"There is no {kind} {(name.Namespace.Length > 0 ? name.ToString() : name.Name)}.{then}"));

    private (MeshDocument Document, AppliedResource.Types.Change Change) Plan(Document document, MeshInputs inputs)
    {
        if (!inputs.Documents.TryGetValue((document.Kind, document.Name), out var present))
        {
            // To the millisecond, as the store keeps it: a restart must not change the order of age.
            var createdAt = DateTimeOffset.FromUnixTimeMilliseconds(time.GetUtcNow().ToUnixTimeMilliseconds());
            return (Keep(document, createdAt, 1), AppliedResource.Types.Change.Created);
        }

        return present.Document.Fingerprint == document.Fingerprint
            ? (present, AppliedResource.Types.Change.Unchanged)
            : (Keep(document, present.Stored.CreatedAt, present.Stored.Generation + 1), AppliedResource.Types.Change.Updated);
    }

    private static MeshDocument Keep(Document document, DateTimeOffset createdAt, ulong generation)
    {
        document = document with { CreatedAt = createdAt };
        return new MeshDocument(new StoredDocument(document.Kind, document.Name, DocumentWriter.ToJson(document, showSecrets: true), createdAt, generation), document);
    }
}
