namespace MeshProxy.Http.Http1;

/// <summary>What a server connection is told once. Shared by all connections of a listener.</summary>
public sealed record Http1ServerOptions
{
    /// <summary>"http" or "https": what <see cref="RequestHead.Scheme"/> says.</summary>
    public byte[] Scheme { get; init; } = "http"u8.ToArray();

    /// <summary>Bounds.</summary>
    public Http1Limits Limits { get; init; } = Http1Limits.Default;

    /// <summary>Formats Date; share one for the process.</summary>
    public DateField Date { get; init; } = new(TimeProvider.System);

    /// <summary>Hears of refused requests; may be null.</summary>
    public IRejectionObserver? RejectionObserver { get; init; }
}

/// <summary>What a client connection is told once. Shared by all connections of a pool.</summary>
public sealed record Http1ClientOptions
{
    /// <summary>Bounds. For a local application set <see cref="Http1Limits.IdleTimeout"/> below the application's own.</summary>
    public Http1Limits Limits { get; init; } = new() { IdleTimeout = TimeSpan.FromSeconds(3) };
}
