using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.Http.Http2.FlowControl;
using MeshProxy.Http.Http2.Frames;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

/// <summary>
/// The engine of both sides: reads frames, guards their order, keeps streams and windows. The read loop runs inline on the transport's thread and
/// is the only one that decodes. Streams, windows, the abuse guard and everything that is written are under <see cref="Gate"/>; the loop takes it
/// for each frame and calls handlers, readers and observers outside it. One <see cref="FlushBatch"/> spans all frames of one read.
/// <para>Its stories: this file, the loop, how it begins and ends; <c>.Frames</c>, each frame type's rules; <c>.Settings</c>, both sides' SETTINGS;
/// <c>.Streams</c>, the streams that are open and how they end; <c>.Time</c>, timeouts, PING, stalls.</para>
/// </summary>
internal sealed partial class Http2Connection
{
    private readonly IHttp2Role _role;
    private readonly PipeReader _input;
    private readonly HpackDecoder _decoder;
    private readonly Dictionary<int, Http2Stream> _streams = [];
    private readonly byte[] _linear;
    private readonly FieldBlock _block;

    private PastStreams _past;
    private ReceiveWindow _window;
    private BandwidthEstimator _bandwidth;
    private long _unread;

    // Which frame the loop is at, and whether it waits for the rest of one that is not DATA: what the head timeout is about.
    private long _framesSeen;
    private bool _isFramePartial;

    private bool _prefaceSeen;
    private bool _settingsSeen;

    // Why the read loop stops.
    private Http2ErrorCode _failureCode;
    private ConnectionCloseReason _failureReason;
    private string _failureDetail = "";
    private volatile bool _stopRequested;
    private ConnectionCloseReason _stopReason;
    private Http2ErrorCode _stopCode;
    private string? _stopDetail;
    private bool _tinyDataFlood;
    private bool _hasUntold;

    // The client's output has failed; the loop has told, and reads what there still is.
    private volatile bool _isOutputBroken;
    private bool _isReadingOut;

    // After the end: we wait for the peer to close; we have waited long enough.
    private volatile bool _isLingering;
    private volatile bool _isLingerOver;

    public Http2Connection(IHttp2Role role, PipeReader input, PipeWriter output, Http2Options options)
    {
        _role = role;
        _input = input;
        Options = options;
        Limits = options.Limits;
        Writer = new ConnectionWriter(this, output, Limits);
        Guard = new AbuseGuard(Limits);
        Fields = new MessageFields(Limits, options.AllowExtendedConnect);
        _decoder = HpackDecoder.ForConnection(Limits.MaxHpackTableBytes);
        _window = new ReceiveWindow(65_535);
        _bandwidth = new BandwidthEstimator(Limits.InitialStreamWindowBytes, Math.Max(Limits.InitialStreamWindowBytes, Limits.MaxStreamWindowBytes));
        _linear = new byte[256];
        _block = new FieldBlock(Limits);
        WritePreface();
    }

    public Http2Options Options { get; }

    public Http2Limits Limits { get; }

    public ConnectionWriter Writer { get; }

    public Lock Gate => Writer.Gate;

    public AbuseGuard Guard { get; }

    public MessageFields Fields { get; }

    /// <summary>Streams that count against the stream limit. Under the lock.</summary>
    public int OpenStreams => _streams.Count;

    /// <summary>The highest stream that the opener opened: the peer on the server side, we on the client side.</summary>
    public int LastStreamId { get; private set; }

    /// <summary>True when the last GOAWAY of a drain is out.</summary>
    public bool IsFinalGoAwaySent { get; set; }

    /// <summary>True once the connection has ended.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>True once nothing is written any more: the connection has ended, or its output has failed and it only reads. Under the lock.</summary>
    public bool IsWriteEnded => IsClosed || _isOutputBroken;

    public ConnectionCloseReason CloseReason { get; private set; }

    /// <summary>True when requests were given up that the transport may hold, unsent: its owner must reset it, because an orderly close would send them.</summary>
    public bool EndedAbruptly { get; private set; }

    /// <summary>True when the last GOAWAY is out, or will be with what is in hand: a stream that is not open yet must not be opened. Under the lock.</summary>
    public bool IsEnding => IsFinalGoAwaySent || _stopRequested;

    /// <summary>More is unread than the limit.</summary>
    public bool IsOverloaded => _unread > Limits.MaxUnreadBytes;

    /// <summary>Windows may grow: neither the connection nor the process holds too much.</summary>
    public bool HasRoomToGrow => !IsOverloaded && Options.IsMemoryShort?.Invoke() is not true;

    /// <summary>No further body is taken: more is unread than the limit, and more than the first windows of the open streams, which many slow uploads may fill and
    /// hold up nobody.</summary>
    public bool HasNoRoomForBodies => IsOverloaded && _unread > (long)OpenStreams * Limits.InitialStreamWindowBytes;

    // ---- The read loop ----

    /// <summary>Reads until the connection ends, ends every stream, and sends what is left. Never throws.</summary>
    public async Task RunAsync()
    {
        FlushBatch.Request(Writer);
        var isInputUsable = true;
        while (!_stopRequested)
        {
            if (_isOutputBroken && !_isReadingOut)
            {
                _isReadingOut = true;
                _role.OnOutputBroken();
                continue;
            }

            ReadResult result;
            try
            {
                result = await _input.ReadAsync().ConfigureAwait(false);
            }
            catch (Exception)
            {
                // Whatever the transport throws: it is gone.
                Stop(ConnectionCloseReason.TransportError, Http2ErrorCode.NoError, null);
                break;
            }

            if (_stopRequested)
            {
                _input.AdvanceTo(result.Buffer.End);
                break;
            }

            var buffer = result.Buffer;
            SequencePosition consumed;
            bool goOn;
            try
            {
                goOn = Process(buffer, out consumed);
                _input.AdvanceTo(consumed, buffer.End);
            }
            catch (Exception error) when (error is not OutOfMemoryException)
            {
                // A bug of ours: this connection pays for it, not the process.
                Stop(ConnectionCloseReason.ProtocolError, Http2ErrorCode.InternalError, "internal_error");
                isInputUsable = false;
                break;
            }

            if (!goOn)
            {
                Stop(_failureReason, _failureCode, _failureDetail);
                break;
            }

            if (result.IsCompleted)
            {
                // The reset that our output has met may look like an end in order here.
                Stop(_isOutputBroken ? ConnectionCloseReason.TransportError : ConnectionCloseReason.PeerClosed, Http2ErrorCode.NoError, null);
            }
        }

        Finish();
        if (CloseReason is not (ConnectionCloseReason.TransportError or ConnectionCloseReason.KeepAliveTimeout))
        {
            await Writer.WhenIdleAsync().ConfigureAwait(false);
            if (isInputUsable && _role.IsServer && CloseReason != ConnectionCloseReason.PeerClosed && Writer.Complete())
            {
                await LingerAsync().ConfigureAwait(false);
            }
        }
    }

    // Closing on bytes that nobody read makes the kernel answer with a reset, which destroys our GOAWAY and the responses before it where the peer has not read
    // them yet. So the peer is told first that nothing follows, and what it had on the way is thrown away until it closes. A client takes no such care: its last
    // GOAWAY tells nothing that matters.
    private async ValueTask LingerAsync()
    {
        _isLingering = true;
        long discarded = 0;
        try
        {
            while (!_isLingerOver && discarded <= Limits.MaxLingerBytes)
            {
                var result = await _input.ReadAsync().ConfigureAwait(false);
                discarded += result.Buffer.Length;
                _receivedSinceTick = true;
                _input.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted)
                {
                    break;
                }
            }
        }
        catch (Exception)
        {
            // Whatever the transport throws: it is gone.
        }
    }

    private void EndLinger()
    {
        _isLingerOver = true;
        _input.CancelPendingRead();
    }

    /// <summary>Ends the read loop from any thread.</summary>
    public void Stop(ConnectionCloseReason reason, Http2ErrorCode code, string? detail, bool cancelFlush = false)
    {
        bool isFirst;
        lock (Gate)
        {
            isFirst = !_stopRequested;
            if (isFirst)
            {
                _stopReason = reason;
                _stopCode = code;
                _stopDetail = detail;
                _stopRequested = true;
            }
        }

        if (cancelFlush)
        {
            // After the reason is set: the flush that this breaks stops the loop as well, and knows less.
            Writer.Abort();
            EndLinger();
        }

        if (isFirst)
        {
            _input.CancelPendingRead();
        }
    }

    /// <summary>Nothing can be sent any more. A server stops: what it has not read yet it has not processed, and nobody would get its answers. To a client the peer
    /// may have sent answers before it reset the connection; they are read until the input ends, in the time that <see cref="OnTick"/> allows. From any thread.</summary>
    public void OnOutputBroken()
    {
        if (_role.IsServer)
        {
            Stop(ConnectionCloseReason.TransportError, Http2ErrorCode.NoError, null);
            return;
        }

        lock (Gate)
        {
            if (_stopRequested || _isOutputBroken)
            {
                return;
            }

            _isOutputBroken = true;
        }

        // The loop tells it.
        _input.CancelPendingRead();
    }

    // Written before anybody can ask for more: nothing may come in front of it, such as the GOAWAY of a drain that begins before the loop does (RFC 9113 section 3.4).
    private void WritePreface()
    {
        var limits = Limits;
        lock (Gate)
        {
            if (!_role.IsServer)
            {
                Writer.WriteRaw(ClientPreface);
            }

            _prefaceSeen = !_role.IsServer;
            WriteOurSettings();
            _settingsUnacknowledged++;
            var more = limits.ConnectionWindowBytes - _window.Size;
            if (more > 0)
            {
                Writer.WriteWindowUpdate(0, more);
                _window = new ReceiveWindow(limits.ConnectionWindowBytes);
            }
        }
    }

    private static ReadOnlySpan<byte> ClientPreface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    private void Finish()
    {
        Deferred deferred;
        var reported = _stopDetail;
        lock (Gate)
        {
            // What no flush has taken yet counts as unsent, so that it may be sent elsewhere at once, whatever it is: here it must never go out. No GOAWAY is worth
            // a request that is served twice.
            EndedAbruptly |= !_role.IsServer && _streams.Values.Any(Writer.IsUnflushed);
            if (EndedAbruptly)
            {
                Writer.GiveUpUnflushed();
            }
            else if (_stopReason is not (ConnectionCloseReason.TransportError or ConnectionCloseReason.PeerClosed) && !IsFinalGoAwaySent)
            {
                Writer.WriteGoAway(_role.IsServer ? LastStreamId : 0, _stopCode);
            }

            IsClosed = true;
            CloseReason = _stopReason;
            var end = EndOf(_stopReason, _stopCode, _stopDetail);
            foreach (var stream in _streams.Values)
            {
                EndStream(stream, end);
            }

            _streams.Clear();
            Writer.GiveUpFlushing();
            deferred = Writer.TakeDeferred();
        }

        if (reported is not null)
        {
            Options.OnError?.Invoke(_stopReason, _stopCode, reported);
        }

        using var batch = FlushBatch.Enter();
        FlushBatch.Request(Writer);
        Run(deferred);
    }

    private static StreamEnd EndOf(ConnectionCloseReason reason, Http2ErrorCode code, string? detail) => reason switch
    {
        ConnectionCloseReason.PeerClosed => new StreamEnd(StreamResetReason.PeerClosed, Initiator.Peer),
        ConnectionCloseReason.TransportError => new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer),
        ConnectionCloseReason.ProtocolError => new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, (uint)code, detail),
        ConnectionCloseReason.Abuse => new StreamEnd(StreamResetReason.LimitExceeded, Initiator.Peer, (uint)code, detail),
        ConnectionCloseReason.HeadTimeout or ConnectionCloseReason.KeepAliveTimeout or ConnectionCloseReason.IdleTimeout =>
            new StreamEnd(StreamResetReason.TimedOut, Initiator.Peer, (uint)code, detail),
        ConnectionCloseReason.Revoked or ConnectionCloseReason.Drain => new StreamEnd(StreamResetReason.Cancelled, Initiator.Operator, (uint)code, detail),
        _ => new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, (uint)code, detail),
    };

    /// <summary>Dispatches every whole frame of the buffer.</summary>
    /// <returns>False when the connection is to end.</returns>
    private bool Process(ReadOnlySequence<byte> buffer, out SequencePosition consumed)
    {
        using var batch = FlushBatch.Enter();
        _receivedSinceTick = true;
        consumed = buffer.Start;
        if (!_prefaceSeen)
        {
            if (!TryReadPreface(ref buffer))
            {
                return false;
            }

            consumed = buffer.Start;
            if (!_prefaceSeen)
            {
                return true;
            }
        }

        var isPartial = false;
        while (!_stopRequested && FrameHeader.TryRead(in buffer, out var header))
        {
            if (header.Length > Limits.MaxFrameBytes)
            {
                return Fail(Http2ErrorCode.FrameSizeError, "frame_too_large");
            }

            var size = FrameHeader.Size + header.Length;
            ReadOnlySequence<byte> payload;
            ReadOnlySpan<byte> span;
            var first = buffer.FirstSpan;
            bool ok;
            if (first.Length >= size)
            {
                span = first.Slice(FrameHeader.Size, header.Length);
                ok = header.Type == FrameType.Data && _settingsSeen && !_block.IsOpen
                    ? OnData(header, buffer.Slice(FrameHeader.Size, header.Length))
                    : OnFrame(header, span);
            }
            else if (buffer.Length < size)
            {
                // DATA may come as slowly as the stream's own timeouts allow.
                isPartial = header.Type != FrameType.Data;
                break;
            }
            else if (header.Type == FrameType.Data && _settingsSeen && !_block.IsOpen)
            {
                ok = OnData(header, buffer.Slice(FrameHeader.Size, header.Length));
            }
            else
            {
                payload = buffer.Slice(FrameHeader.Size, header.Length);
                ok = header.Length <= _linear.Length ? OnScatteredFrame(header, payload, _linear) : OnLargeScatteredFrame(header, payload);
            }

            if (!ok)
            {
                return false;
            }

            if (_hasUntold)
            {
                TellUntold();
            }

            _framesSeen++;
            buffer = buffer.Slice(size);
            consumed = buffer.Start;
        }

        _isFramePartial = isPartial || buffer.Length is > 0 and < FrameHeader.Size;
        if (_tinyDataFlood)
        {
            return Abuse(AbuseKind.TinyData);
        }

        if (Writer.IsBacklogged)
        {
            return Abuse(AbuseKind.Backlog);
        }

        if (Writer.HasUnflushed)
        {
            FlushBatch.Request(Writer);
        }

        return true;
    }

    private bool OnScatteredFrame(FrameHeader header, in ReadOnlySequence<byte> payload, byte[] linear)
    {
        payload.CopyTo(linear);
        return OnFrame(header, linear.AsSpan(0, header.Length));
    }

    private bool OnLargeScatteredFrame(FrameHeader header, in ReadOnlySequence<byte> payload)
    {
        var linear = ArrayPool<byte>.Shared.Rent(header.Length);
        try
        {
            return OnScatteredFrame(header, payload, linear);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(linear);
        }
    }

    private bool TryReadPreface(ref ReadOnlySequence<byte> buffer)
    {
        var preface = ClientPreface;
        var available = (int)Math.Min(buffer.Length, preface.Length);
        Span<byte> start = stackalloc byte[24];
        buffer.Slice(0, available).CopyTo(start);
        if (!preface.StartsWith(start[..available]))
        {
            return Fail(Http2ErrorCode.ProtocolError, "invalid_preface");
        }

        if (available == preface.Length)
        {
            _prefaceSeen = true;
            buffer = buffer.Slice(preface.Length);
        }

        return true;
    }

    // The guards in order: first SETTINGS, then unbroken field blocks (RFC 9113 sections 3.4, 4.3), then each type's own.
    private bool OnFrame(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (!_settingsSeen && (header.Type != FrameType.Settings || header.Has(FrameFlags.Ack)))
        {
            return Fail(Http2ErrorCode.ProtocolError, "settings_expected");
        }

        if (_block.IsOpen && (header.Type != FrameType.Continuation || header.StreamId != _block.StreamId))
        {
            return Fail(Http2ErrorCode.ProtocolError, "continuation_expected");
        }

        return header.Type switch
        {
            FrameType.Headers => OnHeaders(header, payload),
            FrameType.Continuation => OnContinuation(header, payload),
            FrameType.WindowUpdate => OnWindowUpdate(header, payload),
            FrameType.RstStream => OnResetStream(header, payload),
            FrameType.Settings => OnSettings(header, payload),
            FrameType.Ping => OnPing(header, payload),
            FrameType.GoAway => OnGoAway(header, payload),
            FrameType.Priority => OnPriority(header, payload),
            FrameType.PushPromise => Fail(Http2ErrorCode.ProtocolError, "push_refused"),
            FrameType.Data => OnData(header, new ReadOnlySequence<byte>(payload.ToArray())),
            _ => OnIgnored(),
        };
    }

    // ---- Errors ----

    /// <summary>Notes why the connection ends.</summary>
    /// <returns>False, for the read loop to stop.</returns>
    public bool Fail(Http2ErrorCode code, string detail, ConnectionCloseReason reason = ConnectionCloseReason.ProtocolError)
    {
        _failureCode = code;
        _failureDetail = detail;
        _failureReason = reason;
        return false;
    }

    /// <summary>Ends the connection because of what the peer did too much of.</summary>
    public bool Abuse(AbuseKind kind)
    {
        TellAbuse(kind);
        return Fail(Http2ErrorCode.EnhanceYourCalm, AbuseGuard.Detail(kind), ConnectionCloseReason.Abuse);
    }

    public void TellAbuse(AbuseKind kind) => Options.OnAbuse?.Invoke(AbuseGuard.Detail(kind));

}
