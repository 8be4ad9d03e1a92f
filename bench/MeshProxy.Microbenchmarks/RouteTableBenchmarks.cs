using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using BenchmarkDotNet.Attributes;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.Microbenchmarks;

/// <summary>
/// One match among 10, 1,000 and 100,000 routes: it must cost the same. `-- --routes` tells besides what a table of so many routes costs to compile and to keep.
/// </summary>
[MemoryDiagnoser]
public class RouteTableBenchmarks
{
    private static readonly RouteRule Rule = new("shop/route", new WeightedBackends([]), null, null);

    private RouteTable _exact = null!;
    private RouteTable _prefix = null!;
    private RouteTable _wildcard = null!;
    private RouteTable _fields = null!;
    private RouteTable _expressions = null!;
    private RouteTable _grpc = null!;
    private RequestHead _request = null!;
    private RequestHead _expressionRequest = null!;
    private RequestHead _grpcRequest = null!;

    /// <summary>How many routes.</summary>
    [Params(10, 1_000, 100_000)]
    public int Routes { get; set; } = 1_000;

    /// <summary>Makes the tables, and a request that matches the one in the middle.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _exact = Table(Routes, Exact);
        _prefix = Table(Routes, Prefix);
        _wildcard = Table(Routes, Wildcard);
        _fields = Table(Routes, Field);
        _expressions = Table(Math.Min(Routes, 1_000), Expression);
        _grpc = Table(Routes, Grpc);
        var middle = Routes / 2;
        _request = Request($"/api/s{middle}/pay?currency=chf", middle);
        _expressionRequest = Request("/api/s7/123/pay", middle);
        _grpcRequest = Request($"/shop.v1.S{middle}/Pay", middle);
    }

    /// <summary>By exact path.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int ExactPath() => Matched(_exact, _request);

    /// <summary>By path prefix.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int PathPrefix() => Matched(_prefix, _request);

    /// <summary>By wildcard hostname.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int WildcardHost() => Matched(_wildcard, _request);

    /// <summary>All on one path, told apart by a field.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int FieldAlternatives() => Matched(_fields, _request);

    /// <summary>By regular expressions, each with a literal beginning of its own; at most 1,000 of them.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int RegularExpression() => Matched(_expressions, _expressionRequest);

    /// <summary>By gRPC service and method.</summary>
    [Benchmark]
    [AllocationBudget(0)]
    public int GrpcMethod() => Matched(_grpc, _grpcRequest);

    /// <summary>Compiles tables of each kind and writes what they cost: no benchmark, for it is done once for each configuration.</summary>
    internal static void Report(TextWriter output)
    {
        output.WriteLine("| routes | kind | compile ms | kept KB | bytes a route |");
        output.WriteLine("| ---: | --- | ---: | ---: | ---: |");
        foreach (var count in (ReadOnlySpan<int>)[10, 1_000, 100_000])
        {
            foreach (var (kind, route) in new (string, Func<int, HttpRouteConfig>)[] { ("exact path", Exact), ("path prefix", Prefix), ("wildcard host", Wildcard), ("field", Field), ("gRPC method", Grpc) })
            {
                var (took, kept) = Compile(count, route);
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {count:n0} | {kind} | {took.TotalMilliseconds:n1} | {kept / 1024:n0} | {kept / count:n0} |"));
            }
        }
    }

    // A method of its own, so that nothing of the one before is kept.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static (TimeSpan Took, long Kept) Compile(int count, Func<int, HttpRouteConfig> route)
    {
        var routes = Enumerable.Range(0, count).Select(route).ToArray();
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var started = TimeProvider.System.GetTimestamp();
        var table = new RouteTable(routes, static (_, _) => Rule);
        var took = TimeProvider.System.GetElapsedTime(started);
        var kept = GC.GetTotalMemory(forceFullCollection: true) - before;
        GC.KeepAlive(table);
        GC.KeepAlive(routes);
        return (took, kept);
    }

    private static RequestHead Request(string path, int number)
    {
        var request = new RequestHead();
        request.SetMethod("POST"u8);
        request.SetAuthority(Encoding.ASCII.GetBytes($"a.b.h{number}.example:8080"));
        request.SetPath(Encoding.ASCII.GetBytes(path));
        request.Fields.Add("accept"u8, "*/*"u8);
        request.Fields.Add("x-tenant"u8, Encoding.ASCII.GetBytes($"t{number}"));
        return request;
    }

    private static int Matched(RouteTable table, RequestHead request) => table.Match(request).Rule is null ? throw new InvalidOperationException("no route matched") : 1;

    private static RouteTable Table(int count, Func<int, HttpRouteConfig> route) => new(Enumerable.Range(0, count).Select(route), (_, _) => Rule);

    private static HttpRouteConfig Exact(int i) => Route(i, new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.Exact, $"/api/s{i}/pay") });

    private static HttpRouteConfig Prefix(int i) => Route(i, new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.Prefix, $"/api/s{i}") });

    private static HttpRouteConfig Wildcard(int i) => Route(i, new HttpMatchConfig()) with { Hostnames = [$"*.h{i}.example"] };

    private static HttpRouteConfig Field(int i) => Route(i, new HttpMatchConfig { Headers = [new ValueMatchConfig("x-tenant", $"t{i}", false)] });

    private static HttpRouteConfig Expression(int i) => Route(i, new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.RegularExpression, $"/api/s{i}/[0-9]+/pay") });

    private static HttpRouteConfig Grpc(int i) => Route(i, new HttpMatchConfig { Grpc = new GrpcMatchConfig($"shop.v1.S{i}", "Pay", false) });

    private static HttpRouteConfig Route(int i, HttpMatchConfig match) => new() { Id = $"shop/r{i}", Rules = [new HttpRouteRuleConfig { Name = "0", Matches = [match] }] };
}
