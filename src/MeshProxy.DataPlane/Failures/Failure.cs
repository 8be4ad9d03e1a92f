using MeshProxy.Http;

namespace MeshProxy.DataPlane.Failures;

/// <summary>What went wrong. Every cause has a row in <see cref="FailureMap"/>; a test walks them all.</summary>
public enum FailureCause : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>No listener, service or route takes the request.</summary>
    NoRoute,

    /// <summary>The route names a backend that does not exist or may not be used.</summary>
    InvalidBackend,

    /// <summary>The destination's configuration was refused and no earlier state was good.</summary>
    RefusedConfiguration,

    /// <summary>The caller's request is for a feature that is not served (Upgrade, CONNECT).</summary>
    Unsupported,

    /// <summary>Authorization denied it.</summary>
    AuthorizationDenied,

    /// <summary>A rate limit refused it.</summary>
    RateLimited,

    /// <summary>No eligible endpoint.</summary>
    NoHealthyEndpoint,

    /// <summary>A circuit breaker or a queue is full.</summary>
    CircuitBreakerOpen,

    /// <summary>Connect, TLS or identity failed: nothing of the request was sent.</summary>
    ConnectFailed,

    /// <summary>The upstream connection ended after something was sent.</summary>
    UpstreamConnectionEnded,

    /// <summary>The endpoint reset the stream.</summary>
    UpstreamReset,

    /// <summary>The endpoint refused the stream: provably unprocessed.</summary>
    UpstreamRefused,

    /// <summary>We reset the stream.</summary>
    LocalReset,

    /// <summary>The endpoint broke the protocol.</summary>
    UpstreamProtocolError,

    /// <summary>A deadline passed.</summary>
    UpstreamTimeout,

    /// <summary>Retries or their budget are used up.</summary>
    RetryExhausted,

    /// <summary>The downstream left.</summary>
    DownstreamLeft,

    /// <summary>The downstream broke the protocol.</summary>
    DownstreamProtocolError,

    /// <summary>The request's path has no normal form that everybody behind would read alike.</summary>
    PathRefused,

    /// <summary>The request is for another listener than the one that its connection was made to.</summary>
    Misdirected,

    /// <summary>A field's name is not taken by the listener.</summary>
    FieldRefused,

    /// <summary>The listener lets nobody ask for that protocol.</summary>
    UpgradeRefused,

    /// <summary>The request's body is longer than the listener takes.</summary>
    BodyTooLarge,

    /// <summary>The request's fields are larger than the endpoint announced to take: nothing was sent, or not all.</summary>
    RequestFieldsTooLarge,

    /// <summary>The response's fields are larger than the caller announced to take.</summary>
    ResponseFieldsTooLarge,

    /// <summary>The request's trailer section is larger than is taken.</summary>
    TrailersTooLarge,

    /// <summary>A policy injected a fault.</summary>
    FaultInjected,

    /// <summary>A policy injected a delay.</summary>
    DelayInjected,

    /// <summary>The stream was idle for too long.</summary>
    StreamIdle,

    /// <summary>The exchange took longer than allowed.</summary>
    MaxDuration,

    /// <summary>Shed: memory is over budget.</summary>
    Overloaded,

    /// <summary>A bug or a failure of this process; the log tells more.</summary>
    Internal,
}

/// <summary>Where on the path it went wrong.</summary>
public enum FailureStage : byte
{
    /// <summary>Reading the downstream.</summary>
    Downstream,

    /// <summary>Finding the route.</summary>
    Routing,

    /// <summary>Judging policy.</summary>
    Policy,

    /// <summary>Choosing an endpoint.</summary>
    Balancing,

    /// <summary>Dialing, TLS, identity.</summary>
    Connecting,

    /// <summary>Sending the request.</summary>
    Sending,

    /// <summary>Waiting for the response head.</summary>
    Waiting,

    /// <summary>Relaying the response.</summary>
    Relaying,
}

/// <summary>Whether an attempt that failed may be made again.</summary>
public enum RetrySafety : byte
{
    /// <summary>Never.</summary>
    Never,

    /// <summary>Only when the request is idempotent (RFC 9110 section 9.2.2): the endpoint may have acted on it.</summary>
    IfIdempotent,

    /// <summary>Always: it was provably not processed.</summary>
    Always,
}

/// <summary>One failure: made on the line that fails, handed on as a value, translated by <see cref="FailureMap"/> alone.</summary>
/// <param name="Cause">What.</param>
/// <param name="Stage">Where.</param>
/// <param name="Safety">Whether an attempt may be made again.</param>
/// <param name="Initiator">Who acted.</param>
/// <param name="Detail">For logs and the reply: which endpoint, which policy, which limit. Snake-case word first, then facts.</param>
public readonly record struct Failure(
    FailureCause Cause,
    FailureStage Stage,
    RetrySafety Safety,
    Initiator Initiator,
    string Detail)
{
    /// <summary>No failure.</summary>
    public static readonly Failure None;

    /// <summary>True when something failed.</summary>
    public bool IsFailure => Cause != FailureCause.None;
}
