using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>Decides which Gateways and listeners are ours and whole, before routes attach, and writes their listeners out afterwards.</summary>
internal sealed class GatewayCompiler
{
    private readonly DocumentIndex _index;
    private readonly ConditionBook _conditions;
    private readonly Dictionary<(ResourceName, string), ImmutableArray<ServerCertificateConfig>> _certificates = [];

    public GatewayCompiler(DocumentIndex index, ConditionBook conditions)
    {
        _index = index;
        _conditions = conditions;
        foreach (var @class in index.GatewayClasses.Values)
        {
            if (@class.Unsupported is [var first, ..])
            {
                conditions.Refuse(@class, "UnsupportedValue", $"{first.Field}: {first.Message}");
            }
            else if (@class.ControllerName == GatewayClassDocument.OurController)
            {
                conditions.Accept(@class);
            }
        }

        foreach (var gateway in index.Gateways.Values)
        {
            if (Accepts(gateway))
            {
                Slots[gateway.Name] = [.. gateway.Listeners.Select(listener => new ListenerSlot(listener, Kinds(listener), IsWhole(gateway, listener)))];
                var whole = Slots[gateway.Name].Count(slot => slot.IsServed);
                conditions.Add(gateway, "Accepted", true, whole == gateway.Listeners.Length ? "Accepted" : "ListenersNotValid", "");
                conditions.Add(
                    gateway, "Programmed", whole == gateway.Listeners.Length, whole == gateway.Listeners.Length ? "Programmed" : "Invalid",
                    whole == gateway.Listeners.Length ? "" : $"{gateway.Listeners.Length - whole} of {gateway.Listeners.Length} listeners are not served: see their conditions");
            }
        }
    }

    /// <summary>Listeners that routes may attach to, by accepted Gateway.</summary>
    public Dictionary<ResourceName, List<ListenerSlot>> Slots { get; } = [];

    public ImmutableDictionary<ResourceName, ImmutableArray<ListenerConfig>> Listeners(RouteCompiler routes, ClientTrafficPolicies clientTraffic)
    {
        var gateways = ImmutableDictionary.CreateBuilder<ResourceName, ImmutableArray<ListenerConfig>>();
        foreach (var (name, slots) in Slots)
        {
            var addresses = _index.Gateways[name].Addresses;
            var listeners = ImmutableArray.CreateBuilder<ListenerConfig>();
            foreach (var slot in slots.Where(slot => slot.IsServed))
            {
                var listener = new ListenerConfig
                {
                    Id = $"{name}/{slot.Listener.Name}",
                    Address = addresses.IsEmpty ? "" : addresses[0],
                    Port = slot.Listener.Port,
                    Protocol = slot.Listener.Protocol,
                    Hostname = slot.Listener.Hostname,
                    Certificates = _certificates.GetValueOrDefault((name, slot.Listener.Name), []),
                    HttpRoutes = [.. slot.HttpRoutes],
                    TcpBackends = slot.TcpBackends,
                    TlsRoutes = [.. slot.TlsRoutes],
                    BackendClusters = routes.Clusters(slot.HttpRoutes, [.. slot.TcpBackends, .. slot.TlsRoutes.SelectMany(route => route.Backends)]),
                    ClientTraffic = clientTraffic.OfListener(name, slot.Listener.Name),
                };
                listeners.Add(listener);

                // One socket for each address: the ID stays unique.
                listeners.AddRange(addresses.Skip(1).Select(address => listener with { Id = $"{listener.Id}@{address}", Address = address }));
            }

            gateways[name] = listeners.DrainToImmutable();
        }

        return gateways.ToImmutable();
    }

    private bool Accepts(GatewayDocument gateway)
    {
        var isKnown = _index.GatewayClasses.TryGetValue(gateway.ClassName, out var @class);
        if (isKnown ? @class!.ControllerName != GatewayClassDocument.OurController : gateway.ClassName != GatewayClassDocument.BuiltIn)
        {
            _conditions.Refuse(
                gateway,
                "NoMatchingClass",
                isKnown ? $"spec.gatewayClassName: GatewayClass {gateway.ClassName} belongs to another controller ({@class!.ControllerName})"
                    : $"spec.gatewayClassName: there is no GatewayClass {gateway.ClassName}: write '{GatewayClassDocument.BuiltIn}', or add the class");
            return false;
        }

        var unsupported = gateway.Unsupported.Concat(@class?.Unsupported ?? []).FirstOrDefault();
        if (unsupported is not null)
        {
            _conditions.Refuse(gateway, "UnsupportedValue", $"{unsupported.Field}: {unsupported.Message}");
            return false;
        }

        return true;
    }

    /// <summary>The kinds of routes that a listener takes: of those that fit its protocol the ones that it allows.</summary>
    private static ImmutableArray<string> Kinds(GatewayListener listener)
    {
        ImmutableArray<string> fitting = listener.Protocol switch
        {
            ListenerProtocol.Http or ListenerProtocol.Https => [DocumentKinds.HttpRoute, DocumentKinds.GrpcRoute],
            ListenerProtocol.Tls => [DocumentKinds.TlsRoute, DocumentKinds.TcpRoute],
            ListenerProtocol.TlsPassthrough => [DocumentKinds.TlsRoute],
            _ => [DocumentKinds.TcpRoute],
        };
        return listener.AllowedKinds.IsEmpty ? fitting : [.. fitting.Where(kind => listener.AllowedKinds.Contains(kind))];
    }

    /// <summary>Judges a listener and says so: Conflicted, ResolvedRefs, Accepted and Programmed, each once.</summary>
    private bool IsWhole(GatewayDocument gateway, GatewayListener listener)
    {
        var parent = $"listener {listener.Name}";
        var conflict = Conflict(gateway, listener);
        _conditions.Add(gateway, "Conflicted", conflict is not null, conflict?.Reason ?? "NoConflicts", conflict?.Message ?? "", parent);

        var problems = new List<(string Reason, string Message)>();
        var bad = listener.AllowedKinds.Except(Kinds(listener)).ToArray();
        if (bad.Length > 0)
        {
            problems.Add(("InvalidRouteKinds", $"{listener.Field}.allowedRoutes.kinds: {string.Join(", ", bad)} cannot be served here"));
        }

        var certificates = ImmutableArray.CreateBuilder<ServerCertificateConfig>();
        foreach (var reference in listener.CertificateRefs)
        {
            var problem = !_index.MayRefer(gateway, "", DocumentKinds.Secret, reference.Name)
                ? ("RefNotPermitted", $"no ReferenceGrant in namespace {reference.Name.Namespace} lets a Gateway of {gateway.Name.Namespace} refer to Secret {reference.Name.Name}")
                : !_index.Secrets.TryGetValue(reference.Name, out var secret) ? ("InvalidCertificateRef", $"there is no Secret {reference.Name}")
                : secret.CertificateChainPem is null ? ("InvalidCertificateRef", $"Secret {reference.Name} is not of type {SecretDocument.TlsType}")
                : default((string Reason, string Message)?);
            if (problem is { } found)
            {
                problems.Add((found.Reason, $"{reference.Field}: {found.Message}"));
            }
            else
            {
                var whole = _index.Secrets[reference.Name];
                certificates.Add(new ServerCertificateConfig(whole.Name, whole.CertificateChainPem!, whole.PrivateKeyPem!));
            }
        }

        _conditions.Add(
            gateway, "ResolvedRefs", problems.Count == 0, problems.Count == 0 ? "ResolvedRefs" : problems[0].Reason, string.Join("; ", problems.Select(problem => problem.Message)), parent);

        // With a certificate that is missing some names would be answered with the wrong one.
        var isServed = conflict is null && certificates.Count == listener.CertificateRefs.Length && !Kinds(listener).IsEmpty;
        if (conflict is not null)
        {
            _conditions.Refuse(gateway, conflict.Value.Reason, conflict.Value.Message, parent);
        }
        else
        {
            _conditions.Accept(gateway, parent);
        }

        _conditions.Add(gateway, "Programmed", isServed, isServed ? "Programmed" : "Invalid", isServed ? "" : "nothing listens: see the other conditions of this listener", parent);
        if (isServed)
        {
            _certificates[(gateway.Name, listener.Name)] = certificates.DrainToImmutable();
        }

        return isServed;
    }

    /// <summary>Gateway API: of listeners that cannot share a port all but the first are Conflicted.</summary>
    private static (string Reason, string Message)? Conflict(GatewayDocument gateway, GatewayListener listener)
    {
        var earlier = gateway.Listeners.TakeWhile(other => other != listener).Where(other => other.Port == listener.Port).ToArray();
        if (earlier.FirstOrDefault(other => !other.Protocol.SharesPortWith(listener.Protocol)) is { } stranger)
        {
            return ("ProtocolConflict", $"{listener.Field}: port {listener.Port} is already {stranger.Protocol} by listener {stranger.Name}");
        }

        return earlier.FirstOrDefault(other => other.Hostname == listener.Hostname) is { } twin
            ? ("HostnameConflict", $"{listener.Field}: port {listener.Port} has this hostname already by listener {twin.Name}, and nothing else tells the two apart")
            : null;
    }
}
