using System.Collections.Immutable;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using Microsoft.Extensions.Logging;
using UnitRejection = MeshProxy.DataPlane.Snapshots.UnitRejection;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>The part of the data plane that configuration goes into.</summary>
/// <param name="Apply">Puts a whole configuration in force and tells which units were refused; those keep their last good state.</param>
/// <param name="ApplyEndpoints">Takes endpoint sets, which stand alone.</param>
/// <param name="InForce">Tells what is in force.</param>
internal sealed record DataPlaneSink(Func<ProxyConfig, IReadOnlyList<UnitRejection>> Apply, Action<IEnumerable<EndpointSetConfig>> ApplyEndpoints, Func<ProxyConfig> InForce);

/// <summary>
/// Assembles units into one configuration and puts it in force: the units between Begin and Commit at once, endpoint updates as they come. A unit that can
/// not be understood or compiled keeps its last good state; with none, its requests are answered with the reason.
/// Not thread-safe: its owner calls it from one thread of control.
/// </summary>
/// <remarks>
/// A commit may name clusters whose endpoints arrive right behind it. Putting it in force before them would answer requests with UH for the moment
/// between: so it is held until every cluster it names has an endpoint set, or until its owner gives up waiting (<see cref="Flush"/>).
/// </remarks>
internal sealed class SnapshotApplier(DataPlaneSink sink, Meters meters, ILogger log)
{
    private readonly Dictionary<string, HeldUnit> _units = new(StringComparer.Ordinal);
    private readonly Dictionary<ClusterId, HeldEndpoints> _endpoints = [];
    private readonly Dictionary<string, Unit> _pending = new(StringComparer.Ordinal);
    private Dictionary<string, HeldUnit>? _ready;
    private List<UnitRejection> _readyRejections = [];
    private string _readyNonce = "";
    private string _readyRevision = "";

    /// <summary>The mesh revision in force; empty before the first.</summary>
    public string Revision { get; private set; } = "";

    /// <summary>True once a configuration is in force.</summary>
    public bool IsApplied { get; private set; }

    /// <summary>The nonce of a commit that waits for endpoints; null: none waits.</summary>
    public string? WaitingNonce => _ready is null ? null : _readyNonce;

    /// <summary>What to name in Hello: units and the revisions that are in force.</summary>
    public IEnumerable<HeldUnit> Held => _units.Values.Where(unit => unit.Revision.Length > 0);

    /// <summary>Begins a frame; what an unfinished one brought is forgotten.</summary>
    public void Begin() => _pending.Clear();

    /// <summary>Takes a unit of the frame.</summary>
    public void Add(Unit unit) => _pending[unit.Name] = unit;

    /// <summary>Ends the frame: its units are put in force once, now or when their endpoints are there.</summary>
    /// <returns>The answer to give now, if there is one.</returns>
    public IReadOnlyList<Acknowledge> Commit(string nonce, string revision)
    {
        var answers = Flush();
        var units = new Dictionary<string, HeldUnit>(_units, StringComparer.Ordinal);
        var rejections = new List<UnitRejection>();
        foreach (var (name, message) in _pending)
        {
            Take(units, name, message, rejections);
        }

        _pending.Clear();
        _ready = units;
        _readyRejections = rejections;
        _readyNonce = nonce;
        _readyRevision = revision;
        return IsComplete(units) ? [.. answers, .. Flush()] : answers;
    }

    /// <summary>Takes endpoint sets, each whole for its cluster.</summary>
    /// <returns>The answers to give now.</returns>
    public IReadOnlyList<Acknowledge> Apply(EndpointUpdate update)
    {
        var answer = new Acknowledge { Nonce = update.Nonce };
        var sets = new List<EndpointSetConfig>();
        foreach (var message in update.Sets)
        {
            if (ConfigMapping.TryToModel(message, out var set, out var field, out var reason))
            {
                _endpoints[set.Cluster] = new HeldEndpoints(set, message);
                sets.Add(set);
            }
            else
            {
                var name = message.Cluster?.Service is { } service ? $"service/{service.Namespace}/{service.Name}" : "endpoints";
                answer.Rejections.Add(new Api.Control.V1.UnitRejection { Name = name, Field = field, Reason = reason });
                log.LogError(LogEvents.ConfigRejected, "Endpoints of {Unit} are refused, the last good ones stay: {Field} {Reason}", name, field, reason);
                meters.OnConfigRejected("endpoints");
            }
        }

        // In force at once for the clusters there are: removals are never held back. Those of a waiting commit come with it.
        sink.ApplyEndpoints(sets);
        return _ready is not null && IsComplete(_ready) ? [.. Flush(), answer] : [answer];
    }

    /// <summary>Puts a waiting commit in force without waiting any longer.</summary>
    /// <returns>Its answer; empty when none waited.</returns>
    public IReadOnlyList<Acknowledge> Flush()
    {
        if (_ready is not { } units)
        {
            return [];
        }

        _ready = null;
        var rejections = _readyRejections;
        var refusedByDataPlane = sink.Apply(Assemble(units, _readyRevision));
        foreach (var rejection in refusedByDataPlane)
        {
            if (!rejections.Exists(known => known.Unit == rejection.Unit))
            {
                rejections.Add(rejection);
            }

            Revert(units, rejection);
        }

        foreach (var rejection in rejections)
        {
            log.LogError(LogEvents.ConfigRejected, "{Unit} is refused: {Field} {Reason}", rejection.Unit, rejection.Field, rejection.Reason);
            meters.OnConfigRejected(rejection.Unit.Split('/')[0]);
        }

        _units.Clear();
        foreach (var (name, unit) in units)
        {
            _units.Add(name, unit);
        }

        Revision = _readyRevision;
        IsApplied = true;
        Prune();
        meters.OnConfigApplied(Revision);
        log.LogInformation(LogEvents.ConfigApplied, "Configuration {Revision} is in force: {Units} units, {Rejected} refused", Revision, _units.Count, rejections.Count);
        var answer = new Acknowledge { Nonce = _readyNonce };
        answer.Rejections.AddRange(rejections.Select(rejection => new Api.Control.V1.UnitRejection { Name = rejection.Unit, Field = rejection.Field, Reason = rejection.Reason }));
        return [answer];
    }

    /// <summary>Forgets units that are no longer asked for.</summary>
    public void Forget(IEnumerable<string> names)
    {
        var any = false;
        foreach (var name in names)
        {
            any |= _units.Remove(name);
            _ready?.Remove(name);
            _pending.Remove(name);
        }

        if (any && IsApplied)
        {
            Prune();
            sink.Apply(Assemble(_units, Revision));
        }
    }

    /// <summary>Whether there was an answer for that name, and its endpoints have come.</summary>
    public bool IsAnswered(string name) =>
        _units.TryGetValue(name, out var unit)
        && (unit.Alias is { } alias ? IsAnswered(UnitNames.Service(alias.Service)) : unit.Clusters.All(_endpoints.ContainsKey));

    /// <summary>The service that an address belongs to, when that is known.</summary>
    public ResourceName? AliasOf(string name) => _units.TryGetValue(name, out var unit) ? unit.Alias?.Service : null;

    /// <summary>True when the control plane said that there is no such thing.</summary>
    public bool IsAbsent(string name) => _units.TryGetValue(name, out var unit) && unit.IsAbsent;

    /// <summary>Everything in force as messages, for the state directory: a frame and its endpoints.</summary>
    public IEnumerable<ControlMessage> Export()
    {
        yield return new ControlMessage { Begin = new Begin { MeshRevision = Revision } };
        foreach (var unit in _units.Values.Where(unit => unit.Good is not null))
        {
            yield return new ControlMessage { Unit = unit.Good };
        }

        var update = new EndpointUpdate();
        update.Sets.AddRange(_endpoints.Values.Select(endpoints => endpoints.Message));
        yield return new ControlMessage { Endpoints = update };
        yield return new ControlMessage { Commit = new Commit { MeshRevision = Revision } };
    }

    private static void Take(Dictionary<string, HeldUnit> units, string name, Unit message, List<UnitRejection> rejections)
    {
        var last = units.GetValueOrDefault(name);
        if (message.ContentCase == Unit.ContentOneofCase.Removed)
        {
            units[name] = new HeldUnit(name, message.Revision, null) { IsAbsent = true };
            return;
        }

        if (HeldUnit.TryRead(message, out var unit, out var field, out var reason))
        {
            units[name] = last?.Unless(unit) ?? unit;
            return;
        }

        rejections.Add(new UnitRejection(name, field, reason));
        units[name] = last is { IsAbsent: false } ? last.Under(message) : HeldUnit.Refuse(name, $"{field}: {reason}");
    }

    private bool IsComplete(Dictionary<string, HeldUnit> units) => units.Values.All(unit => unit.Clusters.All(_endpoints.ContainsKey));

    private void Revert(Dictionary<string, HeldUnit> units, UnitRejection rejection)
    {
        // The data plane keeps its last good state of the unit by itself; here only the book is set right: what Hello names and what is kept on disk.
        if (_units.TryGetValue(rejection.Unit, out var last) && last is { IsAbsent: false })
        {
            units[rejection.Unit] = last.With(sink.InForce());
        }
        else if (units.ContainsKey(rejection.Unit))
        {
            units[rejection.Unit] = HeldUnit.Refuse(rejection.Unit, $"{rejection.Field}: {rejection.Reason}");
        }
    }

    private ProxyConfig Assemble(Dictionary<string, HeldUnit> units, string revision)
    {
        var destinations = ImmutableDictionary.CreateBuilder<ResourceName, DestinationConfig>();
        var addresses = ImmutableDictionary.CreateBuilder<string, ClusterId>(StringComparer.Ordinal);
        var clusters = new HashSet<ClusterId>();
        InboundConfig? inbound = null;
        var listeners = ImmutableArray<ListenerConfig>.Empty;
        foreach (var (name, unit) in units)
        {
            clusters.UnionWith(unit.Clusters);
            if (unit.Destination is { } destination)
            {
                destinations[destination.Service] = destination;
            }
            else if (unit.Inbound is not null)
            {
                inbound = unit.Inbound;
            }
            else if (unit.Alias is { } alias && UnitNames.TryAddress(name, out var address))
            {
                addresses[address] = alias;
            }
            else if (!unit.Listeners.IsDefaultOrEmpty)
            {
                listeners = unit.Listeners;
            }
        }

        var endpoints = ImmutableDictionary.CreateBuilder<ClusterId, EndpointSetConfig>();
        foreach (var cluster in clusters)
        {
            if (_endpoints.TryGetValue(cluster, out var held))
            {
                endpoints[cluster] = held.Set;
            }
        }

        return new ProxyConfig
        {
            Revision = revision,
            Destinations = destinations.ToImmutable(),
            Addresses = addresses.ToImmutable(),
            Endpoints = endpoints.ToImmutable(),
            Inbound = inbound,
            Listeners = listeners,
        };
    }

    private void Prune()
    {
        var named = _units.Values.SelectMany(unit => unit.Clusters).ToHashSet();
        foreach (var cluster in _endpoints.Keys.Where(cluster => !named.Contains(cluster)).ToArray())
        {
            _endpoints.Remove(cluster);
        }
    }

    private sealed record HeldEndpoints(EndpointSetConfig Set, EndpointSet Message);
}
