using Google.Protobuf;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.ControlPlane.Tests;

[TestFixture]
internal sealed class ResourcesTests
{
    private const string Broken =
        """
        apiVersion: v1
        kind: Service
        metadata: { name: broken, namespace: shop }
        spec:
          ports:
          - { name: http, port: 99999 }
        """;

    [Test]
    public async Task One_bad_document_keeps_every_other_out()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var before = await mesh.ApplyAsync(TestControlPlane.Service("old"));
        var reply = await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("old", "somebody-else") + Broken);
        var error = reply.Errors.Single();
        Assert.That(reply.Resources, Is.Empty);
        Assert.That(error.Source, Is.EqualTo("test.yaml"));
        Assert.That(error.Line, Is.GreaterThan(20));
        Assert.That(error.Field, Is.EqualTo("spec.ports[0].port"));
        Assert.That(error.Document, Is.EqualTo("Service shop/broken"));
        Assert.That(reply.MeshRevision, Is.EqualTo(before.MeshRevision));
        var client = new Resources.ResourcesClient(mesh.Operator());
        var list = await client.ListAsync(new ListRequest { Kind = "services" });
        Assert.That(list.Resources.Select(resource => resource.Name), Is.EqualTo(new[] { "old" }));
        Assert.That(list.Resources[0].Yaml, Does.Not.Contain("somebody-else"));
    }

    [Test]
    public async Task Apply_tells_created_updated_and_unchanged_and_age_survives()
    {
        var time = new ManualTimeProvider();
        await using var first = await TestControlPlane.StartAsync(time: time);
        var created = await first.ApplyAsync(TestControlPlane.Service("payments"));
        Assert.That(created.Resources.Single().Change, Is.EqualTo(AppliedResource.Types.Change.Created));
        Assert.That(created.Resources.Single().Conditions.Any(condition => condition.Type == "Accepted" && condition.Status), Is.True);
        var age = (await GetAsync(first, "payments")).CreatedAt;
        time.Advance(TimeSpan.FromMinutes(1));
        var unchanged = await first.ApplyAsync("# a comment\n" + TestControlPlane.Service("payments"));
        Assert.That(unchanged.Resources.Single().Change, Is.EqualTo(AppliedResource.Types.Change.Unchanged));
        Assert.That(unchanged.MeshRevision, Is.EqualTo(created.MeshRevision));
        await using var mesh = await first.RestartAsync();
        var updated = await mesh.ApplyAsync(TestControlPlane.Service("payments", "payments,blue"));
        Assert.That(updated.Resources.Single().Change, Is.EqualTo(AppliedResource.Types.Change.Updated));
        var resource = await GetAsync(mesh, "payments");
        Assert.That(resource.CreatedAt, Is.EqualTo(age));
        Assert.That(resource.Generation, Is.EqualTo(2));
        Assert.That(resource.Yaml, Does.Contain("payments,blue"));
        await using var again = await mesh.RestartAsync();
        Assert.That(await GetAsync(again, "payments"), Is.EqualTo(resource));
    }

    [Test]
    public async Task A_dry_run_changes_nothing()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var reply = await mesh.ApplyAsync(TestControlPlane.Service("payments"), dryRun: true);
        Assert.That(reply.Resources.Single().Change, Is.EqualTo(AppliedResource.Types.Change.Created));
        await Assert.ThatAsync(() => GetAsync(mesh, "payments"), Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.NotFound));
        Assert.That((await mesh.ApplyAsync(Broken, dryRun: true)).Errors, Has.Count.EqualTo(1));
    }

    [Test]
    public async Task A_document_given_twice_is_an_error()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        var reply = await mesh.ApplyAsync(TestControlPlane.Service("payments") + TestControlPlane.Service("payments", "other"));
        Assert.That(reply.Errors, Is.Not.Empty);
        Assert.That(reply.Resources, Is.Empty);
    }

    [Test]
    public async Task Delete_is_all_or_nothing()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("a") + TestControlPlane.Service("b"));
        var client = new Resources.ResourcesClient(mesh.Operator());
        ResourceKey Key(string name) => new() { Kind = "Service", Namespace = "shop", Name = name };
        await Assert.ThatAsync(() => client.DeleteAsync(new DeleteRequest { Keys = { Key("a"), Key("none") } }).ResponseAsync,
            Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.NotFound));
        Assert.That((await client.ListAsync(new ListRequest { Kind = "svc" })).Resources, Has.Count.EqualTo(2));
        await client.DeleteAsync(new DeleteRequest { Keys = { Key("a"), Key("b") } });
        Assert.That((await client.ListAsync(new ListRequest { Kind = "svc" })).Resources, Is.Empty);
        await using var again = await mesh.RestartAsync();
        Assert.That((await new Resources.ResourcesClient(again.Operator()).ListAsync(new ListRequest { Kind = "svc" })).Resources, Is.Empty);
    }

    [Test]
    public async Task An_unknown_kind_is_told_which_there_are()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await Assert.ThatAsync(() => new Resources.ResourcesClient(mesh.Operator()).ListAsync(new ListRequest { Kind = "Ingress" }).ResponseAsync,
            Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.InvalidArgument).And.Property("Status").Property("Detail").Contains("HTTPRoute"));
    }

    [Test]
    public async Task Watch_shows_what_is_there_and_every_change()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await mesh.ApplyAsync(TestControlPlane.Service("a"));
        var client = new Resources.ResourcesClient(mesh.Operator());
        using var watch = client.Watch(new ListRequest { Kind = "Service", Namespace = "shop" });
        Assert.That(await NextAsync(watch), Is.EqualTo((ResourceEvent.Types.Change.Present, "a")));
        await mesh.ApplyAsync(TestControlPlane.Service("b"));
        Assert.That(await NextAsync(watch), Is.EqualTo((ResourceEvent.Types.Change.Present, "b")));
        await client.DeleteAsync(new DeleteRequest { Keys = { new ResourceKey { Kind = "Service", Namespace = "shop", Name = "a" } } });
        Assert.That(await NextAsync(watch), Is.EqualTo((ResourceEvent.Types.Change.Removed, "a")));
    }

    [Test]
    public async Task Registered_instances_are_listed_as_Workloads_and_not_deleted()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        await new Wire.Registry.RegistryClient(await mesh.WorkloadAsync(TestControlPlane.Id("payments"))).RegisterAsync(TestControlPlane.Registration("payments-1", "payments"));
        var client = new Resources.ResourcesClient(mesh.Operator());
        Resource resource;
        do
        {
            resource = (await client.ListAsync(new ListRequest { Kind = "workloads" })).Resources.SingleOrDefault()!;
        }
        while (resource is null);

        Assert.That(resource.Yaml, Does.Contain("payments-1").And.Contain("15006"));
        Assert.That(resource.Conditions.Single(condition => condition.Type == "Ready").Status, Is.True);
        await Assert.ThatAsync(() => client.DeleteAsync(new DeleteRequest { Keys = { new ResourceKey { Kind = "Workload", Namespace = "shop", Name = "payments-1" } } }).ResponseAsync,
            Throws.InstanceOf<RpcException>().With.Property("StatusCode").EqualTo(StatusCode.FailedPrecondition));
    }

    [Test]
    public async Task A_gateways_keys_go_to_the_account_that_runs_it_and_to_nobody_else()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var key = System.Security.Cryptography.ECDsa.Create();
        var pem = key.ExportPkcs8PrivateKeyPem();
        var certificate = new System.Security.Cryptography.X509Certificates.CertificateRequest("CN=edge", key, System.Security.Cryptography.HashAlgorithmName.SHA256)
            .CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1)).ExportCertificatePem();
        var reply = await mesh.ApplyAsync(
            $$"""
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata:
              name: edge
              namespace: shop
              annotations: { meshproxy.io/service-accounts: "edge-runner" }
            spec:
              gatewayClassName: meshproxy
              listeners:
              - { name: https, port: 8443, protocol: HTTPS, tls: { certificateRefs: [ { name: edge-tls } ] } }
            ---
            apiVersion: v1
            kind: Secret
            type: kubernetes.io/tls
            metadata: { name: edge-tls, namespace: shop }
            data:
              tls.crt: {{Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(certificate))}}
              tls.key: {{Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(pem))}}
            """);
        Assert.That(reply.Errors, Is.Empty);
        using var runner = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("edge-runner")), "edge-1", "edge");
        var gateway = (await runner.ReadAsync()).Unit("gateway").Gateway;
        Assert.That(gateway.Listeners.Single().Certificates.Single().PrivateKeyPem, Does.Contain("PRIVATE KEY"));
        using var curious = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("edge")), "edge-2", "edge");
        var refused = (await curious.ReadAsync()).Unit("gateway");
        Assert.That(refused.Removed.Reason, Does.Contain("may not run Gateway shop/edge"));
        using var elsewhere = await TestSidecar.ConnectAsync(await mesh.WorkloadAsync(TestControlPlane.Id("edge-runner")), "edge-3", "nothing");
        Assert.That((await elsewhere.ReadAsync()).Unit("gateway").Removed.Reason, Does.Contain("no Gateway shop/nothing"));

        // Nor do operators see them, before or after a restart.
        var secretText = Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(pem));
        var shown = await new Resources.ResourcesClient(mesh.Operator()).GetAsync(new GetRequest { Key = new ResourceKey { Kind = "Secret", Namespace = "shop", Name = "edge-tls" } });
        Assert.That(shown.Resource.ToByteString().ToStringUtf8(), Does.Not.Contain(secretText).And.Not.Contain("PRIVATE KEY"));
        Assert.That(System.Text.Encoding.UTF8.GetString(mesh.LogText.ToArray()), Does.Not.Contain(secretText).And.Not.Contain("PRIVATE KEY"));
        var runnerCertificate = await mesh.JoinAsync(TestControlPlane.Id("edge-runner"));
        await using var again = await mesh.RestartAsync();
        using var rerun = await TestSidecar.ConnectAsync(again.Connect(runnerCertificate), "edge-1", "edge");
        Assert.That((await rerun.ReadAsync()).Unit("gateway").Gateway, Is.EqualTo(gateway));
    }

    private static async Task<Resource> GetAsync(TestControlPlane mesh, string name) => (await new Resources.ResourcesClient(mesh.Operator()).GetAsync(
        new GetRequest { Key = new ResourceKey { Kind = "service", Namespace = "shop", Name = name } })).Resource;

    private static async Task<(ResourceEvent.Types.Change Change, string Name)> NextAsync(AsyncServerStreamingCall<ResourceEvent> watch)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        Assert.That(await watch.ResponseStream.MoveNext(deadline.Token), Is.True);
        return (watch.ResponseStream.Current.Change, watch.ResponseStream.Current.Resource.Name);
    }
}
