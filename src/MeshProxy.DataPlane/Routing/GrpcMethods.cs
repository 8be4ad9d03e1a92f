using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// The matches of GRPCRoutes: POST to "/service/method" and nothing else (gRPC over HTTP/2, "Requests"). Gateway API's order: the more characters of the
/// service, then of the method, then the number of fields, then the tie-breakers. That is: both by name, the service by name, an expression on the service
/// (our place for it, the longest first), the method by name, an expression on the method, any. Immutable once sealed.
/// </summary>
internal sealed class GrpcMethods
{
    private readonly Dictionary<byte[], Alternatives> _both = new(BytesComparer.Instance);
    private readonly Dictionary<byte[], Alternatives> _services = new(BytesComparer.Instance);
    private readonly Dictionary<byte[], Alternatives> _methods = new(BytesComparer.Instance);
    private readonly List<Expression> _expressions = [];
    private readonly Alternatives _any = new();

    public void Add(GrpcMatchConfig match, Candidate candidate)
    {
        switch (match)
        {
            case { IsRegularExpression: false, Service: { } service, Method: { } method }:
                At(_both, $"/{service}/{method}").Add(candidate);
                break;
            case { IsRegularExpression: false, Service: { } service }:
                At(_services, service).Add(candidate);
                break;
            case { IsRegularExpression: false, Method: { } method }:
                At(_methods, method).Add(candidate);
                break;
            case { Service: null, Method: null }:
                _any.Add(candidate);
                break;
            default:
                _expressions.Add(new Expression(match, candidate));
                break;
        }
    }

    public void Seal()
    {
        foreach (var alternatives in _both.Values.Concat(_services.Values).Concat(_methods.Values).Append(_any))
        {
            alternatives.Seal();
        }

        _expressions.Sort(static (a, b) =>
        {
            var order = b.ServiceCharacters.CompareTo(a.ServiceCharacters);
            order = order != 0 ? order : b.MethodCharacters.CompareTo(a.MethodCharacters);
            return order != 0 ? order : Candidate.ByPrecedence(a.Candidate, b.Candidate);
        });
    }

    public Candidate? Find(in RouteQuery request)
    {
        var path = request.Path;
        var slash = path.LastIndexOf((byte)'/');
        if (!request.Method.SequenceEqual("POST"u8) || slash < 2 || path[0] != '/' || slash == path.Length - 1)
        {
            return null;
        }

        var service = path[1..slash];
        if (service.Contains((byte)'/'))
        {
            return null;
        }

        var method = path[(slash + 1)..];
        return Find(_both, path, request) ?? Find(_services, service, request) ?? FindExpression(request, service, method, onService: true)
            ?? Find(_methods, method, request) ?? FindExpression(request, service, method, onService: false) ?? _any.Find(request);
    }

    private static Candidate? Find(Dictionary<byte[], Alternatives> table, ReadOnlySpan<byte> key, in RouteQuery request) =>
        table.Count > 0 && table.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(key, out var alternatives) ? alternatives.Find(request) : null;

    private static Alternatives At(Dictionary<byte[], Alternatives> table, string key)
    {
        var bytes = Encoding.ASCII.GetBytes(key);
        return table.TryGetValue(bytes, out var found) ? found : table[bytes] = new Alternatives();
    }

    private Candidate? FindExpression(in RouteQuery request, ReadOnlySpan<byte> service, ReadOnlySpan<byte> method, bool onService)
    {
        foreach (var expression in _expressions)
        {
            if (expression.ServiceCharacters > 0 == onService && expression.Matches(request, service, method))
            {
                return expression.Candidate;
            }
        }

        return null;
    }

    private sealed class Expression(GrpcMatchConfig match, Candidate candidate)
    {
        private readonly Regex? _service = match.Service is { } service ? Expressions.FullMatch(service) : null;
        private readonly Regex? _method = match.Method is { } method ? Expressions.FullMatch(method) : null;

        public Candidate Candidate => candidate;

        public int ServiceCharacters { get; } = match.Service?.Length ?? 0;

        public int MethodCharacters { get; } = match.Method?.Length ?? 0;

        public bool Matches(in RouteQuery request, ReadOnlySpan<byte> service, ReadOnlySpan<byte> method) =>
            candidate.Matcher.Matches(request)
            && (_service is null || Expressions.IsMatch(_service, service))
            && (_method is null || Expressions.IsMatch(_method, method));
    }
}
