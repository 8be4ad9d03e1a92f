using System.Collections.Concurrent;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>
/// What traffic asks for. Bounded: when it is full, names that the control plane does not know go first, then whoever was idle the longest for more than a
/// minute; otherwise the newcomer is refused. Thread-safe.
/// </summary>
internal sealed class Subscriptions(TimeProvider time, int maximum = Subscriptions.DefaultMaximum)
{
    /// <summary>How many there may be.</summary>
    public const int DefaultMaximum = 4096;

    /// <summary>A subscription that no traffic used for this long ends.</summary>
    public static readonly TimeSpan IdleExpiry = TimeSpan.FromMinutes(10);

    /// <summary>How long the answer "unknown" is kept without being asked for.</summary>
    public static readonly TimeSpan NegativeExpiry = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan EvictableAfter = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Lock _adding = new();

    /// <summary>Every name.</summary>
    public IEnumerable<string> Names => _entries.Keys;

    /// <summary>How many there are.</summary>
    public int Count => _entries.Count;

    /// <summary>Marks a name as used now.</summary>
    /// <returns>False when it is not subscribed to.</returns>
    public bool Touch(string name)
    {
        if (!_entries.TryGetValue(name, out var entry))
        {
            return false;
        }

        entry.LastUsed = time.GetTimestamp();
        return true;
    }

    /// <summary>Subscribes.</summary>
    /// <param name="name">The unit.</param>
    /// <param name="isPinned">Declared, not found by traffic: never expires.</param>
    /// <param name="evicted">Names that had to go for it.</param>
    /// <returns>False when there is no room.</returns>
    public bool TryAdd(string name, bool isPinned, out IReadOnlyList<string> evicted)
    {
        lock (_adding)
        {
            evicted = [];
            if (_entries.TryGetValue(name, out var known))
            {
                known.IsPinned |= isPinned;
                known.LastUsed = time.GetTimestamp();
                return true;
            }

            if (_entries.Count >= maximum)
            {
                var now = time.GetTimestamp();
                var victim = _entries
                    .Where(entry => !entry.Value.IsPinned && (entry.Value.IsNegative || time.GetElapsedTime(entry.Value.LastUsed, now) > EvictableAfter))
                    .OrderByDescending(entry => entry.Value.IsNegative)
                    .ThenBy(entry => entry.Value.LastUsed)
                    .Select(entry => entry.Key)
                    .FirstOrDefault();
                if (victim is null)
                {
                    return false;
                }

                _entries.TryRemove(victim, out _);
                evicted = [victim];
            }

            _entries[name] = new Entry { IsPinned = isPinned, LastUsed = time.GetTimestamp() };
            return true;
        }
    }

    /// <summary>Whether a name was used within the last <paramref name="span"/>.</summary>
    public bool IsFresh(string name, TimeSpan span) => _entries.TryGetValue(name, out var entry) && time.GetElapsedTime(entry.LastUsed) <= span;

    /// <summary>Notes whether the control plane knows the name.</summary>
    public void OnAnswer(string name, bool isAbsent)
    {
        if (_entries.TryGetValue(name, out var entry))
        {
            entry.IsNegative = isAbsent;
        }
    }

    /// <summary>Removes what has expired.</summary>
    public IReadOnlyList<string> Expire()
    {
        var now = time.GetTimestamp();
        var expired = new List<string>();
        foreach (var (name, entry) in _entries)
        {
            if (!entry.IsPinned && time.GetElapsedTime(entry.LastUsed, now) > (entry.IsNegative ? NegativeExpiry : IdleExpiry) && _entries.TryRemove(name, out _))
            {
                expired.Add(name);
            }
        }

        return expired;
    }

    private sealed class Entry
    {
        public long LastUsed { get; set; }

        public bool IsPinned { get; set; }

        public bool IsNegative { get; set; }
    }
}
