using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Carries one exchange from the downstream to an endpoint and back: the only retry loop of the proxy.
/// <code>
/// 0 admit      nothing new while the process holds more than its memory budget
/// 1 route      one snapshot, admission (normal path, fields of hops and edges), one match; an unknown destination is asked of the control plane once
/// 2 prepare    filters of the route, deadlines
/// 3 attempts   permit (circuit breaker) -> endpoint (balancer) -> lease (pool) -> request out -> response head
///              a failed attempt may be made again: nothing relayed yet, the body can be replayed, the budget allows it
/// 4 relay      response head, body, trailers; or a reply of our own
/// 5 complete   permit and lease back, one record, exactly once
/// </code>
/// The steps stand here. Each is told in a file of its own: <c>.Preparation</c>, <c>.Attempts</c> (place, connection, whether to try again), <c>.Request</c> (the
/// request on its way out), <c>.Response</c>, <c>.LocalAnswers</c>, and <c>.Stopping</c> (deadlines, and a downstream that left).
/// One object serves one exchange object of the codec for its whole life, one exchange after the other. What it awaits is pooled or reusable.
/// Threads: the steps run on whatever thread completed the last wait, one at a time. <see cref="Stop"/> may come from any thread; <see cref="_gate"/> makes
/// it see either the attempt in flight or none. It resets outside of the lock, because resetting runs continuations, of this exchange and of others; what
/// would be handed back meanwhile (<see cref="Stopping"/>) is handed back when it is done, so that it never resets what has a new owner.
/// </summary>
internal sealed partial class Forwarder : IExchangeObserver
{
    private readonly Lock _gate = new();
    private readonly DownstreamConnection _connection;
    private readonly ForwardingServices _services;
    private readonly HttpServerExchange _downstream;
    private readonly RequestRecord _record = new();
    private readonly LeaseWaiter _waiter = new();
    private readonly Signal _stopped = new();
    private readonly ContinueGate _continue = new();

    // The exchange in progress.
    private ClientTraffic _traffic;
    private bool _active;
    private int _generation;
    private Failure _stop;
    private Stopping? _stopping;
    private HttpClientExchange? _upstream;
    private ClusterEndpoint? _endpoint;
    private Cluster? _cluster;
    private bool _hasPlace;
    private RequestPump? _pump;
    private Tunnel? _tunnel;
    private MirrorChoice? _mirrors;
    private CorsAsked _cors = new();
    private ValueTask _pumping;
    private bool _pumpRunning;
    private long _heldBody;
    private bool _isHeld;
    private bool _isRelaying;
    private volatile bool _isStopped;
    private GrpcKind _caller;
    private GrpcKind _grpc;
    private GrpcWebCall? _webCall;
    private GrpcWebCall? _web;
    private HttpBodyReader _requestBody;
    private ExchangeTimes _times = new();

    public Forwarder(DownstreamConnection connection, HttpServerExchange downstream)
    {
        _connection = connection;
        _services = connection.Services;
        _downstream = downstream;
        _requestBody = downstream.RequestBody;
        _traffic = connection.Traffic;
    }

    /// <summary>Serves the exchange that the codec has just filled. The task may be awaited once; the object is free again when it completes.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    public async ValueTask ForwardAsync()
    {
        try
        {
            Begin();
            var request = _downstream.Request;

            // 0 admit, 1 route
            var decision = _services.Overload is { IsFailure: true } overload ? new RouteDecision(default, overload) : _connection.Route(request, _record);
            if (decision.MayBeDemanded && await _connection.DemandAsync(request))
            {
                decision = _connection.Route(request, _record);
            }

            // 2 prepare
            var failure = decision.Failure;
            RouteBackend? backend = null;
            var isAnswered = false;
            if (!failure.IsFailure)
            {
                _traffic = decision.Traffic!;
                _times.SetIdle(_traffic.StreamIdleTimeout ?? _services.Limits.StreamIdleTimeout);
                failure = Prepare(decision.Match, out backend, out var answer);
                if (answer != OwnAnswer.None)
                {
                    isAnswered = true;
                    await AnswerAsync(answer, backend!.Filters, decision.Match);
                }
            }

            // 3 attempts
            ClusterEndpoint? tried = null;
            var retries = _connection.Retries ? _services.Limits.MaxRetries : 0;
            var renewals = _connection.Retries ? 0 : 1;
            while (!isAnswered && !failure.IsFailure)
            {
                failure = TakePlace(tried);
                if (failure.IsFailure)
                {
                    break;
                }

                _record.Attempts++;
                var isStale = false;
                failure = await AcquireAsync() ? Attach(_waiter.Exchange!) : _waiter.Failure;
                if (!failure.IsFailure)
                {
                    var upstream = _upstream!;
                    var answered = false;
                    if (await SendAsync(upstream))
                    {
                        while ((answered = await upstream.ReadHeadAsync()) && upstream.Response.IsInformational)
                        {
                            await RelayInformationalAsync(upstream);
                        }

                        if (_continue.IsOpen)
                        {
                            await _continue.EndAsync();
                        }
                    }

                    failure = JudgeHead(upstream, answered);
                    isStale = failure.IsFailure && upstream.End.Detail == ReusedConnectionClosed;
                }

                _cluster!.Meters.OnAttempt(FailureMap.Of(failure.Cause).Flag);
                if (!failure.IsFailure)
                {
                    break;
                }

                await EndAttemptAsync();

                // An inbound leaves retries to the data plane where the request entered the mesh, but for a connection to its own application that died of age.
                if ((retries == 0 && !(isStale && renewals > 0)) || !MayRetry(ref failure))
                {
                    break;
                }

                retries -= retries > 0 ? 1 : 0;
                renewals = 0;
                tried = _endpoint;
                failure = default;
            }

            // 4 relay
            if (!isAnswered && !failure.IsFailure)
            {
                failure = await RelayAsync(_upstream!, backend!);
            }

            if (failure.IsFailure)
            {
                await FailAsync(failure);
            }

            await EndAttemptAsync();
            await EndRequestBodyAsync();
        }
        catch (Exception bug)
        {
            OnBug(bug);
        }

        // 5 complete
        if (!Complete())
        {
            await _stopped.WaitAsync();
            _stopped.Reset();
        }
    }

    private void Begin()
    {
        _record.Begin(_connection.Direction, _downstream.Request, _connection.Info, _services.Time.GetTimestamp());
        _times.Begin(_services.NowMilliseconds, _traffic.StreamIdleTimeout ?? _services.Limits.StreamIdleTimeout);
        _caller = GrpcKinds.Of(_downstream.Request.Fields);
        _requestBody = _downstream.RequestBody;
        lock (_gate)
        {
            _generation++;
            _active = true;
            _isRelaying = false;
        }

        _downstream.Observer = this;
    }

    /// <returns>False when whoever stops the exchange is not through: he tells when he is.</returns>
    private bool Complete()
    {
        _record.Flag = FailureMap.Of(_record.Failure.Cause).Flag;
        _mirrors?.Skip();
        _cors.End();
        try
        {
            _services.Telemetry.Complete(_record);
        }
        catch (Exception bug)
        {
            ForwardingLog.Bug(_services.Log, bug);
        }

        _web?.Release();
        _web = null;
        _endpoint = null;
        _cluster = null;
        _times.End();
        lock (_gate)
        {
            _active = false;
            _stop = default;
            _isStopped = false;
            if (_stopping is not { } stopping)
            {
                return true;
            }

            stopping.SignalsEnd = true;
            return false;
        }
    }

    private void OnBug(Exception bug)
    {
        _record.Failure = new Failure(FailureCause.Internal, FailureStage.Relaying, RetrySafety.Never, Initiator.Us, $"bug: {bug.GetType().Name}");
        ForwardingLog.Bug(_services.Log, bug);
        _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0x2, "internal_error"));
        _pump = null;
        _web = _webCall = null;
        _pumpRunning = false;
        _isHeld = false;
        if (_hasPlace)
        {
            _hasPlace = false;
            lock (_gate)
            {
                _upstream?.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0x2, "internal_error"));
                _upstream = null;
            }

            _endpoint!.Leave();
            _cluster!.CircuitBreaker.Leave();
        }
    }
}
