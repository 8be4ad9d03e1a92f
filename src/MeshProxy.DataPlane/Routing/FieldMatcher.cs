using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>One alternative of a rule, beyond the path: method, fields, query parameters. All must hold.</summary>
internal sealed class FieldMatcher
{
    /// <summary>The alternative that asks for nothing.</summary>
    public static readonly FieldMatcher Always = new(new HttpMatchConfig());

    private readonly byte[]? _method;
    private readonly NamedValue[] _fields;
    private readonly NamedValue[] _queryParameters;

    private FieldMatcher(HttpMatchConfig config)
    {
        _method = config.Method is { } method ? Encoding.ASCII.GetBytes(method) : null;
        _fields = [.. config.Headers.Select(match => new NamedValue(match, isQuery: false))];
        _queryParameters = [.. config.QueryParameters.Select(match => new NamedValue(match, isQuery: true))];
    }

    public bool HasMethod => _method is not null;

    public int FieldCount => _fields.Length;

    public int QueryParameterCount => _queryParameters.Length;

    public bool IsAlways => _method is null && _fields.Length == 0 && _queryParameters.Length == 0;

    /// <summary>The conditions that ask for one certain value: what alternatives can be indexed by.</summary>
    public IEnumerable<NamedValue> ExactValues => _fields.Concat(_queryParameters).Where(value => value.Exact is not null);

    public static FieldMatcher Of(HttpMatchConfig config) =>
        config.Method is null && config.Headers.IsEmpty && config.QueryParameters.IsEmpty ? Always : new FieldMatcher(config);

    public bool Matches(in RouteQuery request)
    {
        if (_method is not null && !request.Method.SequenceEqual(_method))
        {
            return false;
        }

        foreach (var field in _fields)
        {
            if (!field.Matches(request.Head))
            {
                return false;
            }
        }

        foreach (var parameter in _queryParameters)
        {
            if (!parameter.Matches(request.Head))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>A condition on one named value of a request.</summary>
    internal sealed class NamedValue(ValueMatchConfig config, bool isQuery)
    {
        private readonly Regex? _expression = config.IsRegularExpression ? Expressions.FullMatch(config.Value) : null;
        private readonly byte[] _name = Encoding.UTF8.GetBytes(config.Name);

        /// <summary>What it is about: a query parameter or a field, and its name.</summary>
        public (bool IsQuery, string Name) NameKey => (isQuery, config.Name);

        /// <summary>The same with the value that is asked for.</summary>
        public (bool IsQuery, string Name, string Value) Key => (isQuery, config.Name, config.Value);

        /// <summary>The value that is asked for; null: an expression.</summary>
        public byte[]? Exact { get; } = config.IsRegularExpression ? null : Encoding.UTF8.GetBytes(config.Value);

        public bool Matches(RequestHead request)
        {
            using var value = Of(request, _name, isQuery);
            return value.IsPresent && (Exact is not null ? value.Bytes.SequenceEqual(Exact) : Expressions.IsMatch(_expression!, value.Bytes));
        }

        public static RequestValue Of(RequestHead request, byte[] name, bool isQuery) =>
            isQuery ? RequestValue.OfQuery(request.Path, name) : RequestValue.OfField(request, name);
    }
}
