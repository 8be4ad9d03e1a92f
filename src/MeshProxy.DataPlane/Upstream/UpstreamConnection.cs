using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>A pooled connection: the codec, its transport, and how long its peer's certificate is good for.</summary>
internal sealed class UpstreamConnection(HttpClientConnection http, ConnectionContext transport, DateTimeOffset peerNotAfter)
{
    public HttpClientConnection Http { get; } = http;

    public ConnectionContext Transport { get; } = transport;

    public DateTimeOffset PeerNotAfter { get; } = peerNotAfter;

    /// <summary>It takes no new exchanges. Under the pool's lock: it may retire before it was ever listed.</summary>
    public bool IsRetired { get; set; }
}
