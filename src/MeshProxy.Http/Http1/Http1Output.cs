using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>
/// A connection's outgoing bytes. Writers copy under a short lock; at most one flush is under way, and whoever wants another one meanwhile gets it
/// when that one is done. More than <see cref="HighWaterBytes"/> unsent makes writers wait: that is the backpressure.
/// A flush may be started by a batch on one thread while a handler writes on another. The pipe is never touched by both: while FlushAsync is being
/// called (not while it is pending), writes go to a staging buffer that the caller moves into the pipe when the call returns.
/// </summary>
internal sealed class Http1Output : FlushTarget, IValueTaskSource<bool>
{
    /// <summary>Unsent bytes above which writers wait. 64 KiB: Kestrel's and HAProxy's order of magnitude for one connection.</summary>
    public const int HighWaterBytes = 64 * 1024;

    // Transports hand out blocks of at least this much; longer heads go through a rented array.
    private const int DirectBytes = 4096;

    private readonly PipeWriter _writer;
    private readonly Lock _gate = new();
    private readonly Action _onFlushed;
    private ConfiguredValueTaskAwaitable<FlushResult>.ConfiguredValueTaskAwaiter _awaiter;
    private ManualResetValueTaskSourceCore<bool> _space;
    private byte[]? _scratch;
    private byte[]? _staged;
    private int _stagedLength;
    private long _buffered;
    private long _inFlight;
    private long _waitLevel;
    private bool _isCalling;
    private bool _isPending;
    private volatile ISplice? _splice;
    private int _flushes;
    private bool _isWantedAgain;
    private bool _isWaiting;
    private bool _isCloseWanted;
    private bool _isClosed;
    private volatile bool _isDead;
    private volatile bool _hasFlushed;

    public Http1Output(PipeWriter writer)
    {
        _writer = writer;
        _onFlushed = OnFlushed;
    }

    /// <summary>True once nothing that is written can arrive any more.</summary>
    public bool IsDead => _isDead;

    /// <summary>True once a byte written since <see cref="Mark"/> was handed to the transport.</summary>
    public bool HasFlushedSinceMark => _hasFlushed;

    /// <summary>True while bytes wait for somebody to ask for a flush.</summary>
    public bool HasUnflushed => Volatile.Read(ref _buffered) > 0;

    /// <summary>True while the peer does not take what was flushed.</summary>
    public bool IsStalled
    {
        get
        {
            lock (_gate)
            {
                return _isPending;
            }
        }
    }

    /// <summary>Changes with each flush that ended, and with what is sent of a splice: tells progress to the tick.</summary>
    public int Progress => Volatile.Read(ref _flushes) - (_splice?.Held ?? 0);

    /// <summary>True while a writer waits until the peer has taken more. Any thread.</summary>
    public bool HoldsUp => Volatile.Read(ref _isWaiting) || _splice is not null;

    /// <summary>As <see cref="Progress"/> while a writer waits, else 0: what was flushed by the way is no sign of life. Any thread.</summary>
    public int WaitProgress => HoldsUp ? Progress : 0;

    /// <summary>Begins to watch for the first flush anew.</summary>
    public void Mark() => _hasFlushed = false;

    /// <summary>Gives room for at most <paramref name="bound"/> bytes. Must be followed by <see cref="End"/>; holds the lock until then.</summary>
    public Span<byte> Begin(int bound)
    {
        _gate.Enter();
        if (!_isCalling && !_isDead && bound <= DirectBytes)
        {
            try
            {
                return _writer.GetSpan(bound);
            }
            catch (InvalidOperationException)
            {
                // The transport was closed under us: what is written now goes nowhere.
                _isDead = true;
            }
        }

        _scratch = ArrayPool<byte>.Shared.Rent(bound);
        return _scratch;
    }

    /// <summary>Takes what was written into the room of <see cref="Begin"/>; 0 takes nothing.</summary>
    public void End(int written)
    {
        if (_scratch is { } scratch)
        {
            _scratch = null;
            if (!_isDead)
            {
                Append(scratch.AsSpan(0, written));
            }

            ArrayPool<byte>.Shared.Return(scratch);
        }
        else if (written > 0)
        {
            _writer.Advance(written);
            _buffered += written;
        }

        _gate.Exit();
    }

    /// <summary>Copies bytes in.</summary>
    /// <returns>False when the output is dead.</returns>
    public bool Write(ReadOnlySpan<byte> bytes)
    {
        lock (_gate)
        {
            if (_isDead)
            {
                return false;
            }

            Append(bytes);
            return true;
        }
    }

    /// <summary>Copies a piece of a body in, as one chunk when <paramref name="isChunked"/>, with the last chunk when <paramref name="isLast"/> too.</summary>
    public bool WriteBody(in ReadOnlySequence<byte> data, bool isChunked, bool isLast)
    {
        lock (_gate)
        {
            if (_isDead)
            {
                return false;
            }

            var length = data.Length;
            if (isChunked && length > 0)
            {
                Span<byte> header = stackalloc byte[ChunkedWriter.MaxHeaderBytes];
                Append(header[..ChunkedWriter.WriteHeader(header, length)]);
            }

            if (data.IsSingleSegment)
            {
                Append(data.FirstSpan);
            }
            else
            {
                foreach (var segment in data)
                {
                    Append(segment.Span);
                }
            }

            if (isChunked)
            {
                if (length > 0)
                {
                    Append("\r\n"u8);
                }

                if (isLast)
                {
                    Append(ChunkedWriter.LastChunk);
                }
            }

            return true;
        }
    }

    /// <summary>Writes the last chunk with trailers.</summary>
    /// <returns>False when the output is dead or a trailer can not be written.</returns>
    public bool WriteTrailers(FieldMap trailers)
    {
        var written = -1;
        var room = Begin(ChunkedWriter.TrailersBound(trailers));
        try
        {
            written = ChunkedWriter.WriteTrailers(room, trailers);
        }
        finally
        {
            End(Math.Max(written, 0));
        }

        return written > 0 && !_isDead;
    }

    /// <summary>Sends what is buffered, at the end of this thread's batch when there is one; waits only while too much is unsent.</summary>
    public ValueTask<bool> FlushAsync()
    {
        if (_isDead)
        {
            return new ValueTask<bool>(false);
        }

        FlushBatch.Request(this);
        return WaitForLevelAsync(HighWaterBytes);
    }

    /// <summary>
    /// Waits until at most <paramref name="level"/> bytes are unsent; sends them if need be. There is one wait: while a writer is held back, a flush beside it
    /// (whoever wrote the head, when a pump has taken over the body) goes on at once. Taking the writer's place would leave it waiting for ever.
    /// </summary>
    /// <returns>False when the output died.</returns>
    public ValueTask<bool> WaitForLevelAsync(long level)
    {
        // The usual case, and as a look at a bound that is soft it needs no lock.
        if (level > 0 && Volatile.Read(ref _buffered) + Volatile.Read(ref _inFlight) <= level)
        {
            return new ValueTask<bool>(!_isDead);
        }

        for (var attempt = 0; ; attempt++)
        {
            lock (_gate)
            {
                if (_isDead)
                {
                    return new ValueTask<bool>(false);
                }

                if (_buffered + _inFlight <= level || _isWaiting)
                {
                    return new ValueTask<bool>(true);
                }

                if (attempt > 0)
                {
                    // The flush was started, or joins the one under way; either end wakes us.
                    _space.Reset();
                    _waitLevel = level;
                    _isWaiting = true;
                    return new ValueTask<bool>(this, _space.Version);
                }
            }

            FlushNow();
        }
    }

    /// <summary>Whether what comes next of <paramref name="input"/> can come here by a splice.</summary>
    public bool CanSpliceFrom(Http1Input input) => !_isDead && input.CanSpliceTo(_writer);

    /// <summary>A way from <paramref name="input"/> to here; null when none is left, or something is unsent.</summary>
    public ISplice? TryBeginSplice(Http1Input input)
    {
        lock (_gate)
        {
            return _isDead || _isCalling || _isPending || _buffered > 0 ? null : input.TryBeginSplice(_writer);
        }
    }

    /// <summary>Sends what a splice of <see cref="TryBeginSplice"/> holds, in place of a flush; nothing was written since. An output that dies meanwhile says so at
    /// the next write.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask DrainAsync(ISplice splice, long count)
    {
        lock (_gate)
        {
            if (_isDead)
            {
                return;
            }

            _isPending = true;
            _splice = splice;
            _inFlight = count;
            _hasFlushed = true;
        }

        var result = await splice.DrainAsync().ConfigureAwait(false);
        _splice = null;
        if (result.IsCompleted || result.IsCanceled)
        {
            Kill();
        }

        if (EndFlush())
        {
            CallFlush();
        }
    }

    /// <inheritdoc/>
    public override void FlushNow()
    {
        bool closes;
        lock (_gate)
        {
            if (_isDead)
            {
                return;
            }

            if (_isCalling || _isPending)
            {
                _isWantedAgain |= _buffered > 0;
                return;
            }

            closes = TakeCloseUnderLock();
            if (!closes)
            {
                if (_buffered == 0)
                {
                    return;
                }

                StartUnderLock();
            }
        }

        if (closes)
        {
            CloseWriter();
        }
        else
        {
            CallFlush();
        }
    }

    /// <summary>Closes our direction once everything that was written is sent; nothing may be written after it.</summary>
    public void CloseWhenSent()
    {
        bool closes;
        lock (_gate)
        {
            _isCloseWanted = true;
            if (_isDead || _isCalling || _isPending)
            {
                return;
            }

            closes = TakeCloseUnderLock();
        }

        if (closes)
        {
            CloseWriter();
        }
        else
        {
            FlushBatch.Request(this);
        }
    }

    /// <summary>Nothing is sent any more and whoever waits is told. Thread-safe.</summary>
    public void Kill()
    {
        bool wake;
        lock (_gate)
        {
            if (_isDead)
            {
                return;
            }

            _isDead = true;
            wake = _isWaiting;
            _isWaiting = false;
        }

        if (wake)
        {
            _space.SetResult(false);
        }

        if (_splice is not null)
        {
            _writer.CancelPendingFlush();
        }
    }

    bool IValueTaskSource<bool>.GetResult(short token) => _space.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _space.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _space.OnCompleted(continuation, state, token, flags);

    private void StartUnderLock()
    {
        _isCalling = true;
        _isWantedAgain = false;
        _inFlight = _buffered;
        _buffered = 0;
        _hasFlushed = true;
    }

    private bool TakeCloseUnderLock()
    {
        var closes = _isCloseWanted && !_isClosed && _buffered == 0;
        _isClosed |= closes;
        return closes;
    }

    private void CloseWriter()
    {
        try
        {
            _writer.Complete();
        }
        catch (Exception)
        {
            // Every way in which the transport can fail: there is no direction left to close.
            Kill();
        }
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        if (_isDead)
        {
            // The owner may have completed the pipe already.
            return;
        }

        _buffered += bytes.Length;
        if (_isCalling)
        {
            Stage(bytes);
            return;
        }

        while (!bytes.IsEmpty)
        {
            var room = _writer.GetSpan(1);
            var count = Math.Min(room.Length, bytes.Length);
            bytes[..count].CopyTo(room);
            _writer.Advance(count);
            bytes = bytes[count..];
        }
    }

    private void Stage(ReadOnlySpan<byte> bytes)
    {
        if (_staged is null || _staged.Length - _stagedLength < bytes.Length)
        {
            var grown = ArrayPool<byte>.Shared.Rent(Math.Max(4096, (_stagedLength + bytes.Length) * 2));
            if (_staged is not null)
            {
                _staged.AsSpan(0, _stagedLength).CopyTo(grown);
                ArrayPool<byte>.Shared.Return(_staged);
            }

            _staged = grown;
        }

        bytes.CopyTo(_staged.AsSpan(_stagedLength));
        _stagedLength += bytes.Length;
    }

    private void Unstage()
    {
        if (_staged is not { } staged)
        {
            return;
        }

        var bytes = staged.AsSpan(0, _stagedLength);
        _staged = null;
        _stagedLength = 0;
        _buffered -= bytes.Length;
        Append(bytes);
        ArrayPool<byte>.Shared.Return(staged);
    }

    // Called with _isCalling set by this thread; loops while each flush completes at once and another one is wanted.
    private void CallFlush()
    {
        while (true)
        {
            var isCompleted = false;
            var isGone = false;
            try
            {
#pragma warning disable CA2012 // the awaiter is consumed once: here, or in OnFlushed
                var awaiter = _writer.FlushAsync().ConfigureAwait(false).GetAwaiter();
#pragma warning restore CA2012
                isCompleted = awaiter.IsCompleted;
                if (isCompleted)
                {
                    isGone = awaiter.GetResult().IsCompleted;
                }
                else
                {
                    _awaiter = awaiter;
                }
            }
            catch (Exception)
            {
                // Every way in which the transport can fail. The reading side learns the reason.
                isCompleted = isGone = true;
            }

            if (isGone)
            {
                lock (_gate)
                {
                    _isCalling = false;
                    _staged = null;
                    _stagedLength = 0;
                }

                Kill();
                return;
            }

            if (!isCompleted)
            {
                lock (_gate)
                {
                    _isCalling = false;
                    _isPending = true;
                    Unstage();
                }

                _awaiter.UnsafeOnCompleted(_onFlushed);
                return;
            }

            if (!EndFlush())
            {
                return;
            }
        }
    }

    private void OnFlushed()
    {
        bool isGone;
        try
        {
            isGone = _awaiter.GetResult().IsCompleted;
        }
        catch (Exception)
        {
            isGone = true;
        }

        using (FlushBatch.Enter())
        {
            if (isGone)
            {
                Kill();
            }
            else if (EndFlush())
            {
                CallFlush();
            }
        }
    }

    // True: another flush was begun and CallFlush must be called.
    private bool EndFlush()
    {
        bool wake;
        bool again;
        bool closes;
        lock (_gate)
        {
            _isCalling = false;
            _isPending = false;
            _inFlight = 0;
            _flushes++;
            Unstage();
            again = !_isDead && _buffered > 0 && (_isWantedAgain || _isCloseWanted || (_isWaiting && _buffered > _waitLevel));
            closes = !again && TakeCloseUnderLock();

            // Not both: a waiter that wrote on while we are about to call the pipe would only fill the staging buffer.
            wake = _isWaiting && !again;
            _isWaiting &= !wake;
            if (again)
            {
                StartUnderLock();
            }
        }

        if (closes)
        {
            CloseWriter();
        }

        if (wake)
        {
            _space.SetResult(true);
        }

        return again;
    }
}
