namespace MeshProxy.ControlPlane;

/// <summary>Every bound on callers and on memory. The same rows stand in this project's README; a test compares the two.</summary>
internal sealed record ControlPlaneLimits
{
    /// <summary>Names that one sidecar may subscribe to; further ones are answered <c>Removed</c> with this reason.</summary>
    public int MaxSubscriptions { get; init; } = 4096;

    /// <summary>Characters of a unit's name; a longer one is answered <c>Removed</c>.</summary>
    public int MaxUnitNameLength { get; init; } = 512;

    /// <summary>Sent messages whose acknowledgement is awaited for status; beyond it the oldest is forgotten. Sending never waits for it.</summary>
    public int MaxUnacknowledged { get; init; } = 256;

    /// <summary>Requests to one sidecar in flight; further ones fail with RESOURCE_EXHAUSTED.</summary>
    public int MaxSidecarRequests { get; init; } = 16;

    /// <summary>Bytes of endpoint sets in one EndpointUpdate; more are split over several.</summary>
    public int MaxEndpointUpdateBytes { get; init; } = 1 << 20;

    /// <summary>Bytes of a message from an operator or a sidecar (RESOURCE_EXHAUSTED).</summary>
    public int MaxMessageBytes { get; init; } = 16 << 20;

    /// <summary>Bytes of a message that needs no certificate (RESOURCE_EXHAUSTED).</summary>
    public int MaxAnonymousMessageBytes { get; init; } = 64 << 10;

    /// <summary>Labels of one registration (INVALID_ARGUMENT).</summary>
    public int MaxLabels { get; init; } = 64;

    /// <summary>Ports of one registration (INVALID_ARGUMENT).</summary>
    public int MaxPorts { get; init; } = 64;

    /// <summary>Characters of a label's key or value, and of a locality (INVALID_ARGUMENT).</summary>
    public int MaxLabelLength { get; init; } = 256;

    /// <summary>Disconnected sidecars that status remembers; the one that left first goes first.</summary>
    public int MaxDisconnectedSidecars { get; init; } = 10_000;

    /// <summary>How long a stream may stay silent before its Hello (DEADLINE_EXCEEDED).</summary>
    public TimeSpan HelloTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a handshake may take; then the connection is closed.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a request to a sidecar waits for its reply (DEADLINE_EXCEEDED).</summary>
    public TimeSpan SidecarRequestTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a workload stays registered without a heartbeat.</summary>
    public TimeSpan Lease { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How often a sidecar beats: two may be lost.</summary>
    public TimeSpan HeartbeatInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A join token's longest life (INVALID_ARGUMENT).</summary>
    public TimeSpan MaxTokenLifetime { get; init; } = TimeSpan.FromDays(30);

    /// <summary>A join token's life when the caller names none.</summary>
    public TimeSpan DefaultTokenLifetime { get; init; } = TimeSpan.FromHours(1);

    /// <summary>Pause after a compilation, so that a storm of changes is compiled and pushed once in a while and not once each.</summary>
    public TimeSpan CoalesceWindow { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>How long SIGTERM waits for calls to end.</summary>
    public TimeSpan StopTimeout { get; init; } = TimeSpan.FromSeconds(3);
}
