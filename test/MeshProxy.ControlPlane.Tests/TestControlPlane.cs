using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Net.Client;
using MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Tests;

/// <summary>A real control plane on free ports, with real TLS, and clients that verify it as a sidecar must.</summary>
internal sealed class TestControlPlane : IAsyncDisposable
{
    private readonly List<IDisposable> _owned = [];
    private readonly bool _ownsDirectory;
    private bool _hasStopped;

    private TestControlPlane(ControlPlaneServer server, string directory, bool ownsDirectory, TimeProvider time, MemoryStream logText)
    {
        Server = server;
        DataDirectory = directory;
        _ownsDirectory = ownsDirectory;
        Time = time;
        LogText = logText;
    }

    public ControlPlaneServer Server { get; }

    public string DataDirectory { get; }

    public TimeProvider Time { get; }

    public MemoryStream LogText { get; }

    public string BundlePem => File.ReadAllText(Path.Combine(DataDirectory, "trust-bundle.pem"));

    public static readonly TrustDomain Domain = TrustDomain.Parse("mesh.local");

    public static string NewDirectory() => Path.Combine(Path.GetTempPath(), "mp-control-" + Guid.NewGuid().ToString("N"));

    public static SpiffeId Id(string account, string @namespace = "shop") => new(Domain, @namespace, account);

    public static async Task<TestControlPlane> StartAsync(
        string? directory = null, TimeProvider? time = null, ControlPlaneLimits? limits = null, Func<ControlPlaneOptions, ControlPlaneOptions>? change = null)
    {
        var ownsDirectory = directory is null;
        directory ??= NewDirectory();
        time ??= TimeProvider.System;
        var options = new ControlPlaneOptions
        {
            Listen = new ListenAddress(IPAddress.Loopback, 0),
            Metrics = new ListenAddress(IPAddress.Loopback, 0),
            DataDirectory = directory,
        };
        var logText = new MemoryStream();
        limits ??= new ControlPlaneLimits();
        if (time is ManualTimeProvider)
        {
            limits = limits with { CoalesceWindow = TimeSpan.Zero };
        }

        var server = await ControlPlaneServer.StartAsync(change?.Invoke(options) ?? options, limits, time, new EventLog(Stream.Synchronized(logText), TimeProvider.System));
        return new TestControlPlane(server, directory, ownsDirectory, time, logText);
    }

    /// <summary>The same directory, a new process as far as anybody can tell.</summary>
    public async Task<TestControlPlane> RestartAsync()
    {
        await StopAsync();
        return await StartAsync(DataDirectory, Time);
    }

    public GrpcChannel Connect(X509Certificate2? certificate = null)
    {
        var channel = Connect(Server.Port, BundlePem, certificate);
        _owned.Add(channel);
        return channel;
    }

    public static GrpcChannel Connect(int port, string bundlePem, X509Certificate2? certificate)
    {
        var roots = new X509Certificate2Collection();
        roots.ImportFromPem(bundlePem);
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck, DisableCertificateDownloads = true };
        policy.CustomTrustStore.AddRange(roots);
        var handler = new SocketsHttpHandler
        {
            // The name is verified against the certificate; the address is dialed.
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                try
                {
                    await socket.ConnectAsync(IPAddress.Loopback, port, cancellation);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
            SslOptions = new SslClientAuthenticationOptions
            {
                CertificateChainPolicy = policy,
                LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate!,
            },
        };
        return GrpcChannel.ForAddress($"https://control.mesh.{Domain}:{port}", new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true });
    }

    public GrpcChannel Operator() => Connect(X509Certificate2.CreateFromPemFile(Path.Combine(DataDirectory, "operator.pem")));

    public async Task<string> CreateTokenAsync(SpiffeId id, TimeSpan? ttl = null) => (await new Operations.OperationsClient(Operator()).CreateTokenAsync(
        new CreateTokenRequest { Namespace = id.Namespace, ServiceAccount = id.ServiceAccount, Ttl = (ttl ?? TimeSpan.FromHours(1)).ToDuration() })).Token;

    public static byte[] MakeRequest(ECDsa key) => new CertificateRequest("CN=ignored", key, HashAlgorithmName.SHA256).CreateSigningRequest();

    public async Task<X509Certificate2> JoinAsync(SpiffeId id)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var reply = await new Certificates.CertificatesClient(Connect()).IssueAsync(
            new IssueRequest { CsrDer = ByteString.CopyFrom(MakeRequest(key)), JoinToken = await CreateTokenAsync(id) });
        using var leaf = X509CertificateLoader.LoadCertificate(reply.ChainDer[0].Span);
        return leaf.CopyWithPrivateKey(key);
    }

    public async Task<GrpcChannel> WorkloadAsync(SpiffeId id) => Connect(await JoinAsync(id));

    public async Task<ApplyReply> ApplyAsync(string text, bool dryRun = false) => await new Resources.ResourcesClient(Operator()).ApplyAsync(
        new ApplyRequest { Sources = { new Source { Name = "test.yaml", Text = text } }, DryRun = dryRun, DefaultNamespace = "shop" });

    /// <summary>Asks for status again and again until it fits; what it waits for is another thread's next step, never a time.</summary>
    public async Task<SidecarStatus> WaitForStatusAsync(string workload, Func<SidecarStatus, bool> fits)
    {
        var client = new Operations.OperationsClient(Operator());
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        while (true)
        {
            var reply = await client.StatusAsync(new StatusRequest(), cancellationToken: deadline.Token);
            if (reply.Sidecars.SingleOrDefault(sidecar => sidecar.Workload.Name == workload) is { } status && fits(status))
            {
                return status;
            }

            await Task.Yield();
        }
    }

    public static RegisterRequest Registration(string name, string app, int port = 8080, bool ready = true) => new()
    {
        Workload = new ResourceRef { Namespace = "shop", Name = name },
        Address = "127.0.0.1",
        InboundPort = 15006,
        Labels = { ["app"] = app },
        Ports = { new WorkloadPort { Name = "http", Port = (uint)port } },
        Ready = ready,
    };

    public static string Service(string name, string? accounts = null) =>
        $$"""
        apiVersion: v1
        kind: Service
        metadata:
          name: {{name}}
          namespace: shop
        {{(accounts is null ? "" : $"  annotations: {{ meshproxy.io/service-accounts: \"{accounts}\" }}")}}
        spec:
          selector: { app: {{name}} }
          ports:
          - { name: http, port: 80, targetPort: http, appProtocol: http }
        ---

        """;

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        if (_ownsDirectory && Directory.Exists(DataDirectory))
        {
            Directory.Delete(DataDirectory, recursive: true);
        }
    }

    public async Task StopAsync()
    {
        if (!_hasStopped)
        {
            _hasStopped = true;
            await Server.DisposeAsync();
        }

        foreach (var owned in _owned)
        {
            owned.Dispose();
        }

        _owned.Clear();
    }
}
