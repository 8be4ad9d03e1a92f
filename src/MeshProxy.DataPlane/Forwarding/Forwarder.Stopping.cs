using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

// The ends that come from outside of the loop, on any thread: deadlines, and a downstream that left. Who may touch what is told above the class.
internal sealed partial class Forwarder
{
    /// <summary>The downstream is gone, or has broken the protocol.</summary>
    public void OnAborted(StreamEnd end) => Stop(Attempt.FailureOfDownstream(end, FailureStage.Downstream, "downstream"));

    /// <summary>Judges the deadlines of the exchange in progress.</summary>
    public void OnTick(long now)
    {
        var generation = Volatile.Read(ref _generation);
        if (!Volatile.Read(ref _active))
        {
            return;
        }

        // Uploads and tunnels, and within one write what a slow reader takes of it. One sum: a counter by itself would take turns with the others at being new. An
        // upstream exchange that has another owner by now counts at most once.
        _times.OnMoved(
            (_pump?.Bytes ?? 0) + (_tunnel is { } tunnel ? tunnel.Received + tunnel.Sent : 0) + _downstream.Progress + (Volatile.Read(ref _upstream)?.Progress ?? 0), now);

        if (_continue.TryTell(now))
        {
            _ = TellContinueAsync(_upstream!);
        }

        switch (_times.Judge(now))
        {
            case ExchangeTimes.Passed.Exchange:
                Stop(PastDeadline(), generation);
                break;
            case ExchangeTimes.Passed.Attempt:
                Stop(Timeout(FailureCause.UpstreamTimeout, $"attempt_timeout: {_endpoint?.Address ?? "the endpoint"} took longer than the route's timeouts.backendRequest"), generation);
                break;
            case ExchangeTimes.Passed.Head:
                Stop(Timeout(FailureCause.UpstreamTimeout, $"response_timeout: no response head from {_endpoint?.Address ?? "any endpoint"} in time"), generation);
                break;
            case ExchangeTimes.Passed.Idle:
                Stop(Timeout(FailureCause.StreamIdle, "stream_idle: nothing moved in either direction"), generation);
                break;
        }

        static Failure Timeout(FailureCause cause, string detail) => new(cause, FailureStage.Waiting, RetrySafety.Never, Initiator.Us, detail);
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
            _isStopped = true;
            _stopping = stopping;
            upstream = _upstream;
        }

        var hadStarted = _downstream.HasResponseStarted;
        if (upstream is not null)
        {
            upstream.Reset(StoppedBy(failure));
        }
        else
        {
            _waiter.TryFail(failure);
        }

        // A relay may be held up by the client. But what the loop has answered since it was woken, often on this very stack, is the answer to this stop.
        bool hasEnded;
        lock (_gate)
        {
            hasEnded = stopping.SignalsEnd;
        }

        if (failure.Cause != FailureCause.DownstreamLeft && !hasEnded && (hadStarted || Volatile.Read(ref _isRelaying)))
        {
            _downstream.Reset(StoppedBy(failure));
        }

        lock (_gate)
        {
            _stopping = null;
        }

        stopping.Completes?.Complete();
        if (stopping.SignalsEnd)
        {
            _stopped.Set();
        }
    }

    private static StreamEnd StoppedBy(Failure failure) => new(StreamResetReason.Cancelled, failure.Initiator, 0x8, "stopped");

    private Failure Stopped()
    {
        if (!_isStopped)
        {
            return default;
        }

        lock (_gate)
        {
            return _stop;
        }
    }

    private Failure PastDeadline() => new(FailureCause.MaxDuration, FailureStage.Waiting, RetrySafety.Never, Initiator.Us, _times.Deadline.IsCallers
        ? "deadline_exceeded: the caller's grpc-timeout or x-request-timeout passed"
        : "request_timeout: the exchange took longer than the route's timeouts.request");

    /// <summary>A stop that is under way: what it hands back in the loop's place when it is through. Guarded by the gate.</summary>
    private sealed class Stopping
    {
        /// <summary>The attempt's exchange, which the loop has given up meanwhile.</summary>
        public HttpClientExchange? Completes { get; set; }

        /// <summary>The exchange is complete but for telling so.</summary>
        public bool SignalsEnd { get; set; }
    }
}
