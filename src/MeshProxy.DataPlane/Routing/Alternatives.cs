using System.Text.RegularExpressions;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One match of one rule, where the path is known to fit, or is left to an expression.</summary>
/// <param name="Rule">What it leads to.</param>
/// <param name="Matcher">What else must hold.</param>
/// <param name="Order">Age, name and place in the document: who wins a tie.</param>
internal sealed record Candidate(RouteRule Rule, FieldMatcher Matcher, int Order)
{
    /// <summary>What the path must match, where no dictionary can tell: asked last, it costs most.</summary>
    public Regex? Path { get; init; }

    public bool IsAlways => Matcher.IsAlways && Path is null;

    public bool Matches(in RouteQuery request) => Matcher.Matches(request) && (Path is null || Expressions.IsMatch(Path, request.Path));

    /// <summary>Gateway API's order of matches whose paths are equal: method, number of fields, number of query parameters, then the tie-breakers.</summary>
    public static int ByPrecedence(Candidate a, Candidate b)
    {
        var order = b.Matcher.HasMethod.CompareTo(a.Matcher.HasMethod);
        order = order != 0 ? order : b.Matcher.FieldCount.CompareTo(a.Matcher.FieldCount);
        order = order != 0 ? order : b.Matcher.QueryParameterCount.CompareTo(a.Matcher.QueryParameterCount);
        return order != 0 ? order : a.Order.CompareTo(b.Order);
    }
}

/// <summary>
/// The matches that share a path, in order of precedence. Few are tried one by one. Many are indexed, each by one value that it asks for (a thousand
/// tenants told apart by a field): the request's own value is looked up, and only those that ask for it are tried. Immutable once sealed.
/// </summary>
internal sealed class Alternatives
{
    /// <summary>Up to here trying is cheaper than looking up.</summary>
    private const int Few = 8;

    private Candidate[] _ordered = [];
    private int _count;
    private ValueIndex[] _indexes = [];

    /// <summary>Places in <see cref="_ordered"/> that no index holds; null: all of them.</summary>
    private int[]? _others;

    public void Add(Candidate candidate)
    {
        if (_count == _ordered.Length)
        {
            Array.Resize(ref _ordered, Math.Max(1, _count * 2));
        }

        _ordered[_count++] = candidate;
    }

    /// <summary>Fixes the order, after the last <see cref="Add"/>.</summary>
    public void Seal()
    {
        Array.Resize(ref _ordered, _count);
        Array.Sort(_ordered, Candidate.ByPrecedence);

        // Nothing behind one that always matches can be reached.
        var always = Array.FindIndex(_ordered, candidate => candidate.IsAlways);
        if (always >= 0)
        {
            Array.Resize(ref _ordered, always + 1);
        }

        if (_ordered.Length > Few)
        {
            Index();
        }
    }

    /// <summary>The first that matches; <paramref name="best"/> when none comes before that.</summary>
    public Candidate? Find(in RouteQuery request, Candidate? best = null)
    {
        var end = _ordered.Length;
        foreach (var index in _indexes)
        {
            using var value = FieldMatcher.NamedValue.Of(request.Head, index.Name, index.IsQuery);
            if (value.IsPresent && index.Places.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(value.Bytes, out var places))
            {
                end = FirstOf(places, request, end);
            }
        }

        if (_others is not null)
        {
            end = FirstOf(_others, request, end);
        }
        else
        {
            for (var i = 0; i < end; i++)
            {
                if (_ordered[i].Matches(request))
                {
                    end = i;
                }
            }
        }

        return end == _ordered.Length || (best is not null && Candidate.ByPrecedence(best, _ordered[end]) < 0) ? best : _ordered[end];
    }

    private int FirstOf(int[] places, in RouteQuery request, int end)
    {
        foreach (var place in places)
        {
            if (place >= end || _ordered[place].Matches(request))
            {
                return Math.Min(place, end);
            }
        }

        return end;
    }

    // Each is indexed by the value that the fewest others ask for too, among the values of names that many ask for.
    private void Index()
    {
        var byValue = new Dictionary<(bool, string, string), int>();
        var byName = new Dictionary<(bool, string), int>();
        foreach (var value in _ordered.SelectMany(candidate => candidate.Matcher.ExactValues))
        {
            byValue[value.Key] = byValue.GetValueOrDefault(value.Key) + 1;
            byName[value.NameKey] = byName.GetValueOrDefault(value.NameKey) + 1;
        }

        var indexes = new Dictionary<(bool, string), Dictionary<byte[], List<int>>>();
        var others = new List<int>();
        for (var place = 0; place < _ordered.Length; place++)
        {
            var chosen = _ordered[place].Matcher.ExactValues.OrderBy(value => byValue[value.Key]).ThenByDescending(value => byName[value.NameKey]).FirstOrDefault();
            if (chosen is null)
            {
                others.Add(place);
                continue;
            }

            if (!indexes.TryGetValue(chosen.NameKey, out var places))
            {
                indexes[chosen.NameKey] = places = new Dictionary<byte[], List<int>>(BytesComparer.Instance);
            }

            if (!places.TryGetValue(chosen.Exact!, out var list))
            {
                places[chosen.Exact!] = list = [];
            }

            list.Add(place);
        }

        _others = [.. others];
        _indexes = [.. indexes.Select(pair => new ValueIndex(
            System.Text.Encoding.UTF8.GetBytes(pair.Key.Item2),
            pair.Key.Item1,
            pair.Value.ToDictionary(entry => entry.Key, entry => entry.Value.ToArray(), BytesComparer.Instance)))];
    }

    private sealed record ValueIndex(byte[] Name, bool IsQuery, Dictionary<byte[], int[]> Places);
}
