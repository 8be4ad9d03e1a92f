// YARP as a peer of the benchmark: one listener, one destination, everything else as the package ships it.
//   yarp-peer --listen PORT --upstream http://127.0.0.1:PORT
//     --listen-protocol h1|h2     h2 without --certificate is cleartext with prior knowledge
//     --upstream-protocol h1|h2
//     --certificate FILE --key FILE [--client-ca FILE]     TLS 1.3 on the listener, with --client-ca mutual
//     --upstream-ca FILE [--upstream-certificate FILE --upstream-key FILE --upstream-name NAME]     TLS 1.3 to the destination
//     --inline     UnsafePreferInlineScheduling; the caller sets DOTNET_SYSTEM_NET_SOCKETS_INLINE_COMPLETIONS=1 as well
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Forwarder;

var settings = new ConfigurationBuilder().AddCommandLine(args.Where(a => a != "--inline").ToArray()).Build();
string Required(string name) => settings[name] ?? throw new ArgumentException($"--{name} is missing");

var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
builder.Logging.ClearProviders().AddConsole().SetMinimumLevel(LogLevel.Warning);
if (args.Contains("--inline"))
{
    builder.WebHost.UseSockets(sockets => sockets.UnsafePreferInlineScheduling = true);
}

builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, int.Parse(Required("listen"), CultureInfo.InvariantCulture), listen =>
{
    listen.Protocols = settings["listen-protocol"] == "h2" ? HttpProtocols.Http2 : HttpProtocols.Http1;
    if (settings["certificate"] is not { } certificateFile)
    {
        return;
    }

    listen.UseHttps(https =>
    {
        https.ServerCertificate = LoadCertificate(certificateFile, Required("key"));
        https.SslProtocols = SslProtocols.Tls13;
        https.OnAuthenticate = (_, tls) => tls.AllowTlsResume = false;
        if (settings["client-ca"] is { } clientCa)
        {
            var roots = X509CertificateLoader.LoadCertificateFromFile(clientCa);
            https.ClientCertificateMode = ClientCertificateMode.RequireCertificate;
            https.ClientCertificateValidation = (certificate, _, _) => ChainsTo(roots, certificate);
        }
    });
}));

var upstreamVersion = settings["upstream-protocol"] == "h2" ? HttpVersion.Version20 : HttpVersion.Version11;
builder.Services.AddReverseProxy()
    .LoadFromMemory(
        [new RouteConfig { RouteId = "all", ClusterId = "origin", Match = new RouteMatch { Path = "{**all}" } }],
        [
            new ClusterConfig
            {
                ClusterId = "origin",
                Destinations = new Dictionary<string, DestinationConfig> { ["one"] = new() { Address = Required("upstream") } },
                HttpRequest = new ForwarderRequestConfig { Version = upstreamVersion, VersionPolicy = HttpVersionPolicy.RequestVersionExact },
            },
        ])
    .ConfigureHttpClient((_, handler) =>
    {
        if (settings["upstream-ca"] is not { } upstreamCa)
        {
            return;
        }

        var roots = X509CertificateLoader.LoadCertificateFromFile(upstreamCa);
        handler.SslOptions = new SslClientAuthenticationOptions
        {
            TargetHost = Required("upstream-name"),
            EnabledSslProtocols = SslProtocols.Tls13,
            AllowTlsResume = false,
            ClientCertificates = [LoadCertificate(Required("upstream-certificate"), Required("upstream-key"))],
            RemoteCertificateValidationCallback = (_, certificate, _, errors) =>
                (errors & SslPolicyErrors.RemoteCertificateNameMismatch) == 0 && certificate is X509Certificate2 peer && ChainsTo(roots, peer),
        };
    });

var app = builder.Build();
app.MapReverseProxy();
app.Run();

static X509Certificate2 LoadCertificate(string certificate, string key)
{
    // A key straight from PEM is not usable by SslStream on every platform; the round trip through PKCS#12 makes it so.
    using var fromPem = X509Certificate2.CreateFromPemFile(certificate, key);
    return X509CertificateLoader.LoadPkcs12(fromPem.Export(X509ContentType.Pkcs12), null);
}

static bool ChainsTo(X509Certificate2 root, X509Certificate2 certificate)
{
    using var chain = new X509Chain();
    chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
    chain.ChainPolicy.CustomTrustStore.Add(root);
    chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
    chain.ChainPolicy.DisableCertificateDownloads = true;
    return chain.Build(certificate);
}
