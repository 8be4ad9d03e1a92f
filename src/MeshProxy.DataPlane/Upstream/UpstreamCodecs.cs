using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>How the codecs of upstream connections are set up.</summary>
internal static class UpstreamCodecs
{
    public static Http1ClientOptions Http1(UpstreamPoolOptions options) => new()
    {
        Limits = Http1Limits.Default with { IdleTimeout = options.IdleTimeout },
    };

    public static Http2Options Http2(UpstreamPoolOptions options, TimeProvider time, Action<string> onAbuse, Func<bool>? isMemoryShort) => new()
    {
        Limits = Http2Limits.Mesh with { IdleTimeout = options.Http2IdleTimeout },
        TimeProvider = time,
        OnAbuse = onAbuse,
        IsMemoryShort = isMemoryShort,
        PingAfterSilence = options.KeepAlive ? TimeSpan.FromSeconds(1) : null,
        PingOnReuseAfter = TimeSpan.FromSeconds(1),
    };
}
