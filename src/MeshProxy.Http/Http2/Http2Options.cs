namespace MeshProxy.Http.Http2;

/// <summary>Hears why a connection was ended by an error: for logs and metrics. Called at most once for each connection, outside every lock.</summary>
/// <param name="reason">Why the connection ended.</param>
/// <param name="code">The code of the GOAWAY that was sent.</param>
/// <param name="detail">A constant in snake_case, never peer data.</param>
public delegate void Http2ErrorReporter(ConnectionCloseReason reason, Http2ErrorCode code, string detail);

/// <summary>How a connection behaves; shared by many.</summary>
public sealed record Http2Options
{
    /// <summary>The bounds.</summary>
    public Http2Limits Limits { get; init; } = Http2Limits.Mesh;

    /// <summary>The clock: for round-trip times alone; timeouts are judged by the owner's tick.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>What a server adds to final responses that came without a Date (RFC 9110 section 6.6.1); null: nothing.</summary>
    public DateField? Date { get; init; }

    /// <summary>Told about errors.</summary>
    public Http2ErrorReporter? OnError { get; init; }

    /// <summary>Told each time that a guard refuses or ends a stream, or ends the connection: one of <see cref="Http2AbuseKinds"/>. Any thread, perhaps under
    /// the connection's lock: count, and return.</summary>
    public Action<string>? OnAbuse { get; init; }

    /// <summary>Whether requests with CONNECT and :protocol are taken (RFC 8441): announced in SETTINGS by servers.</summary>
    public bool AllowExtendedConnect { get; init; }

    /// <summary>Whether the process is short of memory: windows do not grow then, as above <see cref="Http2Limits.MaxUnreadBytes"/>. Asked often, under the
    /// connection's lock: read a flag, and return. Null: never.</summary>
    public Func<bool>? IsMemoryShort { get; init; }

    /// <summary>PING after this long without a byte from the peer while a stream is open; null: never. Default null; 1 s inside the mesh.</summary>
    public TimeSpan? PingAfterSilence { get; init; }

    /// <summary>PING with the first request after this long without an open stream; null: never. Default null; 1 s in pools: a connection that died unseen costs
    /// its first request <see cref="PingTimeout"/>, not its deadline. Never more than one for each response, which is what servers that count PINGs allow.</summary>
    public TimeSpan? PingOnReuseAfter { get; init; }

    /// <summary>How long the answer to a PING may take; then the connection is dead. Default 2 s.</summary>
    public TimeSpan PingTimeout { get; init; } = TimeSpan.FromSeconds(2);
}
