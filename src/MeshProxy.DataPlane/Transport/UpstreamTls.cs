using System.Security.Cryptography.X509Certificates;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Transport;

/// <summary>How servers outside the mesh are dialed with TLS and judged, ready for handshakes: TLS 1.2 or 1.3, the policy's authorities alone, its names. Made
/// once for each policy; equal to another by what the policy says.</summary>
internal sealed class UpstreamTls : IEquatable<UpstreamTls>
{
    private readonly X509Certificate2Collection? _roots;

    /// <summary>Reads the authorities.</summary>
    /// <exception cref="System.Security.Cryptography.CryptographicException">They are no certificates.</exception>
    public UpstreamTls(UpstreamTlsConfig config)
    {
        Config = config;
        if (config.AuthoritiesPem.Length > 0)
        {
            _roots = [];
            _roots.ImportFromPem(config.AuthoritiesPem);
        }
    }

    /// <summary>What the policy says.</summary>
    public UpstreamTlsConfig Config { get; }

    /// <summary>Null for null.</summary>
    public static UpstreamTls? Of(UpstreamTlsConfig? config) => config is null ? null : new UpstreamTls(config);

    /// <summary>How the engine builds a server's chain: with no word over the network.</summary>
    public X509ChainPolicy ChainPolicy(DateTimeOffset now)
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = _roots is null ? X509ChainTrustMode.System : X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
            VerificationTime = now.UtcDateTime,
            VerificationTimeIgnored = false,
        };
        if (_roots is not null)
        {
            policy.CustomTrustStore.AddRange(_roots);
        }

        return policy;
    }

    /// <summary>Judges a server by its certificate and the chain that was built with <see cref="ChainPolicy"/>.</summary>
    public PeerVerdict Judge(X509Certificate2 leaf, X509Chain chain)
    {
        if (chain.ChainStatus is { Length: > 0 } statuses)
        {
            var why = string.Join(", ", statuses.Select(status => status.Status.ToString()).Distinct());
            return PeerVerdict.Refuse(statuses.Any(status => status.Status.HasFlag(X509ChainStatusFlags.NotTimeValid))
                ? $"the server's certificate is valid from {leaf.NotBefore.ToUniversalTime():O} to {leaf.NotAfter.ToUniversalTime():O}, or one above it is not valid now ({why})"
                : $"the server's certificate does not chain to {(_roots is null ? "an authority of this system" : "the authorities")} of BackendTLSPolicy {Config.Policy} ({why})");
        }

        if (!IsNamed(leaf))
        {
            var wanted = Config.Hostnames.IsEmpty && Config.Uris.IsEmpty ? Config.ServerName : string.Join(", ", Config.Hostnames.Concat(Config.Uris));
            return PeerVerdict.Refuse($"the server's certificate is for {Shorten(string.Join(", ", DnsNames(leaf).Concat(SvidValidator.UriNames(leaf))))}, "
                + $"not for {wanted} as BackendTLSPolicy {Config.Policy} demands");
        }

        return new PeerVerdict(default, new DateTimeOffset(leaf.NotAfter.ToUniversalTime(), TimeSpan.Zero), null);
    }

    /// <inheritdoc/>
    public bool Equals(UpstreamTls? other) => other is not null && Config.Equals(other.Config);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as UpstreamTls);

    /// <inheritdoc/>
    public override int GetHashCode() => Config.GetHashCode();

    // RFC 9525: names of the certificate count, its subject does not.
    private bool IsNamed(X509Certificate2 leaf)
    {
        if (Config.Hostnames.IsEmpty && Config.Uris.IsEmpty)
        {
            return leaf.MatchesHostname(Config.ServerName, allowWildcards: true, allowCommonName: false);
        }

        foreach (var hostname in Config.Hostnames)
        {
            if (hostname.StartsWith("*.", StringComparison.Ordinal)
                ? DnsNames(leaf).Any(name => name.Equals(hostname, StringComparison.OrdinalIgnoreCase) || IsOneLabelBelow(name, hostname))
                : leaf.MatchesHostname(hostname, allowWildcards: true, allowCommonName: false))
            {
                return true;
            }
        }

        return !Config.Uris.IsEmpty && SvidValidator.UriNames(leaf).Any(uri => Config.Uris.Contains(uri, StringComparer.Ordinal));
    }

    private static bool IsOneLabelBelow(string name, string wildcard) =>
        name.Length > wildcard.Length - 1 && name.EndsWith(wildcard[1..], StringComparison.OrdinalIgnoreCase) && name.IndexOf('.') == name.Length - wildcard.Length + 1;

    private static IEnumerable<string> DnsNames(X509Certificate2 leaf) =>
        leaf.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(extension => extension.EnumerateDnsNames());

    private static string Shorten(string text) => text.Length == 0 ? "no name" : text.Length <= 200 ? text : text[..200] + "...";
}
