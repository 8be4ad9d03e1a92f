using Grpc.Core;
using MeshProxy.Api.Control.V1;
using Wire = MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Discovery;
using MeshProxy.Model.Config;
using Microsoft.Extensions.DependencyInjection;

namespace MeshProxy.ControlPlane.Tests;

[TestFixture]
internal sealed class DiscoveryTests
{
    private const string Payments = "service/shop/payments";

    [Test]
    public async Task The_first_frame_has_the_own_inbound_and_a_subscription_is_answered_with_its_endpoints()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var channel = await mesh.WorkloadAsync(TestControlPlane.Id("payments"));
        await new Wire.Registry.RegistryClient(channel).RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
        using var sidecar = await TestSidecar.ConnectAsync(channel, "payments-1");
        var first = await sidecar.ReadUntilAsync(received => received.Units?.Any(unit => unit.Inbound is not null) == true);
        var inbound = first.Unit("inbound").Inbound;
        Assert.That(inbound.Identity, Is.EqualTo("spiffe://mesh.local/ns/shop/sa/payments"));
        Assert.That(inbound.Ports.Single().LocalPort, Is.EqualTo(8080));
        Assert.That(inbound.Ports.Single().Service.Port, Is.EqualTo(80));

        await sidecar.SubscribeAsync(Payments);
        var frame = await sidecar.ReadAsync();
        var destination = frame.Unit(Payments).Destination;
        Assert.That(destination.Ports.Single().Cluster.AllowedServers, Is.EqualTo(new[] { "spiffe://mesh.local/ns/shop/sa/payments" }));
        Assert.That(frame.Commit!.MeshRevision, Is.EqualTo(first.Commit!.MeshRevision));
        var endpoints = await sidecar.ReadAsync();
        var endpoint = endpoints.Endpoints!.Sets.Single().Endpoints.Single();
        Assert.That(endpoint.Id, Is.EqualTo("shop/payments-1"));
        Assert.That(endpoint.InboundPort, Is.EqualTo(15006));
        Assert.That(endpoint.Ready, Is.True);

        await sidecar.SubscribeAsync("address/127.0.0.1:8080");
        var alias = await sidecar.ReadAsync();
        Assert.That(alias.Units!.Single().Address.Cluster.Port, Is.EqualTo(80));
    }

    [Test]
    public async Task An_unknown_name_is_answered_and_told_when_it_appears_and_goes()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        var first = await sidecar.ReadAsync();
        Assert.That(first.Unit("inbound").Removed.Reason, Does.Contain("not registered"));
        await sidecar.SubscribeAsync(Payments, "address/10.0.0.1:80", "nonsense");
        var answer = await sidecar.ReadAsync();
        Assert.That(answer.Unit(Payments).Removed.Reason, Does.Contain("no Service shop/payments"));
        Assert.That(answer.Unit("address/10.0.0.1:80").Removed, Is.Not.Null);
        Assert.That(answer.Unit("nonsense").Removed.Reason, Does.Contain("units are named"));
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var appeared = await sidecar.ReadUntilAsync(received => received.Units is not null);
        Assert.That(appeared.Units!.Single().Destination, Is.Not.Null);
        Assert.That((await sidecar.ReadAsync()).Endpoints!.Sets.Single().Endpoints, Is.Empty);
        await new Resources.ResourcesClient(mesh.Operator()).DeleteAsync(new DeleteRequest { Keys = { new ResourceKey { Kind = "svc", Namespace = "shop", Name = "payments" } } });
        var gone = await sidecar.ReadUntilAsync(received => received.Units is not null);
        Assert.That(gone.Units!.Single().Removed, Is.Not.Null);
    }

    [Test]
    public async Task A_sidecar_that_would_pass_over_a_policy_for_TLS_is_told_to_refuse()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var channel = await mesh.WorkloadAsync(TestControlPlane.Id("checkout"));
        using var old = await TestSidecar.ConnectAsync(channel, "checkout-1");
        using var current = await TestSidecar.ConnectAsync(channel, "checkout-2", capabilities: ["http", "backend-tls"]);
        foreach (var sidecar in new[] { old, current })
        {
            await sidecar.SubscribeAsync(Payments);
            var plain = await sidecar.ReadUntilAsync(received => received.Units?.Any(unit => unit.Name == Payments) == true);
            Assert.That(plain.Unit(Payments).Destination.HasRefused, Is.False);
        }

        await mesh.ApplyAsync(
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: BackendTLSPolicy
            metadata: {name: tls, namespace: shop}
            spec:
              targetRefs: [{kind: Service, name: payments}]
              validation: {hostname: payments.example.com, wellKnownCACertificates: System}
            """);
        var refused = (await old.ReadUntilAsync(received => received.Units?.Any(unit => unit.Name == Payments) == true)).Unit(Payments).Destination;
        Assert.That(refused.Refused, Does.Contain("UnsupportedBySidecar").And.Contain("backend-tls"));
        Assert.That(refused.Ports, Is.Empty);
        Assert.That((await mesh.WaitForStatusAsync("checkout-1", status => status.LastRejection.Length > 0)).LastRejection, Does.StartWith("UnsupportedBySidecar: service/shop/payments needs backend-tls"));
        var told = (await current.ReadUntilAsync(received => received.Units?.Any(unit => unit.Name == Payments) == true)).Unit(Payments).Destination;
        Assert.That(told.Ports.Single().Cluster.Tls.ServerName, Is.EqualTo("payments.example.com"));

        await new Resources.ResourcesClient(mesh.Operator()).DeleteAsync(new DeleteRequest { Keys = { new ResourceKey { Kind = "BackendTLSPolicy", Namespace = "shop", Name = "tls" } } });
        var again = await old.ReadUntilAsync(received => received.Units?.Any(unit => unit.Name == Payments) == true);
        Assert.That(again.Unit(Payments).Destination.HasRefused, Is.False);
        await mesh.WaitForStatusAsync("checkout-1", status => status.LastRejection.Length == 0);
    }

    [Test]
    public async Task A_refused_route_keeps_its_last_good_state_under_the_policies_of_now()
    {
        // Two policies on ledger and one on payments come after payments' route was refused: for its callers the routes of before go on, but under them.
        await using var mesh = await TestControlPlane.StartAsync();
        var channel = await mesh.WorkloadAsync(TestControlPlane.Id("checkout"));
        using var sidecar = await TestSidecar.ConnectAsync(channel, "checkout-1", capabilities: ["http", "backend-tls", "client-traffic"]);
        await sidecar.SubscribeAsync(Payments);
        await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("ledger") + Route(""));
        await ReadAsync();
        await mesh.ApplyAsync(Route(", retry: {attempts: 3}"));
        await mesh.ApplyAsync(
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: BackendTLSPolicy
            metadata: {name: tls, namespace: shop}
            spec:
              targetRefs: [{kind: Service, name: payments}, {kind: Service, name: ledger}]
              validation: {hostname: shop.example.com, wellKnownCACertificates: System}
            ---
            apiVersion: meshproxy.io/v1alpha1
            kind: ClientTrafficPolicy
            metadata: {name: small, namespace: shop}
            spec:
              targetRefs: [{kind: Service, name: payments}]
              maxRequestBodyBytes: 100
            """);
        var port = (await ReadAsync()).Ports.Single();
        Assert.That(port.HttpRoutes.Single().Rules.Single().Backends.Single().Cluster.Service.Name, Is.EqualTo("ledger"), "the route of before");
        Assert.That(port.Cluster.Tls?.ServerName, Is.EqualTo("shop.example.com"));
        Assert.That(port.BackendClusters.Single().Tls?.ServerName, Is.EqualTo("shop.example.com"));
        Assert.That(port.ClientTraffic?.MaxRequestBodyBytes, Is.EqualTo(100));

        // What closes a service is not outlived by an earlier state.
        await mesh.ApplyAsync("{apiVersion: meshproxy.io/v1alpha1, kind: AuthorizationPolicy, metadata: {name: closed, namespace: shop}, spec: {targetRefs: [{kind: Service, name: payments}]}}");
        var closed = await ReadAsync();
        Assert.That(closed.Refused, Does.Contain("AuthorizationPolicy shop/closed"));
        Assert.That(closed.Ports, Is.Empty);

        async Task<Destination> ReadAsync() => (await sidecar.ReadUntilAsync(received => received.Units?.Any(unit => unit.Name == Payments && unit.Destination is not null) == true)).Unit(Payments).Destination;

        string Route(string more) =>
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: payments, namespace: shop}
            spec:
              parentRefs: [{group: "", kind: Service, name: payments}]
              rules: [{backendRefs: [{name: ledger, port: 80}]{{more}}}]
            """;
    }

    [Test]
    public async Task Readiness_and_drain_go_out_as_endpoints_alone()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var registry = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments")));
        var lease = (await registry.RegisterAsync(TestControlPlane.Registration("payments-1", "payments", ready: false))).LeaseId;
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.SubscribeAsync(Payments);
        await sidecar.ReadUntilAsync(received => received.Endpoints is { } update && update.Sets.Single().Endpoints is [{ Ready: false }]);
        await registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = lease, Ready = true });
        var ready = await sidecar.ReadAsync();
        Assert.That(ready.Endpoints!.Sets.Single().Endpoints.Single().Ready, Is.True);
        await registry.HeartbeatAsync(new HeartbeatRequest { LeaseId = lease, Ready = true, Draining = true });
        Assert.That((await sidecar.ReadAsync()).Endpoints!.Sets.Single().Endpoints.Single().Draining, Is.True);
        await registry.DeregisterAsync(new DeregisterRequest { LeaseId = lease });
        Assert.That((await sidecar.ReadAsync()).Endpoints!.Sets.Single().Endpoints, Is.Empty);
    }

    [Test]
    public async Task Only_what_changed_is_sent_again_and_only_what_is_not_held_at_a_reconnect()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("ledger"));
        var channel = await mesh.WorkloadAsync(TestControlPlane.Id("checkout"));
        Received frame;
        using (var sidecar = await TestSidecar.ConnectAsync(channel, "checkout-1"))
        {
            await sidecar.ReadAsync();
            await sidecar.SubscribeAsync(Payments, "service/shop/ledger");
            frame = await sidecar.ReadUntilAsync(received => received.Units is { Count: 2 });
            await sidecar.ReadUntilAsync(received => received.Endpoints is not null);
            await mesh.ApplyAsync(TestControlPlane.Service("payments", "payments, payments-blue"));
            var changed = await sidecar.ReadUntilAsync(received => received.Units is not null);
            Assert.That(changed.Units!.Select(unit => unit.Name), Is.EqualTo(new[] { Payments }));
            Assert.That(changed.Unit(Payments).Revision, Is.Not.EqualTo(frame.Unit(Payments).Revision));
        }

        var held = frame.Units!.Select(unit => new HeldUnit { Name = unit.Name, Revision = unit.Revision }).ToArray();
        using var again = await TestSidecar.ConnectAsync(channel, "checkout-1", held: held);
        var first = await again.ReadAsync();
        Assert.That(first.Units!.Select(unit => unit.Name).Order(), Is.EqualTo(new[] { "inbound", Payments }));
        var endpoints = await again.ReadAsync();
        Assert.That(endpoints.Endpoints!.Sets.Select(set => set.Cluster.Service.Name).Order(), Is.EqualTo(new[] { "ledger", "payments" }), "endpoints of held units too");

        // Held names are subscribed to: asking again is no news, and a change still comes.
        await again.SubscribeAsync(Payments, "service/shop/ledger");
        await mesh.ApplyAsync(TestControlPlane.Service("ledger", "ledger, ledger-blue"));
        var next = await again.ReadAsync();
        Assert.That(next.Units!.Select(unit => unit.Name), Is.EqualTo(new[] { "service/shop/ledger" }));
    }

    [Test]
    public async Task Giving_a_name_up_and_asking_again_answers_again_with_endpoints()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.ReadAsync();
        await sidecar.SubscribeAsync(Payments);
        await sidecar.ReadUntilAsync(received => received.Endpoints is not null);
        await sidecar.UnsubscribeAsync(Payments);
        await sidecar.SubscribeAsync(Payments);
        Assert.That((await sidecar.ReadAsync()).Unit(Payments).Destination, Is.Not.Null);
        Assert.That((await sidecar.ReadAsync()).Endpoints!.Sets, Has.Count.EqualTo(1));
        await sidecar.UnsubscribeAsync(Payments);
        await mesh.ApplyAsync(TestControlPlane.Service("payments", "other"));
        await sidecar.SubscribeAsync("service/shop/none");
        Assert.That((await sidecar.ReadAsync()).Units!.Single().Name, Is.EqualTo("service/shop/none"), "nothing of a name that was given up");
    }

    [Test]
    public async Task A_rejection_stands_in_status_until_a_later_unit_is_accepted()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        var first = await sidecar.ReadAsync();
        await sidecar.AcknowledgeAsync(first);
        await mesh.WaitForStatusAsync("checkout-1", status => status.AcceptedRevision == first.Commit!.MeshRevision);
        await sidecar.SubscribeAsync(Payments);
        await sidecar.ReadUntilAsync(received => received.Endpoints is not null);

        await mesh.ApplyAsync(TestControlPlane.Service("payments", "payments, blue"));
        var bad = await sidecar.ReadAsync();
        await sidecar.AcknowledgeAsync(bad, new UnitRejection { Name = Payments, Field = "ports[0]", Reason = "cannot be enforced" });
        var rejected = await mesh.WaitForStatusAsync("checkout-1", status => status.LastRejection.Length > 0);
        Assert.That(rejected.LastRejection, Is.EqualTo($"{Payments}: ports[0]: cannot be enforced"));
        Assert.That(rejected.LastRejectionAt, Is.Not.Null);
        Assert.That(rejected.SentRevision, Is.EqualTo(bad.Commit!.MeshRevision));
        Assert.That(rejected.AcceptedRevision, Is.Not.EqualTo(bad.Commit.MeshRevision));

        // Something else that is accepted does not make the rejected unit look applied.
        await mesh.ApplyAsync(TestControlPlane.Service("ledger"));
        await sidecar.SubscribeAsync("service/shop/ledger");
        await sidecar.ReadUntilAsync(received => received.Endpoints is not null);
        var still = await mesh.WaitForStatusAsync("checkout-1", status => status.SentRevision != bad.Commit.MeshRevision);
        Assert.That(still.LastRejection, Is.Not.Empty);

        await mesh.ApplyAsync(TestControlPlane.Service("payments", "payments, green"));
        var good = await sidecar.ReadUntilAsync(received => received.Units is not null);
        var accepted = await mesh.WaitForStatusAsync("checkout-1", status => status.AcceptedRevision == good.Commit!.MeshRevision);
        Assert.That(accepted.LastRejection, Is.Empty);
    }

    [Test]
    public void What_was_never_acknowledged_does_not_look_accepted()
    {
        var acknowledgements = new Acknowledgements(maxPending: 2);
        acknowledgements.Next(7, [Payments]);
        acknowledgements.OnSent(7);
        var later = new[] { acknowledgements.Next(8, ["service/shop/a"]), acknowledgements.Next(9, ["service/shop/b"]) };
        acknowledgements.OnSent(9);

        // The answer to the first, a rejection, is not awaited any more.
        Assert.That(acknowledgements.OnAcknowledged(new Acknowledge { Nonce = "1", Rejections = { new UnitRejection { Name = Payments, Reason = "no" } } }), Is.False);
        Assert.That(later.Select(nonce => acknowledgements.OnAcknowledged(new Acknowledge { Nonce = nonce })), Has.All.True);
        Assert.That((acknowledgements.Accepted, acknowledgements.LastRejection), Is.EqualTo((0, $"{Payments}: not acknowledged while 2 later messages were sent")));
        Assert.That(acknowledgements.Unsettled(), Is.EqualTo(new[] { Payments }));

        acknowledgements.OnAcknowledged(new Acknowledge { Nonce = acknowledgements.Next(9, [Payments]) });
        Assert.That((acknowledgements.Accepted, acknowledgements.LastRejection), Is.EqualTo((9, "")));
    }

    [Test]
    public async Task Under_a_rejected_unit_the_endpoints_of_the_one_in_force_stay_fresh()
    {
        static string Route(string backend) =>
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: { name: payments, namespace: shop }
            spec:
              parentRefs: [ { group: "", kind: Service, name: payments } ]
              rules: [ { backendRefs: [ { name: {{backend}}, port: 80 } ] } ]
            """;
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("old") + TestControlPlane.Service("new") + Route("old"));
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.AcknowledgeAsync(await sidecar.ReadAsync());
        await sidecar.SubscribeAsync(Payments);
        await sidecar.AcknowledgeAsync(await sidecar.ReadAsync());
        var endpoints = await sidecar.ReadAsync();
        Assert.That(endpoints.Endpoints!.Sets.Select(set => set.Cluster.Service.Name).Order(), Is.EqualTo(new[] { "old", "payments" }));
        await sidecar.AcknowledgeAsync(endpoints);
        await mesh.WaitForStatusAsync("checkout-1", status => status.AcceptedRevision == status.SentRevision);

        await mesh.ApplyAsync(Route("new"));
        await sidecar.AcknowledgeAsync(await sidecar.ReadAsync(), new UnitRejection { Name = Payments, Reason = "no" });
        var added = await sidecar.ReadAsync();
        Assert.That(added.Endpoints!.Sets.Single().Cluster.Service.Name, Is.EqualTo("new"));
        await sidecar.AcknowledgeAsync(added);
        await mesh.WaitForStatusAsync("checkout-1", status => status.LastRejection.Length > 0);
        var old = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("old")));
        await old.RegisterAsync(TestControlPlane.Registration("old-1", "old"));
        var fresh = await sidecar.ReadAsync();
        Assert.That(fresh.Endpoints!.Sets.Single().Endpoints.Single().Id, Is.EqualTo("shop/old-1"));
        await sidecar.AcknowledgeAsync(fresh);

        // Once a later unit is accepted, what it does not name is not told any more.
        await mesh.ApplyAsync(Route("new") + "\n---\n" + TestControlPlane.Service("payments", "payments,blue"));
        await sidecar.AcknowledgeAsync(await sidecar.ReadAsync());
        await mesh.WaitForStatusAsync("checkout-1", status => status.LastRejection.Length == 0 && status.AcceptedRevision == status.SentRevision);
        await old.RegisterAsync(TestControlPlane.Registration("old-2", "old"));
        await new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("new"))).RegisterAsync(TestControlPlane.Registration("new-1", "new"));
        await sidecar.ReadUntilAsync(received => received.Endpoints!.Sets.Any(set => set.Endpoints.Any(endpoint => endpoint.Id == "shop/new-1")));
        var next = new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("old")));
        await next.RegisterAsync(TestControlPlane.Registration("old-3", "old"));
        await mesh.ApplyAsync(TestControlPlane.Service("payments", "payments,green"));
        Assert.That((await sidecar.ReadAsync()).Units, Is.Not.Null, "nothing of old-3");
    }

    [Test]
    public async Task A_revision_that_concerns_nobody_is_accepted_without_a_message()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.AcknowledgeAsync(await sidecar.ReadAsync());
        var applied = await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        var status = await mesh.WaitForStatusAsync("checkout-1", status => status.AcceptedRevision == applied.MeshRevision);
        Assert.That(status.SentRevision, Is.EqualTo(applied.MeshRevision));
        Assert.That(status.Connected, Is.True);
        Assert.That(status.Version, Is.EqualTo("test"));
    }

    [Test]
    public async Task A_sidecar_that_reads_nothing_holds_nobody_up_and_gets_the_latest_when_it_reads()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("payments"));
        using var slow = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("slow")), "slow-1");
        await slow.ReadAsync();
        await slow.SubscribeAsync(Payments);
        using var quick = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("quick")), "quick-1");
        await quick.ReadAsync();
        await quick.SubscribeAsync(Payments);
        await quick.ReadUntilAsync(received => received.Endpoints is not null);
        var accounts = string.Join(',', Enumerable.Range(0, 2000).Select(number => $"account-with-a-long-name-{number}"));
        string last = "";
        for (var i = 0; i < 40; i++)
        {
            // Each unit is far larger than what the stream buffers: the slow one's writes stall on the first of them.
            last = $"payments,last-{i},{accounts}";
            await mesh.ApplyAsync(TestControlPlane.Service("payments", last));
            await quick.ReadUntilAsync(received => received.Units?.SingleOrDefault(unit => unit.Name == Payments) is { } unit
                && unit.Destination.Ports[0].Cluster.AllowedServers.Contains($"spiffe://mesh.local/ns/shop/sa/last-{i}"));
        }

        var frames = 0;
        await slow.ReadUntilAsync(received =>
        {
            frames += received.Units is null ? 0 : 1;
            return received.Units?.SingleOrDefault(unit => unit.Name == Payments) is { } unit && unit.Destination.Ports[0].Cluster.AllowedServers.Contains("spiffe://mesh.local/ns/shop/sa/last-39");
        });
        Assert.That(frames, Is.LessThan(40), "what it was too slow for was not queued");
    }

    [Test]
    public async Task Too_many_names_are_answered_and_not_kept()
    {
        await using var mesh = await TestControlPlane.StartAsync(limits: new ControlPlaneLimits { MaxSubscriptions = 2 });
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.ReadAsync();
        await sidecar.SubscribeAsync("service/shop/a", "service/shop/b", "service/shop/c");
        var answer = await sidecar.ReadAsync();
        Assert.That(answer.Unit("service/shop/c").Removed.Reason, Does.Contain("2 subscriptions"));
        Assert.That(answer.Unit("service/shop/a").Removed.Reason, Does.Contain("no Service"));
        await sidecar.UnsubscribeAsync("service/shop/a");
        await sidecar.SubscribeAsync("service/shop/c");
        Assert.That((await sidecar.ReadAsync()).Unit("service/shop/c").Removed.Reason, Does.Contain("no Service"));
    }

    [Test]
    public async Task Nobody_speaks_for_anothers_workload_and_hello_comes_first()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var payments = await mesh.WorkloadAsync(TestControlPlane.Id("payments"));
        await new Wire.Registry.RegistryClient(payments).RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
        using var thief = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "payments-1");
        Assert.That(await thief.ReadEndAsync(), Is.EqualTo(StatusCode.PermissionDenied));
        using var stranger = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("payments", "other")), "payments-2");
        Assert.That(await stranger.ReadEndAsync(), Is.EqualTo(StatusCode.PermissionDenied));
        using var call = new Wire.Discovery.DiscoveryClient(payments).Stream();
        await call.RequestStream.WriteAsync(new SidecarMessage { Subscribe = new Subscribe { Add = { Payments } } });
        await Assert.ThatAsync(() => call.ResponseStream.MoveNext(default), Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.InvalidArgument));
        using var twice = await TestSidecar.ConnectAsync(payments, "payments-1");
        await twice.ReadAsync();
        using var newer = await TestSidecar.ConnectAsync(payments, "payments-1");
        await newer.ReadAsync();
        Assert.That(await twice.ReadEndAsync(), Is.EqualTo(StatusCode.Aborted));
        await newer.CompleteAsync();
        Assert.That(await newer.ReadEndAsync(), Is.EqualTo(StatusCode.OK));
        var gone = await mesh.WaitForStatusAsync("payments-1", status => !status.Connected);
        Assert.That(gone.Identity, Is.EqualTo("spiffe://mesh.local/ns/shop/sa/payments"));
    }

    [Test]
    public async Task A_stream_ends_with_its_certificate()
    {
        var time = new ManualTimeProvider();
        await using var mesh = await TestControlPlane.StartAsync(time: time, change: options => options with { WorkloadCertificateLifetime = TimeSpan.FromMinutes(1) });
        var channel = await mesh.WorkloadAsync(TestControlPlane.Id("checkout"));
        using var sidecar = await TestSidecar.ConnectAsync(channel, "checkout-1");
        await sidecar.ReadAsync();
        time.Advance(TimeSpan.FromMinutes(2));
        Assert.That(await sidecar.ReadEndAsync(), Is.EqualTo(StatusCode.Unauthenticated));
        using var late = await TestSidecar.ConnectAsync(channel, "checkout-1");
        Assert.That(await late.ReadEndAsync(), Is.EqualTo(StatusCode.Unauthenticated), "the same connection, with the certificate that has ended");
    }

    [Test]
    public async Task A_stop_ends_streams_with_unavailable()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.ReadAsync();
        var end = sidecar.ReadEndAsync();
        var stopped = mesh.StopAsync();
        Assert.That(await end, Is.EqualTo(StatusCode.Unavailable));
        await stopped.WaitAsync(TimeSpan.FromSeconds(5));
    }

    [Test]
    public async Task A_request_to_a_sidecar_comes_back_with_its_reply_or_its_absence()
    {
        var time = new ManualTimeProvider();
        await using var mesh = await TestControlPlane.StartAsync(time: time, limits: new ControlPlaneLimits { MaxSidecarRequests = 1 });
        var directory = mesh.Server.Services.GetRequiredService<SidecarDirectory>();
        var name = new ResourceName("shop", "checkout-1");
        using var sidecar = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("checkout")), "checkout-1");
        await sidecar.ReadAsync();
        var asked = directory.AskAsync(name, new SidecarRequest { State = new StateRequest() }, default);
        var request = (await sidecar.ReadAsync()).Request!;
        Assert.That(request.State, Is.Not.Null);
        await Assert.ThatAsync(() => directory.AskAsync(name, new SidecarRequest(), default), Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.ResourceExhausted));
        await sidecar.ReplyAsync(new SidecarReply { Id = request.Id, Json = "{}" });
        Assert.That((await asked).Json, Is.EqualTo("{}"));
        var late = directory.AskAsync(name, new SidecarRequest { State = new StateRequest() }, default);
        await sidecar.ReadAsync();
        time.Advance(TimeSpan.FromSeconds(11));
        await Assert.ThatAsync(() => late, Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.DeadlineExceeded));
        var last = directory.AskAsync(name, new SidecarRequest { State = new StateRequest() }, default);
        sidecar.Dispose();
        await Assert.ThatAsync(() => last, Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.Unavailable));
    }
}
