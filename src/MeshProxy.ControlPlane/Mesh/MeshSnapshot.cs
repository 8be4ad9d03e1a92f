using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Mapping;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>The mesh at one revision, compiled and immutable. Messages are made when the first stream asks for them and then shared.</summary>
internal sealed class MeshSnapshot
{
    private readonly ConcurrentDictionary<ResourceName, MeshUnit> _services = new();
    private readonly ConcurrentDictionary<ClusterId, EndpointSet> _endpointMessages = new();
    private readonly ImmutableDictionary<ResourceName, DestinationConfig> _destinations;
    private readonly ImmutableDictionary<ClusterId, EndpointSetConfig> _endpoints;

    public MeshSnapshot(long revision, CompiledMesh mesh, MeshInputs inputs, long changedAt, MeshSnapshot? previous)
    {
        Revision = revision;
        RevisionText = revision.ToString(CultureInfo.InvariantCulture);
        Mesh = mesh;
        Inputs = inputs;
        ChangedAt = changedAt;
        _destinations = KeepLastGood(mesh.Destinations, previous);
        _endpoints = KeepInstances(mesh.Endpoints, previous);
    }

    /// <summary>Grows with every change, over restarts too.</summary>
    public long Revision { get; }

    /// <summary>The same as text.</summary>
    public string RevisionText { get; }

    /// <summary>What the compiler made.</summary>
    public CompiledMesh Mesh { get; }

    /// <summary>What it made it of.</summary>
    public MeshInputs Inputs { get; }

    /// <summary>Timestamp of the oldest change that this is the answer to.</summary>
    public long ChangedAt { get; }

    /// <summary>The unit of a name that any sidecar may ask for; a negative answer when there is none.</summary>
    public MeshUnit Unit(string name)
    {
        if (UnitName.TryParseService(name, out var service))
        {
            return _destinations.TryGetValue(service, out var destination)
                ? _services.GetOrAdd(service, static (_, from) => MakeService(from.name, from.destination), (name, destination))
                : MeshUnit.Absent(name, $"there is no Service {service}");
        }

        if (UnitName.TryParseAddress(name, out var address))
        {
            return Mesh.Addresses.TryGetValue(address, out var cluster)
                ? MeshUnit.Make(name, new Unit { Address = new AddressAlias { Cluster = ConfigMapping.ToProto(cluster) } }, [])
                : MeshUnit.Absent(name, $"no Service has an endpoint at {address}");
        }

        return MeshUnit.Absent(name, "units are named service/<namespace>/<name> or address/<ip>:<port>");
    }

    /// <summary>What a workload serves.</summary>
    public MeshUnit Inbound(ResourceName workload, SpiffeId caller) => Mesh.Inbounds.TryGetValue(workload, out var inbound) && inbound.Identity == caller
        ? MeshUnit.Make(UnitName.Inbound, new Unit { Inbound = ConfigMapping.ToProto(inbound) }, []) with { Needs = [.. Capabilities.NeededBy(inbound)] }
        : MeshUnit.Absent(UnitName.Inbound, $"Workload {workload} is not registered");

    /// <summary>The listeners of a Gateway, keys included, for a workload that may run it.</summary>
    public MeshUnit Gateway(ResourceName gateway, SpiffeId caller)
    {
        if (!Inputs.Documents.TryGetValue((DocumentKinds.Gateway, gateway), out var document))
        {
            return MeshUnit.Absent(UnitName.Gateway, $"there is no Gateway {gateway}");
        }

        if (!MayRun(document.Document, caller))
        {
            return MeshUnit.Absent(UnitName.Gateway,
                $"{caller} may not run Gateway {gateway}: list service account '{caller.ServiceAccount}' in its annotation {ServiceDocument.ServiceAccountsAnnotation}");
        }

        if (!Mesh.Gateways.TryGetValue(gateway, out var listeners))
        {
            return MeshUnit.Absent(UnitName.Gateway, $"Gateway {gateway} is not in force; its conditions say why");
        }

        var message = new GatewayListeners();
        message.Listeners.AddRange(listeners.Select(ConfigMapping.ToProto));
        return MeshUnit.Make(UnitName.Gateway, new Unit { Gateway = message },
            [.. listeners.SelectMany(listener => listener.BackendClusters).Select(cluster => cluster.Id).Distinct()]) with { Needs = [.. Capabilities.NeededBy(listeners)] };
    }

    /// <summary>The endpoints of a cluster; equal sets of successive snapshots are the same object.</summary>
    public EndpointSetConfig Endpoints(ClusterId cluster) => _endpoints.TryGetValue(cluster, out var set) ? set : new EndpointSetConfig(cluster, []);

    /// <summary>The message for them.</summary>
    public EndpointSet EndpointMessage(ClusterId cluster) =>
        _endpointMessages.GetOrAdd(cluster, static (id, snapshot) => ConfigMapping.ToProto(snapshot.Endpoints(id)), this);

    /// <summary>The Gateway's accounts, in its namespace: those of its annotation, by default the one with its own name.</summary>
    private static bool MayRun(Document gateway, SpiffeId caller)
    {
        if (caller.Namespace != gateway.Name.Namespace)
        {
            return false;
        }

        return gateway.Annotations.TryGetValue(ServiceDocument.ServiceAccountsAnnotation, out var accounts)
            ? accounts.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Contains(caller.ServiceAccount)
            : caller.ServiceAccount == gateway.Name.Name;
    }

    private static MeshUnit MakeService(string name, DestinationConfig destination) => MeshUnit.Make(
        name,
        new Unit { Destination = ConfigMapping.ToProto(destination) },
        [.. destination.Ports.SelectMany(port => port.BackendClusters.Prepend(port.Cluster)).Select(cluster => cluster.Id).Distinct()]) with { Needs = [.. Capabilities.NeededBy(destination)] };

    /// <summary>A destination that is refused keeps its last good routes, also for sidecars that ask for it only now. Policies on it and on its backends are
    /// those of now: they were accepted, and every unit of a revision has the same copies of clusters.</summary>
    private static ImmutableDictionary<ResourceName, DestinationConfig> KeepLastGood(ImmutableDictionary<ResourceName, DestinationConfig> destinations, MeshSnapshot? previous)
    {
        if (previous is null)
        {
            return destinations;
        }

        foreach (var (name, destination) in destinations)
        {
            if (destination is { Refused: not null, Ports: [_, ..] } && previous._destinations.TryGetValue(name, out var before) && before.Refused is null)
            {
                destinations = destinations.SetItem(name, before.Under(destination, Now));
            }
        }

        return destinations;

        ClusterConfig? Now(ClusterId id) => destinations.GetValueOrDefault(id.Service)?.Ports.FirstOrDefault(port => port.Cluster.Id == id)?.Cluster;
    }

    /// <summary>Keeps the object where the set is equal, so that streams tell by reference that nothing changed.</summary>
    private static ImmutableDictionary<ClusterId, EndpointSetConfig> KeepInstances(ImmutableDictionary<ClusterId, EndpointSetConfig> endpoints, MeshSnapshot? previous)
    {
        if (previous is null)
        {
            return endpoints;
        }

        var kept = endpoints.ToBuilder();
        foreach (var (cluster, set) in endpoints)
        {
            if (previous._endpoints.TryGetValue(cluster, out var before) && !ReferenceEquals(before, set) && before.Equals(set))
            {
                kept[cluster] = before;
            }
        }

        return kept.ToImmutable();
    }
}
