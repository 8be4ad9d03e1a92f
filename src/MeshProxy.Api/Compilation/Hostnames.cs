using System.Collections.Immutable;

namespace MeshProxy.Api.Compilation;

/// <summary>Gateway API's hostname rules. A wildcard stands for one or more labels; "*.example.com" is not "example.com".</summary>
internal static class Hostnames
{
    /// <summary>The hostnames that both a listener and a route serve; null when there are none in common. Empty: any.</summary>
    public static ImmutableArray<string>? Intersect(string? listener, ImmutableArray<string> route)
    {
        if (listener is null)
        {
            return route;
        }

        if (route.IsEmpty)
        {
            return [listener];
        }

        var both = ImmutableArray.CreateBuilder<string>();
        foreach (var name in route)
        {
            var common = Covers(listener, name) ? name : Covers(name, listener) ? listener : null;
            if (common is not null && !both.Contains(common))
            {
                both.Add(common);
            }
        }

        return both.Count == 0 ? null : both.DrainToImmutable();
    }

    /// <summary>True when some name is one of both; empty: any.</summary>
    public static bool Overlap(ImmutableArray<string> a, ImmutableArray<string> b) =>
        a.IsEmpty || b.IsEmpty || a.Any(one => b.Any(other => Covers(one, other) || Covers(other, one)));

    /// <summary>True when every name that <paramref name="inner"/> stands for is one that <paramref name="outer"/> stands for.</summary>
    private static bool Covers(string outer, string inner) =>
        outer == inner || (outer.StartsWith('*') && inner.Length > outer.Length - 1 && inner.EndsWith(outer[1..], StringComparison.Ordinal));
}
