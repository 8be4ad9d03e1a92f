using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>A pooled connection: the codec, its transport, and how long its peer's certificate is good for.</summary>
internal sealed record UpstreamConnection(HttpClientConnection Http, ConnectionContext Transport, DateTimeOffset PeerNotAfter);
