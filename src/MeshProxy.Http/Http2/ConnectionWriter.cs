using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.Frames;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

/// <summary>Work that was found under the lock and must run outside it: writers whose wait is over, streams whose end is to be told.</summary>
internal struct Deferred
{
    public Http2Stream? Written;
    public Http2Stream? Ended;
    public int Closed;

    public readonly bool IsEmpty => Written is null && Ended is null && Closed == 0;
}

/// <summary>
/// The single output side of a connection. Frames of all streams are appended to the transport's writer under one short lock, <see cref="Gate"/>,
/// which also owns stream states, windows and the HPACK encoder: the order of appending is the order on the wire. At most one flush is outstanding;
/// what is appended meanwhile goes out with the next.
/// <para>Invariants:</para>
/// <list type="bullet">
/// <item>The transport's writer is touched under the lock, except by the synchronous part of FlushAsync, which makes a system call (and, with an
/// in-memory transport, runs the peer) and therefore runs outside it; frames appended in that moment go to a spill buffer and follow right after.</item>
/// <item>A stream is in the ready queue exactly when it has unframed DATA and stream window. The queue turns by one frame for each stream, so a
/// large body never holds up small ones. A stream without window is in no queue; WINDOW_UPDATE brings it back.</item>
/// <item>No continuation runs under the lock: completions are collected in <see cref="Deferred"/>.</item>
/// </list>
/// </summary>
internal sealed class ConnectionWriter : FlushTarget
{
    private const int DirectBlockBytes = 4096;
    private const int TinyDataBytes = 128;

    private readonly PipeWriter _output;
    private readonly Http2Connection _connection;
    private readonly HpackEncoder _encoder;
    private readonly Http2Limits _limits;
    private readonly Action _onFlushed;
    private readonly SpillBuffer _spill = new();

    private ConfiguredValueTaskAwaitable<FlushResult>.ConfiguredValueTaskAwaiter _flush;
    private bool _isFlushing;
    private bool _isFlushWanted;
    private bool _isInFlushCall;
    private bool _isBroken;
    private long _appended;
    private long _flushStarted;
    private long _flushed;

    // Frames that the peer's own frames call for: acknowledgements, resets, windows.
    private long _replies;
    private long _repliesFlushing;
    private long _repliesFlushed;
    private byte[] _blockScratch = [];
    private bool _isBlockInPlace;

    // Memory of the transport's writer that frames are written into, and how much of it holds frames already: the writer hears of them together, before a flush.
    private Memory<byte> _room;
    private int _roomUsed;
    private Http2Stream? _readyHead;
    private Http2Stream? _readyTail;
    private Http2Stream? _flushingHead;
    private Http2Stream? _flushingTail;
    private Deferred _deferred;
    private TaskCompletionSource? _idle;

    public ConnectionWriter(Http2Connection connection, PipeWriter output, Http2Limits limits)
    {
        _connection = connection;
        _output = output;
        _limits = limits;
        _encoder = new HpackEncoder(limits.MaxHpackTableBytes);
        _onFlushed = OnFlushed;
    }

    /// <summary>The connection's lock. Never held across an await, a callback or a system call.</summary>
    public Lock Gate { get; } = new();

    /// <summary>What the peer allows on the connection, in bytes.</summary>
    public int SendWindow { get; private set; } = 65_535;

    /// <summary>The peer's largest frame, or ours, whichever is smaller: larger frames would only hold up other streams.</summary>
    public int MaxFrameBytes { get; private set; } = 16_384;

    /// <summary>Position up to which bytes have left, while a flush is under way; -1 when there is none to wait for. Under the lock.</summary>
    public long FlushProgress => _isFlushing ? _flushed : -1;

    public bool HasUnflushed => Volatile.Read(ref _appended) != Volatile.Read(ref _flushStarted);

    private long Unsent => _appended - _flushed;

    /// <summary>True when a peer that asks and does not read has made us keep too many frames that wait for no room. Heads are no matter: their streams, or the
    /// handlers that wait for room behind them, are counted. Read without the lock: near enough.</summary>
    public bool IsBacklogged => !Volatile.Read(ref _isBroken) && Volatile.Read(ref _replies) - Volatile.Read(ref _repliesFlushed) > _limits.MaxUnsentReplies;

    private bool HasRoom => _appended - _flushed < _limits.MaxUnsentBytes;

    // ---- Flushing ----

    /// <inheritdoc/>
    public override void FlushNow()
    {
        lock (Gate)
        {
            if (_isFlushing)
            {
                _isFlushWanted = true;
                return;
            }

            if (_isBroken || _appended == _flushStarted)
            {
                return;
            }

            _isFlushing = true;
        }

        // The scope makes flushes that completions ask for queue up behind this one instead of nesting in it.
        using var batch = FlushBatch.Enter();
        RunFlush();
    }

    /// <summary>Completes when no flush is outstanding and nothing is left to send, or the output is broken.</summary>
    public Task WhenIdleAsync()
    {
        FlushNow();
        lock (Gate)
        {
            if (!_isFlushing)
            {
                return Task.CompletedTask;
            }

            _idle ??= new TaskCompletionSource();
            return _idle.Task;
        }
    }

    /// <summary>Nothing follows: closes our direction. Called after <see cref="WhenIdleAsync"/>, when the connection has ended and nobody appends any more.</summary>
    /// <returns>False when the output is broken.</returns>
    public bool Complete()
    {
        lock (Gate)
        {
            if (_isBroken)
            {
                return false;
            }

            _isBroken = true;
        }

        _output.Complete();
        return true;
    }

    /// <summary>Gives up what is not sent yet.</summary>
    public void Abort()
    {
        lock (Gate)
        {
            _isBroken = true;
        }

        _output.CancelPendingFlush();
    }

    /// <summary>From here on no flush takes anything any more. Under the lock.</summary>
    public void GiveUpUnflushed() => _isBroken = true;

    /// <summary>Whether the stream has begun, and no flush has taken its first frame yet. Under the lock.</summary>
    public bool IsUnflushed(Http2Stream stream) => stream.FirstByteAt >= _flushStarted;

    /// <summary>Whether the stream's first frame has gone out, or will: what is appended does, unless the output ends before a flush takes it. Under the lock.</summary>
    public bool IsSent(Http2Stream stream) => stream.FirstByteAt >= 0 && !(_isBroken && IsUnflushed(stream));

    private void RunFlush()
    {
        while (true)
        {
            bool isBroken;
            lock (Gate)
            {
                CloseRoom();
                isBroken = _isBroken;
                if (!isBroken)
                {
                    _flushStarted = _appended;
                    _repliesFlushing = _replies;
                    _isInFlushCall = true;
                }
            }

            if (isBroken)
            {
                // Given up meanwhile: who was told that its request is unsent may be sending it elsewhere.
                FinishFlush(broken: true);
                return;
            }

            FlushResult result = default;
            var failed = false;
            var pending = false;
            try
            {
                var flush = _output.FlushAsync();
                if (flush.IsCompleted)
                {
                    result = flush.GetAwaiter().GetResult();
                }
                else
                {
                    pending = true;
                    _flush = flush.ConfigureAwait(false).GetAwaiter();
                }
            }
            catch (Exception)
            {
                // The transport's own failure, of whatever type: the read loop learns it as well.
                failed = true;
            }

            lock (Gate)
            {
                _isInFlushCall = false;
                if (_spill.Length > 0)
                {
                    if (!failed && !_isBroken)
                    {
                        try
                        {
                            _output.Write(_spill.Written);
                        }
                        catch (InvalidOperationException)
                        {
                            // The owner completed the output during the flush: the connection is over, and so is what was to go out.
                            _isBroken = true;
                        }
                    }

                    _spill.Clear();
                }
            }

            if (pending)
            {
                _flush.UnsafeOnCompleted(_onFlushed);
                return;
            }

            if (!FinishFlush(failed || result.IsCompleted || result.IsCanceled))
            {
                return;
            }
        }
    }

    private void OnFlushed()
    {
        using var batch = FlushBatch.Enter();
        var broken = true;
        try
        {
            var result = _flush.GetResult();
            broken = result.IsCompleted || result.IsCanceled;
        }
        catch (Exception)
        {
            // As above.
        }

        if (FinishFlush(broken))
        {
            RunFlush();
        }
    }

    /// <returns>True when another flush is to follow.</returns>
    private bool FinishFlush(bool broken)
    {
        Deferred deferred;
        bool again;
        TaskCompletionSource? idle = null;
        lock (Gate)
        {
            _flushed = _flushStarted;
            _repliesFlushed = _repliesFlushing;
            _isBroken |= broken;
            broken = _isBroken;
            if (!broken)
            {
                var before = _appended;
                Pump();
                ReleaseFlushing();
                _isFlushWanted |= _appended != before;
            }
            else
            {
                GiveUpFlushing();
            }

            again = !_isBroken && _isFlushWanted && _appended != _flushStarted;
            _isFlushWanted = false;
            _isFlushing = again;
            if (!again)
            {
                idle = _idle;
                _idle = null;
            }

            deferred = TakeDeferred();
        }

        if (broken)
        {
            _connection.OnOutputBroken();
        }

        _connection.Run(deferred);
        idle?.TrySetResult();
        return again;
    }

    private void ReleaseFlushing()
    {
        while (_flushingHead is { } stream && HasRoom)
        {
            Leave(stream);
            CompleteWrite(stream, true);
        }
    }

    /// <summary>Nothing will be sent any more: whoever waits for room, also with a stream that is closed already, goes on. Under the lock.</summary>
    public void GiveUpFlushing()
    {
        while (_flushingHead is { } stream)
        {
            Leave(stream);
            CompleteWrite(stream, false);
        }
    }

    /// <summary>Waits while more is buffered than the limit, once all of the stream is written. Before that its next write waits for room itself; a flush that
    /// waited too would hold the place of a writer that comes meanwhile (a stream stands in one queue and has one signal). Called under the lock.</summary>
    public ValueTask<bool> WaitForRoom(Http2Stream stream)
    {
        if (HasRoom || _isBroken || _connection.IsClosed || stream.State.CanSend || stream.WriteSignal.IsWaiting)
        {
            return new ValueTask<bool>(true);
        }

        Enter(stream, WriteQueueKind.Flushing);
        return stream.WriteSignal.Begin();
    }

    // ---- Everything below is called under the lock ----

    public Deferred TakeDeferred()
    {
        var deferred = _deferred;
        _deferred = default;
        return deferred;
    }

    public void NoteClosed() => _deferred.Closed++;

    public void NoteEnded(Http2Stream stream)
    {
        stream.Holds++;
        stream.NextEnded = _deferred.Ended;
        _deferred.Ended = stream;
    }

    /// <summary>Takes a stream out of every queue, for it has ended; a waiting writer is released by who tells the end.</summary>
    public void Forget(Http2Stream stream)
    {
        Leave(stream);
        stream.HasPendingWrite = false;
        stream.PendingData = default;
    }

    /// <summary>Nothing of an open stream is sent any more: its writer goes on.</summary>
    public void GiveUpWriting(Http2Stream stream)
    {
        Forget(stream);
        CompleteWrite(stream, false);
    }

    /// <summary>Writes what windows and buffer space allow, in frames; the rest waits.</summary>
    public ValueTask<bool> WriteData(Http2Stream stream, ReadOnlySequence<byte> data, bool endStream)
    {
        if (data.IsEmpty)
        {
            if (endStream)
            {
                WriteEnd(stream);
            }

            return new ValueTask<bool>(true);
        }

        if (_readyHead is null && data.Length <= MaxFrameBytes && data.Length <= stream.SendWindow && data.Length <= SendWindow && HasRoom)
        {
            AppendData(stream, data, endStream);
            return new ValueTask<bool>(true);
        }

        stream.PendingData = data;
        stream.PendingEndStream = endStream;
        stream.HasPendingWrite = true;
        if (stream.SendWindow > 0)
        {
            Enter(stream, WriteQueueKind.Ready);
            Pump(stream);
            if (!stream.HasPendingWrite)
            {
                return new ValueTask<bool>(true);
            }
        }

        return stream.WriteSignal.Begin();
    }

    /// <summary>The only DATA of a stream that was never opened here; the caller has seen that the windows allow it.</summary>
    public void WriteLastData(int streamId, ReadOnlySpan<byte> data)
    {
        SendWindow -= data.Length;
        AppendHeader(data.Length, FrameType.Data, FrameFlags.EndStream, streamId);
        WriteRaw(data);
    }

    /// <summary>END_STREAM by itself.</summary>
    public void WriteEnd(Http2Stream stream)
    {
        AppendHeader(0, FrameType.Data, FrameFlags.EndStream, stream.Id);
        _connection.OnEndSent(stream);
    }

    /// <summary>WINDOW_UPDATE, or a change of SETTINGS_INITIAL_WINDOW_SIZE.</summary>
    /// <returns>False when the window would exceed 2^31-1.</returns>
    public bool AddStreamWindow(Http2Stream stream, int increment)
    {
        var window = (long)stream.SendWindow + increment;
        if (window > int.MaxValue)
        {
            return false;
        }

        stream.SendWindow = (int)window;
        if (stream.HasPendingWrite)
        {
            if (window > 0 && stream.Queue == WriteQueueKind.None)
            {
                Enter(stream, WriteQueueKind.Ready);
            }
            else if (window <= 0 && stream.Queue == WriteQueueKind.Ready)
            {
                Leave(stream);
            }
        }

        return true;
    }

    public bool AddConnectionWindow(int increment)
    {
        var window = (long)SendWindow + increment;
        if (window > int.MaxValue)
        {
            return false;
        }

        SendWindow = (int)window;
        return true;
    }

    /// <summary>Frames what may go, one frame for each ready stream in turn.</summary>
    /// <param name="writing">A stream whose writer is not waiting yet: it learns from its own state that it is done.</param>
    public void Pump(Http2Stream? writing = null)
    {
        while (_readyHead is { } stream && SendWindow > 0 && HasRoom && !_isBroken)
        {
            Leave(stream);
            var count = (int)Math.Min(Math.Min(stream.PendingData.Length, MaxFrameBytes), Math.Min(stream.SendWindow, SendWindow));
            var isLast = count == stream.PendingData.Length;
            if (!isLast && count < TinyDataBytes)
            {
                _connection.OnTinyData();
            }

            var data = stream.PendingData.Slice(0, count);
            if (isLast)
            {
                stream.HasPendingWrite = false;
                stream.PendingData = default;
                AppendData(stream, data, stream.PendingEndStream);
                if (stream != writing)
                {
                    CompleteWrite(stream, true);
                }
            }
            else
            {
                stream.PendingData = stream.PendingData.Slice(count);
                AppendData(stream, data, endStream: false);
                if (stream.SendWindow > 0)
                {
                    Enter(stream, WriteQueueKind.Ready);
                }
            }
        }
    }

    public void OnPeerTableSize(uint size) => _encoder.OnPeerTableSize(size);

    public void OnPeerMaxFrameBytes(uint size) => MaxFrameBytes = (int)Math.Min(size, (uint)_limits.MaxFrameBytes);

    public void WriteRequestHead(Http2Stream stream, RequestHead head)
    {
        stream.FirstByteAt = _appended;
        var bound = HpackEncoder.Bound(
            head.Fields,
            Math.Max(head.MethodToken.Length, "CONNECT"u8.Length) + head.Scheme.Length + head.Path.Length + head.Authority.Length + head.Protocol.Length);
        var block = BeginBlock(bound);
        EndBlock(stream.Id, block, _encoder.EncodeRequest(head, block[FrameHeader.Size..]), head.EndsStream);
    }

    /// <summary>A tunnel is accepted with 2xx, never with the 101 of HTTP/1.1 (RFC 8441 section 5, RFC 9113 section 8.6).</summary>
    public void WriteResponseHead(Http2Stream stream, ResponseHead head, bool endStream) =>
        WriteResponseHead(stream.Id, head.IsTunnel && head.Status == 101 ? 200 : head.Status, head.Fields, endStream, head.IsTunnel);

    public void WriteResponseHead(int streamId, int status, FieldMap fields, bool endStream, bool isTunnel = false)
    {
        var block = BeginBlock(HpackEncoder.Bound(fields, 3));
        EndBlock(streamId, block, _encoder.EncodeResponse(status, fields, block[FrameHeader.Size..], isTunnel), endStream);
    }

    public void WriteTrailers(Http2Stream stream, FieldMap fields)
    {
        var block = BeginBlock(HpackEncoder.Bound(fields, 0));
        EndBlock(stream.Id, block, _encoder.EncodeTrailers(fields, block[FrameHeader.Size..]), endStream: true);
    }

    public void WriteRaw(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(GetSpan(bytes.Length));
        Advance(bytes.Length);
    }

    public void WriteSettings(ReadOnlySpan<(SettingId Id, uint Value)> settings)
    {
        var length = settings.Length * 6;
        var span = GetSpan(FrameHeader.Size + length);
        FrameHeader.Write(span, length, FrameType.Settings, 0, 0);
        for (var i = 0; i < settings.Length; i++)
        {
            var at = span[(FrameHeader.Size + (i * 6))..];
            BinaryPrimitives.WriteUInt16BigEndian(at, (ushort)settings[i].Id);
            BinaryPrimitives.WriteUInt32BigEndian(at[2..], settings[i].Value);
        }

        Advance(FrameHeader.Size + length);
    }

    public void WriteSettingsAck()
    {
        _replies++;
        AppendHeader(0, FrameType.Settings, FrameFlags.Ack, 0);
    }

    public void WritePing(ulong opaque, bool isAck)
    {
        _replies++;
        var span = GetSpan(FrameHeader.Size + 8);
        FrameHeader.Write(span, 8, FrameType.Ping, isAck ? FrameFlags.Ack : (byte)0, 0);
        BinaryPrimitives.WriteUInt64BigEndian(span[FrameHeader.Size..], opaque);
        Advance(FrameHeader.Size + 8);
    }

    public void WriteGoAway(int lastStreamId, Http2ErrorCode code)
    {
        var span = GetSpan(FrameHeader.Size + 8);
        FrameHeader.Write(span, 8, FrameType.GoAway, 0, 0);
        BinaryPrimitives.WriteInt32BigEndian(span[FrameHeader.Size..], lastStreamId);
        BinaryPrimitives.WriteUInt32BigEndian(span[(FrameHeader.Size + 4)..], (uint)code);
        Advance(FrameHeader.Size + 8);
    }

    public void WriteReset(int streamId, Http2ErrorCode code) => AppendUInt32(FrameType.RstStream, streamId, (uint)code);

    public void WriteWindowUpdate(int streamId, int increment) => AppendUInt32(FrameType.WindowUpdate, streamId, (uint)increment);

    private void AppendUInt32(FrameType type, int streamId, uint value)
    {
        _replies++;
        var span = GetSpan(FrameHeader.Size + 4);
        FrameHeader.Write(span, 4, type, 0, streamId);
        BinaryPrimitives.WriteUInt32BigEndian(span[FrameHeader.Size..], value);
        Advance(FrameHeader.Size + 4);
    }

    private void AppendHeader(int length, FrameType type, byte flags, int streamId)
    {
        FrameHeader.Write(GetSpan(FrameHeader.Size), length, type, flags, streamId);
        Advance(FrameHeader.Size);
    }

    private void AppendData(Http2Stream stream, in ReadOnlySequence<byte> data, bool endStream)
    {
        var count = (int)data.Length;
        stream.SendWindow -= count;
        stream.SentBytes += count;
        SendWindow -= count;
        AppendHeader(count, FrameType.Data, endStream ? FrameFlags.EndStream : (byte)0, stream.Id);
        foreach (var memory in data)
        {
            var rest = memory.Span;
            while (!rest.IsEmpty)
            {
                var span = GetSpan(1);
                var part = Math.Min(span.Length, rest.Length);
                rest[..part].CopyTo(span);
                Advance(part);
                rest = rest[part..];
            }
        }

        _connection.Guard.OnDataSent();
        if (endStream)
        {
            _connection.OnEndSent(stream);
        }
    }

    // The span begins with room for the frame header. A block of ordinary size is encoded in place, a larger one by way of a scratch buffer.
    private Span<byte> BeginBlock(int bound)
    {
        _isBlockInPlace = bound <= DirectBlockBytes;
        if (_isBlockInPlace)
        {
            return GetSpan(FrameHeader.Size + bound);
        }

        if (_blockScratch.Length < bound + FrameHeader.Size)
        {
            _blockScratch = new byte[bound + FrameHeader.Size];
        }

        return _blockScratch;
    }

    private void EndBlock(int streamId, Span<byte> block, int written, bool endStream)
    {
        var flags = endStream ? FrameFlags.EndStream : (byte)0;
        if (_isBlockInPlace)
        {
            FrameHeader.Write(block, written, FrameType.Headers, (byte)(flags | FrameFlags.EndHeaders), streamId);
            Advance(FrameHeader.Size + written);
            return;
        }

        var rest = block.Slice(FrameHeader.Size, written);
        var type = FrameType.Headers;
        do
        {
            var part = rest[..Math.Min(rest.Length, MaxFrameBytes)];
            rest = rest[part.Length..];
            AppendHeader(part.Length, type, (byte)(flags | (rest.IsEmpty ? FrameFlags.EndHeaders : 0)), streamId);
            WriteRaw(part);
            type = FrameType.Continuation;
            flags = 0;
        }
        while (!rest.IsEmpty);
        _blockScratch = [];
    }

    private Span<byte> GetSpan(int sizeHint)
    {
        if (_isInFlushCall || _isBroken)
        {
            return _spill.GetSpan(sizeHint);
        }

        if (_room.Length - _roomUsed < sizeHint)
        {
            CloseRoom();
            _room = _output.GetMemory(sizeHint);
        }

        return _room.Span[_roomUsed..];
    }

    private void Advance(int count)
    {
        _appended += count;
        if (_isInFlushCall)
        {
            _spill.Advance(count);
        }
        else if (!_isBroken)
        {
            _roomUsed += count;
        }
    }

    private void CloseRoom()
    {
        if (_roomUsed > 0 && !_isBroken)
        {
            try
            {
                _output.Advance(_roomUsed);
            }
            catch (InvalidOperationException)
            {
                // The owner completed the output: the connection is over, and so is what was to go out.
                _isBroken = true;
            }
        }

        _room = default;
        _roomUsed = 0;
    }

    private void CompleteWrite(Http2Stream stream, bool result)
    {
        if (stream.WriteSignal.TryTake())
        {
            stream.WriteResult = result;
            stream.NextWritten = _deferred.Written;
            _deferred.Written = stream;
        }
    }

    private void Enter(Http2Stream stream, WriteQueueKind kind)
    {
        ref var head = ref kind == WriteQueueKind.Ready ? ref _readyHead : ref _flushingHead;
        ref var tail = ref kind == WriteQueueKind.Ready ? ref _readyTail : ref _flushingTail;
        stream.Queue = kind;
        stream.QueuePrevious = tail;
        stream.QueueNext = null;
        if (tail is null)
        {
            head = stream;
        }
        else
        {
            tail.QueueNext = stream;
        }

        tail = stream;
    }

    private void Leave(Http2Stream stream)
    {
        if (stream.Queue == WriteQueueKind.None)
        {
            return;
        }

        ref var head = ref stream.Queue == WriteQueueKind.Ready ? ref _readyHead : ref _flushingHead;
        ref var tail = ref stream.Queue == WriteQueueKind.Ready ? ref _readyTail : ref _flushingTail;
        if (stream.QueuePrevious is { } previous)
        {
            previous.QueueNext = stream.QueueNext;
        }
        else
        {
            head = stream.QueueNext;
        }

        if (stream.QueueNext is { } next)
        {
            next.QueuePrevious = stream.QueuePrevious;
        }
        else
        {
            tail = stream.QueuePrevious;
        }

        stream.Queue = WriteQueueKind.None;
        stream.QueuePrevious = stream.QueueNext = null;
    }
}
