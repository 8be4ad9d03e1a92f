using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Which rule takes a request, or why none does.</summary>
/// <param name="Match">The rule, when there is one.</param>
/// <param name="Failure">Otherwise: why not.</param>
/// <param name="Traffic">What the request was admitted by; there is one whenever there is a rule.</param>
/// <param name="MayBeDemanded">The destination is not known here, but may be known to the control plane: <see cref="DownstreamConnection.DemandAsync"/>.</param>
internal readonly record struct RouteDecision(RouteMatch Match, Failure Failure, ClientTraffic? Traffic = null, bool MayBeDemanded = false)
{
    public static RouteDecision Refuse(FailureCause cause, string detail) =>
        new(default, new Failure(cause, FailureStage.Routing, RetrySafety.Never, Initiator.Us, detail));
}

/// <summary>What every forwarder of a data plane shares.</summary>
internal sealed record ForwardingServices(ProxyTelemetry Telemetry, TimeProvider Time, RoundClock Clock, RequestIdSource RequestIds, ForwardingLimits Limits, MemoryBudget Memory, ILogger Log)
{
    /// <summary>Where copies of requests go out.</summary>
    public MirrorSender Mirrors { get; } = new(Time, new MirrorLimits());

    /// <summary>Why nothing new is taken now; no failure while it is.</summary>
    public Failure Overload => Memory.IsExhausted
        ? new Failure(FailureCause.Overloaded, FailureStage.Downstream, RetrySafety.Never, Initiator.Us, "memory_budget: buffers hold more than this proxy may; meshproxy_buffered_bytes tells how much")
        : default;

    /// <summary>Milliseconds of the monotonic clock: what deadlines are counted in.</summary>
    public long NowMilliseconds => Clock.Milliseconds;

    /// <summary>Microseconds of the same clock.</summary>
    public long NowMicroseconds => Microseconds(Time.GetTimestamp());

    /// <summary>A timestamp of the clock in microseconds.</summary>
    public long Microseconds(long timestamp) => timestamp / (Time.TimestampFrequency / 1_000_000);
}

/// <summary>Time bounds of an exchange that no route sets.</summary>
internal sealed record ForwardingLimits
{
    /// <summary>From the request's last byte to the response head, HTTP only (Envoy's route timeout).</summary>
    public TimeSpan ResponseHeadTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Without a byte in either direction.</summary>
    public TimeSpan StreamIdleTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long a client that expects a 100 waits for the endpoint's.</summary>
    public TimeSpan ContinueTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How often an attempt is made again.</summary>
    public int MaxRetries { get; init; } = 1;
}

/// <summary>
/// The HTTP side of one downstream connection: finds the route of each request (that is where inbound, outbound and gateway differ) and hands exchanges to
/// forwarders, one for each exchange object of the codec, which reuse both.
/// </summary>
internal abstract class DownstreamConnection(ForwardingServices services, ConnectionInfo info, ClientTraffic traffic) : IHttpExchangeHandler
{
    private readonly Lock _gate = new();
    private volatile Forwarder[] _forwarders = [];

    public ForwardingServices Services { get; } = services;

    public ConnectionInfo Info { get; } = info;

    /// <summary>What the connection itself goes by. A request goes by what its own host's listener says.</summary>
    public ClientTraffic Traffic { get; } = traffic;

    public abstract Direction Direction { get; }

    /// <summary>Whether gRPC-Web is made into gRPC here.</summary>
    public virtual bool ConvertsGrpcWeb => false;

    /// <summary>Whether own replies name endpoints and policies.</summary>
    public virtual bool TellsDetail => true;

    /// <summary>Whether attempts may be made again: only where a request enters the mesh.</summary>
    public virtual bool Retries => true;

    /// <summary>Finds where the request goes in the snapshot in force (read once, here), admits it by what holds there, and finds the rule.</summary>
    public abstract RouteDecision Route(RequestHead request, RequestRecord record);

    /// <summary>Asks the control plane for the request's destination.</summary>
    /// <returns>True when it is worth routing again.</returns>
    public virtual ValueTask<bool> DemandAsync(RequestHead request) => ValueTask.FromResult(false);

    public ValueTask HandleAsync(HttpServerExchange exchange)
    {
        if (exchange.State is not Forwarder forwarder)
        {
            exchange.State = forwarder = new Forwarder(this, exchange);
            lock (_gate)
            {
                _forwarders = [.. _forwarders, forwarder];
            }
        }

        return forwarder.ForwardAsync();
    }

    /// <summary>Judges deadlines; called from the coarse tick.</summary>
    public void OnTick(long nowMilliseconds)
    {
        foreach (var forwarder in _forwarders)
        {
            forwarder.OnTick(nowMilliseconds);
        }
    }
}
