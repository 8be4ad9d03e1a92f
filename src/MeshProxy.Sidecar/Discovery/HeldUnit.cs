using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.Model.Config;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>A unit as it is in force: one of destination, inbound, listeners, alias; or known to be absent.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Revision">The revision in force; empty when none is (refused, with no earlier state).</param>
/// <param name="Good">The message it was read from, kept for the state directory; null when there is nothing to keep.</param>
internal sealed record HeldUnit(string Name, string Revision, Unit? Good)
{
    public DestinationConfig? Destination { get; init; }

    public InboundConfig? Inbound { get; init; }

    public ImmutableArray<ListenerConfig> Listeners { get; init; } = [];

    public ClusterId? Alias { get; init; }

    /// <summary>The control plane said that there is no such thing.</summary>
    public bool IsAbsent { get; init; }

    /// <summary>Every cluster it sends traffic to: each needs an endpoint set.</summary>
    public ImmutableArray<ClusterId> Clusters { get; init; } = [];

    /// <summary>Reads a unit that is not a removal.</summary>
    public static bool TryRead(Unit message, [NotNullWhen(true)] out HeldUnit? unit, out string field, out string reason)
    {
        unit = null;
        field = reason = "";
        var held = new HeldUnit(message.Name, message.Revision, message);
        switch (message.ContentCase)
        {
            case Unit.ContentOneofCase.Destination:
                if (!ConfigMapping.TryToModel(message.Destination, out var destination, out field, out reason))
                {
                    return false;
                }

                if (UnitNames.Service(destination.Service) != message.Name)
                {
                    (field, reason) = ("destination.service", $"is {destination.Service}, the unit is {message.Name}");
                    return false;
                }

                destination = destination with { Revision = message.Revision };
                unit = held with { Destination = destination, Clusters = ClustersOf(destination) };
                return true;
            case Unit.ContentOneofCase.Inbound:
                if (!ConfigMapping.TryToModel(message.Inbound, out var inbound, out field, out reason))
                {
                    return false;
                }

                unit = held with { Inbound = inbound with { Revision = message.Revision } };
                return true;
            case Unit.ContentOneofCase.Gateway:
                var listeners = ImmutableArray.CreateBuilder<ListenerConfig>();
                for (var i = 0; i < message.Gateway.Listeners.Count; i++)
                {
                    if (!ConfigMapping.TryToModel(message.Gateway.Listeners[i], out ListenerConfig? listener, out field, out reason))
                    {
                        field = $"gateway.listeners[{i}].{field}";
                        return false;
                    }

                    listeners.Add(listener);
                }

                unit = held with { Listeners = listeners.ToImmutable(), Clusters = ClustersOf(listeners) };
                return true;
            case Unit.ContentOneofCase.Address:
                if (!ConfigMapping.TryToModel(message.Address.Cluster, out ClusterId alias, out field, out reason))
                {
                    field = $"address.{field}";
                    return false;
                }

                unit = held with { Alias = alias };
                return true;
            default:
                (field, reason) = ("content", "this version of meshproxy does not know that kind of unit");
                return false;
        }
    }

    /// <summary>What the data plane has in force of this revision: its routes, perhaps under newer policies.</summary>
    public HeldUnit With(ProxyConfig inForce)
    {
        if (Good is not null && Destination is not null && inForce.Destinations.TryGetValue(Destination.Service, out var destination))
        {
            return With(destination);
        }

        if (Good is null || Listeners.IsEmpty)
        {
            return this;
        }

        var gateway = new GatewayListeners();
        gateway.Listeners.AddRange(inForce.Listeners.Select(ConfigMapping.ToProto));
        return this with { Listeners = inForce.Listeners, Clusters = ClustersOf(inForce.Listeners), Good = new Unit { Name = Name, Revision = Revision, Gateway = gateway } };
    }

    /// <summary>What to keep when the newer state is refused by the control plane itself: one that has been restarted knows no earlier routes, we do. Null: nothing;
    /// it is in force, or what forbids it brings no ports, because nothing may be served at all.</summary>
    public HeldUnit? Unless(HeldUnit newer) => Good is not null && Destination is { Refused: null } && newer.Destination is { Refused: not null, Ports: [_, ..] } refused
        ? (this with { Revision = newer.Revision }).With(Destination.Under(refused))
        : null;

    /// <summary>The routes of this revision under the policies of a newer one that is not understood, as far as those are.</summary>
    public HeldUnit Under(Unit newer)
    {
        if (Good is null || Destination is null || newer.Destination is null)
        {
            return this;
        }

        var policies = newer.Destination.Clone();
        foreach (var port in policies.Ports)
        {
            port.HttpRoutes.Clear();
            port.TcpBackends.Clear();
            port.TlsRoutes.Clear();
        }

        return ConfigMapping.TryToModel(policies, out var read, out _, out _) ? With(Destination.Under(read)) : this;
    }

    /// <summary>A unit that was refused and has no earlier good state: a service answers its requests with the reason, anything else is not there.</summary>
    public static HeldUnit Refuse(string name, string reason) => new(name, "", null)
    {
        Destination = UnitNames.TryService(name, out var service) ? new DestinationConfig { Service = service, Refused = reason } : null,
    };

    private HeldUnit With(DestinationConfig destination) => this with
    {
        Destination = destination,
        Clusters = ClustersOf(destination),
        Good = new Unit { Name = Name, Revision = Revision, Destination = ConfigMapping.ToProto(destination) },
    };

    private static ImmutableArray<ClusterId> ClustersOf(IEnumerable<ListenerConfig> listeners) =>
        [.. listeners.SelectMany(listener => listener.BackendClusters).Select(cluster => cluster.Id).Distinct()];

    private static ImmutableArray<ClusterId> ClustersOf(DestinationConfig destination) =>
        [.. destination.Ports.SelectMany(port => port.BackendClusters.Append(port.Cluster)).Select(cluster => cluster.Id).Distinct()];
}
