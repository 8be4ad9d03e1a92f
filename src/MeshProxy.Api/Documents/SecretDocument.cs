using System.Collections.Immutable;

namespace MeshProxy.Api.Documents;

/// <summary>Secret, v1. What it holds is never written by <see cref="DocumentWriter"/> unless asked, and never logged.</summary>
public sealed record SecretDocument : Document
{
    /// <summary>The type that listeners take.</summary>
    public const string TlsType = "kubernetes.io/tls";

    /// <inheritdoc/>
    public override string Kind => DocumentKinds.Secret;

    /// <summary>"kubernetes.io/tls" or "Opaque".</summary>
    public string Type { get; init; } = "Opaque";

    /// <summary>Decoded values by key.</summary>
    public ImmutableDictionary<string, ImmutableArray<byte>> Data { get; init; } = ImmutableDictionary<string, ImmutableArray<byte>>.Empty;

    /// <summary>tls.crt of a <see cref="TlsType"/> secret: PEM, the leaf first; it parses and fits the key. Null for other types.</summary>
    public string? CertificateChainPem { get; init; }

    /// <summary>tls.key of a <see cref="TlsType"/> secret, PEM. Null for other types.</summary>
    public string? PrivateKeyPem { get; init; }
}
