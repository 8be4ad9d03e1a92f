using Grpc.Core;
using MeshProxy.Api.Control.V1;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.ControlPlane.Tests;

[TestFixture]
internal sealed class RegistryTests
{
    [Test]
    public async Task A_lease_lives_by_heartbeats_and_ends_fifteen_seconds_after_the_last()
    {
        var time = new ManualTimeProvider();
        await using var mesh = await TestControlPlane.StartAsync(time: time);
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var registry = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        var reply = await registry.RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
        Assert.That(reply.Lease.Seconds, Is.EqualTo(15));
        Assert.That(reply.HeartbeatInterval.Seconds, Is.EqualTo(5));
        using var watch = registry.Watch(new WatchInstancesRequest { Cluster = new ClusterRef { Service = new ResourceRef { Namespace = "shop", Name = "payments" }, Port = 80 } });
        await ReadUntilAsync(watch, set => set.Endpoints.Count == 1);
        for (var i = 0; i < 4; i++)
        {
            time.Advance(TimeSpan.FromSeconds(14));
            await registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = reply.LeaseId, Ready = true });
        }

        time.Advance(TimeSpan.FromSeconds(16));
        await ReadUntilAsync(watch, set => set.Endpoints.Count == 0);
        await Assert.ThatAsync(() => registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = reply.LeaseId, Ready = true }).ResponseAsync, Fails(StatusCode.NotFound, "register again"));
    }

    [Test]
    public async Task A_machine_that_slept_does_not_lose_the_mesh()
    {
        var time = new ManualTimeProvider();
        await using var mesh = await TestControlPlane.StartAsync(time: time);
        var registry = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        var reply = await registry.RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
        time.Jump(TimeSpan.FromHours(1));
        Assert.That(() => registry.Heartbeat(new HeartbeatRequest { LeaseId = reply.LeaseId, Ready = true }), Throws.Nothing);
        time.Advance(TimeSpan.FromSeconds(17));
        await Assert.ThatAsync(() => registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = reply.LeaseId }).ResponseAsync, Fails(StatusCode.NotFound, "lease"));
    }

    [Test]
    public async Task A_restart_keeps_instances_and_their_leases_with_fresh_grace()
    {
        var time = new ManualTimeProvider();
        await using var before = await TestControlPlane.StartAsync(time: time);
        await before.ApplyAsync(TestControlPlane.Service("payments"));
        var certificate = await before.JoinAsync(TestControlPlane.Id("payments"));
        var registry = new Wire.Registry.RegistryClient(before.Connect(certificate));
        var reply = await registry.RegisterAsync(TestControlPlane.Registration("payments-1", "payments", ready: false));
        await registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = reply.LeaseId, Ready = true });
        var gone = await registry.RegisterAsync(TestControlPlane.Registration("payments-2", "payments"));
        await registry.DeregisterAsync(new DeregisterRequest { LeaseId = gone.LeaseId });
        time.Advance(TimeSpan.FromSeconds(10));
        var revision = long.Parse((await new Operations.OperationsClient(before.Operator()).StatusAsync(new StatusRequest())).MeshRevision, null);

        await using var after = await before.RestartAsync();
        var status = await new Operations.OperationsClient(after.Operator()).StatusAsync(new StatusRequest());
        Assert.That(long.Parse(status.MeshRevision, null), Is.GreaterThan(revision));
        Assert.That(status.Sidecars.Select(sidecar => sidecar.Workload.Name), Is.EqualTo(new[] { "payments-1" }));
        time.Advance(TimeSpan.FromSeconds(12)); // 22 s after the last heartbeat, 12 s after the restart
        registry = new Wire.Registry.RegistryClient(after.Connect(certificate));
        using var watch = registry.Watch(new WatchInstancesRequest { Cluster = new ClusterRef { Service = new ResourceRef { Namespace = "shop", Name = "payments" }, Port = 80 } });
        await ReadUntilAsync(watch, set => set.Endpoints is [{ Id: "shop/payments-1", Ready: true }]);
        Assert.That(() => registry.Heartbeat(new HeartbeatRequest { LeaseId = reply.LeaseId, Ready = true }), Throws.Nothing, "the old lease goes on");
        time.Advance(TimeSpan.FromSeconds(16));
        await ReadUntilAsync(watch, set => set.Endpoints.Count == 0);
    }

    [Test]
    public async Task Only_an_account_that_the_Service_lists_may_serve_it()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("ledger", "books, ledger-v2"));
        var checkout = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")));
        await Assert.ThatAsync(() => checkout.RegisterAsync(TestControlPlane.Registration("evil-1", "payments")).ResponseAsync,
            Fails(StatusCode.PermissionDenied, "Service shop/payments").And.Property("Status").Property("Detail").Contains("'checkout'"));
        await Assert.ThatAsync(() => checkout.RegisterAsync(TestControlPlane.Registration("evil-2", "ledger")).ResponseAsync, Fails(StatusCode.PermissionDenied, "books"));
        Assert.That(() => checkout.Register(TestControlPlane.Registration("checkout-1", "checkout")), Throws.Nothing);
        var books = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("books")));
        Assert.That(() => books.Register(TestControlPlane.Registration("ledger-1", "ledger")), Throws.Nothing);
    }

    [Test]
    public async Task Names_leases_and_namespaces_are_their_owners()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var payments = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        var lease = (await payments.RegisterAsync(TestControlPlane.Registration("payments-1", "payments"))).LeaseId;
        var other = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("other")));
        await Assert.ThatAsync(() => other.RegisterAsync(TestControlPlane.Registration("payments-1", "other")).ResponseAsync, Fails(StatusCode.PermissionDenied, "registered by"));
        await Assert.ThatAsync(() => other.HeartbeatAsync(new HeartbeatRequest { LeaseId = lease, Ready = false }).ResponseAsync, Fails(StatusCode.PermissionDenied, "not of"));
        await Assert.ThatAsync(() => other.DeregisterAsync(new DeregisterRequest { LeaseId = lease }).ResponseAsync, Fails(StatusCode.PermissionDenied, "not of"));
        var stranger = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments", "other")));
        await Assert.ThatAsync(() => stranger.RegisterAsync(TestControlPlane.Registration("payments-2", "payments")).ResponseAsync, Fails(StatusCode.PermissionDenied, "namespace 'other'"));
        var second = (await payments.RegisterAsync(TestControlPlane.Registration("payments-1", "payments"))).LeaseId;
        await Assert.ThatAsync(() => payments.HeartbeatAsync(new HeartbeatRequest { LeaseId = lease }).ResponseAsync, Fails(StatusCode.NotFound, "lease"));
        Assert.That(() => payments.Heartbeat(new HeartbeatRequest { LeaseId = second }), Throws.Nothing);
    }

    [Test]
    public async Task A_registration_that_makes_no_sense_names_the_field()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var registry = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        (Action<RegisterRequest> Spoil, string Field)[] cases =
        [
            (request => request.Workload = null, "workload"),
            (request => request.Workload.Name = "Payments", "workload"),
            (request => request.Address = "example.com", "address"),
            (request => request.Address = "0.0.0.0", "address"),
            (request => request.InboundPort = 0, "inbound_port"),
            (request => request.InboundPort = 65536, "inbound_port"),
            (request => request.Ports[0].Port = 0, "ports"),
            (request => request.Ports.Add(request.Ports[0].Clone()), "ports"),
            (request => request.Labels[""] = "x", "labels"),
            (request => request.Labels["x"] = new string('x', 300), "labels"),
            (request => request.Locality = "a/b/c/d", "locality"),
            (request => request.Weight = uint.MaxValue, "weight"),
        ];
        foreach (var (spoil, field) in cases)
        {
            var request = TestControlPlane.Registration("payments-1", "payments");
            spoil(request);
            await Assert.ThatAsync(() => registry.RegisterAsync(request).ResponseAsync, Fails(StatusCode.InvalidArgument, field + ":"));
        }
    }

    private static NUnit.Framework.Constraints.ContainsConstraint Fails(StatusCode code, string detail) =>
        Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(code).And.Property("Status").Property("Detail").Contains(detail);

    private static async Task ReadUntilAsync(AsyncServerStreamingCall<EndpointSet> watch, Func<EndpointSet, bool> fits)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        do
        {
            Assert.That(await watch.ResponseStream.MoveNext(deadline.Token), Is.True);
        }
        while (!fits(watch.ResponseStream.Current));
    }
}
