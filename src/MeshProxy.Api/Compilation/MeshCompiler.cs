using System.Collections.Immutable;
using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Compilation;

/// <summary>Makes configuration of documents and workloads: pure, deterministic, the same everywhere.</summary>
public static class MeshCompiler
{
    /// <summary>Compiles everything.</summary>
    public static CompiledMesh Compile(MeshInput input)
    {
        var errors = new List<DocumentError>();
        var conditions = new ConditionBook();
        var index = new DocumentIndex(input.Documents, errors);
        var policies = new PolicyRefusals(index, conditions);
        var backendTls = new BackendTlsPolicies(index, conditions);
        var clientTraffic = new ClientTrafficPolicies(index, conditions);
        var gateways = new GatewayCompiler(index, conditions);
        var routes = new RouteCompiler(index, input.TrustDomain, policies, backendTls, conditions, gateways.Slots);
        routes.Run();
        foreach (var document in index.All)
        {
            Judge(document, index, input, conditions, errors);
        }

        var services = new ServiceIndex(
            input.TrustDomain,
            index.Services.Values.OrderBy(service => service.Name.ToString(), StringComparer.Ordinal),
            index.All.OfType<WorkloadDocument>(),
            index.All.OfType<EndpointSliceDocument>().Where(slice => slice.Unsupported.IsEmpty),
            policies.Closed,
            clientTraffic);
        var mesh = new CompiledMesh
        {
            Destinations = index.Services.Values.Select(service => routes.Destination(service, clientTraffic)).ToImmutableDictionary(destination => destination.Service),
            Gateways = gateways.Listeners(routes, clientTraffic),
            Conditions = conditions.ToImmutable(),
            Listeners = gateways.Slots.ToImmutableDictionary(
                pair => pair.Key, pair => pair.Value.Select(slot => new ListenerStatus(slot.Listener.Name, slot.Kinds, slot.AttachedRoutes)).ToImmutableArray()),
            Errors = [.. errors],
            Services = services,
        };
        return services.Apply(mesh, input.Workloads);
    }

    /// <summary>The cheap path when only registered workloads changed: new endpoints, addresses, inbounds and refusals, the rest as it was.</summary>
    /// <param name="mesh">What <see cref="Compile"/> made of the same documents.</param>
    /// <param name="workloads">All of them.</param>
    public static CompiledMesh WithWorkloads(CompiledMesh mesh, ImmutableArray<LiveWorkload> workloads) =>
        mesh.Services is null ? mesh : mesh.Services.Apply(mesh, workloads);

    /// <summary>What is left to say about documents that are neither routes, Gateways nor policies.</summary>
    private static void Judge(Document document, DocumentIndex index, MeshInput input, ConditionBook conditions, List<DocumentError> errors)
    {
        switch (document)
        {
            case RouteDocument or GatewayDocument or GatewayClassDocument or PolicyDocument:
                break;
            case { Unsupported: [var first, ..] }:
                conditions.Refuse(document, "UnsupportedValue", $"{first.Field}: {first.Message}");
                break;
            case EndpointSliceDocument slice when !index.Services.ContainsKey(slice.Name with { Name = slice.ServiceName }):
                conditions.Refuse(slice, "TargetNotFound", $"there is no Service {slice.ServiceName} in namespace {slice.Name.Namespace}");
                break;
            case WorkloadDocument { Identity: { } identity } workload when identity.TrustDomain != input.TrustDomain:
                errors.Add(workload.Error("spec.identity", $"'{identity}' is not of this mesh's trust domain {input.TrustDomain}: write serviceAccount instead"));
                break;
            default:
                conditions.Accept(document);
                break;
        }
    }
}
