using System.Collections.Immutable;
using System.Globalization;
using MeshProxy.Api.Documents.Nodes;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>One element of a list.</summary>
internal readonly record struct FieldItem(DocumentNode Node, string Path);

/// <summary>
/// Takes the fields of one mapping by name. A field that nobody took is unknown, which <see cref="Close"/> reports: call it last. An empty value ("key:") counts
/// as absent, as Kubernetes has it.
/// </summary>
internal sealed class Fields(DocumentScope scope, MappingNode node, string path)
{
    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);
    private readonly List<string> _known = [];

    public DocumentScope Scope => scope;

    public MappingNode Node => node;

    public string Path => path;

    public string PathOf(string name) => FieldPath.Key(path, name);

    /// <summary>True when it is there and not empty; does not take it.</summary>
    public bool Has(string name) => node[name] is not null and not ScalarNode { Kind: ScalarKind.Null };

    public DocumentNode? Take(string name)
    {
        _taken.Add(name);
        _known.Add(name);
        return node[name] is { } value and not ScalarNode { Kind: ScalarKind.Null } ? value : null;
    }

    public DocumentNode? Require(string name, string hint)
    {
        var value = Take(name);
        if (value is null)
        {
            scope.Fail(node[name] ?? node, PathOf(name), $"is missing: {hint}");
        }

        return value;
    }

    public string? Text(string name, Func<string, string?>? check = null) => Take(name) is { } value ? TextOf(value, PathOf(name), check) : null;

    public string? RequiredText(string name, string hint, Func<string, string?>? check = null) =>
        Require(name, hint) is { } value ? TextOf(value, PathOf(name), check) : null;

    public string? TextOf(DocumentNode value, string field, Func<string, string?>? check = null)
    {
        if (value is not ScalarNode scalar)
        {
            scope.Fail(value, field, $"must be a text, not {value.Describe}");
            return null;
        }

        if (scalar.Kind != ScalarKind.Text)
        {
            scope.Fail(value, field, $"must be a text, not {value.Describe}: write \"{scalar.Value}\" in quotes");
            return null;
        }

        if (check?.Invoke(scalar.Value) is { } problem)
        {
            scope.Fail(value, field, problem);
            return null;
        }

        return scalar.Value;
    }

    /// <summary>One of some words, case-sensitive.</summary>
    public string? Choice(string name, params ReadOnlySpan<string> words)
    {
        if (Text(name) is not { } text)
        {
            return null;
        }

        if (words.Contains(text))
        {
            return text;
        }

        scope.Fail(node[name]!, PathOf(name), $"'{text}' is not known: use {string.Join(", ", words.ToArray())}");
        return null;
    }

    public int? Number(string name, long min, long max) => Take(name) is { } value ? NumberOf(value, PathOf(name), min, max) : null;

    public int? RequiredNumber(string name, long min, long max, string hint) => Require(name, hint) is { } value ? NumberOf(value, PathOf(name), min, max) : null;

    public int? NumberOf(DocumentNode value, string field, long min, long max) => (int?)LargeNumberOf(value, field, min, max);

    public long? LargeNumber(string name, long min, long max) => Take(name) is { } value ? LargeNumberOf(value, PathOf(name), min, max) : null;

    private long? LargeNumberOf(DocumentNode value, string field, long min, long max)
    {
        if (value is not ScalarNode { Kind: ScalarKind.Integer } scalar)
        {
            scope.Fail(value, field, $"must be a whole number, not {value.Describe}{(value is ScalarNode { Kind: ScalarKind.Text } text && long.TryParse(text.Value, out _) ? ": remove the quotes" : "")}");
            return null;
        }

        if (!TryInteger(scalar.Value, out var number))
        {
            scope.Fail(value, field, $"{scalar.Value} is ambiguous or too large: write a plain decimal number without leading zeros");
            return null;
        }

        if (number < min || number > max)
        {
            scope.Fail(value, field, $"{number} is out of range: use {min} to {max}");
            return null;
        }

        return number;
    }

    /// <summary>GEP-2257: up to four numbers with h, m, s or ms.</summary>
    public TimeSpan? Duration(string name)
    {
        if (Text(name) is not { } text)
        {
            return null;
        }

        var rest = text.AsSpan();
        var total = TimeSpan.Zero;
        for (var part = 0; part < 4 && !rest.IsEmpty; part++)
        {
            var digits = rest.IndexOfAnyExceptInRange('0', '9');
            if (digits is < 1 or > 5)
            {
                break;
            }

            var value = int.Parse(rest[..digits], CultureInfo.InvariantCulture);
            rest = rest[digits..];
            (int Length, long Size) unit = rest.StartsWith("ms") ? (2, TimeSpan.TicksPerMillisecond) : rest[0] switch
            {
                'h' => (1, TimeSpan.TicksPerHour),
                'm' => (1, TimeSpan.TicksPerMinute),
                's' => (1, TimeSpan.TicksPerSecond),
                _ => (0, 0L),
            };
            if (unit.Length == 0)
            {
                break;
            }

            rest = rest[unit.Length..];
            total += TimeSpan.FromTicks(value * unit.Size);
        }

        if (rest.IsEmpty && text.Length > 0)
        {
            return total;
        }

        Fail(name, $"'{text}' is no duration: write it like 500ms, 10s or 1m30s");
        return null;
    }

    public bool? Flag(string name)
    {
        if (Take(name) is not { } value)
        {
            return null;
        }

        if (value is ScalarNode { Kind: ScalarKind.Boolean } scalar)
        {
            return scalar.Value[0] is 't' or 'T';
        }

        scope.Fail(value, PathOf(name), $"must be true or false, not {value.Describe}");
        return null;
    }

    public Fields? Map(string name) => Take(name) is { } value ? MapOf(value, PathOf(name)) : null;

    public Fields? RequiredMap(string name, string hint) => Require(name, hint) is { } value ? MapOf(value, PathOf(name)) : null;

    public Fields? MapOf(DocumentNode value, string field)
    {
        if (value is MappingNode mapping)
        {
            return new Fields(scope, mapping, field);
        }

        scope.Fail(value, field, $"must be a mapping, not {value.Describe}");
        return null;
    }

    /// <summary>The elements of a list; none when it is absent.</summary>
    public IReadOnlyList<FieldItem> Items(string name, int max = int.MaxValue)
    {
        if (Take(name) is not { } value)
        {
            return [];
        }

        if (value is not SequenceNode sequence)
        {
            scope.Fail(value, PathOf(name), $"must be a list, not {value.Describe}: start each element with '- '");
            return [];
        }

        if (sequence.Items.Length > max)
        {
            scope.Fail(value, PathOf(name), $"has {sequence.Items.Length} elements, at most {max} are allowed");
            return [];
        }

        var items = new FieldItem[sequence.Items.Length];
        for (var i = 0; i < items.Length; i++)
        {
            items[i] = new FieldItem(sequence.Items[i], FieldPath.Index(PathOf(name), i));
        }

        return items;
    }

    /// <summary>The mappings of a list; elements of another shape are reported and left out.</summary>
    public IEnumerable<Fields> Maps(string name, int max = int.MaxValue)
    {
        foreach (var item in Items(name, max))
        {
            if (MapOf(item.Node, item.Path) is { } map)
            {
                yield return map;
            }
        }
    }

    public ImmutableArray<string> Texts(string name, int max, Func<string, string?>? check = null)
    {
        var texts = ImmutableArray.CreateBuilder<string>();
        foreach (var item in Items(name, max))
        {
            if (TextOf(item.Node, item.Path, check) is { } text)
            {
                texts.Add(text);
            }
        }

        return texts.DrainToImmutable();
    }

    public ImmutableDictionary<string, string> TextMap(string name, Func<string, string?>? checkKey = null, Func<string, string?>? checkValue = null)
    {
        if (Map(name) is not { } map)
        {
            return ImmutableDictionary<string, string>.Empty;
        }

        var texts = ImmutableDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach (var entry in map.Node.Entries)
        {
            if (checkKey?.Invoke(entry.Key) is { } problem)
            {
                scope.Fail(entry.Line, entry.Column, map.PathOf(entry.Key), problem);
            }
            else if (entry.Value is ScalarNode { Kind: ScalarKind.Null })
            {
                texts[entry.Key] = "";
            }
            else if (map.TextOf(entry.Value, map.PathOf(entry.Key), checkValue) is { } text)
            {
                texts[entry.Key] = text;
            }
        }

        return texts.ToImmutable();
    }

    /// <summary>Fields of the standard that mean nothing here; whatever they hold is taken.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            _taken.Add(name);
        }
    }

    /// <summary>A field of the standard that would mean something: when it is there, the document is not in force.</summary>
    public void NotImplemented(string name, string message)
    {
        if (Take(name) is { } value)
        {
            scope.NotImplemented(value, PathOf(name), message);
        }

        _known.Remove(name);
    }

    public void Fail(string name, string message) => scope.Fail(node[name] ?? node, PathOf(name), message);

    /// <summary>Reports every field that nobody took.</summary>
    public void Close()
    {
        foreach (var entry in node.Entries)
        {
            if (!_taken.Contains(entry.Key))
            {
                var near = _known.Where(name => Distance(name, entry.Key) <= 2).MinBy(name => Distance(name, entry.Key));
                scope.Fail(entry.Line, entry.Column, PathOf(entry.Key), near is not null ? $"is not a field here: did you mean '{near}'?"
                    : _known.Count == 0 ? "is not a field here: remove it"
                    : $"is not a field here: use {string.Join(", ", _known.Distinct().Order(StringComparer.Ordinal))}");
            }
        }
    }

    private static bool TryInteger(string text, out long number)
    {
        if (text.StartsWith("0x", StringComparison.Ordinal))
        {
            return long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out number);
        }

        // YAML 1.1 reads 010 as eight and YAML 1.2 as ten: nobody should have to know.
        number = 0;
        var digits = text.TrimStart('+', '-');
        return (digits.Length == 1 || digits[0] != '0') && long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number);
    }

    /// <summary>How many letters apart two names are, case apart.</summary>
    private static int Distance(string a, string b)
    {
        if (Math.Abs(a.Length - b.Length) > 2 || b.Length > 64)
        {
            return int.MaxValue;
        }

        var previous = new int[b.Length + 1];
        var row = new int[b.Length + 1];
        for (var j = 0; j <= b.Length; j++)
        {
            previous[j] = j;
        }

        for (var i = 1; i <= a.Length; i++)
        {
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var same = char.ToLowerInvariant(a[i - 1]) == char.ToLowerInvariant(b[j - 1]);
                row[j] = Math.Min(Math.Min(row[j - 1], previous[j]) + 1, previous[j - 1] + (same ? 0 : 1));
            }

            (previous, row) = (row, previous);
        }

        return previous[b.Length];
    }
}
