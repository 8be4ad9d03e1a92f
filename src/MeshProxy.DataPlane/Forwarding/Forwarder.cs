using System.Buffers.Text;
using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Carries one exchange from the downstream to an endpoint and back: the only retry loop of the proxy.
/// <code>
/// 1 route      one snapshot, admission (normal path, fields of hops and edges), one match; an unknown destination is asked of the control plane once
/// 2 prepare    filters of the route, deadlines
/// 3 attempts   permit (circuit breaker) -> endpoint (balancer) -> lease (pool) -> request out -> response head
///              a failed attempt may be made again: nothing relayed yet, the body can be replayed, the budget allows it
/// 4 relay      response head, body, trailers; or a reply of our own
/// 5 complete   permit and lease back, one record, exactly once
/// </code>
/// One object serves one exchange object of the codec for its whole life. Its loop waits for the next exchange instead of being started for each: an async
/// method that is never re-entered allocates once, and what it awaits is pooled or reusable.
/// Threads: the loop runs on whatever thread completed the last wait, one at a time. <see cref="Stop"/> may come from any thread; <see cref="_gate"/> makes
/// it see either the attempt in flight or none. It resets outside of the lock, because resetting runs continuations, of this exchange and of others; what
/// the loop would hand back meanwhile (<see cref="Stopping"/>) is handed back when it is done, so that it never resets what has a new owner.
/// </summary>
internal sealed class Forwarder : IExchangeObserver
{
    private const long Never = long.MaxValue;

    // What an HTTP/1.1 client connection says when it died before any byte of a response, having served before (Http1ClientExchange.IsReused).
    private const string ReusedConnectionClosed = "reused_connection_closed";

    private readonly Lock _gate = new();
    private readonly DownstreamConnection _connection;
    private readonly ForwardingServices _services;
    private readonly HttpServerExchange _downstream;
    private readonly RequestRecord _record = new();
    private readonly LeaseWaiter _waiter = new();
    private readonly Signal _start = new();
    private readonly Signal _done = new();
    private readonly ContinueGate _continue = new();

    // The exchange in progress.
    private ClientTraffic _traffic;
    private bool _active;
    private int _generation;
    private Failure _stop;
    private Stopping? _stopping;
    private long _pumpedBytes;
    private HttpClientExchange? _upstream;
    private ClusterEndpoint? _endpoint;
    private Cluster? _cluster;
    private bool _hasPlace;
    private RequestPump? _pump;
    private Tunnel? _tunnel;
    private MirrorChoice? _mirrors;
    private CorsPolicy? _cors;
    private byte[] _origin = [];
    private int _originLength;
    private ValueTask _pumping;
    private bool _pumpRunning;
    private long _heldBody;
    private bool _isHeld;
    private GrpcKind _caller;
    private GrpcKind _grpc;
    private GrpcWebCall? _webCall;
    private GrpcWebCall? _web;
    private HttpBodyReader _requestBody;
    private long _headDeadline = Never;
    private bool _hasHead;
    private long _attemptDeadline = Never;
    private long _attemptTimeout = Never;
    private long _exchangeDeadline = Never;
    private long _headTimeout = Never;
    private RequestDeadline _deadline;
    private long _idleTimeout;
    private long _lastActivity;

    public Forwarder(DownstreamConnection connection, HttpServerExchange downstream)
    {
        _connection = connection;
        _services = connection.Services;
        _downstream = downstream;
        _requestBody = downstream.RequestBody;
        _traffic = connection.Traffic;
        _ = RunAsync();
    }

    /// <summary>Serves the exchange that the codec has just filled. The task may be awaited once; the object is free again when it completes.</summary>
    public ValueTask ForwardAsync()
    {
        _done.Reset();
        _start.Set();
        return _done.WaitAsync();
    }

    /// <summary>The downstream is gone.</summary>
    public void OnAborted(StreamEnd end) => Stop(new Failure(
        FailureCause.DownstreamLeft, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer, end.Detail ?? "downstream_left"));

    /// <summary>Judges the deadlines of the exchange in progress.</summary>
    public void OnTick(long now)
    {
        var generation = Volatile.Read(ref _generation);
        if (!Volatile.Read(ref _active))
        {
            return;
        }

        if (_pump is { } pump && pump.Bytes is var bytes && bytes != _pumpedBytes)
        {
            // An upload is activity too.
            _pumpedBytes = bytes;
            Volatile.Write(ref _lastActivity, now);
        }

        if (_tunnel is { } tunnel && tunnel.Received + tunnel.Sent is var moved and > 0 && moved != _pumpedBytes)
        {
            _pumpedBytes = moved;
            Volatile.Write(ref _lastActivity, now);
        }

        if (_continue.TryTell(now))
        {
            _ = TellContinueAsync(_upstream!);
        }

        if (now >= Volatile.Read(ref _exchangeDeadline))
        {
            Stop(PastDeadline(), generation);
        }
        else if (now >= Volatile.Read(ref _attemptDeadline))
        {
            Stop(Timeout(FailureCause.UpstreamTimeout, $"attempt_timeout: {_endpoint?.Address ?? "the endpoint"} took longer than the route's timeouts.backendRequest"), generation);
        }
        else if (now >= Volatile.Read(ref _headDeadline))
        {
            Stop(Timeout(FailureCause.UpstreamTimeout, $"response_timeout: no response head from {_endpoint?.Address ?? "any endpoint"} in time"), generation);
        }
        else if (now - Volatile.Read(ref _lastActivity) >= Volatile.Read(ref _idleTimeout))
        {
            Stop(Timeout(FailureCause.StreamIdle, "stream_idle: nothing moved in either direction"), generation);
        }

        static Failure Timeout(FailureCause cause, string detail) => new(cause, FailureStage.Waiting, RetrySafety.Never, Initiator.Us, detail);
    }

    private async Task RunAsync()
    {
        while (true)
        {
            await _start.WaitAsync();
            _start.Reset();
            try
            {
                await ServeAsync();
            }
            catch (Exception bug)
            {
                OnBug(bug);
            }

            // 5 complete
            if (Complete())
            {
                _done.Set();
            }
        }
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask ServeAsync()
    {
        Begin();
        var request = _downstream.Request;

        // 1 route
        var decision = _connection.Route(request, _record);
        if (decision.MayBeDemanded && await _connection.DemandAsync(request))
        {
            decision = _connection.Route(request, _record);
        }

        // 2 prepare
        var failure = decision.Failure;
        RouteBackend? backend = null;
        if (!failure.IsFailure)
        {
            _traffic = decision.Traffic!;
            Volatile.Write(ref _idleTimeout, (long)(_traffic.StreamIdleTimeout ?? _services.Limits.StreamIdleTimeout).TotalMilliseconds);
            failure = Prepare(decision.Match, out backend);
            if (!failure.IsFailure && backend!.Filters.Answers(request))
            {
                await AnswerAsync(backend.Filters, decision.Match);
                return;
            }
        }

        // 3 attempts
        ClusterEndpoint? tried = null;
        var retries = _connection.Retries ? _services.Limits.MaxRetries : 0;
        var renewals = _connection.Retries ? 0 : 1;
        while (!failure.IsFailure)
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
        if (!failure.IsFailure)
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

    private void Begin()
    {
        _record.Begin(_connection.Direction, _downstream.Request, _connection.Info, _services.Time.GetTimestamp());
        _lastActivity = _services.NowMilliseconds;
        _idleTimeout = (long)(_traffic.StreamIdleTimeout ?? _services.Limits.StreamIdleTimeout).TotalMilliseconds;
        _pumpedBytes = 0;
        _caller = GrpcKinds.Of(_downstream.Request.Fields);
        _requestBody = _downstream.RequestBody;
        lock (_gate)
        {
            _generation++;
            _active = true;
        }

        _downstream.Observer = this;
    }

    private ReadOnlySpan<byte> Origin => _origin.AsSpan(0, _originLength);

    // Before filters change the request: what the response says of CORS depends on who asked.
    private void NoteOrigin(CorsPolicy? cors, RequestHead request)
    {
        _cors = cors;
        _originLength = 0;
        if (cors is not null && request.Fields.TryGet(KnownField.Origin, out var origin))
        {
            if (_origin.Length < origin.Length)
            {
                _origin = new byte[origin.Length];
            }

            origin.CopyTo(_origin);
            _originLength = origin.Length;
        }
    }

    private Failure Prepare(RouteMatch match, out RouteBackend? backend)
    {
        var request = _downstream.Request;
        var rule = match.Rule!;
        _record.Route = rule.RouteId;
        backend = rule.Backends.Pick();
        if (backend is null)
        {
            return new Failure(FailureCause.InvalidBackend, FailureStage.Routing, RetrySafety.Never, Initiator.Us, $"no_backend: route {rule.RouteId} has no backend with a weight");
        }

        _record.Meters = backend.Meters;
        NoteOrigin(backend.Filters.Cors, request);
        if (backend.Filters.Answers(request))
        {
            return default;
        }

        if (backend.Cluster is null)
        {
            return new Failure(FailureCause.InvalidBackend, FailureStage.Routing, RetrySafety.Never, Initiator.Us, $"invalid_backend: route {rule.RouteId}: {backend.Invalid}");
        }

        _cluster = backend.Cluster;
        _record.Cluster = _cluster.Name;
        _record.Service = _cluster.ServiceName;
        _cluster.RetryBudget.OnRequest();
        // The data plane where a CONNECT entered the mesh has found a rule for it; the inbound has none of its own.
        if (request.Method == RequestMethod.Connect && !rule.AllowsConnect && _connection is not { Direction: Direction.Inbound, Info.IsMutualTls: true })
        {
            return new Failure(FailureCause.NoRoute, FailureStage.Routing, RetrySafety.Never, Initiator.Us,
                $"connect_not_routed: CONNECT is served only by a rule that matches the method CONNECT; route {rule.RouteId} does not");
        }

        _grpc = _caller;
        if (_grpc == GrpcKind.Grpc && request.Version == HttpProtocolVersion.Http10)
        {
            return new Failure(FailureCause.Unsupported, FailureStage.Routing, RetrySafety.Never, Initiator.Us,
                "grpc_over_http10: HTTP/1.0 has no trailers, so the status of the call would be lost; use HTTP/2, or HTTP/1.1");
        }

        if (_connection.ConvertsGrpcWeb && _caller is GrpcKind.Web or GrpcKind.WebText && _cluster.Config.Protocol.IsHttp2())
        {
            _grpc = GrpcKind.Grpc;
            _web = _webCall ??= new GrpcWebCall();
            _requestBody = _web.Begin(request, _caller, _downstream.RequestBody);
        }

        if (!request.Fields.Contains(KnownField.XRequestId))
        {
            Span<byte> id = stackalloc byte[RequestIdSource.Length];
            _services.RequestIds.Write(id);
            request.Fields.Add(KnownField.XRequestId, id);
        }

        if (!backend.Mirrors.IsEmpty && request.Protocol.IsEmpty)
        {
            (_mirrors ??= new MirrorChoice(_services.Mirrors)).Choose(backend.Mirrors, request, match.MatchedPrefix);
        }

        backend.Filters.Apply(request, match.MatchedPrefix);

        // After the filters: a deadline that the operator's own filter sets is believed.
        var now = _services.Microseconds(_record.StartTimestamp);
        if (!_deadline.TryRead(request.Fields, now))
        {
            return new Failure(FailureCause.DownstreamProtocolError, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer,
                "malformed_deadline: grpc-timeout is 1 to 8 digits and one of H M S m u n, x-request-timeout is milliseconds in digits, and neither stands there twice");
        }

        if (rule.RequestTimeout is { } total && total > TimeSpan.Zero)
        {
            _deadline.Bound(now, total);
        }

        Volatile.Write(ref _exchangeDeadline, _deadline.Milliseconds);
        _attemptTimeout = rule.BackendRequestTimeout is { } each && each > TimeSpan.Zero ? (long)each.TotalMilliseconds : Never;

        // gRPC streams may be silent for as long as their deadline allows; an explicit timeout replaces the default one, also when it is zero.
        _headTimeout = rule.RequestTimeout is null && _grpc != GrpcKind.Grpc ? (long)_services.Limits.ResponseHeadTimeout.TotalMilliseconds : Never;
        return default;
    }

    /// <summary>A permit of the cluster and an endpoint to go to.</summary>
    private Failure TakePlace(ClusterEndpoint? tried)
    {
        Volatile.Write(ref _hasHead, false);
        var cluster = _cluster!;
        if (_deadline.IsSet && _deadline.HasPassed(_services.NowMicroseconds))
        {
            return PastDeadline();
        }

        if (!cluster.CircuitBreaker.TryEnter())
        {
            return new Failure(FailureCause.CircuitBreakerOpen, FailureStage.Balancing, RetrySafety.Never, Initiator.Us,
                $"max_requests: {cluster.Name} has {cluster.CircuitBreaker.Config.MaxRequests} requests in flight");
        }

        _endpoint = cluster.Pick(tried);
        if (_endpoint is null)
        {
            cluster.CircuitBreaker.Leave();
            return new Failure(FailureCause.NoHealthyEndpoint, FailureStage.Balancing, RetrySafety.Never, Initiator.Us,
                $"no_ready_endpoint: {cluster.Name} has {cluster.Endpoints.Count} endpoints and none is ready");
        }

        _endpoint.Enter();
        _record.Endpoint = _endpoint.Address;
        _hasPlace = true;
        if (_attemptTimeout != Never)
        {
            Volatile.Write(ref _attemptDeadline, _services.NowMilliseconds + _attemptTimeout);
        }

        return default;
    }

    private ValueTask<bool> AcquireAsync()
    {
        var acquiring = _endpoint!.Pool.AcquireAsync(_waiter);
        if (Stopped() is { IsFailure: true } stop)
        {
            // Stopped before there was a wait that could be told.
            _waiter.TryFail(stop);
        }

        return acquiring;
    }

    private Failure PastDeadline() => new(FailureCause.MaxDuration, FailureStage.Waiting, RetrySafety.Never, Initiator.Us, _deadline.IsCallers
        ? "deadline_exceeded: the caller's grpc-timeout or x-request-timeout passed"
        : "request_timeout: the exchange took longer than the route's timeouts.request");

    private Failure Stopped()
    {
        lock (_gate)
        {
            return _stop;
        }
    }

    private Failure Attach(HttpClientExchange upstream)
    {
        lock (_gate)
        {
            _upstream = upstream;
            return _stop;
        }
    }

    /// <summary>Sends the request head, and the body or its beginning.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> SendAsync(HttpClientExchange upstream)
    {
        var request = _downstream.Request;
        if (_endpoint!.Pool.Key is { IsMesh: false } key)
        {
            // A server that compares :scheme with its own transport (Kestrel does) resets a stream whose scheme is not this hop's.
            var scheme = key.Tls is null ? "http"u8 : "https"u8;
            if (!request.Scheme.SequenceEqual(scheme))
            {
                request.SetScheme(scheme);
            }
        }

        // A body that is coming already waits for no 100.
        var expects = request.ExpectsContinue;
        var waits = expects && _downstream.AwaitsContinue && !_requestBody.TryRead(out _);
        if (expects && !waits)
        {
            request.Fields.Remove(KnownField.Expect);
        }

        if (_deadline.IsSet)
        {
            _deadline.Write(request.Fields, _services.NowMicroseconds, _attemptDeadline == Never ? Never : _attemptDeadline * 1000);
        }

        if (!upstream.WriteHead(request))
        {
            return false;
        }

        if (waits || request.AsksForTunnel)
        {
            await upstream.FlushAsync();
            if (waits)
            {
                _continue.Begin(_services.NowMilliseconds + (long)_services.Limits.ContinueTimeout.TotalMilliseconds);
            }
            else
            {
                OnRequestSent();
            }

            return true;
        }

        if (request.EndsStream)
        {
            OnRequestSent();
            _mirrors?.Send(default, _requestBody.Trailers);
        }
        else if (_pump is { } pump && _pumpRunning)
        {
            if (!await pump.AttachAsync(upstream, _requestBody))
            {
                return false;
            }

            if (pump.IsComplete)
            {
                OnRequestSent();
            }
        }
        else if (_requestBody.TryRead(out var chunk) && IsWhole(chunk))
        {
            if (chunk.Data.Length > _traffic.MaxRequestBodyBytes)
            {
                OnRequestTooLarge();
                return false;
            }

            // The whole body is at hand: it is sent from where it lies and consumed only when no attempt can need it again.
            _isHeld = true;
            _heldBody = chunk.Data.Length;
            OnRequestSent();
            _mirrors?.Send(chunk.Data, _requestBody.Trailers);
            if (!await upstream.WriteBodyAsync(chunk.Data, endStream: true))
            {
                await upstream.FlushAsync();
                return true;
            }
        }
        else
        {
            StartBody(upstream);
        }

        await upstream.FlushAsync();
        return true;
    }

    private void StartBody(HttpClientExchange upstream)
    {
        _pump ??= new RequestPump { Completed = OnRequestPumped, BrokenOff = OnRequestBroken, TooLarge = OnRequestTooLarge };
        _pump.Grpc = _grpc == GrpcKind.Grpc ? _record.Meters : null;
        _pumpRunning = true;
#pragma warning disable CA2012 // awaited once, in EndRequestBodyAsync
        _pumping = _pump.RunAsync(_requestBody, upstream, _traffic);
#pragma warning restore CA2012
    }

    private bool IsWhole(in BodyChunk chunk) =>
        chunk is { IsEnd: true, IsBroken: false } && chunk.Data.Length <= ReplayBuffer.MaxBytes && _requestBody.Trailers.Count == 0;

    private void OnRequestPumped()
    {
        OnRequestSent();
        if (_pump!.CanReplay)
        {
            _mirrors?.Send(_pump.Written, _requestBody.Trailers);
        }
    }

    private void OnRequestSent()
    {
        _lastActivity = _services.NowMilliseconds;
        if (_headTimeout != Never)
        {
            // A full fence: the head may come while the last of the request is sent, or long before that.
            Interlocked.Exchange(ref _headDeadline, _lastActivity + _headTimeout);
            if (Volatile.Read(ref _hasHead))
            {
                Volatile.Write(ref _headDeadline, Never);
            }
        }
    }

    private void OnRequestTooLarge() => Stop(_traffic.BodyTooLarge());

    private void OnRequestBroken()
    {
        // A body that breaks the rules can be answered; one whose sender is gone can not.
        var broken = _pump!.Broken;
        var cause = broken.Reason is StreamResetReason.ProtocolError or StreamResetReason.LimitExceeded ? FailureCause.DownstreamProtocolError : FailureCause.DownstreamLeft;
        Stop(new Failure(cause, FailureStage.Sending, RetrySafety.Never, Initiator.Peer, $"request_body: {broken.Detail ?? "broken_off"}"));
    }

    private async ValueTask RelayInformationalAsync(HttpClientExchange upstream)
    {
        // Taken from the tick, so that only one of the two writes; a 100 that the tick has said before goes no further than the codec.
        var waits = _continue.IsOpen && await _continue.EndAsync();
        var response = upstream.Response;
        HopByHopFields.Remove(response.Fields);
        EdgeFields.Remove(response.Fields);
        _downstream.WriteInformational(response);
        await _downstream.FlushAsync();
        if (waits && response.Status == 100)
        {
            StartBody(upstream);
        }
        else if (waits)
        {
            _continue.Resume();
        }
    }

    /// <summary>The endpoint has said neither 100 nor anything else in time: the tick says 100 in its place, and the body goes out.</summary>
    private async Task TellContinueAsync(HttpClientExchange upstream)
    {
        try
        {
            var head = _downstream.Response;
            head.Clear();
            head.Status = 100;
            _downstream.WriteInformational(head);
            await _downstream.FlushAsync();
            StartBody(upstream);
        }
        finally
        {
            _continue.OnTold();
        }
    }

    /// <summary>What the attempt came to: a final head, or a failure.</summary>
    private Failure JudgeHead(HttpClientExchange upstream, bool answered)
    {
        Volatile.Write(ref _hasHead, answered);
        Volatile.Write(ref _headDeadline, Never);
        _lastActivity = _services.NowMilliseconds;
        if (Stopped() is { IsFailure: true } stop)
        {
            return stop;
        }

        var response = upstream.Response;
        if (!answered)
        {
            return Attempt.FailureOf(upstream.End, upstream.IsSent, _endpoint!, FailureStage.Waiting);
        }

        if (response.Fields.TryGet(KnownField.MeshFailure, out var told))
        {
            if (_endpoint!.Pool.Key.IsMesh)
            {
                return FailureField.Parse(told, $"{_endpoint.Address} ({_endpoint.Config.Id})");
            }

            response.Fields.Remove(KnownField.MeshFailure);
        }

        return default;
    }

    private bool MayRetry(ref Failure failure)
    {
        if (failure.Safety == RetrySafety.Never || Stopped().IsFailure)
        {
            return false;
        }

        if (failure.Safety == RetrySafety.IfIdempotent && !RequestMethods.IsIdempotent(_downstream.Request.Method))
        {
            return false;
        }

        if (_pumpRunning && !_pump!.CanReplay)
        {
            return false;
        }

        if (_cluster!.RetryBudget.TryWithdraw())
        {
            return true;
        }

        failure = failure with { Cause = FailureCause.RetryExhausted, Detail = $"retry_budget: {failure.Detail}" };
        return false;
    }

    /// <summary>Relays the response. A failure is returned only while the downstream's response has not started.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<Failure> RelayAsync(HttpClientExchange upstream, RouteBackend backend)
    {
        ReleaseHeldBody();
        var response = upstream.Response;
        _record.Status = response.Status;
        ReadGrpcStatus(response.Fields);
        HopByHopFields.Remove(response.Fields);
        EdgeFields.Remove(response.Fields);
        if (_traffic.AddsVia)
        {
            ViaField.Add(response.Fields, response.Version);
        }

        backend.Filters.Apply(response);
        if (response.IsTunnel)
        {
            return await TunnelAsync(upstream, backend);
        }

        _cors?.Apply(Origin, response.Fields);
        var grpc = _grpc == GrpcKind.Grpc && GrpcKinds.Of(response.Fields) == GrpcKind.Grpc ? backend.Meters : null;
        var web = _web is { } call && call.BeginResponse(response) ? call : null;
        if (!_downstream.WriteHead(response))
        {
            return DownstreamLeft();
        }

        if (response.EndsStream)
        {
            await _downstream.FlushAsync();
            return default;
        }

        var body = upstream.ResponseBody;
        var messages = default(GrpcMessageCounter);
        while (true)
        {
            if (!body.TryRead(out var chunk))
            {
                if (!await _downstream.FlushAsync())
                {
                    return DownstreamLeft();
                }

                chunk = await body.ReadAsync();
            }

            if (chunk.IsBroken)
            {
                var stop = Stopped();
                var failure = stop.IsFailure ? stop : Attempt.FailureOf(chunk.End, wasSent: true, _endpoint!, FailureStage.Relaying);
                _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, chunk.End.Initiator, 0x2, "upstream_broke_off"));
                return failure;
            }

            _lastActivity = _services.NowMilliseconds;
            if (chunk.IsEnd)
            {
                TrailerFields.Remove(body.Trailers);
            }

            var ends = chunk.IsEnd && body.Trailers.Count == 0;
            if ((!chunk.Data.IsEmpty || ends) && !await (web?.WriteAsync(_downstream, chunk.Data, ends) ?? _downstream.WriteBodyAsync(chunk.Data, ends)))
            {
                return DownstreamLeft();
            }

            _record.BytesSent = web?.Sent ?? _record.BytesSent + chunk.Data.Length;
            if (grpc is not null && messages.Take(chunk.Data) is var sent and > 0)
            {
                _record.GrpcMessagesSent += sent;
                grpc.OnGrpcMessages(0, sent);
            }

            body.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                if (!ends)
                {
                    ReadGrpcStatus(body.Trailers);
                    if (!(web is null ? _downstream.WriteTrailers(body.Trailers) : await web.WriteTrailersAsync(_downstream, body.Trailers)))
                    {
                        return DownstreamLeft();
                    }

                    _record.BytesSent = web?.Sent ?? _record.BytesSent;
                }

                await _downstream.FlushAsync();
                return default;
            }
        }
    }

    /// <summary>The endpoint has accepted a tunnel: from here on nothing ends it but its two ends, the idle limit, a timeout that the route or the caller set, or
    /// the deadline of a drain.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<Failure> TunnelAsync(HttpClientExchange upstream, RouteBackend backend)
    {
        // What the downstream is sent in its own version (RFC 8441 section 5).
        var request = _downstream.Request;
        _record.Status = request.Protocol.IsEmpty ? upstream.Response.Status : request.Version == HttpProtocolVersion.Http2 ? 200 : 101;
        if (!_downstream.WriteHead(upstream.Response))
        {
            return DownstreamLeft();
        }

        _tunnel ??= new Tunnel();
        var end = await _tunnel.RunAsync(_downstream, upstream, backend.Meters);
        _record.BytesReceived = _tunnel.Received;
        _record.BytesSent = _tunnel.Sent;
        if (Stopped() is { IsFailure: true } stop)
        {
            return stop;
        }

        return !end.IsBroken ? default
            : end.IsDownstream ? new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"tunnel: {end.End.Detail ?? "broken_off"}")
            : Attempt.FailureOf(end.End, wasSent: true, _endpoint!, FailureStage.Relaying);
    }

    private void ReadGrpcStatus(FieldMap fields)
    {
        if (fields.TryGet(KnownField.GrpcStatus, out var text) && Utf8Parser.TryParse(text, out int status, out _))
        {
            _record.GrpcStatus = status;
        }
    }

    private Failure DownstreamLeft()
    {
        if (Stopped() is { IsFailure: true } stop)
        {
            return stop;
        }

        // The codec refuses to send what would be no message: that is the endpoint's doing.
        var end = _downstream.End;
        return end is { Reason: StreamResetReason.ProtocolError, Initiator: Initiator.Us }
            ? new Failure(FailureCause.UpstreamProtocolError, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"{end.Detail}: {_endpoint!.Address} ({_endpoint.Config.Id})")
            : new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, end.Detail ?? "downstream_left");
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask FailAsync(Failure failure)
    {
        _record.Failure = failure;
        if (FailureMap.Of(failure.Cause).HttpStatus == 0 || _downstream.End.Reason != StreamResetReason.None)
        {
            return;
        }

        if (_downstream.HasResponseStarted)
        {
            _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0x2, "failed_after_head"));
            return;
        }

        ReleaseHeldBody();
        _record.Status = await LocalReply.WriteAsync(_downstream, failure, _connection.TellsDetail, _caller, _cors, _origin.AsMemory(0, _originLength));
    }

    /// <summary>Answers by filters alone: a preflight, or a redirect.</summary>
    private async ValueTask AnswerAsync(MessageFilters filters, RouteMatch match)
    {
        var request = _downstream.Request;
        var head = _downstream.Response;
        if (filters.Cors is { } cors && CorsPolicy.IsPreflight(request))
        {
            cors.Answer(request, head);
        }
        else
        {
            var redirect = filters.Redirect!;
            head.Clear();
            head.Status = redirect.Status;
            head.EndsStream = true;
            head.ContentLength = 0;
            redirect.AddLocation(request, match.MatchedPrefix, head.Fields);
            head.Fields.Add(KnownField.ContentLength, "0"u8);
            filters.Apply(head);
            _cors?.Apply(Origin, head.Fields);
        }

        _record.Status = head.Status;
        _downstream.WriteHead(head);
        await _downstream.FlushAsync();
        await EndRequestBodyAsync();
    }

    /// <summary>The attempt is over, one way or the other: gives the exchange, the endpoint and the permit back. Does nothing the second time.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask EndAttemptAsync()
    {
        if (!_hasPlace)
        {
            return;
        }

        _hasPlace = false;
        Volatile.Write(ref _attemptDeadline, Never);
        if (_pumpRunning)
        {
            if (!_pump!.IsFlushed)
            {
                // The pump may be writing to a peer that reads no more: the attempt is over all the same.
                _upstream?.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0, "attempt_over"));
            }

            await _pump.DetachAsync();
        }

        HttpClientExchange? upstream;
        lock (_gate)
        {
            upstream = _upstream;
            _upstream = null;
            if (upstream is not null && _stopping is { } stopping)
            {
                stopping.Completes = upstream;
                upstream = null;
            }
        }

        upstream?.Complete();
        _endpoint!.Leave();
        _cluster!.CircuitBreaker.Leave();
    }

    /// <summary>The response is complete; a request that still comes is not wanted any more (RFC 9113 section 8.1: NO_ERROR; HTTP/1.1: the connection ends).</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask EndRequestBodyAsync()
    {
        ReleaseHeldBody();
        if (!_pumpRunning)
        {
            return;
        }

        _pump!.Stop();
        if (!_pump.IsComplete && _downstream.End.Reason == StreamResetReason.None)
        {
            _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0, "response_complete"));
        }

        await _pumping;
        _record.BytesReceived = _pump.Bytes;
        _record.GrpcMessagesReceived = _pump.Messages;
        _pump.Reset();
        _pumpRunning = false;
    }

    private void ReleaseHeldBody()
    {
        if (_isHeld)
        {
            _isHeld = false;
            _record.BytesReceived = _heldBody;
            if (_grpc == GrpcKind.Grpc && _requestBody.TryRead(out var held))
            {
                _record.GrpcMessagesReceived = default(GrpcMessageCounter).Take(held.Data);
                _record.Meters?.OnGrpcMessages((int)_record.GrpcMessagesReceived, 0);
            }

            _requestBody.Advance(_heldBody);
        }
    }

    /// <returns>False when whoever stops the exchange is not through: he signals the end when he is.</returns>
    private bool Complete()
    {
        _record.Flag = FailureMap.Of(_record.Failure.Cause).Flag;
        _mirrors?.Skip();
        _cors = null;
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
        Volatile.Write(ref _headDeadline, Never);
        Volatile.Write(ref _exchangeDeadline, Never);
        lock (_gate)
        {
            _active = false;
            _stop = default;
            if (_stopping is not { } stopping)
            {
                return true;
            }

            stopping.SignalsEnd = true;
            return false;
        }
    }

    /// <summary>Ends the exchange from outside its loop: wakes whatever it waits for.</summary>
    private void Stop(Failure failure, int? generation = null)
    {
        var stopping = new Stopping();
        HttpClientExchange? upstream;
        lock (_gate)
        {
            if (!_active || _stop.IsFailure || (generation ?? _generation) != _generation)
            {
                return;
            }

            _stop = failure;
            _stopping = stopping;
            upstream = _upstream;
        }

        if (upstream is not null)
        {
            upstream.Reset(new StreamEnd(StreamResetReason.Cancelled, failure.Initiator, 0x8, "stopped"));
        }
        else
        {
            _waiter.TryFail(failure);
        }

        if (failure.Cause != FailureCause.DownstreamLeft && _downstream.HasResponseStarted)
        {
            _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, failure.Initiator, 0x8, "stopped"));
        }

        lock (_gate)
        {
            _stopping = null;
        }

        stopping.Completes?.Complete();
        if (stopping.SignalsEnd)
        {
            _done.Set();
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

    /// <summary>A stop that is under way: what it hands back in the loop's place when it is through. Guarded by the gate.</summary>
    private sealed class Stopping
    {
        /// <summary>The attempt's exchange, which the loop has given up meanwhile.</summary>
        public HttpClientExchange? Completes { get; set; }

        /// <summary>The exchange is complete but for telling so.</summary>
        public bool SignalsEnd { get; set; }
    }
}
