using System.Buffers;
using System.Collections.Immutable;
using BenchmarkDotNet.Attributes;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;
using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.Microbenchmarks;

/// <summary>
/// One exchange through the whole proxy, in memory: downstream codec, route, permit, endpoint, lease, upstream codec, metrics and access log, and back. The client's and
/// the endpoint's codec are in it too. Named by what the client and what the endpoint speaks.
/// </summary>
[MemoryDiagnoser]
public class ProxyBenchmarks
{
    private static readonly ReadOnlySequence<byte> s_body = new(new byte[500]);

    private readonly RequestHead _request = new();
    private ProxyServer? _proxy;
    private HttpClientConnection? _http1;
    private HttpClientConnection? _http2;

    [GlobalSetup]
    public void Setup()
    {
        SynchronizationContext.SetSynchronizationContext(null);
        var network = new MemoryNetwork();
        var log = AccessLog.ToStream(() => Stream.Null);
        _proxy = new ProxyServer(new ProxyServerOptions(), null, new ProxyTelemetry(TimeProvider.System, log), null, NullLoggerFactory.Instance, TimeProvider.System, network, network);
        _proxy.StartAsync(CancellationToken.None).GetAwaiter().GetResult();
        if (_proxy.Apply(Configuration()) is { Count: > 0 } rejections)
        {
            throw new InvalidOperationException(rejections[0].ToString());
        }

        _http1 = network.Dial(HttpProtocolVersion.Http11);
        _http2 = network.Dial(HttpProtocolVersion.Http2);
        _http2.WaitReadyAsync().AsTask().GetAwaiter().GetResult();

        // Connections are accepted and dialed on other threads; from the second exchange on everything is inline.
        foreach (var client in (HttpClientConnection[])[_http1, _http2])
        {
            foreach (var path in (string[])["/http1", "/http2"])
            {
                Connect(client, path);
            }
        }
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int Http1ToHttp1() => Exchange(_http1!, "/http1"u8, withBody: false);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http2ToHttp2() => Exchange(_http2!, "/http2"u8, withBody: false);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http1ToHttp2() => Exchange(_http1!, "/http2"u8, withBody: false);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http2ToHttp1() => Exchange(_http2!, "/http1"u8, withBody: false);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http1ToHttp1WithLength() => Exchange(_http1!, "/http1"u8, withBody: true, withLength: true);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http1ToHttp1Chunked() => Exchange(_http1!, "/http1"u8, withBody: true);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http2ToHttp2WithBody() => Exchange(_http2!, "/http2"u8, withBody: true);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http1ToHttp2WithBody() => Exchange(_http1!, "/http2"u8, withBody: true);

    [Benchmark]
    [AllocationBudget(0)]
    public int Http2ToHttp1WithBody() => Exchange(_http2!, "/http1"u8, withBody: true);

    private static ProxyConfig Configuration()
    {
        var http1 = new ClusterConfig { Id = new ClusterId(new ResourceName("shop", "http1"), 80), Protocol = AppProtocol.Http };
        var http2 = new ClusterConfig { Id = new ClusterId(new ResourceName("shop", "http2"), 80), Protocol = AppProtocol.Http2 };
        return new ProxyConfig
        {
            Revision = "1",
            Listeners =
            [
                new ListenerConfig
                {
                    Id = "shop/edge/http",
                    Address = "127.0.0.1",
                    Port = 80,
                    Protocol = ListenerProtocol.Http,
                    HttpRoutes = [new HttpRouteConfig { Id = "shop/all", Rules = [Rule("/http1", http1.Id), Rule("/http2", http2.Id)] }],
                    BackendClusters = [http1, http2],
                },
            ],
            Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty
                .Add(http1.Id, Endpoint(http1.Id, MemoryNetwork.Http1Port))
                .Add(http2.Id, Endpoint(http2.Id, MemoryNetwork.Http2Port)),
        };

        static HttpRouteRuleConfig Rule(string path, ClusterId to) => new()
        {
            Name = path,
            Matches = [new HttpMatchConfig { Path = new PathMatchConfig(PathMatchKind.Prefix, path) }],
            Backends = [new BackendConfig(to, 1)],
        };

        static EndpointSetConfig Endpoint(ClusterId id, int port) => new(id, [new EndpointConfig { Id = "1", Address = "127.0.0.1", Port = port }]);
    }

    private void Connect(HttpClientConnection client, string path)
    {
        var exchange = Open(client, System.Text.Encoding.ASCII.GetBytes(path), withBody: false, withLength: false);
        exchange.FlushAsync().AsTask().GetAwaiter().GetResult();
        if (!exchange.ReadHeadAsync().AsTask().GetAwaiter().GetResult())
        {
            throw new InvalidOperationException($"no answer: {exchange.End}");
        }

        while (exchange.ResponseBody.ReadAsync().AsTask().GetAwaiter().GetResult() is { IsEnd: false } chunk)
        {
            exchange.ResponseBody.Advance(chunk.Data.Length);
        }

        exchange.Complete();
    }

    private int Exchange(HttpClientConnection client, ReadOnlySpan<byte> path, bool withBody, bool withLength = false)
    {
        var exchange = Open(client, path, withBody, withLength);
        var isDone = !withBody || exchange.WriteBodyAsync(s_body, endStream: true).GetAwaiter().GetResult();
        isDone &= exchange.FlushAsync().GetAwaiter().GetResult() && exchange.ReadHeadAsync().GetAwaiter().GetResult();
        if (!isDone || exchange.Response.Status != 200 || !exchange.ResponseBody.TryRead(out var chunk) || chunk.Data.Length != 44)
        {
            throw new InvalidOperationException("The exchange did not run inline.");
        }

        exchange.ResponseBody.Advance(chunk.Data.Length);
        exchange.Complete();
        return 44;
    }

    private HttpClientExchange Open(HttpClientConnection client, ReadOnlySpan<byte> path, bool withBody, bool withLength)
    {
        _request.Clear();
        _request.SetMethod(withBody ? "POST"u8 : "GET"u8);
        _request.SetScheme("http"u8);
        _request.SetAuthority("payments.shop"u8);
        _request.SetPath(path);
        _request.EndsStream = !withBody;
        _request.Fields.Add("user-agent"u8, "checkout/1.4"u8);
        _request.Fields.Add("accept"u8, "application/json"u8);
        _request.Fields.Add("traceparent"u8, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"u8);
        if (withLength)
        {
            _request.Fields.Add(KnownField.ContentLength, "500"u8);
        }

        var exchange = client.TryOpenExchange() ?? throw new InvalidOperationException("The connection takes no exchange.");
        return exchange.WriteHead(_request) ? exchange : throw new InvalidOperationException($"The request was not taken: {exchange.End}");
    }
}
