using System.Collections.Immutable;
using System.Globalization;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Discovery;

/// <summary>
/// The server's half of one discovery stream. The write loop compares the latest snapshot with what this sidecar has been sent and writes the difference;
/// while it waits for a slow sidecar, changes are not queued: when it can write again it takes whatever is then the latest.
/// </summary>
/// <remarks>
/// Two owners. The lock: what the sidecar asked for and answered, written by the read loop. The write loop alone: what has been sent (<c>_sent</c>,
/// <c>_sentEndpoints</c>). Memory is bounded by the subscriptions.
/// </remarks>
internal sealed class SidecarStream
{
    private readonly Lock _gate = new();
    private readonly HashSet<string> _subscribed = new(StringComparer.Ordinal);
    private readonly HashSet<string> _givenUp = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _refusedNames = new(StringComparer.Ordinal);
    private readonly Queue<SidecarRequest> _requests = new();
    private readonly Dictionary<string, TaskCompletionSource<SidecarReply>> _replies = new(StringComparer.Ordinal);
    private readonly Acknowledgements _acknowledgements;
    private readonly Dictionary<string, SentUnit> _sent = new(StringComparer.Ordinal);
    private readonly Dictionary<ClusterId, EndpointSetConfig> _sentEndpoints = [];
    private readonly Dictionary<string, string> _held = new(StringComparer.Ordinal);
    private readonly ChangeSignal _signal = new();
    private readonly TaskCompletionSource _replaced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly MeshState _mesh;
    private readonly ResourceName? _gateway;
    private readonly HashSet<string> _capabilities;
    private readonly ControlPlaneLimits _limits;
    private readonly TimeProvider _time;
    private readonly ControlMeters _meters;
    private readonly EventLog _log;
    private SidecarRecord _record;
    private long _nextRequest;
    private string _unsupported = "";
    private bool _isClosed;

    public SidecarStream(ResourceName workload, SpiffeId identity, Hello hello, MeshState mesh, ControlPlaneLimits limits, TimeProvider time, ControlMeters meters, EventLog log)
    {
        Workload = workload;
        Identity = identity;
        _mesh = mesh;
        _limits = limits;
        _time = time;
        _meters = meters;
        _log = log;
        _gateway = hello.Gateway.Length > 0 ? new ResourceName(workload.Namespace, hello.Gateway) : null;
        _capabilities = hello.Capabilities.Where(Capabilities.AreKnown).ToHashSet(StringComparer.Ordinal);
        _acknowledgements = new Acknowledgements(limits.MaxUnacknowledged);
        _record = new SidecarRecord(workload, identity)
        {
            Connected = true,
            Since = time.GetUtcNow(),
            Version = hello.Version.Length <= 64 ? hello.Version : hello.Version[..64],
        };
        foreach (var unit in hello.Held)
        {
            // What it holds it goes on holding: a name is subscribed to without being asked for again.
            if (unit.Name is not (UnitName.Inbound or UnitName.Gateway))
            {
                Add(unit.Name);
            }

            if (_subscribed.Contains(unit.Name) || unit.Name is UnitName.Inbound or UnitName.Gateway)
            {
                _held[unit.Name] = unit.Revision;
            }
        }
    }

    /// <summary>Whose sidecar it is.</summary>
    public ResourceName Workload { get; }

    /// <summary>The identity its certificate proved.</summary>
    public SpiffeId Identity { get; }

    /// <summary>Completes when a newer stream of the same workload took over.</summary>
    public Task Replaced => _replaced.Task;

    /// <summary>For status.</summary>
    public SidecarRecord Record
    {
        get
        {
            lock (_gate)
            {
                return _record with
                {
                    AcceptedRevision = Text(_acknowledgements.Accepted),
                    SentRevision = Text(_acknowledgements.Sent),
                    LastRejection = _acknowledgements.LastRejection is { Length: > 0 } rejection ? rejection : _unsupported,
                };
            }
        }
    }

    /// <summary>A newer stream took over.</summary>
    public void Replace() => _replaced.TrySetResult();

    /// <summary>Fails what still waits for a reply.</summary>
    public void Close()
    {
        List<TaskCompletionSource<SidecarReply>> waiting;
        lock (_gate)
        {
            _isClosed = true;
            waiting = [.. _replies.Values];
            _replies.Clear();
        }

        foreach (var reply in waiting)
        {
            reply.TrySetException(Gone());
        }
    }

    /// <summary>Asks the sidecar something over its stream.</summary>
    /// <exception cref="RpcException">It left, did not answer in time, or has too much to answer already.</exception>
    public async Task<SidecarReply> AskAsync(SidecarRequest request, CancellationToken cancellation)
    {
        var reply = new TaskCompletionSource<SidecarReply>(TaskCreationOptions.RunContinuationsAsynchronously);
        var message = request.Clone();
        lock (_gate)
        {
            if (_isClosed)
            {
                throw Gone();
            }

            if (_replies.Count >= _limits.MaxSidecarRequests)
            {
                throw new RpcException(new Status(StatusCode.ResourceExhausted, $"{Workload} has {_replies.Count} requests to answer already; try again."));
            }

            _nextRequest++;
            message.Id = _nextRequest.ToString(CultureInfo.InvariantCulture);
            _replies[message.Id] = reply;
            _requests.Enqueue(message);
        }

        _signal.Set();
        try
        {
            return await reply.Task.WaitAsync(_limits.SidecarRequestTimeout, _time, cancellation);
        }
        catch (TimeoutException)
        {
            throw new RpcException(new Status(StatusCode.DeadlineExceeded, $"{Workload} did not answer within {_limits.SidecarRequestTimeout.TotalSeconds:0} s."));
        }
        finally
        {
            lock (_gate)
            {
                _replies.Remove(message.Id);
            }
        }
    }

    /// <summary>Reads what the sidecar says until it ends its half.</summary>
    public async Task ReadAsync(IAsyncStreamReader<SidecarMessage> requests, CancellationToken cancellation)
    {
        while (await requests.MoveNext(cancellation))
        {
            switch (requests.Current.MessageCase)
            {
                case SidecarMessage.MessageOneofCase.Subscribe:
                    OnSubscribe(requests.Current.Subscribe);
                    break;
                case SidecarMessage.MessageOneofCase.Acknowledge:
                    OnAcknowledge(requests.Current.Acknowledge);
                    break;
                case SidecarMessage.MessageOneofCase.Reply:
                    OnReply(requests.Current.Reply);
                    break;
                case SidecarMessage.MessageOneofCase.Hello:
                    throw new RpcException(new Status(StatusCode.InvalidArgument, "hello comes once, as the first message."));
                default:
                    break; // of a newer sidecar; fields are only added
            }
        }
    }

    /// <summary>Writes what changed, whenever something has, until cancelled.</summary>
    public async Task WriteAsync(IAsyncStreamWriter<ControlMessage> responses, CancellationToken cancellation)
    {
        using var watch = _mesh.Watch(_signal);
        for (var isFirst = true; ; isFirst = false)
        {
            await WriteDifferenceAsync(responses, isFirst, cancellation);
            await _signal.WaitAsync(cancellation);
        }
    }

    private static string Text(long revision) => revision == 0 ? "" : revision.ToString(CultureInfo.InvariantCulture);

    private RpcException Gone() => new(new Status(StatusCode.Unavailable, $"{Workload} is not connected."));

    private async Task WriteDifferenceAsync(IAsyncStreamWriter<ControlMessage> responses, bool isFirst, CancellationToken cancellation)
    {
        // 1. what is asked for now
        List<string> names;
        List<SidecarRequest> requests;
        List<(string Name, string Reason)> refused;
        HashSet<string> unsettled;
        lock (_gate)
        {
            foreach (var name in _givenUp)
            {
                _sent.Remove(name);
            }

            _givenUp.Clear();
            names = [.. _subscribed];
            requests = [.. _requests];
            _requests.Clear();
            unsettled = _acknowledgements.Unsettled();
            refused = [.. _refusedNames.Select(name => (name.Key, name.Value))];
            _refusedNames.Clear();
        }

        var snapshot = _mesh.Current;
        foreach (var request in requests)
        {
            await responses.WriteAsync(new ControlMessage { Request = request }, cancellation);
        }

        // 2. changed endpoints of clusters that the sidecar has; nothing waits behind units
        var wrote = await WriteEndpointsAsync(responses, snapshot, [.. _sentEndpoints.Where(sent => HasChanged(sent.Value, snapshot.Endpoints(sent.Key))).Select(sent => sent.Key)], cancellation);

        // 3. changed units, all of this revision in one frame
        List<MeshUnit> changed = [];
        HashSet<ClusterId> answered = [];
        var unsupported = "";
        foreach (var asked in Units(snapshot, names))
        {
            var unit = Supported(asked, ref unsupported);
            if (unit is null)
            {
                continue;
            }

            var isNew = !_sent.TryGetValue(unit.Name, out var sent);
            if (isNew && isFirst && _held.TryGetValue(unit.Name, out var held) && held == unit.Revision)
            {
                sent = new SentUnit(unit.Revision, unit.Clusters, []);
                _sent[unit.Name] = sent;
                answered.UnionWith(unit.Clusters); // it named no endpoint revisions
            }
            else if (isNew || sent.Revision != unit.Revision)
            {
                changed.Add(unit);
                if (isNew)
                {
                    answered.UnionWith(unit.Clusters); // whole, also where another unit had brought a cluster before
                }
            }
        }

        changed.AddRange(refused.Select(name => MeshUnit.Absent(name.Name, name.Reason)));

        // The first frame is always sent: it tells the sidecar that it is up to date.
        if (changed.Count > 0 || isFirst)
        {
            await WriteUnitsAsync(responses, snapshot, changed, cancellation);
            wrote = true;
            foreach (var unit in changed)
            {
                var before = !_sent.TryGetValue(unit.Name, out var old) ? []
                    : unsettled.Contains(unit.Name) ? [.. old.Before.Union(old.Clusters)]
                    : old.Clusters;
                _sent[unit.Name] = new SentUnit(unit.Revision, unit.Clusters, before);
            }

            foreach (var (name, _) in refused)
            {
                _sent.Remove(name);
            }
        }

        _held.Clear();

        // 4. endpoints of what came new, right behind it
        var needed = _sent.Values.SelectMany(unit => unit.Clusters).ToHashSet();
        unsettled.UnionWith(changed.Select(unit => unit.Name));
        needed.UnionWith(_sent.Where(unit => unsettled.Contains(unit.Key)).SelectMany(unit => unit.Value.Before));
        foreach (var cluster in _sentEndpoints.Keys.Where(cluster => !needed.Contains(cluster)).ToList())
        {
            _sentEndpoints.Remove(cluster);
        }

        wrote |= await WriteEndpointsAsync(responses, snapshot, [.. needed.Where(cluster => answered.Contains(cluster) || !_sentEndpoints.ContainsKey(cluster))], cancellation);
        lock (_gate)
        {
            _acknowledgements.OnSent(snapshot.Revision);
            _unsupported = unsupported;
        }

        if (wrote && !isFirst)
        {
            _meters.PushSeconds.Observe(_time.GetElapsedTime(snapshot.ChangedAt).TotalSeconds);
        }
    }

    private static bool HasChanged(EndpointSetConfig sent, EndpointSetConfig current) => !ReferenceEquals(sent, current) && !sent.Equals(current);

    private IEnumerable<MeshUnit> Units(MeshSnapshot snapshot, List<string> names)
    {
        yield return snapshot.Inbound(Workload, Identity);
        if (_gateway is { } gateway)
        {
            yield return snapshot.Gateway(gateway, Identity);
        }

        foreach (var name in names)
        {
            yield return snapshot.Unit(name);
        }
    }

    /// <summary>What may be sent of a unit to this sidecar: a service that it cannot enforce whole answers its requests with the reason; listeners stay as they are.</summary>
    private MeshUnit? Supported(MeshUnit unit, ref string told)
    {
        var missing = unit.Needs.Where(need => !_capabilities.Contains(need)).ToArray();
        if (missing.Length == 0)
        {
            return unit;
        }

        var reason = $"UnsupportedBySidecar: {unit.Name} needs {string.Join(", ", missing)}, which this version of meshproxy lacks: update it";
        told = told.Length == 0 ? reason : told;
        return unit.Message.Destination is { } destination
            ? MeshUnit.Make(unit.Name, new Unit { Destination = new Destination { Service = destination.Service, Refused = reason } }, [])
            : null;
    }

    private async Task WriteUnitsAsync(IAsyncStreamWriter<ControlMessage> responses, MeshSnapshot snapshot, List<MeshUnit> units, CancellationToken cancellation)
    {
        string nonce;
        lock (_gate)
        {
            nonce = _acknowledgements.Next(snapshot.Revision, [.. units.Select(unit => unit.Name)]);
        }

        await responses.WriteAsync(new ControlMessage { Begin = new Begin { MeshRevision = snapshot.RevisionText } }, cancellation);
        foreach (var unit in units)
        {
            await responses.WriteAsync(new ControlMessage { Unit = unit.Message }, cancellation);
        }

        await responses.WriteAsync(new ControlMessage { Commit = new Commit { Nonce = nonce, MeshRevision = snapshot.RevisionText } }, cancellation);
        _meters.UnitPushes.Inc();
    }

    private async Task<bool> WriteEndpointsAsync(IAsyncStreamWriter<ControlMessage> responses, MeshSnapshot snapshot, List<ClusterId> clusters, CancellationToken cancellation)
    {
        for (var next = 0; next < clusters.Count;)
        {
            var update = new EndpointUpdate();
            for (var bytes = 0; next < clusters.Count && (bytes == 0 || bytes < _limits.MaxEndpointUpdateBytes); next++)
            {
                var message = snapshot.EndpointMessage(clusters[next]);
                bytes += message.CalculateSize() + 8;
                update.Sets.Add(message);
                _sentEndpoints[clusters[next]] = snapshot.Endpoints(clusters[next]);
            }

            lock (_gate)
            {
                update.Nonce = _acknowledgements.Next(snapshot.Revision, Acknowledgements.Endpoints);
            }

            await responses.WriteAsync(new ControlMessage { Endpoints = update }, cancellation);
            _meters.EndpointPushes.Inc();
        }

        return clusters.Count > 0;
    }

    private void OnSubscribe(Subscribe subscribe)
    {
        lock (_gate)
        {
            foreach (var name in subscribe.Remove)
            {
                if (_subscribed.Remove(name))
                {
                    _givenUp.Add(name);
                    _acknowledgements.Forget(name);
                }
            }

            foreach (var name in subscribe.Add)
            {
                Add(name);
            }
        }

        _signal.Set();
    }

    /// <summary>Under <c>_gate</c>, or before anybody else sees this object.</summary>
    private void Add(string name)
    {
        if (_subscribed.Contains(name))
        {
            return;
        }

        if (name.Length <= _limits.MaxUnitNameLength && _subscribed.Count < _limits.MaxSubscriptions)
        {
            _subscribed.Add(name);
        }
        else if (_refusedNames.Count < _limits.MaxSubscriptions)
        {
            _refusedNames[name] = name.Length > _limits.MaxUnitNameLength
                ? $"the name has more than {_limits.MaxUnitNameLength} characters"
                : $"this sidecar has {_limits.MaxSubscriptions} subscriptions already; remove some first";
        }
    }

    private void OnAcknowledge(Acknowledge answer)
    {
        string rejection;
        bool isKnown;
        lock (_gate)
        {
            isKnown = _acknowledgements.OnAcknowledged(answer);
            rejection = _acknowledgements.LastRejection;
            if (isKnown)
            {
                _record = _record with { LastRejectionAt = answer.Rejections.Count > 0 ? _time.GetUtcNow() : rejection.Length > 0 ? _record.LastRejectionAt : null };
            }
        }

        if (isKnown && answer.Rejections.Count > 0)
        {
            _meters.Rejections.Inc(answer.Rejections.Count);
            _log.Warn("unit_rejected", $"{Workload} rejected {rejection}", ("meshproxy.workload", Workload), ("meshproxy.identity", Identity), ("meshproxy.nonce", answer.Nonce));
        }
    }

    private void OnReply(SidecarReply reply)
    {
        TaskCompletionSource<SidecarReply>? waiting;
        lock (_gate)
        {
            _replies.Remove(reply.Id, out waiting);
        }

        waiting?.TrySetResult(reply);
    }

    /// <param name="Revision">The revision sent.</param>
    /// <param name="Clusters">The clusters that it names.</param>
    /// <param name="Before">The clusters of what the sidecar has in force until it accepts this one, and for good if it rejects it: their endpoints must not
    /// go stale under it.</param>
    private readonly record struct SentUnit(string Revision, ImmutableArray<ClusterId> Clusters, ImmutableArray<ClusterId> Before);
}
