using System.Collections.Immutable;
using System.Net;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>
/// What makes two connections to an endpoint interchangeable. In the mesh that is where it is, which service port it is asked for (SNI), what is spoken
/// (ALPN), who may answer, and by which roots that was judged; outside it where it is and by which BackendTLSPolicy its server was judged: a change of any of
/// them begins a new pool and retires the old one.
/// </summary>
/// <param name="Address">Where to dial.</param>
/// <param name="Version">What is spoken; null: what the server chooses (ALPN).</param>
/// <param name="ServerName">The mesh SNI; null: outside the mesh or on loopback.</param>
/// <param name="AllowedServers">The SPIFFE IDs that may answer; empty outside the mesh.</param>
/// <param name="TrustRevision">The trust bundle's revision; empty outside the mesh.</param>
/// <param name="Tls">How a server outside the mesh is dialed with TLS; null: plaintext there.</param>
internal sealed record PoolKey(
    IPEndPoint Address,
    HttpProtocolVersion? Version,
    string? ServerName,
    ImmutableArray<SpiffeId> AllowedServers,
    string TrustRevision,
    UpstreamTls? Tls = null)
{
    public bool IsMesh => ServerName is not null;

    /// <summary>The key for bytes that are TLS already: nobody wraps them a second time.</summary>
    public PoolKey WithoutTls => Tls is null ? this : this with { Tls = null };

    public bool Equals(PoolKey? other) => other is not null && Address.Equals(other.Address) && Version == other.Version
        && ServerName == other.ServerName && Equals(Tls, other.Tls) && TrustRevision == other.TrustRevision && AllowedServers.AsSpan().SequenceEqual(other.AllowedServers.AsSpan());

    public override int GetHashCode() => HashCode.Combine(Address, Version, ServerName, TrustRevision);
}
