using System.Globalization;
using System.Net.Security;
using System.Security.Authentication;
using MeshProxy.ControlPlane.Callers;
using MeshProxy.ControlPlane.Discovery;
using MeshProxy.ControlPlane.Issuance;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Registry;
using MeshProxy.ControlPlane.Sources;
using MeshProxy.ControlPlane.Store;
using MeshProxy.ControlPlane.Telemetry;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace MeshProxy.ControlPlane;

/// <summary>The whole control plane in one object: what <c>Program</c> runs and tests start.</summary>
internal sealed class ControlPlaneServer : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly MeshDatabase _database;
    private readonly CertificateAuthority _authority;
    private readonly MeshState _mesh;
    private readonly WorkloadRegistry _registry;
    private readonly CallLifetime _lifetime;
    private readonly EventLog _log;

    private ControlPlaneServer(WebApplication application, MeshDatabase database, CertificateAuthority authority, MeshState mesh, WorkloadRegistry registry, CallLifetime lifetime, EventLog log)
    {
        _application = application;
        _database = database;
        _authority = authority;
        _mesh = mesh;
        _registry = registry;
        _lifetime = lifetime;
        _log = log;
    }

    /// <summary>The bound gRPC port.</summary>
    public int Port { get; private set; }

    /// <summary>The bound metrics port.</summary>
    public int MetricsPort { get; private set; }

    /// <summary>For tests and later services.</summary>
    public IServiceProvider Services => _application.Services;

    /// <summary>Starts everything: keys, store, compile loop, leases, listeners.</summary>
    /// <exception cref="StartException">It cannot; the message says what to check.</exception>
    public static async Task<ControlPlaneServer> StartAsync(ControlPlaneOptions options, ControlPlaneLimits limits, TimeProvider time, EventLog log)
    {
        MeshDatabase? database = null;
        CertificateAuthority? authority = null;
        try
        {
            var directory = options.DataDirectory;
            StateFile.CreateDirectory(directory);

            // First, because it locks the directory against a second control plane.
            database = MeshDatabase.Open(directory);
            authority = CertificateAuthority.Open(directory, options.TrustDomain, time);
            if (OperatorCredential.Ensure(directory, authority, time))
            {
                log.Info("operator_credential_written", "an operator credential was written", ("file.path", Path.Combine(directory, OperatorCredential.FileName)));
            }

            StateFile.Write(Path.Combine(directory, "trust-bundle.pem"), authority.BundlePem, StateFile.Public);
            var meters = new ControlMeters();
            var mesh = MeshState.Open(database, options.TrustDomain, limits, time, meters, log);
            var registry = new WorkloadRegistry(mesh, limits, time, meters, log);
            var lifetime = new CallLifetime(limits, time);
            var application = Build(options, limits, time, log, database, authority, meters, mesh, registry, lifetime);
            var server = new ControlPlaneServer(application, database, authority, mesh, registry, lifetime, log);
            try
            {
                mesh.Start();
                await server.ListenAsync(options);
                registry.Start();
                return server;
            }
            catch
            {
                await server.DisposeAsync();
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            authority?.Dispose();
            database?.Dispose();
            throw new StartException(e.InnerException is AddressInUseException || e is AddressInUseException
                ? $"{e.Message.TrimEnd('.')}: check what else listens there, or choose another port with --listen or --metrics."
                : $"{e.Message.TrimEnd('.')}: check free space, owner and mode of --data-dir.", e);
        }
        catch
        {
            authority?.Dispose();
            database?.Dispose();
            throw;
        }
    }

    /// <summary>Completes when the process is asked to stop.</summary>
    public Task WaitForStopAsync() => _application.WaitForShutdownAsync();

    /// <summary>Ends streams with UNAVAILABLE, lets calls finish, closes the store.</summary>
    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync();
        await _application.DisposeAsync();
        _registry.Dispose();
        await _mesh.DisposeAsync();
        _lifetime.Dispose();
        _authority.Dispose();
        _database.Dispose();
        if (Port > 0)
        {
            _log.Info("stopped", "the control plane has stopped");
        }
    }

    private static WebApplication Build(
        ControlPlaneOptions options,
        ControlPlaneLimits limits,
        TimeProvider time,
        EventLog log,
        MeshDatabase database,
        CertificateAuthority authority,
        ControlMeters meters,
        MeshState mesh,
        WorkloadRegistry registry,
        CallLifetime lifetime)
    {
        // Empty, not slim: a slim one would read appsettings.json of whatever directory it is started in, and watch that directory.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = "meshproxy-control" });
        builder.Logging.ClearProviders().AddProvider(new FrameworkLog(log));
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = limits.StopTimeout);
        builder.Services.Configure<ConsoleLifetimeOptions>(console => console.SuppressStatusMessages = true);
        builder.Services.AddSingleton(options).AddSingleton(limits).AddSingleton(time).AddSingleton(log).AddSingleton(database).AddSingleton(authority)
            .AddSingleton(meters).AddSingleton(mesh).AddSingleton(registry).AddSingleton(lifetime).AddHostedService(_ => lifetime)
            .AddSingleton<CallerVerifier>().AddSingleton<CallerInterceptor>().AddSingleton<SidecarDirectory>()
            .AddSingleton<CertificatesService>().AddSingleton<RegistryService>().AddSingleton<DiscoveryService>().AddSingleton<ResourcesService>().AddSingleton<OperationsService>();
        builder.Services.AddRoutingCore();
        builder.Services.AddGrpc(grpc =>
        {
            grpc.MaxReceiveMessageSize = limits.MaxMessageBytes;
            grpc.Interceptors.Add<CallerInterceptor>();
        }).AddServiceOptions<CertificatesService>(grpc => grpc.MaxReceiveMessageSize = limits.MaxAnonymousMessageBytes);

        IReadOnlyList<string> names = [$"control.mesh.{options.TrustDomain}", "localhost", "127.0.0.1", "::1", .. options.HostNames];
        var certificate = new ServerCertificate(authority, names, options.ServerCertificateLifetime, time);
        var verifier = new CallerVerifier(authority, time);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(10);
            kestrel.Limits.Http2.KeepAlivePingTimeout = TimeSpan.FromSeconds(10);
            Bind(kestrel, options.Listen, listen =>
            {
                listen.Protocols = HttpProtocols.Http2;
                listen.UseHttps(new TlsHandshakeCallbackOptions
                {
                    HandshakeTimeout = limits.HandshakeTimeout,
                    OnConnection = _ => ValueTask.FromResult(new SslServerAuthenticationOptions
                    {
                        ServerCertificateContext = certificate.Current,
                        EnabledSslProtocols = SslProtocols.Tls13,
                        AllowTlsResume = false,
                        ClientCertificateRequired = true,

                        // Everybody may connect; who may call what is decided at each call (CallerVerifier), where a refusal can say why.
#pragma warning disable CA5359
                        RemoteCertificateValidationCallback = static (_, _, _, _) => true,
#pragma warning restore CA5359
                    }),
                });
                listen.Use(next => connection =>
                {
                    verifier.Admit(connection);
                    return next(connection);
                });
            });
            Bind(kestrel, options.Metrics, listen => listen.Protocols = HttpProtocols.Http1);
        });

        var application = builder.Build();

        // By how the connection came in, not by its Host: gRPC is never served without TLS.
        application.Use((request, next) => request.Features.Get<ITlsHandshakeFeature>() is null ? MetricsEndpoint.AnswerAsync(request, meters) : next(request));
        application.UseRouting();
        application.MapGrpcService<CertificatesService>();
        application.MapGrpcService<RegistryService>();
        application.MapGrpcService<DiscoveryService>();
        application.MapGrpcService<ResourcesService>();
        application.MapGrpcService<OperationsService>();
        return application;
    }

    private static void Bind(KestrelServerOptions kestrel, ListenAddress address, Action<ListenOptions> configure)
    {
        if (address.Address is null)
        {
            kestrel.ListenAnyIP(address.Port, configure);
        }
        else
        {
            kestrel.Listen(address.Address, address.Port, configure);
        }
    }

    private async Task ListenAsync(ControlPlaneOptions options)
    {
        await _application.StartAsync();
        var addresses = _application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        Port = PortOf(addresses.Single(address => address.StartsWith("https:", StringComparison.Ordinal)));
        MetricsPort = PortOf(addresses.Single(address => address.StartsWith("http:", StringComparison.Ordinal)));
        _log.Info("listening", string.Create(CultureInfo.InvariantCulture, $"gRPC on port {Port}, metrics on port {MetricsPort}"),
            ("meshproxy.listen", (options.Listen with { Port = Port }).ToString()), ("meshproxy.metrics", (options.Metrics with { Port = MetricsPort }).ToString()),
            ("meshproxy.port", Port), ("meshproxy.metrics_port", MetricsPort), ("meshproxy.trust_domain", options.TrustDomain.Name),
            ("meshproxy.data_dir", Path.GetFullPath(options.DataDirectory)), ("meshproxy.revision", _mesh.Current.Revision));
    }

    private static int PortOf(string address) => int.Parse(address.AsSpan(address.LastIndexOf(':') + 1), NumberStyles.None, CultureInfo.InvariantCulture);
}
