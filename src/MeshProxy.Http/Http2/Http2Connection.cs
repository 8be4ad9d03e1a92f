using System.Buffers;
using System.Buffers.Text;
using System.IO.Pipelines;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.FlowControl;
using MeshProxy.Http.Http2.Frames;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

/// <summary>
/// The engine of both sides: reads frames, guards their order, keeps streams and windows. The read loop runs inline on the transport's thread and
/// is the only one that decodes. Streams, windows, the abuse guard and everything that is written are under <see cref="Gate"/>; the loop takes it
/// for each frame and calls handlers, readers and observers outside it. One <see cref="FlushBatch"/> spans all frames of one read.
/// </summary>
internal sealed class Http2Connection
{
    private const ulong PingKeepAlive = 0x6d70_6b65_6570_0001;
    private const ulong PingBandwidth = 0x6d70_6b65_6570_0002;
    private const ulong PingDrain = 0x6d70_6b65_6570_0003;
    private const int RememberedResets = 1024;

    private readonly IHttp2Role _role;
    private readonly PipeReader _input;
    private readonly HpackDecoder _decoder;
    private readonly Dictionary<int, Http2Stream> _streams = [];
    private readonly byte[] _linear;

    private int[]? _resetIds;
    private int _resetCount;
    private SkippedStreams _skipped;
    private ReceiveWindow _window;
    private BandwidthEstimator _bandwidth;
    private long _unread;

    // A field block that is being assembled (read loop).
    private byte[] _block = [];
    private int _blockLength;
    private int _blockStreamId;
    private bool _blockEndsStream;
    private int _blockFrames;

    // Which frame the loop is at, and whether it waits for the rest of one that is not DATA: what the head timeout is about.
    private long _framesSeen;
    private long _blockBeganAt;
    private bool _isFramePartial;

    private bool _prefaceSeen;
    private bool _settingsSeen;
    private int _settingsUnacknowledged;
    private int _peerInitialWindow = 65_535;

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
    private bool _peerMaxStreamsSeen;

    // The coarse clock: events set a flag, the next tick dates them.
    private volatile bool _receivedSinceTick = true;
    private bool _openedSinceTick = true;
    private long _now;
    private long _lastReceived;
    private long _lastBusy;
    private long _pingSentAt = -1;
    private long _waitingSince = -1;
    private long _waitingFor;
    private long _closedAt = -1;
    private long _drainPingAt = -1;
    private bool _drainPingOutstanding;
    private bool _isPingDue;
    private long _stallsJudgedAt = -1;
    private long _flushProgress = -1;
    private long _flushStalledSince;

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

    /// <summary>Streams the peer allows at once; unlimited until it says so, within reason.</summary>
    public int PeerMaxStreams { get; private set; } = 100;

    public bool PeerAllowsExtendedConnect { get; private set; }

    /// <summary>True when the last GOAWAY of a drain is out.</summary>
    public bool IsFinalGoAwaySent { get; set; }

    /// <summary>True once the connection has ended: nothing is written any more.</summary>
    public bool IsClosed { get; private set; }

    public ConnectionCloseReason CloseReason { get; private set; }

    public bool IsOverloaded => _unread > Limits.MaxUnreadBytes;

    /// <summary>True when the peer had time to see our limits.</summary>
    public bool AreSettingsAcknowledged => _settingsUnacknowledged == 0;

    // ---- The read loop ----

    /// <summary>Reads until the connection ends, ends every stream, and sends what is left. Never throws.</summary>
    public async Task RunAsync()
    {
        Start();
        while (!_stopRequested)
        {
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
                break;
            }

            if (!goOn)
            {
                Stop(_failureReason, _failureCode, _failureDetail);
                break;
            }

            if (result.IsCompleted)
            {
                Stop(ConnectionCloseReason.PeerClosed, Http2ErrorCode.NoError, null);
            }
        }

        Finish();
        if (CloseReason is not (ConnectionCloseReason.TransportError or ConnectionCloseReason.KeepAliveTimeout))
        {
            await Writer.WhenIdleAsync().ConfigureAwait(false);
        }
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
        }

        if (isFirst)
        {
            _input.CancelPendingRead();
        }
    }

    public void OnOutputBroken() => Stop(ConnectionCloseReason.TransportError, Http2ErrorCode.NoError, null);

    private void Start()
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

        FlushBatch.Request(Writer);
    }

    private void WriteOurSettings()
    {
        Span<(SettingId, uint)> settings = stackalloc (SettingId, uint)[6];
        var count = 0;
        settings[count++] = (SettingId.MaxHeaderListSize, (uint)Limits.MaxFieldListBytes);
        settings[count++] = (SettingId.InitialWindowSize, (uint)Limits.InitialStreamWindowBytes);
        if (Limits.MaxHpackTableBytes != HpackDynamicTable.InitialSize)
        {
            settings[count++] = (SettingId.HeaderTableSize, (uint)Limits.MaxHpackTableBytes);
        }

        if (!_role.IsServer)
        {
            settings[count++] = (SettingId.EnablePush, 0);
            Writer.WriteSettings(settings[..count]);
            return;
        }

        settings[count++] = (SettingId.MaxConcurrentStreams, (uint)Limits.MaxConcurrentStreams);
        settings[count++] = (SettingId.NoRfc7540Priorities, 1);
        if (Options.AllowExtendedConnect)
        {
            settings[count++] = (SettingId.EnableConnectProtocol, 1);
        }

        Writer.WriteSettings(settings[..count]);
    }

    private static ReadOnlySpan<byte> ClientPreface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    private void Finish()
    {
        Deferred deferred;
        var reported = _stopDetail;
        lock (Gate)
        {
            if (_stopReason is not (ConnectionCloseReason.TransportError or ConnectionCloseReason.PeerClosed) && !IsFinalGoAwaySent)
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
                ok = header.Type == FrameType.Data && _settingsSeen && _blockStreamId == 0
                    ? OnData(header, buffer.Slice(FrameHeader.Size, header.Length))
                    : OnFrame(header, span);
            }
            else if (buffer.Length < size)
            {
                // DATA may come as slowly as the stream's own timeouts allow.
                isPartial = header.Type != FrameType.Data;
                break;
            }
            else if (header.Type == FrameType.Data && _settingsSeen && _blockStreamId == 0)
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

        if (_blockStreamId != 0 && (header.Type != FrameType.Continuation || header.StreamId != _blockStreamId))
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

    // ---- Frames ----

    private bool OnData(FrameHeader header, ReadOnlySequence<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "data_on_stream_0");
        }

        if (FramePayload.StripPadding(header, ref payload) is var error and not Http2ErrorCode.NoError)
        {
            return Fail(error, "invalid_padding");
        }

        var endStream = header.Has(FrameFlags.EndStream);
        var length = (int)payload.Length;
        Http2Stream? readable = null;
        BodyChunk chunk = default;
        Deferred deferred;
        lock (Gate)
        {
            if (!_window.OnReceived(header.Length))
            {
                return Fail(Http2ErrorCode.FlowControlError, "connection_window_exceeded");
            }

            // Given back on arrival: only a stream's own window holds a stream's reader to account.
            var increment = _window.OnConsumed(header.Length, Limits.ConnectionWindowBytes);
            if (increment > 0)
            {
                Writer.WriteWindowUpdate(0, increment);
            }

            if (length > 0)
            {
                Guard.OnProductiveFrame();
                _bandwidth.OnReceived(length);
            }
            else if (!endStream && !Guard.Charge(AbuseKind.EmptyFrame))
            {
                return Abuse(AbuseKind.EmptyFrame);
            }

            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return OnLateFrame(header.StreamId);
            }

            // The message's own rules come before the state: an error must not look like an end (RFC 9113 section 8.1.1).
            if (stream.State.CanReceive)
            {
                stream.ReceivedLength += length;
                if (!stream.HasReceivedHead)
                {
                    return FailStream(stream, Http2ErrorCode.ProtocolError, "data_before_head");
                }

                if (stream.ExpectedLength >= 0
                    && (stream.ReceivedLength > stream.ExpectedLength || (endStream && stream.ReceivedLength != stream.ExpectedLength)))
                {
                    return FailStream(stream, Http2ErrorCode.ProtocolError, "content_length_mismatch");
                }

                if (!stream.ReceiveWindow.OnReceived(header.Length))
                {
                    return FailStream(stream, Http2ErrorCode.FlowControlError, "stream_window_exceeded");
                }
            }

            if (stream.State.OnDataReceived(endStream) != StreamVerdict.Ok)
            {
                return FailStream(stream, Http2ErrorCode.StreamClosed, "data_after_end");
            }

            var padding = header.Length - length;
            if (padding > 0 && !endStream)
            {
                GiveBack(stream, padding);
            }

            if (stream.DiscardsBody)
            {
                GiveBack(stream, length);
            }
            else if (length > 0)
            {
                stream.Received.Append(in payload);
                _unread += length;
            }

            if (endStream)
            {
                OnEndReceived(stream);
            }

            if (stream.Body.Signal.IsWaiting && stream.Body.TryTakeChunk(out chunk) && stream.Body.Signal.TryTake())
            {
                readable = stream;
            }

            deferred = Writer.TakeDeferred();
        }

        readable?.Body.Signal.Complete(chunk);
        Run(deferred);
        return true;
    }

    private bool OnHeaders(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "headers_on_stream_0");
        }

        if (FramePayload.ReadHeaders(header, ref payload, out var dependency) is var error and not Http2ErrorCode.NoError)
        {
            return Fail(error, "invalid_padding");
        }

        if (dependency == header.StreamId)
        {
            // A stream error (RFC 7540 section 5.3.1), but the block must be decoded.
            Fields.Condemn("stream_depends_on_itself");
        }

        lock (Gate)
        {
            Guard.OnProductiveFrame();
        }

        var endStream = header.Has(FrameFlags.EndStream);
        if (header.Has(FrameFlags.EndHeaders))
        {
            return _role.OnFieldBlock(header.StreamId, endStream, payload);
        }

        _blockBeganAt = _framesSeen;
        _blockStreamId = header.StreamId;
        _blockEndsStream = endStream;
        _blockFrames = 0;
        _blockLength = 0;
        return AppendToBlock(payload);
    }

    private bool OnContinuation(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (_blockStreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "unexpected_continuation");
        }

        if (++_blockFrames > Limits.MaxContinuationFrames)
        {
            return Abuse(AbuseKind.Continuation);
        }

        if (!AppendToBlock(payload))
        {
            return false;
        }

        if (!header.Has(FrameFlags.EndHeaders))
        {
            return true;
        }

        _blockStreamId = 0;
        var ok = _role.OnFieldBlock(header.StreamId, _blockEndsStream, _block.AsSpan(0, _blockLength));
        _block = [];
        return ok;
    }

    private bool AppendToBlock(ReadOnlySpan<byte> fragment)
    {
        if (_blockLength + fragment.Length > Limits.MaxFieldListBytes * 4)
        {
            return Abuse(AbuseKind.FieldBlock);
        }

        if (_block.Length < _blockLength + fragment.Length)
        {
            Array.Resize(ref _block, Math.Max(_blockLength + fragment.Length, _block.Length * 2));
        }

        fragment.CopyTo(_block.AsSpan(_blockLength));
        _blockLength += fragment.Length;
        return true;
    }

    private bool OnWindowUpdate(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (payload.Length != 4)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "window_update_size");
        }

        var increment = FramePayload.ReadUInt31(payload);
        Deferred deferred;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.WindowUpdate))
            {
                return Abuse(AbuseKind.WindowUpdate);
            }

            if (header.StreamId == 0)
            {
                if (increment == 0)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "window_update_0");
                }

                if (!Writer.AddConnectionWindow(increment))
                {
                    return Fail(Http2ErrorCode.FlowControlError, "connection_window_overflow");
                }
            }
            else if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return !IsIdle(header.StreamId) || Fail(Http2ErrorCode.ProtocolError, "window_update_on_idle_stream");
            }
            else if (increment == 0)
            {
                return FailStream(stream, Http2ErrorCode.ProtocolError, "window_update_0");
            }
            else if (stream.State.OnWindowUpdateReceived() == StreamVerdict.Ok && !Writer.AddStreamWindow(stream, increment))
            {
                return FailStream(stream, Http2ErrorCode.FlowControlError, "stream_window_overflow");
            }

            Writer.Pump();
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnResetStream(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (payload.Length != 4)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "rst_stream_size");
        }

        var code = FramePayload.ReadUInt32(payload);
        Deferred deferred;
        lock (Gate)
        {
            if (IsIdle(header.StreamId))
            {
                return Fail(Http2ErrorCode.ProtocolError, "rst_stream_on_idle_stream");
            }

            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
            }

            if (_role.IsServer && !Guard.Charge(AbuseKind.PeerReset))
            {
                return Abuse(AbuseKind.PeerReset);
            }

            if (stream.State.OnResetReceived() == StreamVerdict.Ok)
            {
                var reason = code == (uint)Http2ErrorCode.RefusedStream && !stream.HasReceivedHead
                    ? StreamResetReason.PeerRefused
                    : StreamResetReason.PeerReset;
                CloseStream(stream);
                EndStream(stream, new StreamEnd(reason, Initiator.Peer, code));
            }

            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnSettings(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "settings_on_stream");
        }

        if (header.Has(FrameFlags.Ack))
        {
            if (payload.Length != 0)
            {
                return Fail(Http2ErrorCode.FrameSizeError, "settings_ack_size");
            }

            lock (Gate)
            {
                if (_settingsUnacknowledged > 0)
                {
                    _settingsUnacknowledged--;
                    _decoder.OnSettingsAcknowledged();
                    return true;
                }

                return Guard.Charge(AbuseKind.Settings) || Abuse(AbuseKind.Settings);
            }
        }

        if (payload.Length % 6 != 0)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "settings_size");
        }

        if (payload.Length > Limits.MaxSettingsPerFrame * 6)
        {
            return Abuse(AbuseKind.SettingsList);
        }

        Deferred deferred;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.Settings))
            {
                return Abuse(AbuseKind.Settings);
            }

            for (; !payload.IsEmpty; payload = payload[6..])
            {
                var (id, value) = FramePayload.ReadSetting(payload);
                if (!ApplySetting(id, value))
                {
                    return false;
                }
            }

            if (!_peerMaxStreamsSeen)
            {
                // No MAX_CONCURRENT_STREAMS means no limit (RFC 9113 section 6.5.2); ours stands in.
                PeerMaxStreams = Limits.MaxConcurrentStreams;
            }

            _settingsSeen = true;
            Writer.WriteSettingsAck();
            Writer.Pump();
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        _role.OnPeerSettings();
        return true;
    }

    private bool ApplySetting(SettingId id, uint value)
    {
        switch (id)
        {
            case SettingId.HeaderTableSize:
                Writer.OnPeerTableSize(value);
                return true;
            case SettingId.EnablePush:
                return value == 0 || (value == 1 && _role.IsServer) || Fail(Http2ErrorCode.ProtocolError, "invalid_enable_push");
            case SettingId.MaxConcurrentStreams:
                _peerMaxStreamsSeen = true;
                PeerMaxStreams = (int)Math.Min(value, (uint)Limits.MaxConcurrentStreams);
                return true;
            case SettingId.InitialWindowSize:
                if (value > int.MaxValue)
                {
                    return Fail(Http2ErrorCode.FlowControlError, "invalid_initial_window");
                }

                var change = (int)((long)value - _peerInitialWindow);
                _peerInitialWindow = (int)value;
                foreach (var stream in _streams.Values)
                {
                    if (!Writer.AddStreamWindow(stream, change))
                    {
                        return Fail(Http2ErrorCode.FlowControlError, "stream_window_overflow");
                    }
                }

                return true;
            case SettingId.MaxFrameSize:
                if (value is < 16_384 or > 16_777_215)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_max_frame_size");
                }

                Writer.OnPeerMaxFrameBytes(value);
                return true;
            case SettingId.NoRfc7540Priorities:
                return value <= 1 || Fail(Http2ErrorCode.ProtocolError, "invalid_no_rfc7540_priorities");
            case SettingId.EnableConnectProtocol:
                if (value > 1)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_enable_connect_protocol");
                }

                if (value == 0 && PeerAllowsExtendedConnect)
                {
                    // RFC 8441 section 3: what was allowed is not taken back.
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_enable_connect_protocol");
                }

                PeerAllowsExtendedConnect = value == 1;
                return true;
            default:
                return true;
        }
    }

    private bool OnPing(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "ping_on_stream");
        }

        if (payload.Length != 8)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "ping_size");
        }

        var opaque = System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(payload);
        var drainAnswered = false;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.Ping))
            {
                return Abuse(AbuseKind.Ping);
            }

            if (!header.Has(FrameFlags.Ack))
            {
                Writer.WritePing(opaque, isAck: true);
                return true;
            }

            switch (opaque)
            {
                case PingBandwidth:
                    _bandwidth.OnAnswer(Options.TimeProvider.GetTimestamp(), !IsOverloaded);
                    break;
                case PingDrain:
                    drainAnswered = _drainPingOutstanding;
                    _drainPingOutstanding = false;
                    break;
            }
        }

        if (drainAnswered)
        {
            _role.OnDrainPingAnswered();
        }

        return true;
    }

    private bool OnGoAway(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "goaway_on_stream");
        }

        if (payload.Length < 8)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "goaway_size");
        }

        if (!OnIgnored())
        {
            return false;
        }

        _role.OnGoAway(FramePayload.ReadUInt31(payload), (Http2ErrorCode)FramePayload.ReadUInt32(payload[4..]));
        return true;
    }

    private bool OnPriority(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "priority_on_stream_0");
        }

        Http2ErrorCode code;
        string detail;
        if (payload.Length != 5)
        {
            (code, detail) = (Http2ErrorCode.FrameSizeError, "priority_size");
        }
        else if (FramePayload.ReadUInt31(payload) == header.StreamId)
        {
            (code, detail) = (Http2ErrorCode.ProtocolError, "stream_depends_on_itself");
        }
        else
        {
            return OnIgnored();
        }

        Deferred deferred;
        lock (Gate)
        {
            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                // RST_STREAM must not name an idle stream; nothing is lost by ending the connection of a peer that gets this wrong.
                return Fail(code, detail);
            }

            if (!FailStreamLocked(stream, code, detail))
            {
                return false;
            }

            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnIgnored()
    {
        lock (Gate)
        {
            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }
    }

    // ---- Field blocks, for the roles ----

    /// <summary>Decodes a block into what was begun on <see cref="Fields"/>.</summary>
    /// <returns>False when the connection was failed.</returns>
    public bool TryDecode(ReadOnlySpan<byte> block) => _decoder.Decode(block, Fields) switch
    {
        HpackVerdict.Ok => true,
        HpackVerdict.Malformed => Fail(Http2ErrorCode.CompressionError, "invalid_field_block"),
        _ => Abuse(AbuseKind.FieldBlock),
    };

    /// <summary>A block for a stream that is not open any more: keeps HPACK in step; an error unless we reset the stream ourselves.</summary>
    public bool OnLateFieldBlock(int streamId, ReadOnlySpan<byte> block)
    {
        Fields.BeginDiscard();
        if (!TryDecode(block))
        {
            return false;
        }

        lock (Gate)
        {
            if (!WasResetByUs(streamId))
            {
                return _skipped.Contains(streamId)
                    ? Fail(Http2ErrorCode.ProtocolError, "lower_stream_number")
                    : Fail(Http2ErrorCode.StreamClosed, "headers_on_closed_stream");
            }

            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }
    }

    /// <summary>Trailers of an open stream.</summary>
    public bool OnTrailers(Http2Stream stream, bool endStream, ReadOnlySpan<byte> block)
    {
        // The caller holds the stream: its owner may give it up while its trailers are being filled.
        Fields.BeginTrailers(stream.Trailers);
        if (!TryDecode(block))
        {
            return false;
        }

        var verdict = Fields.End();
        Deferred deferred;
        BodyChunk chunk = default;
        var readable = false;
        lock (Gate)
        {
            var code = Http2ErrorCode.ProtocolError;
            var detail = stream.IsTunnel ? "headers_in_tunnel"
                : !endStream ? "trailers_without_end"
                : verdict == FieldBlockVerdict.Malformed ? Fields.Detail
                : verdict == FieldBlockVerdict.TooLarge ? "trailers_too_large"
                : stream.ExpectedLength >= 0 && stream.ReceivedLength != stream.ExpectedLength ? "content_length_mismatch"
                : null;
            if (verdict == FieldBlockVerdict.TooLarge)
            {
                code = Http2ErrorCode.EnhanceYourCalm;
            }

            if (stream.HasEnded || stream.State.IsClosed)
            {
                Release(stream);
                return true;
            }

            if (!stream.State.CanReceive)
            {
                (code, detail) = (Http2ErrorCode.StreamClosed, "headers_after_end");
            }

            if (detail is null)
            {
                stream.State.OnHeadersReceived(endStream);
            }

            if (detail is not null)
            {
                if (!FailStreamLocked(stream, code, detail))
                {
                    Release(stream);
                    return false;
                }
            }
            else
            {
                OnEndReceived(stream);
                readable = stream.Body.Signal.IsWaiting && stream.Body.TryTakeChunk(out chunk) && stream.Body.Signal.TryTake();
            }

            Release(stream);
            deferred = Writer.TakeDeferred();
        }

        if (readable)
        {
            stream.Body.Signal.Complete(chunk);
        }

        Run(deferred);
        return true;
    }

    // ---- Streams: everything below is called under the lock, unless said otherwise ----

    public bool TryGetStream(int id, out Http2Stream stream) => _streams.TryGetValue(id, out stream!);

    /// <summary>A number was used, whatever became of its stream.</summary>
    public void NoteOpened(int id)
    {
        _skipped.Note(LastStreamId, id);
        LastStreamId = id;
    }

    public void AddStream(Http2Stream stream, int id)
    {
        _isPingDue = IsReusedAfterPause;
        stream.Id = id;
        stream.SendWindow = _peerInitialWindow;
        stream.ReceiveWindow = new ReceiveWindow(Limits.InitialStreamWindowBytes);
        NoteOpened(id);
        _openedSinceTick = true;
        _streams.Add(id, stream);
    }

    /// <summary>Our END_STREAM was written.</summary>
    public void OnEndSent(Http2Stream stream)
    {
        stream.State.OnDataSent(endStream: true);
        if (stream.State.IsClosed)
        {
            Guard.OnStreamCompleted();
            CloseStream(stream);
        }
    }

    public void OnEndReceived(Http2Stream stream)
    {
        stream.HasReceivedEnd = true;
        if (stream.State.IsClosed)
        {
            CloseStream(stream);
        }
    }

    /// <summary>Takes the stream off the connection; its unread bytes stay readable.</summary>
    public void CloseStream(Http2Stream stream)
    {
        if (_streams.Remove(stream.Id))
        {
            Writer.NoteClosed();
        }
    }

    /// <summary>Marks a stream as ended; its waiters and its owner are told outside the lock.</summary>
    public void EndStream(Http2Stream stream, StreamEnd end)
    {
        if (stream.IsEndNoted)
        {
            return;
        }

        stream.IsEndNoted = true;

        // A response that is whole stays whole, whatever happens to the rest of its request.
        if (_role.IsServer || !stream.HasReceivedEnd)
        {
            stream.End = end;
        }

        stream.State.OnResetSent();
        Writer.Forget(stream);

        // What was received stays in its blocks until the exchange is handed back: a chunk of it may be on its way into another connection.
        Writer.NoteEnded(stream);
    }

    /// <summary>Ends the streams that the peer has not seen (RFC 9113 section 6.8).</summary>
    public void EndStreamsBeyond(int lastStreamId, StreamEnd end)
    {
        // A rare event: the copy may allocate.
        foreach (var stream in _streams.Values.Where(stream => stream.Id > lastStreamId).ToArray())
        {
            RememberReset(stream.Id);
            CloseStream(stream);
            EndStream(stream, end);
        }
    }

    /// <summary>Sends RST_STREAM for an open stream, and ends it.</summary>
    public void ResetStream(Http2Stream stream, Http2ErrorCode code, StreamEnd end)
    {
        if (stream.State.OnResetSent())
        {
            RememberReset(stream.Id);
            Writer.WriteReset(stream.Id, code);
            CloseStream(stream);
        }

        EndStream(stream, end);
    }

    /// <summary>Answers a stream that was never opened here with RST_STREAM.</summary>
    public void RefuseStream(int id, Http2ErrorCode code)
    {
        RememberReset(id);
        Writer.WriteReset(id, code);
    }

    /// <summary>Answers a stream that was never opened here, in full. A body that the windows do not allow at once is left out.</summary>
    public void WriteAnswer(int streamId, ResponseHead head, ReadOnlySpan<byte> body)
    {
        var hasBody = !body.IsEmpty && body.Length <= Math.Min(_peerInitialWindow, Math.Min(Writer.SendWindow, Writer.MaxFrameBytes));
        Span<byte> digits = stackalloc byte[11];
        Utf8Formatter.TryFormat(hasBody ? body.Length : 0, digits, out var length);
        head.Fields.Add(KnownField.ContentLength, digits[..length]);
        Writer.WriteResponseHead(streamId, head.Status, head.Fields, endStream: !hasBody);
        if (hasBody)
        {
            Writer.WriteLastData(streamId, body);
        }
    }

    /// <summary>A stream error that the peer caused.</summary>
    /// <returns>False when it has caused too many.</returns>
    public bool FailStreamLocked(Http2Stream stream, Http2ErrorCode code, string detail)
    {
        ResetStream(stream, code, new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, (uint)code, detail));
        return Guard.Charge(AbuseKind.ProvokedReset) || Abuse(AbuseKind.ProvokedReset);
    }

    public void DropReceived(Http2Stream stream)
    {
        _unread -= stream.Received.Length;
        stream.Received.Clear();
    }

    /// <summary>The body reader consumed bytes. Outside the lock, on the reader's thread.</summary>
    public void OnBodyConsumed(Http2Stream stream, long count)
    {
        if (count == 0)
        {
            return;
        }

        var flush = false;
        lock (Gate)
        {
            stream.Received.Consume(count);
            _unread -= count;
            if (stream.State.CanReceive && !IsClosed)
            {
                flush = GiveBack(stream, (int)count);
            }
        }

        if (flush)
        {
            FlushBatch.Request(Writer);
        }
    }

    public void OnTinyData() => _tinyDataFlood |= !Guard.Charge(AbuseKind.TinyData);

    /// <summary>Runs what was found under the lock. Outside it.</summary>
    public void Run(in Deferred deferred)
    {
        if (deferred.IsEmpty)
        {
            return;
        }

        for (var stream = deferred.Written; stream is not null;)
        {
            // Completing hands the object back to its user, who may enlist it again.
            var next = stream.NextWritten;
            stream.NextWritten = null;
            stream.WriteSignal.Complete(stream.WriteResult);
            stream = next;
        }

        for (var stream = deferred.Ended; stream is not null;)
        {
            var next = stream.NextEnded;
            stream.NextEnded = null;
            TellEnd(stream);
            stream = next;
        }

        if (deferred.Closed > 0)
        {
            _role.OnStreamsClosed(deferred.Closed);
        }
    }

    /// <summary>Hands a stream's objects back, at once or when its end has been told.</summary>
    public void Recycle(Http2Stream stream)
    {
        if (stream.Holds > 0)
        {
            stream.IsRecycleWanted = true;
            return;
        }

        DropReceived(stream);
        stream.Renew();
        stream.Owner.Recycle();
    }

    /// <summary>Gives back a hold.</summary>
    public void Release(Http2Stream stream)
    {
        stream.Holds--;
        if (stream.Holds == 0 && stream.IsRecycleWanted)
        {
            Recycle(stream);
        }
    }

    private void TellEnd(Http2Stream stream)
    {
        bool writer;
        bool reader;
        BodyChunk chunk;
        StreamEnd end;
        lock (Gate)
        {
            end = stream.End;
            writer = stream.WriteSignal.TryTake();
            stream.Body.TryTakeChunk(out chunk);
            reader = stream.Body.Signal.TryTake();
        }

        stream.Owner.OnStreamEnded(end);
        if (writer)
        {
            stream.WriteSignal.Complete(false);
        }

        if (reader)
        {
            stream.Body.Signal.Complete(chunk);
        }

        lock (Gate)
        {
            Release(stream);
        }
    }

    private bool GiveBack(Http2Stream stream, int count)
    {
        var increment = stream.ReceiveWindow.OnConsumed(count, IsOverloaded ? 0 : _bandwidth.Target);
        if (increment == 0)
        {
            return false;
        }

        Writer.WriteWindowUpdate(stream.Id, increment);
        if (_bandwidth.TryBegin(Options.TimeProvider.GetTimestamp()))
        {
            Writer.WritePing(PingBandwidth, isAck: false);
        }

        return true;
    }

    private bool OnLateFrame(int streamId)
    {
        if (IsIdle(streamId))
        {
            return Fail(Http2ErrorCode.ProtocolError, "data_on_idle_stream");
        }

        if (WasResetByUs(streamId))
        {
            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }

        Writer.WriteReset(streamId, Http2ErrorCode.StreamClosed);
        return Guard.Charge(AbuseKind.ProvokedReset) || Abuse(AbuseKind.ProvokedReset);
    }

    // Beyond the last GOAWAY everything is as good as closed: its frames are discarded (RFC 9113 section 6.8).
    private bool IsIdle(int streamId) => (streamId & 1) == 0 || (streamId > LastStreamId && !IsFinalGoAwaySent);

    private void RememberReset(int id)
    {
        _resetIds ??= new int[RememberedResets];
        _resetIds[_resetCount++ % RememberedResets] = id;
    }

    private bool WasResetByUs(int id) => _resetIds is not null && _resetIds.AsSpan().Contains(id);

    // A stream error that a frame's handler returns from with the lock held: the read loop tells it right after the frame.
    private bool FailStream(Http2Stream stream, Http2ErrorCode code, string detail)
    {
        _hasUntold = true;
        return FailStreamLocked(stream, code, detail);
    }

    private void TellUntold()
    {
        Deferred deferred;
        lock (Gate)
        {
            _hasUntold = false;
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
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

    // ---- Time ----

    /// <summary>Sends the PING between the two GOAWAY frames of a drain. Under the lock.</summary>
    public void SendDrainPing()
    {
        _drainPingOutstanding = true;
        _drainPingAt = -1;
        Writer.WritePing(PingDrain, isAck: false);
    }

    // Whether the first request after a pause is about to be sent. Under the lock.
    private bool IsReusedAfterPause => _streams.Count == 0 && _pingSentAt < 0 && Options.PingOnReuseAfter is { } pause && !_receivedSinceTick && !_openedSinceTick
        && _now - _lastReceived >= pause.TotalMilliseconds;

    /// <summary>After the head of a new stream was written. Under the lock.</summary>
    public void PingIfReused()
    {
        if (_isPingDue)
        {
            _isPingDue = false;
            SendKeepAlivePing();
        }
    }

    private void SendKeepAlivePing()
    {
        _pingSentAt = _now;
        Writer.WritePing(PingKeepAlive, isAck: false);
    }

    /// <summary>Judges timeouts. Any thread.</summary>
    public void OnTick(long now)
    {
        ConnectionCloseReason reason = ConnectionCloseReason.None;
        var code = Http2ErrorCode.NoError;
        string? detail = null;
        var ping = false;
        var drainPingLate = false;
        Deferred deferred = default;
        lock (Gate)
        {
            if (IsClosed)
            {
                _closedAt = _closedAt < 0 ? now : _closedAt;
                if (now - _closedAt >= Limits.LastFlushTimeout.TotalMilliseconds)
                {
                    // The peer does not read our last words.
                    reason = CloseReason;
                }
            }
            else
            {
                Judge(now, ref reason, ref code, ref detail, ref ping, ref drainPingLate);
                if (reason == ConnectionCloseReason.None)
                {
                    ping |= JudgeStalls(now, ref reason, ref code, ref detail);
                }

                deferred = Writer.TakeDeferred();
            }
        }

        Run(deferred);
        if (reason != ConnectionCloseReason.None)
        {
            // Who does not answer, or does not read, is not waited for; who is late with SETTINGS is told.
            Stop(reason, code, detail, cancelFlush: IsClosed || (reason == ConnectionCloseReason.KeepAliveTimeout && code != Http2ErrorCode.SettingsTimeout));
        }
        else if (drainPingLate)
        {
            _role.OnDrainPingAnswered();
        }

        if (ping)
        {
            FlushBatch.Request(Writer);
        }
    }

    // Peers that do not take what is written for them (slow readers, windows that stay shut). A tenth of the timeout is precise enough, and keeps the walk over
    // all streams rare. Under the lock.
    private bool JudgeStalls(long now, ref ConnectionCloseReason reason, ref Http2ErrorCode code, ref string? detail)
    {
        var timeout = (long)Limits.StallTimeout.TotalMilliseconds;
        if (_stallsJudgedAt >= 0 && now - _stallsJudgedAt < timeout / 10)
        {
            return false;
        }

        _stallsJudgedAt = now;
        var progress = Writer.FlushProgress;
        if (progress < 0 || progress != _flushProgress)
        {
            _flushProgress = progress;
            _flushStalledSince = now;
        }
        else if (now - _flushStalledSince >= timeout)
        {
            TellAbuse(AbuseKind.StalledConnection);
            (reason, code, detail) = (ConnectionCloseReason.KeepAliveTimeout, Http2ErrorCode.EnhanceYourCalm, AbuseGuard.Detail(AbuseKind.StalledConnection));
            return false;
        }

        var anyEnded = false;
        foreach (var stream in _streams.Values)
        {
            if (!stream.HasPendingWrite)
            {
                stream.StalledSince = -1;
            }
            else if (stream.StalledSince < 0 || stream.SentBytes - stream.SentBytesThen >= Limits.MinReadBytes)
            {
                stream.StalledSince = now;
                stream.SentBytesThen = stream.SentBytes;
            }
            else if (now - stream.StalledSince >= timeout)
            {
                // Removing the stream at hand leaves the walk valid.
                TellAbuse(AbuseKind.StalledStream);
                const Http2ErrorCode Code = Http2ErrorCode.EnhanceYourCalm;
                ResetStream(stream, Code, new StreamEnd(StreamResetReason.TimedOut, Initiator.Peer, (uint)Code, AbuseGuard.Detail(AbuseKind.StalledStream)));
                anyEnded = true;
            }
        }

        return anyEnded;
    }

    // Under the lock.
    private void Judge(
        long now, ref ConnectionCloseReason reason, ref Http2ErrorCode code, ref string? detail, ref bool ping, ref bool drainPingLate)
    {
        Guard.OnTick(now);
        _now = now;
        if (_receivedSinceTick)
        {
            _receivedSinceTick = false;
            _lastReceived = now;
            _pingSentAt = -1;
        }

        if (_openedSinceTick || _streams.Count > 0)
        {
            _openedSinceTick = false;
            _lastBusy = now;
        }

        // One thing at most is waited for: the preface and SETTINGS, the rest of a field block or of a frame, or the acknowledgement of our SETTINGS.
        var waitingFor = !_settingsSeen ? -1
            : _blockStreamId != 0 ? (_blockBeganAt * 2) + 1
            : _isFramePartial ? (_framesSeen * 2) + 2
            : _settingsUnacknowledged > 0 ? -2
            : 0;
        if (waitingFor != _waitingFor)
        {
            _waitingFor = waitingFor;
            _waitingSince = now;
        }
        else if (waitingFor == -2 && now - _waitingSince >= Limits.SettingsTimeout.TotalMilliseconds)
        {
            (reason, code, detail) = (ConnectionCloseReason.KeepAliveTimeout, Http2ErrorCode.SettingsTimeout, "settings_timeout");
        }
        else if (waitingFor is not (0 or -2) && now - _waitingSince >= Limits.HeadTimeout.TotalMilliseconds)
        {
            (reason, code, detail) = (ConnectionCloseReason.HeadTimeout, Http2ErrorCode.ProtocolError, "head_timeout");
        }

        if (reason == ConnectionCloseReason.None && _streams.Count == 0 && now - _lastBusy >= Limits.IdleTimeout.TotalMilliseconds)
        {
            reason = ConnectionCloseReason.IdleTimeout;
        }

        if (reason == ConnectionCloseReason.None && _pingSentAt >= 0)
        {
            if (now - _pingSentAt >= Options.PingTimeout.TotalMilliseconds)
            {
                (reason, detail) = (ConnectionCloseReason.KeepAliveTimeout, "ping_timeout");
            }
        }
        else if (reason == ConnectionCloseReason.None && _streams.Count > 0 && Options.PingAfterSilence is { } silence && now - _lastReceived >= silence.TotalMilliseconds)
        {
            SendKeepAlivePing();
            ping = true;
        }

        if (_drainPingOutstanding)
        {
            _drainPingAt = _drainPingAt < 0 ? now : _drainPingAt;
            drainPingLate = now - _drainPingAt >= Limits.DrainPingTimeout.TotalMilliseconds;
            _drainPingOutstanding = !drainPingLate;
        }
    }
}
