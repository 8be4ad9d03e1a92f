using System.IO.Pipelines;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>The server side of an HTTP/2 connection (RFC 9113).</summary>
public sealed class Http2ServerConnection : HttpServerConnection, IHttp2Role
{
    private readonly Stack<Http2ServerExchange> _pool = new();
    private IHttpExchangeHandler? _handler;
    private int _running;
    private long _total;
    private ConnectionCloseReason _drainReason;
    private TaskCompletionSource? _handled;

    /// <summary>Makes a connection over a transport's pipes. At an orderly end it completes the output, and waits for the client to close; the rest is the owner's. The output must allow GetSpan and Advance while a flush is
    /// pending, and must send nothing that was not flushed.</summary>
    public Http2ServerConnection(PipeReader input, PipeWriter output, Http2Options options)
    {
        Engine = new Http2Connection(this, input, output, options);
    }

    /// <inheritdoc/>
    public override ConnectionCloseReason CloseReason => Engine.CloseReason;

    /// <inheritdoc/>
    public override int ActiveExchanges => Volatile.Read(ref _running);

    /// <inheritdoc/>
    public override long TotalExchanges => Volatile.Read(ref _total);

    /// <summary>Hears of refused requests; may be null.</summary>
    public IRejectionObserver? RejectionObserver { get; init; }

    bool IHttp2Role.IsServer => true;

    internal Http2Connection Engine { get; }

    /// <inheritdoc/>
    public override async Task RunAsync(IHttpExchangeHandler handler)
    {
        _handler = handler;
        await Engine.RunAsync().ConfigureAwait(false);
        Task handled;
        lock (Engine.Gate)
        {
            if (_running == 0)
            {
                return;
            }

            _handled = new TaskCompletionSource();
            handled = _handled.Task;
        }

        await handled.ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override void Drain(ConnectionCloseReason reason)
    {
        lock (Engine.Gate)
        {
            if (Engine.IsClosed || _drainReason != ConnectionCloseReason.None)
            {
                return;
            }

            // First step (RFC 9113 section 6.8): no new streams please, but those on their way are still served.
            _drainReason = reason;
            Engine.Writer.WriteGoAway(int.MaxValue, Http2ErrorCode.NoError);
            Engine.SendDrainPing();
        }

        FlushBatch.Request(Engine.Writer);
    }

    /// <inheritdoc/>
    /// <remarks>The client is told once which of its streams were not processed (RFC 9113 section 6.8), if it takes that at once.</remarks>
    public override void Abort(ConnectionCloseReason reason)
    {
        bool tells;
        lock (Engine.Gate)
        {
            tells = !Engine.IsClosed && !Engine.IsEnding;
            if (tells)
            {
                _drainReason = _drainReason == ConnectionCloseReason.None ? reason : _drainReason;
                Engine.IsFinalGoAwaySent = true;
                Engine.Writer.WriteGoAway(Engine.LastStreamId, Http2ErrorCode.NoError);
            }
        }

        if (tells)
        {
            Engine.Writer.FlushNow();
        }

        Engine.Stop(reason, Http2ErrorCode.NoError, null, cancelFlush: true);
    }

    /// <inheritdoc/>
    public override void OnTick(long nowMilliseconds) => Engine.OnTick(nowMilliseconds);

    bool IHttp2Role.OnFieldBlock(int streamId, bool endStream, ReadOnlySpan<byte> block)
    {
        var engine = Engine;
        Http2ServerExchange? exchange = null;
        var isProvoked = false;
        lock (engine.Gate)
        {
            if (engine.TryGetStream(streamId, out var open))
            {
                open.Holds++;
                exchange = (Http2ServerExchange)open.Owner;
            }
        }

        if (exchange is not null)
        {
            return engine.OnTrailers(exchange.Stream, endStream, block);
        }

        if ((streamId & 1) == 0)
        {
            return engine.Fail(Http2ErrorCode.ProtocolError, "even_stream_from_client");
        }

        if (streamId <= engine.LastStreamId)
        {
            return engine.OnLateFieldBlock(streamId, block);
        }

        lock (engine.Gate)
        {
            // Handlers may outlive their streams (the peer can reset them): twice the limit bounds those as well.
            isProvoked = engine.OpenStreams >= engine.Limits.MaxConcurrentStreams || _running >= 2L * engine.Limits.MaxConcurrentStreams;
            if (!isProvoked && !engine.IsFinalGoAwaySent && (endStream || !engine.HasNoRoomForBodies))
            {
                exchange = _pool.TryPop(out var pooled) ? pooled : new Http2ServerExchange(this);
            }
            else
            {
                if (!engine.IsFinalGoAwaySent)
                {
                    engine.NoteOpened(streamId);
                }
            }
        }

        return exchange is null ? Refuse(streamId, block, isProvoked) : Open(exchange, streamId, endStream, block);
    }

    void IHttp2Role.OnPeerSettings()
    {
    }

    void IHttp2Role.OnGoAway(int lastStreamId, Http2ErrorCode code)
    {
        // The client opens nothing more; it closes when it has what it wants.
    }

    void IHttp2Role.OnStreamsClosed(int count) => StopWhenDrained();

    void IHttp2Role.OnOutputBroken()
    {
    }

    void IHttp2Role.OnDrainPingAnswered()
    {
        lock (Engine.Gate)
        {
            if (Engine.IsClosed || Engine.IsFinalGoAwaySent)
            {
                return;
            }

            // Second step: everything that the peer had sent before it saw the first GOAWAY is here.
            Engine.IsFinalGoAwaySent = true;
            Engine.Writer.WriteGoAway(Engine.LastStreamId, Http2ErrorCode.NoError);
        }

        FlushBatch.Request(Engine.Writer);
        StopWhenDrained();
    }

    /// <summary>Back to the pool. Under the lock.</summary>
    internal void Return(Http2ServerExchange exchange)
    {
        if (_pool.Count < Engine.Limits.MaxConcurrentStreams)
        {
            _pool.Push(exchange);
        }
    }

    internal void OnHandled(Http2ServerExchange exchange, bool failed)
    {
        var stream = exchange.Stream;
        Deferred deferred;
        TaskCompletionSource? handled = null;
        lock (Engine.Gate)
        {
            exchange.StopTelling();
            if (!stream.HasEnded && !stream.State.IsClosed && !Engine.IsClosed)
            {
                // A response that is not whole is broken off; one that is whole ends the request too (RFC 9113 section 8.1).
                var code = stream.State.CanSend || failed ? Http2ErrorCode.InternalError : Http2ErrorCode.NoError;
                Engine.ResetStream(stream, code, new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, (uint)code));
            }

            _running--;
            if (_running == 0)
            {
                handled = _handled;
            }

            Engine.Recycle(stream);
            deferred = Engine.Writer.TakeDeferred();
        }

        Engine.Run(deferred);
        if (Engine.Writer.HasUnflushed)
        {
            FlushBatch.Request(Engine.Writer);
        }

        handled?.TrySetResult();
    }

    private bool Refuse(int streamId, ReadOnlySpan<byte> block, bool isProvoked)
    {
        Engine.Fields.BeginDiscard();
        if (!Engine.TryDecode(block))
        {
            return false;
        }

        lock (Engine.Gate)
        {
            Engine.RefuseStream(streamId, Http2ErrorCode.RefusedStream);
            if (isProvoked || !Engine.IsFinalGoAwaySent)
            {
                Engine.TellAbuse(isProvoked ? AbuseKind.StreamLimit : AbuseKind.UnreadBytes);
            }

            return !isProvoked || !Engine.AreSettingsAcknowledged || Engine.Guard.Charge(AbuseKind.ProvokedReset)
                || Engine.Abuse(AbuseKind.ProvokedReset);
        }
    }

    private bool Open(Http2ServerExchange exchange, int streamId, bool endStream, ReadOnlySpan<byte> block)
    {
        var engine = Engine;
        engine.Fields.BeginRequest(exchange.Request);
        if (!engine.TryDecode(block))
        {
            return false;
        }

        var verdict = engine.Fields.End();
        var length = engine.Fields.ContentLength;
        if (verdict == FieldBlockVerdict.Ok && endStream && length > 0)
        {
            verdict = engine.Fields.Malformed("content_length_mismatch");
        }

        if (verdict != FieldBlockVerdict.Ok)
        {
            return Reject(exchange, streamId, endStream, verdict);
        }

        lock (engine.Gate)
        {
            if (engine.IsEnding)
            {
                // Since its block was begun, on another thread: a GOAWAY that says nothing of this stream is out, or about to be, and its client may send the
                // request elsewhere at once. It must not be served here as well.
                engine.RefuseStream(streamId, Http2ErrorCode.RefusedStream);
                exchange.Request.Clear();
                Return(exchange);
                return true;
            }

            var stream = exchange.Stream;
            engine.AddStream(stream, streamId);
            stream.State.OnHeadersReceived(endStream);
            stream.HasReceivedHead = true;
            stream.ExpectedLength = length;
            stream.HasReceivedEnd = endStream;
            stream.IsTunnel = stream.WithholdsBody = exchange.Request.AsksForTunnel;
            exchange.Request.EndsStream = endStream && !stream.IsTunnel;
            _running++;
            _total++;
        }

        Serve(exchange);
        return true;
    }

    // A malformed request is a stream error (RFC 9113 section 8.1.1); one that is only too large is answered (RFC 6585 section 5).
    private bool Reject(Http2ServerExchange exchange, int streamId, bool endStream, FieldBlockVerdict verdict)
    {
        var answer = verdict == FieldBlockVerdict.TooLarge ? exchange.Response : null;
        if (answer is not null)
        {
            answer.Status = 431;
            if (Engine.Options.Date is { } date)
            {
                answer.Fields.Add(KnownField.Date, date.Value);
            }
        }

        var body = RejectionObserver is { } observer ? observer.OnRejected(this, exchange.Request, answer, Engine.Fields.Detail) : default;
        lock (Engine.Gate)
        {
            Engine.NoteOpened(streamId);
            if (answer is null || !Engine.PeerTakes(answer))
            {
                Engine.RefuseStream(streamId, answer is null ? Http2ErrorCode.ProtocolError : Http2ErrorCode.EnhanceYourCalm);
            }
            else
            {
                Engine.WriteAnswer(streamId, answer, exchange.Request.Method == RequestMethod.Head ? default : body.Span);
                if (!endStream)
                {
                    // No more of the request, please (RFC 9113 section 8.1).
                    Engine.RefuseStream(streamId, Http2ErrorCode.NoError);
                }
            }

            exchange.Request.Clear();
            exchange.Response.Clear();
            Return(exchange);
            return Engine.Guard.Charge(AbuseKind.ProvokedReset) || Engine.Abuse(AbuseKind.ProvokedReset);
        }
    }

    private void Serve(Http2ServerExchange exchange)
    {
        ValueTask handling;
        try
        {
            handling = _handler!.HandleAsync(exchange);
        }
        catch (Exception)
        {
            OnHandled(exchange, failed: true);
            return;
        }

        if (handling.IsCompletedSuccessfully)
        {
            handling.GetAwaiter().GetResult();
            OnHandled(exchange, failed: false);
        }
        else
        {
            exchange.Await(handling);
        }
    }

    private void StopWhenDrained()
    {
        ConnectionCloseReason reason;
        lock (Engine.Gate)
        {
            if (!Engine.IsFinalGoAwaySent || Engine.OpenStreams > 0)
            {
                return;
            }

            reason = _drainReason;
        }

        Engine.Stop(reason, Http2ErrorCode.NoError, null);
    }
}
