using System.Collections.Frozen;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// The TLSRoutes of one listener or service port, by server name (SNI): the very name first, then the longest wildcard, then a route that takes any name and
/// none. A wildcard stands for one or more labels, as everywhere in Gateway API. A lookup costs one hash for each label, however many routes there are.
/// </summary>
internal sealed class ServerNameTable
{
    private readonly FrozenDictionary<string, WeightedBackends>.AlternateLookup<ReadOnlySpan<char>> _names;
    private readonly FrozenDictionary<string, WeightedBackends>.AlternateLookup<ReadOnlySpan<char>> _wildcards;
    private readonly WeightedBackends? _any;

    /// <param name="routes">Hostnames (none: any) and backends; of two with one name the first has it.</param>
    public ServerNameTable(IEnumerable<(IReadOnlyList<string> Hostnames, WeightedBackends Backends)> routes)
    {
        var names = new Dictionary<string, WeightedBackends>(StringComparer.OrdinalIgnoreCase);
        var wildcards = new Dictionary<string, WeightedBackends>(StringComparer.OrdinalIgnoreCase);
        foreach (var (hostnames, backends) in routes)
        {
            IsEmpty = false;
            _any = hostnames.Count == 0 ? _any ?? backends : _any;
            foreach (var hostname in hostnames)
            {
                _ = hostname.StartsWith("*.", StringComparison.Ordinal) ? wildcards.TryAdd(hostname[2..], backends) : names.TryAdd(hostname, backends);
            }
        }

        _names = names.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase).GetAlternateLookup<ReadOnlySpan<char>>();
        _wildcards = wildcards.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase).GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>True when there is no route at all.</summary>
    public bool IsEmpty { get; } = true;

    /// <summary>Where a connection goes; null: no route takes it.</summary>
    /// <param name="serverName">What the client asked for; null: it named nothing.</param>
    public WeightedBackends? Match(string? serverName)
    {
        if (serverName is null)
        {
            return _any;
        }

        if (_names.TryGetValue(serverName, out var backends))
        {
            return backends;
        }

        var rest = serverName.AsSpan();
        for (var dot = rest.IndexOf('.'); dot > 0; dot = rest.IndexOf('.'))
        {
            rest = rest[(dot + 1)..];
            if (_wildcards.TryGetValue(rest, out backends))
            {
                return backends;
            }
        }

        return _any;
    }
}
