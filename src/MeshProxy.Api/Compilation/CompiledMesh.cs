using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>What <see cref="MeshCompiler"/> made of documents and workloads. Revisions of units are left empty: take
/// <c>ConfigMapping.Revision</c> of the message that is sent.</summary>
public sealed record CompiledMesh
{
    /// <summary>Nothing.</summary>
    public static readonly CompiledMesh Empty = new();

    /// <summary>A unit for each Service. <see cref="DestinationConfig.Refused"/> is set when a route or policy on it cannot be enforced: whoever has an earlier
    /// good unit keeps that one in force.</summary>
    public ImmutableDictionary<ResourceName, DestinationConfig> Destinations { get; init; } = ImmutableDictionary<ResourceName, DestinationConfig>.Empty;

    /// <summary>A set for each port of each Service, also when it is empty.</summary>
    public ImmutableDictionary<ClusterId, EndpointSetConfig> Endpoints { get; init; } = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty;

    /// <summary>"ip:port" of every endpoint's application, and the service port it belongs to. When several services claim one, the first by name has it.</summary>
    public ImmutableDictionary<string, ClusterId> Addresses { get; init; } = ImmutableDictionary<string, ClusterId>.Empty;

    /// <summary>What each workload serves, by workload; also those that serve nothing.</summary>
    public ImmutableDictionary<ResourceName, InboundConfig> Inbounds { get; init; } = ImmutableDictionary<ResourceName, InboundConfig>.Empty;

    /// <summary>Listeners by Gateway, with their routes.</summary>
    public ImmutableDictionary<ResourceName, ImmutableArray<ListenerConfig>> Gateways { get; init; } = ImmutableDictionary<ResourceName, ImmutableArray<ListenerConfig>>.Empty;

    /// <summary>What became of each document.</summary>
    public ImmutableDictionary<(string Kind, ResourceName Name), ImmutableArray<ConditionInfo>> Conditions { get; init; } =
        ImmutableDictionary<(string, ResourceName), ImmutableArray<ConditionInfo>>.Empty;

    /// <summary>What status says of the listeners of each accepted Gateway, besides conditions.</summary>
    public ImmutableDictionary<ResourceName, ImmutableArray<ListenerStatus>> Listeners { get; init; } = ImmutableDictionary<ResourceName, ImmutableArray<ListenerStatus>>.Empty;

    /// <summary>What an apply is to be refused for: two documents of one name, workloads that do not fit together.</summary>
    public ImmutableArray<DocumentError> Errors { get; init; } = [];

    /// <summary>Workloads that a Service selects although their identity may not serve it, or that lack its port. They are not among its endpoints.</summary>
    public ImmutableDictionary<ResourceName, ImmutableArray<ServiceRefusal>> Refusals { get; init; } = ImmutableDictionary<ResourceName, ImmutableArray<ServiceRefusal>>.Empty;

    /// <summary>What becomes of a document.</summary>
    /// <param name="document">One of those that were compiled.</param>
    /// <param name="generation">Which state of it.</param>
    public DocumentStatus StatusOf(Document document, ulong generation) => new(Conditions.GetValueOrDefault((document.Kind, document.Name), []), generation)
    {
        Listeners = document is GatewayDocument ? Listeners.GetValueOrDefault(document.Name, []) : [],
    };

    /// <summary>The part of the compiler's work that endpoints are made from.</summary>
    internal ServiceIndex? Services { get; init; }
}

/// <summary>Why a workload does not serve a service that selects it.</summary>
/// <param name="Service">The service.</param>
/// <param name="Reason">For people.</param>
/// <param name="IsIdentity">True when its identity is not allowed; false when it only lacks the port.</param>
public sealed record ServiceRefusal(ResourceName Service, string Reason, bool IsIdentity);
