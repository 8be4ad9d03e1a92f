using System.Collections.Concurrent;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Listening;

/// <summary>A live connection, as the registry, the tick, a drain and a reassessment see it.</summary>
internal abstract class ConnectionEntry
{
    /// <summary>Its number in the registry; 0 before it was added.</summary>
    public long Id { get; internal set; }

    /// <summary>The listener that accepted it, such as "inbound".</summary>
    public string Listener { get; init; } = "";

    /// <summary>The peer's address.</summary>
    public System.Net.EndPoint? Remote { get; init; }

    /// <summary>Our address.</summary>
    public System.Net.EndPoint? Local { get; init; }

    /// <summary>Since when it lives.</summary>
    public DateTimeOffset Since { get; init; }

    /// <summary>The identity that the peer proved; default when it proved none.</summary>
    public Model.Identity.PeerVerdict Peer { get; set; }

    /// <summary>The TLS server name; null for plaintext.</summary>
    public string? ServerName { get; set; }

    /// <summary>"h2", "http/1.1", "tcp"; null until it is known.</summary>
    public string? Protocol { get; set; }

    /// <summary>Whether it is encrypted.</summary>
    public bool IsTls { get; set; }

    /// <summary>Judges its timeouts; from the coarse tick. Return at once.</summary>
    public abstract void OnTick(long nowMilliseconds);

    /// <summary>Takes nothing new, finishes what is open. Repeatable.</summary>
    public abstract void Drain(ConnectionCloseReason reason);

    /// <summary>Ends it now.</summary>
    public abstract void Abort(ConnectionCloseReason reason);
}

/// <summary>The live connections. Added and removed by whoever serves them; read by the admin pages (a copy), the tick, the drain, and a change of trust.</summary>
internal sealed class ConnectionRegistry
{
    private readonly ConcurrentDictionary<long, ConnectionEntry> _entries = new();
    private long _lastId;
    private int _count;

    /// <summary>How many live.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>How many were ever added.</summary>
    public long Total => Volatile.Read(ref _lastId);

    /// <summary>Adds one, and numbers it.</summary>
    public void Add(ConnectionEntry entry)
    {
        entry.Id = Interlocked.Increment(ref _lastId);
        _entries[entry.Id] = entry;
        Interlocked.Increment(ref _count);
    }

    /// <summary>Takes one out; harmless when it is out already.</summary>
    public void Remove(ConnectionEntry entry)
    {
        if (_entries.TryRemove(entry.Id, out _))
        {
            Interlocked.Decrement(ref _count);
        }
    }

    /// <summary>A copy for the admin pages, in the order of their ids.</summary>
    public IReadOnlyList<ConnectionEntry> Snapshot() => [.. _entries.Values.OrderBy(entry => entry.Id)];

    /// <summary>Runs an action for each; entries that come or go meanwhile may be seen or not.</summary>
    public void ForEach<TState>(TState state, Action<ConnectionEntry, TState> action)
    {
        foreach (var pair in _entries)
        {
            action(pair.Value, state);
        }
    }

    /// <summary>Runs an action for each.</summary>
    public void ForEach(Action<ConnectionEntry> action) => ForEach(action, static (entry, run) => run(entry));
}
