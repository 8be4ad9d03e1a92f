using System.Buffers;
using System.Collections.Concurrent;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Bounds of mirrored requests.</summary>
internal sealed record MirrorLimits
{
    /// <summary>Copies in flight at once, of all routes together.</summary>
    public int MaxOpen { get; init; } = 256;

    /// <summary>From the copy's first byte to the last of its answer.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Bytes of an answer that are read to keep its connection; beyond, the copy's exchange is reset.</summary>
    public int MaxDiscardedBytes { get; init; } = 1024 * 1024;
}

/// <summary>
/// Sends copies of requests to mirrors. A copy is made when the last byte of the request has gone to its backend, when its body is still at hand whole
/// (<see cref="ReplayBuffer.MaxBytes"/>), and it runs by itself from there: it can neither delay nor fail the request, and a retry makes no second one.
/// Its answer is read and thrown away. Copies beyond <see cref="MirrorLimits.MaxOpen"/> are not sent; all are counted.
/// </summary>
internal sealed class MirrorSender(TimeProvider time, MirrorLimits limits)
{
    private readonly ConcurrentBag<Copy> _idle = [];
    private int _open;

    /// <summary>Sends a copy.</summary>
    /// <param name="mirror">Where to.</param>
    /// <param name="head">The head before filters; copied.</param>
    /// <param name="matchedPrefix">The length of the path prefix that the rule matched.</param>
    /// <param name="body">The whole body; copied.</param>
    /// <param name="trailers">Its trailers; copied.</param>
    public void Send(RouteMirror mirror, RequestHead head, int matchedPrefix, ReadOnlySequence<byte> body, FieldMap trailers)
    {
        if (Interlocked.Increment(ref _open) > limits.MaxOpen)
        {
            Interlocked.Decrement(ref _open);
            mirror.Cluster.Meters.OnMirror(MirrorResult.Dropped);
            return;
        }

        if (!_idle.TryTake(out var copy))
        {
            copy = new Copy(this, time, limits);
        }

        copy.Start(mirror, head, matchedPrefix, body, trailers);
    }

    private void OnEnded(Copy copy)
    {
        _idle.Add(copy);
        Interlocked.Decrement(ref _open);
    }

    /// <summary>One copy on its way; reused. Runs on the thread pool, one wait at a time; its deadline comes from the timer's thread, under the gate.</summary>
    private sealed class Copy : IThreadPoolWorkItem
    {
        private static readonly StreamEnd TimedOut = new(StreamResetReason.Cancelled, Initiator.Us, 0x8, "mirror_timeout");

        private readonly MirrorSender _owner;
        private readonly MirrorLimits _limits;
        private readonly Lock _gate = new();
        private readonly ITimer _deadline;
        private readonly RequestHead _head = new();
        private readonly FieldMap _trailers = new();
        private readonly LeaseWaiter _waiter = new();
        private Cluster? _cluster;
        private readonly ReplayBuffer _body = new();
        private HttpClientExchange? _exchange;
        private bool _isRunning;
        private bool _isLate;
        private Stopping? _stopping;

        public Copy(MirrorSender owner, TimeProvider time, MirrorLimits limits)
        {
            _owner = owner;
            _limits = limits;
            _deadline = time.CreateTimer(static copy => ((Copy)copy!).OnLate(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        public void Start(RouteMirror mirror, RequestHead head, int matchedPrefix, ReadOnlySequence<byte> body, FieldMap trailers)
        {
            _cluster = mirror.Cluster;
            _head.CopyFrom(head);
            mirror.Filters.Apply(_head, matchedPrefix);
            _body.Append(body);
            _trailers.Clear();
            _trailers.AddAll(trailers);
            _head.EndsStream = body.IsEmpty && _trailers.Count == 0;
            lock (_gate)
            {
                _isRunning = true;
                _isLate = false;
                _stopping = null;
            }

            _deadline.Change(_limits.Timeout, Timeout.InfiniteTimeSpan);

            // Not on the thread of the request: it goes on at once.
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        }

        void IThreadPoolWorkItem.Execute() => _ = RunAsync();

        private async Task RunAsync()
        {
            var result = MirrorResult.Failed;
            try
            {
                result = await SendAsync(_cluster!);
            }
            catch (Exception)
            {
                // Counted as failed: a copy has nobody to tell, and whatever goes wrong with it may cost no more than the copy.
            }

            _cluster!.Meters.OnMirror(result);
            End();
        }

        private async ValueTask<MirrorResult> SendAsync(Cluster cluster)
        {
            if (!cluster.CircuitBreaker.TryEnter())
            {
                return MirrorResult.Dropped;
            }

            var endpoint = cluster.Pick(null);
            if (endpoint is null)
            {
                cluster.CircuitBreaker.Leave();
                return MirrorResult.Failed;
            }

            endpoint.Enter();
            try
            {
                var acquiring = endpoint.Pool.AcquireAsync(_waiter);
                if (IsLate())
                {
                    _waiter.TryFail(Late());
                }

                return await acquiring ? await ExchangeAsync(_waiter.Exchange!, endpoint) : MirrorResult.Failed;
            }
            finally
            {
                endpoint.Leave();
                cluster.CircuitBreaker.Leave();
            }
        }

        private async ValueTask<MirrorResult> ExchangeAsync(HttpClientExchange exchange, ClusterEndpoint endpoint)
        {
            if (endpoint.Pool.Key is { IsMesh: false } key)
            {
                // As for the request itself: the scheme is this hop's.
                _head.SetScheme(key.Tls is null ? "http"u8 : "https"u8);
            }

            Attach(exchange);
            try
            {
                return exchange.WriteHead(_head) && await WriteBodyAsync(exchange) && await exchange.FlushAsync() && await DiscardAsync(exchange)
                    ? MirrorResult.Answered
                    : MirrorResult.Failed;
            }
            finally
            {
                Complete(exchange);
            }
        }

        private async ValueTask<bool> WriteBodyAsync(HttpClientExchange exchange)
        {
            var ends = _trailers.Count == 0;
            var body = _body.Content;
            if (!body.IsEmpty && !await exchange.WriteBodyAsync(body, ends))
            {
                return false;
            }

            return ends || exchange.WriteTrailers(_trailers);
        }

        /// <summary>True when the answer was whole; it is read only so that its connection can be used again.</summary>
        private async ValueTask<bool> DiscardAsync(HttpClientExchange exchange)
        {
            do
            {
                if (!await exchange.ReadHeadAsync())
                {
                    return false;
                }
            }
            while (exchange.Response.IsInformational);

            for (var discarded = 0L; !exchange.Response.EndsStream;)
            {
                var chunk = await exchange.ResponseBody.ReadAsync();
                if (chunk.IsBroken)
                {
                    return false;
                }

                discarded += chunk.Data.Length;
                exchange.ResponseBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    break;
                }

                if (discarded > _limits.MaxDiscardedBytes)
                {
                    exchange.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0x8, "mirror_discarded"));
                    break;
                }
            }

            return true;
        }

        private void End()
        {
            lock (_gate)
            {
                _isRunning = false;
            }

            _deadline.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _body.Reset();
            _head.Clear();
            _owner.OnEnded(this);
        }

        // Resets outside of the gate, because that runs continuations; what the loop gives up meanwhile is handed back here, so that a reset never meets an
        // exchange with a new owner. A late timer of an earlier run may end a later one early: a copy lost, nothing worse.
        private void OnLate()
        {
            var stopping = new Stopping();
            HttpClientExchange? exchange;
            lock (_gate)
            {
                if (!_isRunning)
                {
                    return;
                }

                _isLate = true;
                _stopping = stopping;
                exchange = _exchange;
            }

            if (exchange is null)
            {
                _waiter.TryFail(Late());
            }
            else
            {
                exchange.Reset(TimedOut);
            }

            lock (_gate)
            {
                if (_stopping == stopping)
                {
                    _stopping = null;
                }
            }

            stopping.Completes?.Complete();
        }

        private bool IsLate()
        {
            lock (_gate)
            {
                return _isLate;
            }
        }

        private void Attach(HttpClientExchange exchange)
        {
            bool isLate;
            lock (_gate)
            {
                _exchange = exchange;
                isLate = _isLate;
            }

            if (isLate)
            {
                exchange.Reset(TimedOut);
            }
        }

        private void Complete(HttpClientExchange exchange)
        {
            lock (_gate)
            {
                _exchange = null;
                if (_stopping is { } stopping)
                {
                    stopping.Completes = exchange;
                    return;
                }
            }

            exchange.Complete();
        }

        private static Failure Late() =>
            new(FailureCause.UpstreamTimeout, FailureStage.Connecting, RetrySafety.Never, Initiator.Us, "mirror_timeout");

        /// <summary>A stop that is under way; guarded by the gate.</summary>
        private sealed class Stopping
        {
            /// <summary>The exchange that the loop has given up meanwhile.</summary>
            public HttpClientExchange? Completes { get; set; }
        }
    }
}
