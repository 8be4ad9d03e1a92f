using System.IO.Pipelines;

namespace MeshProxy.Http.Http1;

/// <summary>
/// One HTTP/1.1 connection to an upstream: one exchange at a time, requests never pipelined (a failure would leave more than one in doubt).
/// Invariants: while it is idle a read is pending, so that the peer's close retires it before it is handed out again; a byte that comes while no
/// request is open ends it (it could only be taken for the answer to somebody else's request); it is used again only after both messages were
/// complete and all of the request was handed to the transport.
/// <c>_gate</c> guards who holds the connection and whether it takes exchanges; observers are called outside of it.
/// </summary>
public sealed class Http1ClientConnection : HttpClientConnection
{
    private readonly IClientConnectionObserver _observer;
    private readonly Http1Limits _limits;
    private readonly Http1Input _input;
    private readonly Http1Output _output;
    private readonly Http1ClientExchange _exchange;
    private readonly WatchWaiter _watch;
    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _closed = new();
    private StallClock _idleClock;
    private StallClock _inputClock;
    private StallClock _outputClock;
    private int _opened;
    private bool _isActive;
    private bool _isRetired;
    private bool _isRetiredTold;
    private bool _isClosed;
    private ConnectionCloseReason _reason;

    /// <summary>Makes a connection over a transport's pipes.</summary>
    public Http1ClientConnection(PipeReader input, PipeWriter output, Http1ClientOptions options, IClientConnectionObserver observer)
    {
        _observer = observer;
        _limits = options.Limits;
        _input = new Http1Input(input);
        _output = new Http1Output(output);
        _exchange = new Http1ClientExchange(this, _input, _output, _limits);
        _watch = new WatchWaiter(this);
    }

    /// <inheritdoc/>
    public override int ActiveExchanges => Volatile.Read(ref _isActive) ? 1 : 0;

    /// <inheritdoc/>
    public override int MaxConcurrentExchanges => 1;

    /// <inheritdoc/>
    public override HttpProtocolVersion Version => HttpProtocolVersion.Http11;

    /// <summary>True when a tunnel was broken off, or a request was given up before any of it was sent: the owner must reset the transport instead of closing it, or
    /// the peer would take the end for an orderly one, or get a request that may be on its way elsewhere.</summary>
    public bool EndedAbruptly { get; private set; }

    /// <inheritdoc/>
    public override Task RunAsync()
    {
        Watch();
        return _closed.Task;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> WaitReadyAsync() => new(true);

    /// <inheritdoc/>
    public override HttpClientExchange? TryOpenExchange()
    {
        lock (_gate)
        {
            if (_isRetired || _isActive)
            {
                return null;
            }

            _isActive = true;
            _output.Mark();
            _exchange.Begin(isReused: _opened++ > 0);
            return _exchange;
        }
    }

    /// <inheritdoc/>
    public override void Retire(ConnectionCloseReason reason)
    {
        lock (_gate)
        {
            SetReason(reason);
            _isRetired = true;
        }

        TellRetired();
        CloseIfIdle();
    }

    /// <inheritdoc/>
    public override void Abort(ConnectionCloseReason reason)
    {
        bool isActive;
        lock (_gate)
        {
            SetReason(reason);
            _isRetired = true;
            isActive = _isActive;
        }

        if (isActive)
        {
            _exchange.Reset(new StreamEnd(StreamResetReason.Cancelled, Detail: "connection_aborted"));
        }

        TellRetired();
        CloseIfIdle();
    }

    /// <inheritdoc/>
    public override void OnTick(long nowMilliseconds)
    {
        bool isActive;
        lock (_gate)
        {
            isActive = _isActive;
            if (!isActive && _idleClock.IsOver(_opened, nowMilliseconds, _limits.IdleTimeout))
            {
                SetReason(ConnectionCloseReason.IdleTimeout);
                _isRetired = true;
            }
        }

        if (!isActive)
        {
            _inputClock.Stop();
            _outputClock.Stop();
            if (_isRetired)
            {
                TellRetired();
                CloseIfIdle();
            }

            return;
        }

        _idleClock.Stop();
        var isStalled = false;
        if (_output.IsStalled)
        {
            isStalled = _outputClock.IsOver(_output.Progress, nowMilliseconds, _limits.StallTimeout);
        }
        else
        {
            _outputClock.Stop();
        }

        if (_exchange.IsInBody && _input.IsWaiting)
        {
            isStalled |= _inputClock.IsOver(_input.Progress, nowMilliseconds, _limits.StallTimeout);
        }
        else
        {
            _inputClock.Stop();
        }

        if (isStalled)
        {
            _exchange.Reset(new StreamEnd(StreamResetReason.TimedOut, Initiator.Peer, Detail: "upstream_stalled"));
        }
    }

    /// <summary>The exchange broke: nothing more is written here, and nobody gets the connection again.</summary>
    internal void OnExchangeFailed()
    {
        lock (_gate)
        {
            _isRetired = true;
        }

        _output.Kill();
        TellRetired();
    }

    /// <summary>The exchange was handed back.</summary>
    internal void OnExchangeCompleted()
    {
        _exchange.DrainAtHand();
        EndedAbruptly |= _exchange.IsTunnelBroken || _exchange is { RequestStarted: true, IsSent: false };
        var isReusable = false;
        lock (_gate)
        {
            if (!_isActive)
            {
                return;
            }

            if (!_exchange.RequestStarted && !_exchange.IsSent && !_isRetired)
            {
                // Opened and given back unused.
                isReusable = true;
            }
            else if (!_exchange.AllowsReuse || _output.IsDead || _output.HasUnflushed)
            {
                SetReason(_exchange.End.Reason switch
                {
                    StreamResetReason.PeerClosed => ConnectionCloseReason.PeerClosed,
                    StreamResetReason.ConnectionReset => ConnectionCloseReason.TransportError,
                    StreamResetReason.ProtocolError => ConnectionCloseReason.ProtocolError,
                    StreamResetReason.TimedOut => ConnectionCloseReason.IdleTimeout,
                    _ => ConnectionCloseReason.NotReusable,
                });
            }
            else if (_input.IsHeld && (_input.IsCompleted || _input.IsFaulted || !_input.Buffer.IsEmpty))
            {
                SetReason(_input.IsFaulted ? ConnectionCloseReason.TransportError
                    : !_input.Buffer.IsEmpty ? ConnectionCloseReason.ProtocolError
                    : ConnectionCloseReason.PeerClosed);
            }
            else
            {
                isReusable = !_isRetired;
            }

            _isRetired |= !isReusable;
            _isActive = false;
        }

        if (!isReusable)
        {
            TellRetired();
            CloseIfIdle();
            return;
        }

        _input.Release();
        Watch();
        if (!Volatile.Read(ref _isRetired))
        {
            _observer.OnCapacity(this);
        }
    }

    private void Watch()
    {
        while (_input.BeginReadAhead(_watch))
        {
            if (!OnWatch())
            {
                return;
            }
        }
    }

    // What came while nobody had asked for it. True: nothing, watch on.
    private bool OnWatch()
    {
        if (!_input.IsHeld)
        {
            // Late: between the read's end and this call, another thread opened an exchange, took what was read for its response, and went on.
            return false;
        }

        var hasBytes = _input.LastReadHadBytes;
        var hasEnded = _input.IsFaulted || _input.IsCompleted;
        bool isActive;
        lock (_gate)
        {
            isActive = _isActive;
            if (!isActive)
            {
                if (!hasBytes && !hasEnded && !_isRetired)
                {
                    _input.Release();
                    return true;
                }

                if (hasBytes || hasEnded)
                {
                    SetReason(hasBytes ? ConnectionCloseReason.ProtocolError
                        : _input.IsFaulted ? ConnectionCloseReason.TransportError
                        : ConnectionCloseReason.PeerClosed);
                }

                _isRetired = true;
            }
        }

        if (!isActive)
        {
            TellRetired();
            CloseIfIdle();
        }
        else if (!_exchange.IsSent)
        {
            if (hasBytes)
            {
                _exchange.Fail(new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, Detail: "response_before_request"));
            }
            else if (hasEnded)
            {
                _exchange.FailByPeer(_input.IsFaulted, isInHead: false);
            }
        }

        // With a request on its way the buffer stays for ReadHeadAsync, whatever it holds.
        return false;
    }

    private void SetReason(ConnectionCloseReason reason)
    {
        if (_reason == ConnectionCloseReason.None)
        {
            _reason = reason;
        }
    }

    private void TellRetired()
    {
        lock (_gate)
        {
            if (_isRetiredTold)
            {
                return;
            }

            _isRetiredTold = true;
        }

        _observer.OnRetired(this);
    }

    private void CloseIfIdle()
    {
        lock (_gate)
        {
            if (_isActive || _isClosed)
            {
                return;
            }

            _isClosed = true;
        }

        _output.Kill();
        _input.Cancel();
        _observer.OnClosed(this, _reason);
        _closed.TrySetResult();
    }

    private sealed class WatchWaiter(Http1ClientConnection connection) : IHttp1InputWaiter
    {
        public void OnInput()
        {
            if (connection.OnWatch())
            {
                connection.Watch();
            }
        }
    }
}
