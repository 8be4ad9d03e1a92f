using System.Collections.Immutable;

namespace MeshProxy.Model.Config;

/// <summary>How the endpoints of a cluster that are outside the mesh are dialed with TLS: a BackendTLSPolicy, resolved. Equal by content, because connections
/// are kept exactly as long as what they were judged by stays equal.</summary>
public sealed record UpstreamTlsConfig
{
    /// <summary>The policy.</summary>
    public required ResourceName Policy { get; init; }

    /// <summary>The server name that is asked for (SNI), and the name that the certificate must be for, unless other names are listed.</summary>
    public required string ServerName { get; init; }

    /// <summary>DNS names, lower case, "*.example.com" for a wildcard, and...</summary>
    public ImmutableArray<string> Hostnames { get; init; } = [];

    /// <summary>...URIs: when any are listed, the certificate must be for one of these, and <see cref="ServerName"/> proves nothing.</summary>
    public ImmutableArray<string> Uris { get; init; } = [];

    /// <summary>The only authorities that are believed, PEM; empty: those of the system.</summary>
    public string AuthoritiesPem { get; init; } = "";

    /// <summary>Why no connection may be made, and requests get 500 with this text; null: in force.</summary>
    public string? Invalid { get; init; }

    /// <inheritdoc/>
    public bool Equals(UpstreamTlsConfig? other) => other is not null && Policy == other.Policy && ServerName == other.ServerName && Invalid == other.Invalid
        && AuthoritiesPem == other.AuthoritiesPem && Hostnames.AsSpan().SequenceEqual(other.Hostnames.AsSpan()) && Uris.AsSpan().SequenceEqual(other.Uris.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Policy, ServerName, AuthoritiesPem.Length, Invalid);
}
