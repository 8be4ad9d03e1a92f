using System.IO.Pipelines;

namespace MeshProxy.Http.Http1;

/// <summary>
/// Serves HTTP/1.1 and HTTP/1.0 on one connection: one exchange at a time, pipelined requests answered in order (RFC 9112 section 9.3).
/// Owner of all state but what the summary of a member says is thread-safe: the head loop in <see cref="RunAsync"/>. It runs inline on whatever
/// thread completes its read or its handler, never on two at once.
/// While a handler works and nothing of the request is left to read, a read stays pending, so that a reset of the client is seen. A FIN is only
/// half a close: the response is finished, then the connection ends.
/// </summary>
public sealed class Http1ServerConnection : HttpServerConnection, IHttp1InputWaiter
{
    private readonly Http1Input _input;
    private readonly Http1Output _output;
    private readonly RequestParser _parser;
    private readonly Http1ServerExchange _exchange;
    private readonly ReadAheadWaiter _readAhead;
    private readonly Http1Limits _limits;
    private readonly Wakeup _arrived = new();
    private StallClock _phaseClock;
    private StallClock _inputClock;
    private StallClock _outputClock;
    private readonly Http1ConnectionLife _life = new();
    private volatile bool _isDraining;
    private volatile bool _isDispatched;
    private volatile int _expiredStamp = -1;
    private int _abortReason;
    private int _drainReason;
    private long _totalExchanges;
    private ConnectionCloseReason _closeReason;

    /// <summary>Makes a connection over a transport's pipes; bytes that were looked at for detection stay unconsumed in <paramref name="input"/>.</summary>
    public Http1ServerConnection(PipeReader input, PipeWriter output, Http1ServerOptions options)
    {
        Options = options;
        _limits = options.Limits;
        _input = new Http1Input(input);
        _output = new Http1Output(output);
        _exchange = new Http1ServerExchange(this, _input, _output, _limits);
        _parser = new RequestParser(_exchange.Request, options.Scheme, _limits);
        _readAhead = new ReadAheadWaiter(this);
    }

    /// <inheritdoc/>
    public override ConnectionCloseReason CloseReason => _closeReason;

    /// <inheritdoc/>
    public override int ActiveExchanges => _life.State == Http1ConnectionState.Exchange ? 1 : 0;

    /// <inheritdoc/>
    public override long TotalExchanges => Volatile.Read(ref _totalExchanges);

    /// <summary>True when a message was cut off: the owner must reset the transport instead of closing it, or a peer whose response ends with the
    /// connection would take it for complete.</summary>
    public bool EndedAbruptly { get; private set; }

    /// <summary>What it was made with.</summary>
    public Http1ServerOptions Options { get; }

    internal bool IsDraining => _isDraining;

    /// <inheritdoc/>
    public override async Task RunAsync(IHttpExchangeHandler handler)
    {
        _parser.Reset();
        var reason = ConnectionCloseReason.None;
        var lingers = false;
        while (reason == ConnectionCloseReason.None)
        {
            var status = ReadHead(out reason);
            if (reason != ConnectionCloseReason.None)
            {
                lingers = reason == ConnectionCloseReason.HeadTimeout;
                break;
            }

            if (status == Http1ParseStatus.NeedMore)
            {
                if (!_input.BeginRead(this))
                {
                    await _arrived;
                }

                continue;
            }

            if (status == Http1ParseStatus.Failed)
            {
                Reject(_parser.Error);
                lingers = true;
                reason = ConnectionCloseReason.ProtocolError;
                break;
            }

            _life.On(Http1ConnectionEvent.HeadComplete);
            Volatile.Write(ref _totalExchanges, _totalExchanges + 1);
            _exchange.Begin(_parser);
            _isDispatched = false;
            try
            {
                var task = Dispatch(handler);
                _isDispatched = true;
                if (!task.IsCompleted)
                {
                    // Against OnRequestComplete on another thread: at least one of the two sees what the other wrote.
                    Interlocked.MemoryBarrier();
                    if (_exchange.IsRequestRead)
                    {
                        ReadAhead();
                    }
                }

                await task.ConfigureAwait(false);
            }
            catch (Exception)
            {
                // The contract says that handlers do not throw; one that does has left its response in a state nobody knows.
                _exchange.Fail(new StreamEnd(StreamResetReason.Cancelled, Detail: "handler_failed"), tellsObserver: false);
            }

            var end = _exchange.End;
            _exchange.Close();
            FlushBatch.Request(_output);
            if (AbortedWith is var aborted && aborted != ConnectionCloseReason.None)
            {
                reason = aborted;
            }
            else if (end.Reason != StreamResetReason.None || !_exchange.ResponseComplete)
            {
                // A response that is whole is delivered in order, also when its handler gave up the rest of the request.
                // Half of a tunnel is never whole.
                EndedAbruptly = !_exchange.ResponseComplete || _exchange.IsTunnel;
                lingers = !EndedAbruptly && end.Initiator == Initiator.Us;
                reason = end.Reason switch
                {
                    StreamResetReason.ConnectionReset => ConnectionCloseReason.TransportError,
                    StreamResetReason.TimedOut => ConnectionCloseReason.IdleTimeout,
                    _ => ConnectionCloseReason.NotReusable,
                };
            }
            else if (_output.IsDead)
            {
                reason = ConnectionCloseReason.TransportError;
            }
            else if (_exchange.MustClose || !await DrainRequestAsync().ConfigureAwait(false))
            {
                // In a drain the end is our idea: the client's next request may be on its way already.
                lingers = !_exchange.RequestComplete || _isDraining;
                reason = _isDraining ? DrainedWith : ConnectionCloseReason.NotReusable;
            }
            else
            {
                _parser.Reset();
                _life.On(
                    _life.State == Http1ConnectionState.Draining ? Http1ConnectionEvent.RequestDrained : Http1ConnectionEvent.MessagesComplete);
            }
        }

        await CloseAsync(reason, lingers).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override void Drain(ConnectionCloseReason reason)
    {
        // A request may be on its way to an idle connection: it is still served, with Connection: close. The tick ends what stays idle.
        if (Interlocked.CompareExchange(ref _drainReason, (int)reason, 0) == 0)
        {
            _isDraining = true;
        }
    }

    /// <inheritdoc/>
    public override void Abort(ConnectionCloseReason reason)
    {
        if (_life.State == Http1ConnectionState.Closed || Interlocked.CompareExchange(ref _abortReason, (int)reason, 0) != 0)
        {
            return;
        }

        EndedAbruptly |= _life.State == Http1ConnectionState.Exchange;
        _output.Kill();
        _exchange.Fail(new StreamEnd(StreamResetReason.Cancelled, InitiatorOf(reason), Detail: "connection_aborted"), tellsObserver: true);
        _input.Cancel();
    }

    /// <inheritdoc/>
    public override void OnTick(long nowMilliseconds)
    {
        var stamp = _life.Stamp;
        switch (_life.State)
        {
            case Http1ConnectionState.Idle when _phaseClock.IsOver(
                _isDraining ? ~stamp : stamp, nowMilliseconds, _isDraining ? _limits.DrainGrace : _limits.IdleTimeout):
            case Http1ConnectionState.Head when _phaseClock.IsOver(stamp, nowMilliseconds, _limits.HeadTimeout):
            case Http1ConnectionState.Draining or Http1ConnectionState.Lingering when _phaseClock.IsOver(stamp, nowMilliseconds, _limits.LingerTimeout):
                _expiredStamp = stamp;
                _input.Cancel();
                break;
            case Http1ConnectionState.Exchange:
                TickExchange(nowMilliseconds);
                break;
            case Http1ConnectionState.Closing when IsOutputStuck(nowMilliseconds):
                _output.Kill();
                break;
        }
    }

    void IHttp1InputWaiter.OnInput() => _arrived.Set();

    internal void WakeReader() => _input.Cancel();

    /// <summary>The handler consumed the last byte of the request. During the dispatch the head loop starts the read-ahead when it returns.</summary>
    internal void OnRequestComplete()
    {
        Interlocked.MemoryBarrier();
        if (_isDispatched && _life.State == Http1ConnectionState.Exchange)
        {
            ReadAhead();
        }
    }

    private static Initiator InitiatorOf(ConnectionCloseReason reason) =>
        reason is ConnectionCloseReason.Drain or ConnectionCloseReason.Revoked ? Initiator.Operator : Initiator.Us;

    private ConnectionCloseReason AbortedWith => (ConnectionCloseReason)Volatile.Read(ref _abortReason);

    private ConnectionCloseReason DrainedWith => (ConnectionCloseReason)Volatile.Read(ref _drainReason);

    private bool IsExpired => _expiredStamp == _life.Stamp;

    // Not in the async method: a batch never crosses an await.
    private ValueTask Dispatch(IHttpExchangeHandler handler)
    {
        using (FlushBatch.Enter())
        {
            return handler.HandleAsync(_exchange);
        }
    }

    private void ReadAhead()
    {
        if (_input.BeginReadAhead(_readAhead))
        {
            OnReadAhead();
        }
    }

    // Looks only at how the input stands: bytes in it are the next request's and stay where they are until this exchange is over.
    private void OnReadAhead()
    {
        if (_input.IsFaulted)
        {
            _exchange.Fail(new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer, Detail: "downstream_reset"), tellsObserver: true);
        }
    }

    // One look at what is at hand. reason: the connection ends without an answer, or with a 408.
    private Http1ParseStatus ReadHead(out ConnectionCloseReason reason)
    {
        reason = AbortedWith;
        if (reason != ConnectionCloseReason.None || !_input.IsHeld)
        {
            return Http1ParseStatus.NeedMore;
        }

        if (_input.IsFaulted || _output.IsDead)
        {
            reason = ConnectionCloseReason.TransportError;
            return Http1ParseStatus.NeedMore;
        }

        var status = _parser.Parse(_input.Buffer, out var consumed);
        _input.Consume(consumed);
        if (status != Http1ParseStatus.NeedMore)
        {
            return status;
        }

        if (_input.IsCompleted)
        {
            reason = ConnectionCloseReason.PeerClosed;
            return status;
        }

        if (IsExpired)
        {
            if (_life.State == Http1ConnectionState.Head)
            {
                Reject(new Http1Error(408, "request_head_timeout"));
                reason = ConnectionCloseReason.HeadTimeout;
            }
            else
            {
                reason = _isDraining ? DrainedWith : ConnectionCloseReason.IdleTimeout;
            }

            return status;
        }

        if (_parser.HasBegun && _life.State == Http1ConnectionState.Idle)
        {
            _life.On(Http1ConnectionEvent.HeadBegun);
        }

        _input.Release();
        return status;
    }

    private void Reject(Http1Error error)
    {
        var head = _exchange.Response;
        head.Clear();
        head.Status = error.Status;
        var body = Options.RejectionObserver is { } observer ? observer.OnRejected(this, null, head, error.Detail) : default;
        var written = 0;
        var room = _output.Begin(HeadWriter.Bound(head) + body.Length);
        try
        {
            written = HeadWriter.WriteResponse(room, head, default, body.Length, ConnectionOptions.Close, Options.Date);
            body.Span.CopyTo(room[written..]);
            written += body.Length;
        }
        finally
        {
            _output.End(written);
        }
    }

    // What the handler left of the request is thrown away when that is cheap; else the connection closes.
    private async ValueTask<bool> DrainRequestAsync()
    {
        if (_exchange.RequestComplete)
        {
            return true;
        }

        _life.On(Http1ConnectionEvent.ResponseComplete);
        long drained = 0;
        while (AbortedWith == ConnectionCloseReason.None && !IsExpired)
        {
            if (!_exchange.Body.TryRead(out var chunk))
            {
                if (!_input.BeginRead(this))
                {
                    await _arrived;
                }

                continue;
            }

            drained += chunk.Data.Length;
            if (chunk.IsBroken || drained > _limits.MaxDrainBytes)
            {
                return false;
            }

            _exchange.Body.Advance(chunk.Data.Length);
            if (_exchange.RequestComplete)
            {
                return true;
            }
        }

        return false;
    }

    private async Task CloseAsync(ConnectionCloseReason reason, bool lingers)
    {
        _life.On(Http1ConnectionEvent.End);
        await _output.WaitForLevelAsync(0).ConfigureAwait(false);
        _life.On(Http1ConnectionEvent.OutputSent);

        // Closing on bytes that nobody read makes the kernel answer with a reset, which can overtake our last response. So the peer is told first that
        // nothing follows, and gets the time to read it and to close (RFC 9112 section 9.6), however much it sends meanwhile. Not after a message that broke off: that is no
        // orderly end.
        lingers = !EndedAbruptly && (lingers || (_input.IsHeld && !_input.Buffer.IsEmpty));
        if (lingers)
        {
            _output.CloseWhenSent();
        }

        while (lingers && AbortedWith == ConnectionCloseReason.None && !IsExpired && !_output.IsDead)
        {
            if (_input.IsHeld)
            {
                if (_input.IsCompleted || _input.IsFaulted)
                {
                    break;
                }

                _input.Consume(_input.Buffer.End);
                _input.Release();
            }

            if (!_input.BeginRead(this))
            {
                await _arrived;
            }
        }

        EndedAbruptly |= _output.IsDead && reason != ConnectionCloseReason.PeerClosed;
        _closeReason = AbortedWith is var aborted && aborted != ConnectionCloseReason.None ? aborted : reason;
        _life.On(Http1ConnectionEvent.PeerDone);
        _output.Kill();
    }

    private void TickExchange(long nowMilliseconds)
    {
        if (IsOutputStuck(nowMilliseconds))
        {
            Abort(ConnectionCloseReason.IdleTimeout);
        }
        else if (_output.HoldsUp && !_exchange.ResponseComplete && _exchange.End.Reason != StreamResetReason.None)
        {
            // The exchange was given up in the middle of its response: its handler does not wait any longer for a client that may take its time.
            _output.Kill();
        }

        // Either end of a tunnel may be silent for as long as the other one talks: its handler judges that.
        if (_input.IsWaiting && !_exchange.IsRequestRead && !_exchange.IsTunnel)
        {
            if (_inputClock.IsOver(_input.Progress, nowMilliseconds, _limits.StallTimeout))
            {
                _exchange.Fail(new StreamEnd(StreamResetReason.TimedOut, Initiator.Peer, Detail: "request_body_stalled"), tellsObserver: true);
                _input.Cancel();
            }
        }
        else
        {
            _inputClock.Stop();
        }
    }

    private bool IsOutputStuck(long nowMilliseconds)
    {
        if (_output.IsStalled)
        {
            return _outputClock.IsOver(_output.Progress, nowMilliseconds, _limits.StallTimeout);
        }

        _outputClock.Stop();
        return false;
    }

    private sealed class ReadAheadWaiter(Http1ServerConnection connection) : IHttp1InputWaiter
    {
        public void OnInput() => connection.OnReadAhead();
    }
}
