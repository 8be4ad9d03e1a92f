using System.CommandLine;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using MeshProxy.Api.Control.V1;
using MeshProxy.Model.Identity;

namespace MeshProxy.Cli;

/// <summary>
/// gRPC over mutual TLS 1.3 to the control plane. Trust is the bundle alone, never the machine's roots. The dialled host does not matter (it is often an
/// address or a tunnel): the server must prove the DNS name control.mesh.&lt;trust domain&gt;, which only the mesh's own authority gives out.
/// </summary>
internal sealed class ServerConnection : IDisposable
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);

    private readonly GrpcChannel _channel;
    private readonly X509Certificate2Collection _roots;
    private readonly string _serverName;

    private ServerConnection(string server, X509Certificate2Collection chain, X509Certificate2 own, X509Certificate2Collection roots, string serverName)
    {
        _roots = roots;
        _serverName = serverName;
        var handler = new SocketsHttpHandler
        {
            ConnectTimeout = ConnectTimeout,
            UseProxy = false,
            SslOptions = new SslClientAuthenticationOptions
            {
                EnabledSslProtocols = SslProtocols.Tls13,
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                ClientCertificateContext = SslStreamCertificateContext.Create(own, chain, offline: true),
                RemoteCertificateValidationCallback = (_, certificate, presented, _) => IsControlPlane(certificate as X509Certificate2, presented),
            },
        };
        _channel = GrpcChannel.ForAddress($"https://{server}", new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true, MaxReceiveMessageSize = 64 * 1024 * 1024 });
        Resources = new Resources.ResourcesClient(_channel);
        Operations = new Operations.OperationsClient(_channel);
    }

    public Resources.ResourcesClient Resources { get; }

    public Operations.OperationsClient Operations { get; }

    /// <summary>When a call that starts now is given up.</summary>
    public static DateTime Deadline => TimeProvider.System.GetUtcNow().UtcDateTime + CallTimeout;

    /// <summary>Reads the credential and prepares the connection; dials at the first call.</summary>
    public static ServerConnection Open(ParseResult options)
    {
        var credential = options.GetValue(ServerOptions.Credential)
            ?? throw new CommandException(ExitStatus.Usage, "no credential: give --credential FILE or set MESHCTL_CREDENTIAL to the operator.pem that meshproxy-control wrote into its data directory.");
        var bundle = options.GetValue(ServerOptions.TrustBundle) ?? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(credential))!, "trust-bundle.pem");
        var server = options.GetValue(ServerOptions.Server)!;
        if (!Uri.TryCreate($"https://{server}", UriKind.Absolute, out var uri) || uri.PathAndQuery != "/" || !server.Contains(':'))
        {
            throw new CommandException(ExitStatus.Usage, $"--server '{server}' is not HOST:PORT.");
        }

        var chain = new X509Certificate2Collection();
        X509Certificate2 own;
        var pem = ReadFile(credential, "the credential");
        try
        {
            chain.ImportFromPem(pem);
            own = X509Certificate2.CreateFromPem(pem, pem);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new CommandException(ExitStatus.Usage, $"{credential} is no credential: it must hold a certificate and its private key in PEM.");
        }

        var roots = new X509Certificate2Collection();
        var bundlePem = ReadFile(bundle, "the trust bundle (give --trust-bundle FILE)");
        try
        {
            roots.ImportFromPem(bundlePem);
        }
        catch (CryptographicException)
        {
            roots.Clear();
        }

        if (roots.Count == 0)
        {
            throw new CommandException(ExitStatus.Usage, $"{bundle} holds no certificate in PEM.");
        }

        // spiffe://<trust domain>/operator/<name>
        if (SvidValidator.UriNames(own) is not [var name] || name.Split('/') is not ["spiffe:", "", var trustDomain, ..])
        {
            throw new CommandException(ExitStatus.Usage, $"{credential} is not an operator's: its certificate names no trust domain.");
        }

        if (chain.Count > 0)
        {
            chain.RemoveAt(0);
        }

        return new ServerConnection(server, chain, own, roots, $"control.mesh.{trustDomain}");
    }

    /// <summary>What a failed call means for the operator.</summary>
    public static CommandException Explain(RpcException failure, string server)
    {
        for (Exception? cause = failure.Status.DebugException; cause is not null; cause = cause.InnerException)
        {
            if (cause is AuthenticationException)
            {
                return new CommandException(
                    ExitStatus.Unreachable,
                    $"{server} is not the control plane of this mesh, or does not take this credential: {cause.Message} Check --server, --credential and --trust-bundle.");
            }
        }

        return failure.StatusCode switch
        {
            StatusCode.Unavailable => new CommandException(ExitStatus.Unreachable, $"{server} cannot be reached: {failure.Status.Detail} Check that meshproxy-control runs there."),
            StatusCode.DeadlineExceeded => new CommandException(ExitStatus.Unreachable, $"{server} did not answer within {CallTimeout.TotalSeconds:0} s."),
            StatusCode.Internal when failure.Status.DebugException is HttpRequestException => new CommandException(ExitStatus.Unreachable, $"{server} cannot be reached: {failure.Status.Detail}"),
            StatusCode.Unauthenticated => new CommandException(ExitStatus.Refused, $"the server does not take this credential: {failure.Status.Detail}"),
            _ => new CommandException(ExitStatus.Refused, failure.Status.Detail.Length > 0 ? failure.Status.Detail : failure.StatusCode.ToString()),
        };
    }

    public void Dispose() => _channel.Dispose();

    private static string ReadFile(string path, string what)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandException(ExitStatus.Usage, $"{what} cannot be read: {e.Message}");
        }
    }

    private bool IsControlPlane(X509Certificate2? certificate, X509Chain? presented)
    {
        if (certificate is null)
        {
            return false;
        }

        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(_roots);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        if (presented is not null)
        {
            chain.ChainPolicy.ExtraStore.AddRange(presented.ChainPolicy.ExtraStore);
            foreach (var element in presented.ChainElements)
            {
                chain.ChainPolicy.ExtraStore.Add(element.Certificate);
            }
        }

        return chain.Build(certificate)
            && certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().Any(names => names.EnumerateDnsNames().Contains(_serverName, StringComparer.OrdinalIgnoreCase));
    }
}
