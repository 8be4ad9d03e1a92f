using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>A pooled connection: the codec, its transport, and until when it is used.</summary>
internal sealed class UpstreamConnection(HttpClientConnection http, ConnectionContext transport, DateTimeOffset retireAt)
{
    public HttpClientConnection Http { get; } = http;

    public ConnectionContext Transport { get; } = transport;

    /// <summary>The event loop that it lives on: a request that is served there is forwarded without a change of threads.</summary>
    public int Loop { get; } = EventLoop.NumberOf(transport);

    /// <summary>The end of its peer's certificate, or of the age that it may reach.</summary>
    public DateTimeOffset RetireAt { get; } = retireAt;

    /// <summary>It takes no new exchanges. Under the pool's lock: it may retire before it was ever listed.</summary>
    public bool IsRetired { get; set; }
}
