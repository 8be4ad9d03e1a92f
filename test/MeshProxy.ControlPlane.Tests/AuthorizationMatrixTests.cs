using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Net.Client;
using MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Tests;

/// <summary>Every RPC that the protos declare, called by every kind of caller. A new RPC is in it by itself.</summary>
[TestFixture]
internal sealed class AuthorizationMatrixTests
{
    private static readonly Marshaller<byte[]> Raw = new(bytes => bytes, bytes => bytes);

    private static IEnumerable<MethodDescriptor> Methods() =>
        new[] { CertificatesReflection.Descriptor, RegistryReflection.Descriptor, DiscoveryReflection.Descriptor, ResourcesReflection.Descriptor }
            .SelectMany(file => file.Services).SelectMany(service => service.Methods);

    [Test]
    public async Task Every_call_is_open_to_exactly_its_callers()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var foreignDirectory = new TemporaryDirectory();
        using var foreign = CertificateAuthority.Open(foreignDirectory.Path, TestControlPlane.Domain, TimeProvider.System);
        var yesterday = new ManualTimeProvider();
        yesterday.Jump(TimeSpan.FromDays(-2));
        using var past = CertificateAuthority.Open(mesh.DataDirectory, TestControlPlane.Domain, yesterday);
        using var present = CertificateAuthority.Open(mesh.DataDirectory, TestControlPlane.Domain, TimeProvider.System);
        using var otherDomain = present.IssueWorkload(new SpiffeId(TrustDomain.Parse("other.local"), "shop", "payments"), Key(out var otherKey), TimeSpan.FromHours(1));
        using var foreignWorkload = foreign.IssueWorkload(TestControlPlane.Id("payments"), Key(out var foreignKey), TimeSpan.FromHours(1));
        using var foreignOperator = foreign.IssueOperator("admin", Key(out var foreignOperatorKey), TimeSpan.FromHours(1));
        using var expiredWorkload = past.IssueWorkload(TestControlPlane.Id("payments"), Key(out var expiredKey), TimeSpan.FromHours(1));
        using var expiredOperator = past.IssueOperator("admin", Key(out var expiredOperatorKey), TimeSpan.FromHours(1));
        using var server = present.IssueServer(["control.mesh.mesh.local"], Key(out var serverKey), TimeSpan.FromHours(1));
        var callers = new (string Name, GrpcChannel Channel)[]
        {
            ("nobody", mesh.Connect()),
            ("nobody: foreign workload", mesh.Connect(foreignWorkload.CopyWithPrivateKey(foreignKey))),
            ("nobody: foreign operator", mesh.Connect(foreignOperator.CopyWithPrivateKey(foreignOperatorKey))),
            ("nobody: expired workload", mesh.Connect(expiredWorkload.CopyWithPrivateKey(expiredKey))),
            ("nobody: expired operator", mesh.Connect(expiredOperator.CopyWithPrivateKey(expiredOperatorKey))),
            ("nobody: other trust domain", mesh.Connect(otherDomain.CopyWithPrivateKey(otherKey))),
            ("nobody: the server's own certificate", mesh.Connect(server.CopyWithPrivateKey(serverKey))),
            ("operator", mesh.Operator()),
            ("workload", await mesh.WorkloadAsync(TestControlPlane.Id("payments"))),
        };
        var wrong = new List<string>();
        foreach (var (name, channel) in callers)
        {
            foreach (var method in Methods())
            {
                var expected = Expected(method, name);
                var status = await CallAsync(channel, method);
                var actual = status.StatusCode is StatusCode.Unauthenticated ? "unauthenticated"
                    : status.StatusCode is StatusCode.PermissionDenied ? "denied" : "admitted";
                if (actual != expected)
                {
                    wrong.Add($"{method.FullName} by {name}: {actual} ({status}), expected {expected}");
                }
            }
        }

        Assert.That(wrong, Is.Empty);
        Assert.That(Methods().Count(), Is.GreaterThanOrEqualTo(14));
    }

    [Test]
    public async Task The_metrics_port_serves_no_calls_and_the_mesh_port_no_metrics()
    {
        await using var mesh = await TestControlPlane.StartAsync();
        using var client = new HttpClient();
        var metrics = await client.GetStringAsync($"http://127.0.0.1:{mesh.Server.MetricsPort}/metrics");
        Assert.That(metrics, Does.Contain("meshproxy_control_mesh_revision"));
        Assert.That(await client.GetStringAsync($"http://127.0.0.1:{mesh.Server.MetricsPort}/readyz"), Is.EqualTo("ok\n"));
        var call = await client.PostAsync(new Uri($"http://127.0.0.1:{mesh.Server.MetricsPort}/meshproxy.control.v1.Certificates/GetTrustBundle"), null);
        Assert.That((int)call.StatusCode, Is.EqualTo(405));
        await Assert.ThatAsync(() => client.GetStringAsync($"http://127.0.0.1:{mesh.Server.Port}/metrics"), Throws.InstanceOf<HttpRequestException>());
    }

    private static string Expected(MethodDescriptor method, string caller)
    {
        var kind = caller.Split(':')[0];
        return (method.Service.Name, method.Name, kind) switch
        {
            ("Certificates", "GetTrustBundle", _) => "admitted",
            ("Certificates", "Issue", "nobody") => "unauthenticated",
            ("Certificates", "Issue", "operator") => "denied",
            ("Certificates", "Issue", "workload") => "admitted",
            (_, _, "nobody") => "unauthenticated",
            ("Resources" or "Operations", _, "operator") => "admitted",
            ("Discovery" or "Registry", _, "workload") => "admitted",
            _ => "denied",
        };
    }

    private static PublicKey Key(out ECDsa key)
    {
        key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        return new PublicKey(key);
    }

    /// <summary>An empty message: whoever is admitted gets some other status, or a first answer.</summary>
    private static async Task<Status> CallAsync(GrpcChannel channel, MethodDescriptor method)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        var options = new CallOptions(cancellationToken: deadline.Token);
        var invoker = channel.CreateCallInvoker();
        try
        {
            if (method.IsClientStreaming)
            {
                using var call = invoker.AsyncDuplexStreamingCall(Describe(method, MethodType.DuplexStreaming), null, options);
                await call.RequestStream.CompleteAsync();
                await call.ResponseStream.MoveNext(deadline.Token);
            }
            else if (method.IsServerStreaming)
            {
                using var call = invoker.AsyncServerStreamingCall(Describe(method, MethodType.ServerStreaming), null, options, []);
                await call.ResponseStream.MoveNext(deadline.Token);
            }
            else
            {
                await invoker.AsyncUnaryCall(Describe(method, MethodType.Unary), null, options, []);
            }

            return Status.DefaultSuccess;
        }
        catch (RpcException e)
        {
            Assert.That(e.StatusCode, Is.Not.EqualTo(StatusCode.Unimplemented).And.Not.EqualTo(StatusCode.Internal).And.Not.EqualTo(StatusCode.Unknown), $"{method.FullName}: {e.Status}");
            return e.Status;
        }
    }

    private static Method<byte[], byte[]> Describe(MethodDescriptor method, MethodType type) => new(type, method.Service.FullName, method.Name, Raw, Raw);
}
