using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

// 3 attempts, but for what they send: a place, a connection, what came of it, whether it may be tried again, and everything given back.
internal sealed partial class Forwarder
{
    // What an HTTP/1.1 client connection says when it died before any byte of a response, having served before (Http1ClientExchange.IsReused).
    private const string ReusedConnectionClosed = "reused_connection_closed";

    /// <summary>A permit of the cluster and an endpoint to go to.</summary>
    private Failure TakePlace(ClusterEndpoint? tried)
    {
        var cluster = _cluster!;
        if (_times.Deadline.IsSet && _times.Deadline.HasPassed(_services.NowMicroseconds))
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
        _times.BeginAttempt(_services.NowMilliseconds);
        return default;
    }

    private ValueTask<bool> AcquireAsync()
    {
        var acquiring = _endpoint!.Pool.AcquireAsync(_waiter);
        if (!acquiring.IsCompleted)
        {
            // Between the wait and the look: whoever stops the exchange sees the wait, or is seen.
            Interlocked.MemoryBarrier();
            if (Stopped() is { IsFailure: true } stop)
            {
                _waiter.TryFail(stop);
            }
        }

        return acquiring;
    }

    private Failure Attach(HttpClientExchange upstream)
    {
        lock (_gate)
        {
            _upstream = upstream;
            return _stop;
        }
    }

    /// <summary>What the attempt came to: a final head, or a failure.</summary>
    private Failure JudgeHead(HttpClientExchange upstream, bool answered)
    {
        _times.OnHead(_services.NowMilliseconds, answered);
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
                return FailureField.Parse(told, response.Status, $"{_endpoint.Address} ({_endpoint.Config.Id})");
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

    /// <summary>The attempt is over, one way or the other: gives the exchange, the endpoint and the permit back. Does nothing the second time.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask EndAttemptAsync()
    {
        if (!_hasPlace)
        {
            return;
        }

        _hasPlace = false;
        _times.EndAttempt();
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
}
