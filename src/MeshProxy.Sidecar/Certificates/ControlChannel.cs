using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Net.Client;
using MeshProxy.DataPlane.Identity;
using MeshProxy.Model.Identity;

namespace MeshProxy.Sidecar.Certificates;

/// <summary>
/// Connections to the control plane: TLS 1.3, our roots alone, and a server that proves to be <c>control.mesh.&lt;trust domain&gt;</c> whatever address it
/// is reached under.
/// </summary>
internal sealed class ControlChannel : IDisposable
{
    private readonly Func<GrpcChannel> _make;
    private CancellationTokenSource _renewed = new();
    private GrpcChannel _channel;

    private ControlChannel(Func<SocketsHttpHandler> handler, string control)
    {
        _make = () => GrpcChannel.ForAddress($"https://{control}", new GrpcChannelOptions
        {
            HttpHandler = handler(),
            DisposeHttpClient = true,
            MaxReceiveMessageSize = 64 * 1024 * 1024,
        });
        _channel = _make();
    }

    /// <summary>For the generated clients; taken anew for each call, because <see cref="Renew"/> replaces it.</summary>
    public GrpcChannel Channel => Volatile.Read(ref _channel);

    /// <summary>Cancelled by the next <see cref="Renew"/>: a stream on the channel of before should move over.</summary>
    public CancellationToken Renewed => Volatile.Read(ref _renewed).Token;

    /// <summary>The channel of a member: mutual TLS with the current certificate.</summary>
    public static ControlChannel Mutual(string control, SvidStore identity, TrustDomain trustDomain, TimeProvider time)
    {
        var name = ServerName(trustDomain);
        return new ControlChannel(
            () =>
            {
                var handler = Handler(name, (leaf, chain) => identity.Bundle is { } bundle ? Refusal(leaf, chain, bundle, name, time) : "there are no roots yet");
                handler.SslOptions.ClientCertificateContext = identity.Current?.Context;
                return handler;
            },
            control);
    }

    /// <summary>The channel of a newcomer that has roots but no certificate.</summary>
    public static ControlChannel ServerOnly(string control, TrustBundle bundle, TimeProvider time)
    {
        var name = ServerName(bundle.TrustDomain);
        return new ControlChannel(() => Handler(name, (leaf, chain) => Refusal(leaf, chain, bundle, name, time)), control);
    }

    /// <summary>The channel of a newcomer that has but the hash of the root: whoever answers is believed nothing but public roots, which are then judged by
    /// the hash. No secret may be sent on it.</summary>
    public static ControlChannel Unverified(string control, TrustDomain trustDomain) => new(() => Handler(ServerName(trustDomain), (_, _) => null), control);

    /// <summary>Uses the certificate that is current now for the calls that follow. A connection keeps the certificate of its handshake, and the control plane
    /// ends what outlives that, so that renewing only the store would not be enough. Calls that are open finish on the old channel, within ten seconds.</summary>
    public void Renew(TimeProvider time)
    {
        var old = Interlocked.Exchange(ref _channel, _make());
        var renewed = Interlocked.Exchange(ref _renewed, new CancellationTokenSource());
        _ = DisposeLaterAsync();

        async Task DisposeLaterAsync()
        {
            await renewed.CancelAsync().ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            await Task.Delay(TimeSpan.FromSeconds(10), time).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            old.Dispose();
            renewed.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Channel.Dispose();

    /// <summary>Why a server is not the control plane; null when it is.</summary>
    internal static string? Refusal(X509Certificate2 leaf, X509Certificate2Collection presented, TrustBundle bundle, string serverName, TimeProvider time)
    {
        using var chain = new X509Chain();
        var policy = chain.ChainPolicy;
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        policy.CustomTrustStore.AddRange(bundle.Roots.ToArray());
        policy.ExtraStore.AddRange(presented);
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        policy.VerificationTime = time.GetUtcNow().UtcDateTime;
        policy.VerificationTimeIgnored = false;
        policy.ApplicationPolicy.Add(new Oid("1.3.6.1.5.5.7.3.1"));
        if (!chain.Build(leaf))
        {
            return $"its certificate does not chain to our roots ({string.Join(", ", chain.ChainStatus.Select(status => status.Status).Distinct())})";
        }

        // A workload's certificate chains to the same roots: only the name tells the control plane from a member that plays it.
        return leaf.MatchesHostname(serverName, allowWildcards: false, allowCommonName: false) ? null : $"its certificate does not name {serverName}";
    }

    private static string ServerName(TrustDomain trustDomain) => $"control.mesh.{trustDomain}";

    private static SocketsHttpHandler Handler(string serverName, Func<X509Certificate2, X509Certificate2Collection, string?> judge) => new()
    {
        UseProxy = false,
        UseCookies = false,
        AllowAutoRedirect = false,
        ActivityHeadersPropagator = null,
        ConnectTimeout = TimeSpan.FromSeconds(5),
        KeepAlivePingDelay = TimeSpan.FromSeconds(10),
        KeepAlivePingTimeout = TimeSpan.FromSeconds(5),
        KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
        SslOptions = new SslClientAuthenticationOptions
        {
            TargetHost = serverName,
            EnabledSslProtocols = SslProtocols.Tls13,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            AllowTlsResume = false,
            RemoteCertificateValidationCallback = (_, certificate, chain, _) =>
            {
                if (certificate is not X509Certificate2 leaf)
                {
                    throw new AuthenticationException("the server presented no certificate");
                }

                var presented = new X509Certificate2Collection();
                if (chain is not null)
                {
                    presented.AddRange(chain.ChainPolicy.ExtraStore);
                    presented.AddRange(chain.ChainElements.Select(element => element.Certificate).ToArray());
                }

                var refusal = judge(leaf, presented);
                return refusal is null ? true : throw new AuthenticationException($"The control plane is not believed: {refusal}.");
            },
        },
    };
}
