using System.Net;
using BenchmarkDotNet.Attributes;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.Microbenchmarks;

/// <summary>The steps of the forwarder one by one: endpoint, lease, record.</summary>
[MemoryDiagnoser]
public class ForwardingBenchmarks
{
    private readonly LeaseWaiter _waiter = new();
    private readonly RequestRecord _record = new();
    private readonly RequestHead _head = new();
    private readonly ConnectionInfo _connection = new() { Source = new IPEndPoint(IPAddress.Loopback, 50_000), Local = new IPEndPoint(IPAddress.Loopback, 80) };
    private ProxyTelemetry? _telemetry;
    private RouteMeters? _meters;
    private Cluster? _cluster;

    [GlobalSetup]
    public void Setup()
    {
        SynchronizationContext.SetSynchronizationContext(null);
        _telemetry = new ProxyTelemetry(TimeProvider.System, AccessLog.ToStream(() => Stream.Null));
        _meters = _telemetry.Meters.ForRoute(Direction.Gateway, "shop/payments", "shop/all");
        var services = new ClusterServices(new UpstreamConnector(new MemoryNetwork(), new TlsClientStep(null, null, TimeProvider.System)), null, null, _telemetry.Meters, TimeProvider.System, new Random(1));
        var id = new ClusterId(new ResourceName("shop", "payments"), 80);
        _cluster = new Cluster(new ClusterConfig { Id = id, Protocol = AppProtocol.Http }, services);
        _cluster.Update(new EndpointSetConfig(id, [.. Enumerable.Range(1, 20).Select(n =>
            new EndpointConfig { Id = $"{n}", Address = $"10.0.0.{n}", Port = MemoryNetwork.Http1Port, Weight = n })]));
        if (!_cluster.Endpoints[0].Pool.AcquireAsync(_waiter).AsTask().GetAwaiter().GetResult())
        {
            throw new InvalidOperationException(_waiter.Failure.Detail);
        }

        _waiter.Exchange!.Complete();
        _head.SetMethod("GET"u8);
        _head.SetPath("/v1/payments/4711?token=secret"u8);
        _head.SetAuthority("payments.shop"u8);
        _head.Fields.Add("user-agent"u8, "checkout/1.4"u8);
        _head.Fields.Add("x-request-id"u8, "3b2c7a52-6d0e-4f7b-9e3a-2f1f6a3c9d11"u8);
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int PickEndpoint() => _cluster!.Pick(null)!.Config.Weight;

    [Benchmark]
    [AllocationBudget(0)]
    public int LeaseAndReturn()
    {
        var pool = _cluster!.Endpoints[0].Pool;
        if (!pool.AcquireAsync(_waiter).GetAwaiter().GetResult())
        {
            throw new InvalidOperationException(_waiter.Failure.Detail);
        }

        _waiter.Exchange!.Complete();
        return 1;
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int CountAndLog()
    {
        _record.Begin(Direction.Gateway, _head, _connection, TimeProvider.System.GetTimestamp());
        _record.Meters = _meters;
        _record.Service = _record.Cluster = "shop/payments:80";
        _record.Endpoint = "10.0.0.1:8080";
        _record.Status = 200;
        _telemetry!.Complete(_record);
        return 1;
    }
}
