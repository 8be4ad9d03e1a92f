namespace MeshProxy.Model.Validation;

/// <summary>Bounds of what a ClientTrafficPolicy may say.</summary>
public static class ClientTrafficLimits
{
    /// <summary>The shortest timeout: the coarse tick is 100 ms.</summary>
    public static readonly TimeSpan MinTimeout = TimeSpan.FromMilliseconds(100);

    /// <summary>The longest time for a request head, and for a TLS handshake.</summary>
    public static readonly TimeSpan MaxHeadTimeout = TimeSpan.FromMinutes(5);

    /// <summary>The longest time of idleness.</summary>
    public static readonly TimeSpan MaxIdleTimeout = TimeSpan.FromHours(24);

    /// <summary>The youngest that a connection may be asked to end.</summary>
    public static readonly TimeSpan MinConnectionAge = TimeSpan.FromSeconds(1);

    /// <summary>The oldest that a connection may be made to grow.</summary>
    public static readonly TimeSpan MaxConnectionAge = TimeSpan.FromDays(30);

    /// <summary>Proxies of ours in front.</summary>
    public const int MaxTrustedHops = 16;

    /// <summary>Streams of one connection.</summary>
    public const int MaxConcurrentStreams = 65_536;

    /// <summary>Bytes of a request body: what a double can count exactly.</summary>
    public const long MaxRequestBodyBytes = 1L << 53;

    /// <summary>Protocols that may be asked for.</summary>
    public const int MaxUpgradeProtocols = 16;
}
