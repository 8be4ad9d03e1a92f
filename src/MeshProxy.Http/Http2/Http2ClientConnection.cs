using System.IO.Pipelines;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>
/// The client side of an HTTP/2 connection (RFC 9113). Besides its reading thread, the observer hears of capacity on the thread of a caller whose
/// Complete, Reset or last write closed a stream.
/// </summary>
public sealed class Http2ClientConnection : HttpClientConnection, IHttp2Role
{
    private readonly Stack<Http2ClientExchange> _pool = new();
    private readonly IClientConnectionObserver _observer;
    private readonly TaskCompletionSource<bool> _ready = new();
    private int _nextStreamId = 1;
    private int _reserved;

    private int _lastKnownLimit;
    private bool _isRetired;
    private bool _isRetiredTold;
    private bool _hasPeerGoneAway;
    private ConnectionCloseReason _retireReason;

    /// <summary>Makes a connection over a transport's pipes, which it does not complete. The output must allow GetSpan and Advance while a flush is
    /// pending, and must send nothing that was not flushed.</summary>
    public Http2ClientConnection(PipeReader input, PipeWriter output, Http2Options options, IClientConnectionObserver observer)
    {
        _observer = observer;
        Engine = new Http2Connection(this, input, output, options);
        _lastKnownLimit = Engine.PeerMaxStreams;
    }

    /// <inheritdoc/>
    /// <remarks>Two numbers that others change meanwhile: near enough for choosing among connections, and for pages.</remarks>
    public override int ActiveExchanges => Volatile.Read(ref _reserved) + Engine.OpenStreams;

    /// <inheritdoc/>
    public override int MaxConcurrentExchanges => Engine.PeerMaxStreams;

    /// <inheritdoc/>
    public override HttpProtocolVersion Version => HttpProtocolVersion.Http2;

    /// <summary>True when the peer's SETTINGS allow extended CONNECT (RFC 8441).</summary>
    public bool AllowsExtendedConnect => Engine.PeerAllowsExtendedConnect;

    /// <summary>Why it ended.</summary>
    public ConnectionCloseReason CloseReason => Engine.CloseReason;

    /// <summary>True when requests that count as unsent may lie in the transport: the owner must reset it, because an orderly close would send them.</summary>
    public bool EndedAbruptly => Engine.EndedAbruptly;

    bool IHttp2Role.IsServer => false;

    internal Http2Connection Engine { get; }

    /// <inheritdoc/>
    public override async Task RunAsync()
    {
        await Engine.RunAsync().ConfigureAwait(false);
        _ready.TrySetResult(false);
        TellRetired();
        _observer.OnClosed(this, Engine.CloseReason);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> WaitReadyAsync() => new(_ready.Task);

    /// <inheritdoc/>
    public override HttpClientExchange? TryOpenExchange()
    {
        lock (Engine.Gate)
        {
            if (_isRetired || Engine.IsWriteEnded || _reserved + Engine.OpenStreams >= Engine.PeerMaxStreams)
            {
                return null;
            }

            _reserved++;

            var exchange = _pool.TryPop(out var pooled) ? pooled : new Http2ClientExchange(this);
            exchange.IsReserved = true;
            return exchange;
        }
    }

    /// <inheritdoc/>
    public override void Retire(ConnectionCloseReason reason)
    {
        lock (Engine.Gate)
        {
            if (!_isRetired)
            {
                _isRetired = true;
                _retireReason = reason;
            }
        }

        TellRetired();
        StopWhenUnused();
    }

    /// <inheritdoc/>
    public override void Abort(ConnectionCloseReason reason) => Engine.Stop(reason, Http2ErrorCode.NoError, null, cancelFlush: true);

    /// <inheritdoc/>
    public override void OnTick(long nowMilliseconds) => Engine.OnTick(nowMilliseconds);

    bool IHttp2Role.OnFieldBlock(int streamId, bool endStream, ReadOnlySpan<byte> block)
    {
        var engine = Engine;
        Http2Stream stream;
        ResponseHead? head = null;
        bool isOpen;
        lock (engine.Gate)
        {
            isOpen = engine.TryGetStream(streamId, out stream);
            if (isOpen)
            {
                stream.Holds++;
                if (!stream.HasReceivedHead)
                {
                    head = ((Http2ClientExchange)stream.Owner).BeginHead();
                }
            }
        }

        if (!isOpen)
        {
            return (streamId & 1) == 0 || streamId > engine.LastStreamId
                ? engine.Fail(Http2ErrorCode.ProtocolError, "headers_on_idle_stream")
                : engine.OnLateFieldBlock(streamId, block);
        }

        if (head is null)
        {
            return engine.OnTrailers(stream, endStream, block);
        }

        engine.Fields.BeginResponse(head);
        if (!engine.TryDecode(block))
        {
            return false;
        }

        var exchange = (Http2ClientExchange)stream.Owner;
        var verdict = engine.Fields.End();
        bool wake;
        bool ok;
        Deferred deferred;
        lock (engine.Gate)
        {
            ok = OnHead(exchange, head, endStream, verdict, out wake);
            engine.Release(stream);
            deferred = engine.Writer.TakeDeferred();
        }

        if (wake)
        {
            exchange.WakeHeadReader(true);
        }

        engine.Run(deferred);
        return ok;
    }

    void IHttp2Role.OnPeerSettings()
    {
        _ready.TrySetResult(true);
        bool more;
        lock (Engine.Gate)
        {
            more = Engine.PeerMaxStreams > _lastKnownLimit && !_isRetired;
            _lastKnownLimit = Engine.PeerMaxStreams;
        }

        if (more)
        {
            _observer.OnCapacity(this);
        }
    }

    void IHttp2Role.OnGoAway(int lastStreamId, Http2ErrorCode code)
    {
        Deferred deferred;
        lock (Engine.Gate)
        {
            _hasPeerGoneAway = true;
            if (!_isRetired)
            {
                _isRetired = true;
                _retireReason = ConnectionCloseReason.PeerClosed;
            }

            Engine.EndStreamsBeyond(lastStreamId, new StreamEnd(StreamResetReason.PeerGoAway, Initiator.Peer, (uint)code));
            deferred = Engine.Writer.TakeDeferred();
        }

        TellRetired();
        Engine.Run(deferred);
        StopWhenUnused();
    }

    void IHttp2Role.OnOutputBroken()
    {
        Deferred deferred;
        lock (Engine.Gate)
        {
            _isRetired = true;
            _retireReason = ConnectionCloseReason.TransportError;
            Engine.EndUnsent();
            deferred = Engine.Writer.TakeDeferred();
        }

        TellRetired();
        Engine.Run(deferred);
        StopWhenUnused();
    }

    void IHttp2Role.OnStreamsClosed(int count) => OnPlacesFreed();

    void IHttp2Role.OnDrainPingAnswered()
    {
    }

    internal bool WriteHead(Http2ClientExchange exchange, RequestHead head)
    {
        var engine = Engine;
        var stream = exchange.Stream;
        var retire = false;
        Deferred deferred;
        lock (engine.Gate)
        {
            if (!exchange.IsReserved || stream.HasEnded)
            {
                return false;
            }

            if (engine.IsWriteEnded || _hasPeerGoneAway || _nextStreamId < 0)
            {
                // Nothing was sent: the same as a stream beyond the last one of a GOAWAY.
                stream.End = new StreamEnd(StreamResetReason.PeerGoAway, Initiator.Peer);
                return false;
            }

            if (!head.Protocol.IsEmpty && !engine.PeerAllowsExtendedConnect)
            {
                // RFC 8441 section 3: it must not be tried. The same as a stream that the peer refused.
                stream.End = new StreamEnd(StreamResetReason.PeerRefused, Initiator.Peer, 0, "no_extended_connect");
                return false;
            }

            if (!engine.PeerTakes(head))
            {
                stream.End = new StreamEnd(StreamResetReason.PeerLimit, Initiator.Us, 0, "request_head_too_large");
                return false;
            }

            exchange.IsReserved = false;
            _reserved--;
            engine.AddStream(stream, _nextStreamId);

            // After stream 2^31-1 the number turns negative: no more streams on this connection (RFC 9113 section 5.1.1).
            _nextStreamId = unchecked(_nextStreamId + 2);
            if (_nextStreamId < 0 && !_isRetired)
            {
                retire = _isRetired = true;
                _retireReason = ConnectionCloseReason.MaxAge;
            }

            stream.State.OnHeadersSent(endStream: false);
            engine.Writer.WriteRequestHead(stream, head);
            engine.PingIfReused();
            if (head.EndsStream)
            {
                engine.OnEndSent(stream);
            }

            deferred = engine.Writer.TakeDeferred();
        }

        engine.Run(deferred);
        if (retire)
        {
            TellRetired();
        }

        return true;
    }

    internal void Complete(Http2ClientExchange exchange)
    {
        var engine = Engine;
        var stream = exchange.Stream;
        Deferred deferred;
        var freed = false;
        var reset = false;
        lock (engine.Gate)
        {
            if (exchange.IsReserved)
            {
                exchange.IsReserved = false;
                _reserved--;
                freed = true;
            }
            else if (!stream.State.IsClosed && !engine.IsClosed)
            {
                engine.ResetStream(stream, Http2ErrorCode.Cancel, new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, (uint)Http2ErrorCode.Cancel));
                reset = true;
            }

            engine.Recycle(stream);
            deferred = engine.Writer.TakeDeferred();
        }

        engine.Run(deferred);
        if (reset)
        {
            FlushBatch.Request(engine.Writer);
        }

        if (freed)
        {
            OnPlacesFreed();
        }
    }

    /// <summary>Back to the pool. Under the lock.</summary>
    internal void Return(Http2ClientExchange exchange)
    {
        if (_pool.Count < Engine.Limits.MaxConcurrentStreams)
        {
            _pool.Push(exchange);
        }
    }

    // Under the lock.
    private bool OnHead(Http2ClientExchange exchange, ResponseHead head, bool endStream, FieldBlockVerdict verdict, out bool wake)
    {
        var stream = exchange.Stream;
        wake = false;
        if (stream.HasEnded || !stream.State.CanReceive)
        {
            return true;
        }

        var isTunnel = exchange.AsksForTunnel && head.Status is >= 200 and < 300;

        // The length in the answer to HEAD and in 304 is that of what is not sent: no DATA may carry a byte (RFC 9113 section 8.1.1).
        var hasNoContent = exchange.IsHead || head.Status is 204 or 304;
        var length = isTunnel || head.IsInformational ? -1 : hasNoContent ? 0 : Engine.Fields.ContentLength;
        var detail = verdict == FieldBlockVerdict.Malformed ? Engine.Fields.Detail
            : head.IsInformational && endStream ? "informational_head_with_end"
            : (endStream && length > 0) || (head.Status is 204 && Engine.Fields.ContentLength > 0) ? "content_length_mismatch"
            : null;
        if (detail is not null)
        {
            return Engine.FailStreamLocked(stream, Http2ErrorCode.ProtocolError, detail);
        }

        if (verdict == FieldBlockVerdict.TooLarge
            || (head.IsInformational && exchange.CountInformational() > Engine.Limits.MaxInformationalHeads))
        {
            var code = Http2ErrorCode.EnhanceYourCalm;
            Engine.ResetStream(stream, code, new StreamEnd(StreamResetReason.LimitExceeded, Initiator.Peer, (uint)code, "response_head_too_large"));
            return Engine.Guard.Charge(AbuseKind.ProvokedReset) || Engine.Abuse(AbuseKind.ProvokedReset);
        }

        stream.State.OnHeadersReceived(endStream);
        head.EndsStream = endStream && !isTunnel;
        if (isTunnel)
        {
            // A length in such a head means nothing (RFC 9110 section 9.3.6).
            head.IsTunnel = stream.IsTunnel = true;
            head.ContentLength = -1;
            head.Fields.Remove(KnownField.ContentLength);
        }

        if (!head.IsInformational)
        {
            stream.HasReceivedHead = true;
            stream.ExpectedLength = length;
        }

        if (endStream)
        {
            Engine.OnEndReceived(stream);
        }

        wake = exchange.PublishHead(head);
        return true;
    }

    private void OnPlacesFreed()
    {
        if (_isRetired)
        {
            StopWhenUnused();
        }
        else
        {
            _observer.OnCapacity(this);
        }
    }

    private void TellRetired()
    {
        lock (Engine.Gate)
        {
            if (_isRetiredTold)
            {
                return;
            }

            _isRetired = _isRetiredTold = true;
        }

        _observer.OnRetired(this);
    }

    private void StopWhenUnused()
    {
        ConnectionCloseReason reason;
        lock (Engine.Gate)
        {
            if (!_isRetired || _reserved > 0 || Engine.OpenStreams > 0)
            {
                return;
            }

            reason = _retireReason;
        }

        Engine.Stop(reason, Http2ErrorCode.NoError, null);
    }
}
