using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One alternative of a rule, beyond the path: method, fields, query parameters. All must hold.</summary>
internal sealed class FieldMatcher
{
    private readonly byte[]? _method;
    private readonly NamedValue[] _fields;
    private readonly NamedValue[] _queryParameters;

    public FieldMatcher(HttpMatchConfig config)
    {
        _method = config.Method is { } method ? Encoding.ASCII.GetBytes(method) : null;
        _fields = [.. config.Headers.Select(match => new NamedValue(match))];
        _queryParameters = [.. config.QueryParameters.Select(match => new NamedValue(match))];
    }

    public bool HasMethod => _method is not null;

    public int FieldCount => _fields.Length;

    public int QueryParameterCount => _queryParameters.Length;

    public bool IsAlways => _method is null && _fields.Length == 0 && _queryParameters.Length == 0;

    public bool Matches(RequestHead request)
    {
        if (_method is not null && !request.MethodToken.SequenceEqual(_method))
        {
            return false;
        }

        foreach (var field in _fields)
        {
            if (!MatchesField(request, field))
            {
                return false;
            }
        }

        foreach (var parameter in _queryParameters)
        {
            if (!MatchesQuery(request.Path, parameter))
            {
                return false;
            }
        }

        return true;
    }

    private static bool MatchesField(RequestHead request, NamedValue expected)
    {
        // Host is no field here: it is the authority.
        if (expected.Name.AsSpan().SequenceEqual("host"u8))
        {
            return expected.Matches(request.Authority);
        }

        var index = request.Fields.IndexOf(expected.Name, 0);
        if (index < 0)
        {
            return false;
        }

        var next = request.Fields.IndexOf(expected.Name, index + 1);
        if (next < 0)
        {
            return expected.Matches(request.Fields[index].Value);
        }

        // Several lines are one value, joined with commas (RFC 9110 section 5.3). Rare: it may allocate.
        var joined = new List<byte>(request.Fields[index].Value.ToArray());
        for (; next >= 0; next = request.Fields.IndexOf(expected.Name, next + 1))
        {
            joined.AddRange(", "u8);
            joined.AddRange(request.Fields[next].Value);
        }

        return expected.Matches([.. joined]);
    }

    private static bool MatchesQuery(ReadOnlySpan<byte> target, NamedValue expected)
    {
        var question = target.IndexOf((byte)'?');
        if (question < 0)
        {
            return false;
        }

        foreach (var range in target[(question + 1)..].Split((byte)'&'))
        {
            var pair = target[(question + 1)..][range];
            var equals = pair.IndexOf((byte)'=');
            var name = equals < 0 ? pair : pair[..equals];
            if (Decoded(name).SequenceEqual(expected.Name))
            {
                // The first parameter of that name counts (Gateway API).
                return expected.Matches(Decoded(equals < 0 ? default : pair[(equals + 1)..]));
            }
        }

        return false;
    }

    private static ReadOnlySpan<byte> Decoded(ReadOnlySpan<byte> text) => text.IndexOfAny((byte)'%', (byte)'+') < 0
        ? text
        : Encoding.UTF8.GetBytes(Uri.UnescapeDataString(Encoding.ASCII.GetString(text).Replace('+', ' ')));

    private sealed class NamedValue(ValueMatchConfig config)
    {
        private readonly byte[]? _exact = config.IsRegularExpression ? null : Encoding.UTF8.GetBytes(config.Value);
        private readonly Regex? _expression = config.IsRegularExpression ? FullMatch(config.Value) : null;

        public byte[] Name { get; } = Encoding.UTF8.GetBytes(config.Name);

        public bool Matches(ReadOnlySpan<byte> value) =>
            _exact is not null ? value.SequenceEqual(_exact) : _expression!.IsMatch(Encoding.Latin1.GetString(value));
    }

    /// <summary>An expression that must match the whole text, in linear time.</summary>
    public static Regex FullMatch(string pattern) => new($@"\A(?:{pattern})\z", RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
}
