using System.Collections.Concurrent;
using System.Collections.Immutable;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using Microsoft.Data.Sqlite;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>
/// The mesh's one truth. Changes go to the store first and are then seen here; a single loop compiles what has changed and publishes snapshots, of which
/// everybody takes the latest. Nobody waits for a slow reader: a reader is only told to look again.
/// </summary>
/// <remarks>
/// <c>_gate</c> owns inputs, revision and the moment of the oldest uncompiled change; it is never held across a wait. <c>_documentGate</c> makes changes
/// of documents follow one another, because each is checked against the ones before.
/// </remarks>
internal sealed class MeshState : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _documentGate = new(1, 1);
    private readonly MeshDatabase _database;
    private readonly TrustDomain _trustDomain;
    private readonly ControlPlaneLimits _limits;
    private readonly TimeProvider _time;
    private readonly ControlMeters _meters;
    private readonly EventLog _log;
    private readonly ChangeSignal _changed = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<ChangeSignal, byte> _watchers = new();
    private readonly HashSet<ResourceName> _unwritten = [];
    private MeshInputs _inputs;
    private long _revision;
    private long _oldestChange;
    private volatile MeshSnapshot _current;
    private TaskCompletionSource _published = NewPublication();
    private Task _loop = Task.CompletedTask;

    private MeshState(MeshDatabase database, MeshInputs inputs, long revision, TrustDomain trustDomain, ControlPlaneLimits limits, TimeProvider time, ControlMeters meters, EventLog log)
    {
        _database = database;
        _inputs = inputs;
        _revision = revision;
        _trustDomain = trustDomain;
        _limits = limits;
        _time = time;
        _meters = meters;
        _log = log;
        _oldestChange = time.GetTimestamp();
        _current = new MeshSnapshot(revision, MeshCompiler.Compile(inputs.ToCompilerInput(trustDomain)), inputs, _oldestChange, null);
        Count(_current);
    }

    /// <summary>The latest published snapshot.</summary>
    public MeshSnapshot Current => _current;

    /// <summary>What has been accepted, perhaps not yet compiled.</summary>
    public MeshInputs Inputs
    {
        get
        {
            lock (_gate)
            {
                return _inputs;
            }
        }
    }

    /// <summary>Reads the store and compiles it.</summary>
    /// <exception cref="StartException">A kept document cannot be read by this version.</exception>
    public static MeshState Open(MeshDatabase database, TrustDomain trustDomain, ControlPlaneLimits limits, TimeProvider time, ControlMeters meters, EventLog log)
    {
        var documents = ImmutableDictionary.CreateBuilder<(string, ResourceName), MeshDocument>();
        foreach (var stored in database.ReadDocuments())
        {
            var title = $"{stored.Kind} {stored.Name}";
            var read = DocumentReader.Read([new DocumentSource(title, stored.Text)], stored.Name.Namespace.Length > 0 ? stored.Name.Namespace : "default");
            if (read.Errors.Length > 0 || read.Documents is not [var document])
            {
                throw new StartException($"mesh.db: {title} cannot be read by this version ({(read.Errors.Length > 0 ? read.Errors[0].Message : "no document")}): start the version that wrote it and delete the document.");
            }

            documents[(stored.Kind, stored.Name)] = new MeshDocument(stored, document with { CreatedAt = stored.CreatedAt });
        }

        var workloads = database.ReadWorkloads().Select(RegisteredWorkload.FromStore).ToImmutableDictionary(workload => workload.Name);
        var inputs = new MeshInputs(documents.ToImmutable(), workloads);

        // One up at every start: whatever a crash kept from being written, no two states have the same revision.
        return new MeshState(database, inputs, database.ReadRevision() + 1, trustDomain, limits, time, meters, log);
    }

    /// <summary>Starts the compile loop.</summary>
    public void Start() => _loop = Task.Run(RunAsync);

    /// <summary>Tells <paramref name="signal"/> of every snapshot, until the result is disposed. Subscribe first, then read <see cref="Current"/>.</summary>
    public IDisposable Watch(ChangeSignal signal)
    {
        _watchers[signal] = 0;
        return new Watcher(this, signal);
    }

    /// <summary>Waits until a revision, or a later one, is published.</summary>
    public async Task<MeshSnapshot> WhenPublishedAsync(long revision, CancellationToken cancellation)
    {
        while (true)
        {
            // The order matters: a publication between the two reads completes the task that is already in hand.
            var publication = Volatile.Read(ref _published).Task;
            if (_current is { } current && current.Revision >= revision)
            {
                return current;
            }

            await publication.WaitAsync(cancellation);
        }
    }

    /// <summary>Changes documents, all or nothing, checked against everything in force.</summary>
    /// <param name="plan">What to change, given what there is. No plan: nothing happens. Runs alone among changes of documents.</param>
    /// <param name="commit">False: check only.</param>
    /// <param name="cancellation">Gives up waiting for changes before this one.</param>
    public async Task<DocumentChangeResult> ChangeDocumentsAsync(Func<MeshInputs, DocumentChange?> plan, bool commit, CancellationToken cancellation)
    {
        await _documentGate.WaitAsync(cancellation);
        try
        {
            var before = Inputs;
            if (plan(before) is not { } change)
            {
                return new DocumentChangeResult([], Current.Mesh, Current.Revision);
            }

            var documents = before.Documents.RemoveRange(change.Removed).SetItems(change.Written.Select(document => KeyValuePair.Create(document.Key, document)));
            var compiled = MeshCompiler.Compile((before with { Documents = documents }).ToCompilerInput(_trustDomain));

            // What was wrong before, such as by an instance that came since, is not this change's fault.
            var known = Current.Mesh.Errors.ToHashSet();
            var errors = compiled.Errors.Where(error => !known.Contains(error)).ToImmutableArray();
            if (errors.Length > 0 || !commit || (change.Written.IsEmpty && change.Removed.IsEmpty))
            {
                return new DocumentChangeResult(errors, compiled, Current.Revision);
            }

            long revision;
            lock (_gate)
            {
                revision = _revision + 1;
                _database.ChangeDocuments(revision, change.Written.Select(document => document.Stored), change.Removed);
                Accept(_inputs with { Documents = documents }, revision);
            }

            var snapshot = await WhenPublishedAsync(revision, cancellation);
            return new DocumentChangeResult([], snapshot.Mesh, revision);
        }
        finally
        {
            _documentGate.Release();
        }
    }

    /// <summary>Puts an instance, new or changed. Nothing happens when the store cannot take it.</summary>
    /// <exception cref="SqliteException">It cannot.</exception>
    public void PutWorkload(RegisteredWorkload workload)
    {
        lock (_gate)
        {
            var revision = _revision + 1;
            _database.ChangeWorkloads(revision, [workload.ToStore()], []);
            Accept(_inputs with { Workloads = _inputs.Workloads.SetItem(workload.Name, workload) }, revision);
        }
    }

    /// <summary>Takes an instance's word on its readiness, or its end. This is in force at once even when the store cannot be written: traffic must not go to
    /// what has gone. The store is made up for at the next <see cref="WriteMissed"/>.</summary>
    /// <param name="name">The workload.</param>
    /// <param name="leaseId">Only while this is its lease.</param>
    /// <param name="change">Its new state from the old one; null removes it.</param>
    /// <returns>False when the lease is not the workload's any more.</returns>
    public bool UpdateWorkload(ResourceName name, string leaseId, Func<RegisteredWorkload, RegisteredWorkload?> change)
    {
        lock (_gate)
        {
            if (!_inputs.Workloads.TryGetValue(name, out var workload) || workload.LeaseId != leaseId)
            {
                return false;
            }

            var changed = change(workload);
            if (Equals(changed, workload))
            {
                return true;
            }

            Accept(_inputs with { Workloads = changed is null ? _inputs.Workloads.Remove(name) : _inputs.Workloads.SetItem(name, changed) }, _revision + 1);
            _unwritten.Add(name);
        }

        WriteMissed();
        return true;
    }

    /// <summary>Writes what the store could not take before.</summary>
    public void WriteMissed()
    {
        try
        {
            lock (_gate)
            {
                if (_unwritten.Count == 0)
                {
                    return;
                }

                var written = _unwritten.Where(_inputs.Workloads.ContainsKey).Select(name => _inputs.Workloads[name].ToStore()).ToList();
                _database.ChangeWorkloads(_revision, written, _unwritten.Where(name => !_inputs.Workloads.ContainsKey(name)));
                _unwritten.Clear();
            }
        }
        catch (SqliteException e)
        {
            _log.Error("store_failed", MeshDatabase.Explain(e, "mesh.db"), ("error.code", e.SqliteErrorCode));
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _loop;
        WriteMissed();
        _stop.Dispose();
        _documentGate.Dispose();
    }

    private static TaskCompletionSource NewPublication() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Under <c>_gate</c>.</summary>
    private void Accept(MeshInputs inputs, long revision)
    {
        if (_oldestChange == 0)
        {
            _oldestChange = _time.GetTimestamp();
        }

        _inputs = inputs;
        _revision = revision;
        _changed.Set();
    }

    private async Task RunAsync()
    {
        lock (_gate)
        {
            _oldestChange = 0;
        }

        try
        {
            while (true)
            {
                await _changed.WaitAsync(_stop.Token);
                try
                {
                    CompileAndPublish();
                }
                catch (Exception e) when (e is not OperationCanceledException)
                {
                    // A fault of ours; the mesh goes on with the snapshot it has, and the next change tries again.
                    _log.Error("compile_failed", e.Message, ("error.type", e.GetType().FullName), ("error.stack_trace", e.StackTrace));
                }

                // The first change goes out at once; those that follow on its heels are taken together.
                if (_limits.CoalesceWindow > TimeSpan.Zero)
                {
                    await Task.Delay(_limits.CoalesceWindow, _time, _stop.Token);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Stopping.
        }
    }

    private void CompileAndPublish()
    {
        MeshInputs inputs;
        long revision;
        long changedAt;
        lock (_gate)
        {
            (inputs, revision, changedAt) = (_inputs, _revision, _oldestChange);
            _oldestChange = 0;
        }

        var before = _current;
        if (before.Revision == revision)
        {
            return;
        }

        var started = _time.GetTimestamp();
        var compiled = ReferenceEquals(before.Inputs.Documents, inputs.Documents)
            ? MeshCompiler.WithWorkloads(before.Mesh, inputs.LiveWorkloads())
            : MeshCompiler.Compile(inputs.ToCompilerInput(_trustDomain));
        var snapshot = new MeshSnapshot(revision, compiled, inputs, changedAt == 0 ? started : changedAt, before);
        _meters.CompileSeconds.Observe(_time.GetElapsedTime(started).TotalSeconds);
        _current = snapshot;
        Count(snapshot);
        Interlocked.Exchange(ref _published, NewPublication()).TrySetResult();
        foreach (var (signal, _) in _watchers)
        {
            signal.Set();
        }
    }

    private void Count(MeshSnapshot snapshot)
    {
        _meters.Revision.Set(snapshot.Revision);
        _meters.Documents.Set(snapshot.Inputs.Documents.Count);
    }

    private sealed class Watcher(MeshState mesh, ChangeSignal signal) : IDisposable
    {
        public void Dispose() => mesh._watchers.TryRemove(signal, out _);
    }
}

/// <summary>Documents to write and to remove.</summary>
internal sealed record DocumentChange(ImmutableArray<MeshDocument> Written, ImmutableArray<(string Kind, ResourceName Name)> Removed);

/// <summary>What became of a change.</summary>
/// <param name="Errors">Why nothing was changed; empty: done, or checked.</param>
/// <param name="Mesh">The mesh with the change, for its conditions.</param>
/// <param name="Revision">The mesh revision after it.</param>
internal sealed record DocumentChangeResult(ImmutableArray<DocumentError> Errors, CompiledMesh Mesh, long Revision);
