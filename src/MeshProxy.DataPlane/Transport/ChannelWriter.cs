using System.IO.Pipelines;
using System.Threading.Tasks.Sources;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A piece of memory to be sent.</summary>
internal unsafe struct IoVector
{
    /// <summary>Where it begins.</summary>
    public byte* Base;

    /// <summary>Its length in bytes.</summary>
    public nint Length;
}

/// <summary>
/// The writing end of a connection. Bytes gather in pooled blocks and are sent by <see cref="FlushAsync"/> itself, on the caller's thread, usually without
/// waiting; it waits only for the kernel's buffer, which is the backpressure. While a flush is pending more may be appended (callers serialise their
/// appends); only one flush at a time. A failed connection swallows what is written and answers flushes with IsCompleted.
/// </summary>
internal sealed class ChannelWriter(ByteChannel channel, BlockPool pool) : PipeWriter, IValueTaskSource<FlushResult>
{
    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<FlushResult> _flush;
    private Block? _head;
    private int _headIndex;
    private Block? _tail;
    private long _written;
    private long _flushTarget;
    private long _sent;
    private bool _memoryGiven;
    private bool _sending;
    private bool _waiting;
    private bool _cancelRequested;
    private bool _completed;
    private bool _endWanted;
    private bool _endTaken;
    private volatile bool _broken;
    private SocketSplice? _splice;

    /// <inheritdoc/>
    public override bool CanGetUnflushedBytes => true;

    /// <inheritdoc/>
    public override long UnflushedBytes => _written - _flushTarget;

    /// <summary>Whether the bytes of a splice can be sent.</summary>
    public bool CanSplice => channel.CanSplice;

    /// <summary>True once nothing more can be written.</summary>
    public bool IsCompleted => _completed;

    /// <inheritdoc/>
    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        lock (_gate)
        {
            if (_completed)
            {
                throw new InvalidOperationException("Writing is not allowed after the writer was completed.");
            }

            var tail = _tail;
            if (tail is null || tail.Free < Math.Max(sizeHint, 1))
            {
                if (sizeHint > BlockPool.LargeSize)
                {
                    throw new ArgumentOutOfRangeException(nameof(sizeHint), sizeHint, "A block holds 32 KiB: write larger data in pieces.");
                }

                // The first block of a flush is small; who writes more than that gets large ones, so that a body is few pieces (and full TLS records).
                var next = pool.Rent(tail is not null || sizeHint > BlockPool.SmallSize);
                if (tail is null)
                {
                    _head = next;
                    _headIndex = 0;
                }
                else
                {
                    tail.Append(next);
                }

                _tail = tail = next;
            }

            _memoryGiven = true;
            return tail.FreeMemory;
        }
    }

    /// <inheritdoc/>
    public override Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    /// <inheritdoc/>
    public override void Advance(int bytes)
    {
        lock (_gate)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(bytes);
            if (!_memoryGiven || bytes > _tail!.Free)
            {
                throw new InvalidOperationException("Advance goes past the memory that was given.");
            }

            _memoryGiven = false;
            _tail.End += bytes;
            _written += bytes;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (_waiting)
            {
                throw new InvalidOperationException("A flush is already pending.");
            }

            if (_cancelRequested)
            {
                _cancelRequested = false;
                return new ValueTask<FlushResult>(new FlushResult(isCanceled: true, _broken));
            }

            _flushTarget = _written;
            if (_broken)
            {
                DiscardUnderGate();
                return new ValueTask<FlushResult>(new FlushResult(isCanceled: false, isCompleted: true));
            }

            if (_sending)
            {
                // Left over from a flush that was cancelled, or the end is being sent.
                return WaitUnderGate();
            }

            if (_sent == _flushTarget)
            {
                ReleaseSentUnderGate();
                return default;
            }

            _sending = true;
        }

        return SendAsync();
    }

    /// <summary>Sends what a splice holds, as a flush does. Nothing may be unsent.</summary>
    internal ValueTask<FlushResult> DrainAsync(SocketSplice splice)
    {
        lock (_gate)
        {
            if (_broken || _cancelRequested)
            {
                // Bytes are lost here: nothing may follow them.
                _broken = true;
                splice.Leave();
                return new ValueTask<FlushResult>(new FlushResult(isCanceled: false, isCompleted: true));
            }

            if (_sending || _written != _sent)
            {
                splice.Leave();
                throw new InvalidOperationException("Something is unsent that goes before the bytes of the splice.");
            }

            _splice = splice;
            _sending = true;
        }

        return SendAsync();
    }

    /// <inheritdoc/>
    public override void CancelPendingFlush()
    {
        lock (_gate)
        {
            if (!_waiting)
            {
                _cancelRequested = true;
                return;
            }

            _waiting = false;
        }

        _flush.SetResult(new FlushResult(isCanceled: true, _broken));
    }

    /// <summary>Sends what is written, then closes our direction: FIN, or close_notify and FIN. With an exception: see <see cref="CompleteAsync"/>.</summary>
    public override void Complete(Exception? exception = null)
    {
        lock (_gate)
        {
            if (_completed)
            {
                return;
            }

            _completed = true;
            _flushTarget = _written;
            _memoryGiven = false;
            if (_broken)
            {
                DiscardUnderGate();
                return;
            }

            _endWanted = true;
            if (_sending)
            {
                return;
            }

            _sending = true;
        }

        channel.Send(this);
    }

    /// <summary>Sends what is written, then closes our direction in order; completes when both were handed to the kernel, or the connection failed.
    /// A message that broke off must not look whole to the peer: abort the connection for that instead.</summary>
    public override ValueTask CompleteAsync(Exception? exception = null)
    {
        Complete(exception);
        ValueTask<FlushResult> wait;
        lock (_gate)
        {
            if (!_sending || _waiting)
            {
                return default;
            }

            wait = WaitUnderGate();
        }

        return Await(wait);

        static async ValueTask Await(ValueTask<FlushResult> wait) => await wait;
    }

    FlushResult IValueTaskSource<FlushResult>.GetResult(short token) => _flush.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<FlushResult>.GetStatus(short token) => _flush.GetStatus(token);

    void IValueTaskSource<FlushResult>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _flush.OnCompleted(continuation, state, token, flags);

    /// <summary>For the channel: what is to be sent before anything else.</summary>
    internal SocketSplice? Splice => _splice;

    /// <summary>For the channel: all of <see cref="Splice"/> is out of our hands.</summary>
    internal void OnDrained()
    {
        lock (_gate)
        {
            LeaveSplice();
        }
    }

    /// <summary>For the channel: what is to be sent now, first piece first. 0: nothing is left and the send is over; wake the writer with
    /// <paramref name="wake"/>. When <paramref name="endNow"/>, close the direction and call again.</summary>
    internal unsafe int Gather(Span<IoVector> vectors, out bool endNow, out bool wake)
    {
        lock (_gate)
        {
            wake = false;
            if (BeginEndUnderGate(out endNow, ref wake))
            {
                return 0;
            }

            var count = 0;
            var left = _flushTarget - _sent;
            var block = _head;
            var index = _headIndex;
            while (left > 0 && count < vectors.Length)
            {
                var length = (int)Math.Min(block!.End - index, left);
                if (length > 0)
                {
                    vectors[count++] = new IoVector { Base = block.AddressOf(index), Length = length };
                    left -= length;
                }

                block = block.NextBlock;
                index = 0;
            }

            return count;
        }
    }

    /// <summary>For channels that take one piece of memory at a time: what is to be sent now. False: nothing; close the direction when
    /// <paramref name="endNow"/>, else <see cref="FinishSend"/>.</summary>
    internal bool TryPeek(out ReadOnlyMemory<byte> piece, out bool endNow)
    {
        lock (_gate)
        {
            piece = default;
            endNow = false;
            if (_sent >= _flushTarget)
            {
                endNow = _endWanted && !_endTaken;
                _endTaken |= endNow;
                return false;
            }

            while (_headIndex == _head!.End)
            {
                _head = _head.Release();
                _headIndex = 0;
            }

            piece = _head.Written(_headIndex);
            var left = _flushTarget - _sent;
            if (piece.Length > left)
            {
                piece = piece[..(int)left];
            }

            return true;
        }
    }

    /// <summary>Ends a send of such a channel. From here on another may begin, so the channel must be done with it.</summary>
    /// <returns>False when more is to be sent: begin again.</returns>
    internal bool FinishSend(out bool wake)
    {
        lock (_gate)
        {
            wake = false;
            if (_sent < _flushTarget || (_endWanted && !_endTaken))
            {
                return false;
            }

            _sending = false;
            ReleaseSentUnderGate();
            wake = _waiting;
            _waiting = false;
            return true;
        }
    }

    /// <summary>For the channel: so many bytes are out of our hands.</summary>
    /// <returns>True when nothing of the flush is left.</returns>
    internal bool OnSent(long count)
    {
        lock (_gate)
        {
            return TakeSentUnderGate(count);
        }
    }

    /// <summary>For the channel: the same, and if nothing at all is left, the send is over; wake the writer with <paramref name="wake"/>.</summary>
    /// <returns>Whether it is over.</returns>
    internal bool EndIfSent(long count, out bool wake)
    {
        lock (_gate)
        {
            wake = false;
            return TakeSentUnderGate(count) && !_endWanted && BeginEndUnderGate(out _, ref wake);
        }
    }

    /// <summary>For the channel, while no send of its own is under way: nothing can be sent any more.</summary>
    /// <returns>True when somebody waits: call <see cref="Wake"/>, outside of every lock.</returns>
    internal bool OnBroken()
    {
        lock (_gate)
        {
            _broken = true;
            _sending = false;
            LeaveSplice();
            var wake = _waiting;
            _waiting = false;
            DiscardUnderGate();
            return wake;
        }
    }

    /// <summary>For the channel: the send ended asynchronously and <see cref="Gather"/> said to wake.</summary>
    internal void Wake() => _flush.SetResult(new FlushResult(isCanceled: false, _broken));

    private bool TakeSentUnderGate(long count)
    {
        _sent += count;
        while (_head is { } head)
        {
            var inBlock = head.End - _headIndex;
            if (count < inBlock)
            {
                _headIndex += (int)count;
                break;
            }

            count -= inBlock;
            if (head == _tail)
            {
                _headIndex = head.End;
                if (!_memoryGiven)
                {
                    // Not while memory of it is in the hands of an appender.
                    head.Release();
                    _head = _tail = null;
                    _headIndex = 0;
                }

                break;
            }

            _head = head.Release();
            _headIndex = 0;
        }

        return _sent >= _flushTarget;
    }

    private ValueTask<FlushResult> SendAsync()
    {
        if (!channel.Send(this))
        {
            lock (_gate)
            {
                if (_sending && _cancelRequested)
                {
                    // Cancelled while the channel was called: there was no wait yet that could be told.
                    _cancelRequested = false;
                    return new ValueTask<FlushResult>(new FlushResult(isCanceled: true, _broken));
                }

                if (_sending)
                {
                    return WaitUnderGate();
                }
            }
        }

        return new ValueTask<FlushResult>(new FlushResult(isCanceled: false, _broken));
    }

    private void LeaveSplice()
    {
        _splice?.Leave();
        _splice = null;
    }

    private bool BeginEndUnderGate(out bool endNow, ref bool wake)
    {
        endNow = false;
        if (_sent < _flushTarget && !_broken)
        {
            return false;
        }

        if (_endWanted && !_endTaken && !_broken)
        {
            _endTaken = true;
            endNow = true;
            return true;
        }

        _sending = false;
        ReleaseSentUnderGate();
        wake = _waiting;
        _waiting = false;
        return true;
    }

    private ValueTask<FlushResult> WaitUnderGate()
    {
        _waiting = true;
        _flush.Reset();
        return new ValueTask<FlushResult>(this, _flush.Version);
    }

    // A block from which nothing is left to send stays when memory of it was given out, or nothing was ever written to it.
    private void ReleaseSentUnderGate()
    {
        if (_sent == _written)
        {
            DiscardUnderGate();
        }
    }

    // Only when no send is under way: the channel reads from these blocks.
    private void DiscardUnderGate()
    {
        if (_memoryGiven || _sending)
        {
            return;
        }

        while (_head is { } head)
        {
            _head = head.Release();
        }

        _tail = null;
        _headIndex = 0;
        _written = _sent = _flushTarget;
    }
}
