using System.Buffers;
using System.IO.Pipelines;
using System.Threading.Tasks.Sources;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// The reading end of a connection. Nothing is received in the background: a read that finds no unexamined byte receives once, straight into a pooled
/// block. An idle connection over a socket holds no block at all. Blocks are small until a read fills its block, then large.
/// </summary>
/// <remarks>Everything below is under <see cref="_gate"/>, which is also held across the (non-blocking) receive, so that a close can not pull the descriptor
/// away under it. Completions run outside of it.</remarks>
internal sealed class ChannelReader(ByteChannel channel, BlockPool pool) : PipeReader, ISplicingReader, IValueTaskSource<ReadResult>, IValueTaskSource<int>
{
    // Below this much room a block is not worth a system call.
    private const int LeastRoom = 512;

    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<ReadResult> _read;
    private ManualResetValueTaskSourceCore<int> _readInto;
    private Block? _head;
    private int _headIndex;
    private Block? _tail;
    private long _examined;
    private bool _receiving;
    private bool _waiting;
    private bool _cancelRequested;
    private bool _ended;
    private bool _completed;
    private bool _large;
    private bool _wantsInto;
    private bool _isCancellable;
    private Memory<byte> _into;
    private Exception? _failure;

    /// <summary>True once the peer has closed its direction in order.</summary>
    public bool HasEnded => _ended;

    private long EndPosition => _tail is { } tail ? tail.RunningIndex + tail.End : 0;

    private bool HasUnexamined => EndPosition > _examined;

    /// <summary>True when the channel shall only wait for bytes, not take them.</summary>
    internal bool WaitsOnly => _wantsInto && _into.IsEmpty;

    /// <summary>Whether the last receive filled its block: more is likely to follow.</summary>
    internal bool IsBusy => _large;

    /// <inheritdoc/>
    public override bool TryRead(out ReadResult result)
    {
        lock (_gate)
        {
            if (_completed)
            {
                throw new InvalidOperationException("Reading is not allowed after the reader was completed.");
            }

            if (_cancelRequested || HasUnexamined || _ended || _failure is not null)
            {
                result = TakeResult();
                return true;
            }

            result = default;
            return false;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (cancellationToken.CanBeCanceled)
        {
            return ReadWithTokenAsync(cancellationToken);
        }

        lock (_gate)
        {
            if (_completed)
            {
                throw new InvalidOperationException("Reading is not allowed after the reader was completed.");
            }

            if (_waiting)
            {
                throw new InvalidOperationException("A read is already pending.");
            }

            if (!_cancelRequested && !HasUnexamined && !_ended && _failure is null && !_receiving)
            {
                ReceiveUnderGate();
            }

            if (_cancelRequested || HasUnexamined || _ended || _failure is not null)
            {
                return new ValueTask<ReadResult>(TakeResult());
            }

            _waiting = true;
            _read.Reset();
            return new ValueTask<ReadResult>(this, _read.Version);
        }
    }

    /// <summary>
    /// Reads past the pipe into the caller's memory: buffered bytes first, else one receive. With empty memory it only waits until bytes are at hand,
    /// holding no block. Not to be mixed with a read that was cancelled and is still receiving.
    /// </summary>
    /// <returns>The count; 0 at the end (see <see cref="HasEnded"/>) or after a wait.</returns>
    public ValueTask<int> ReadIntoAsync(Memory<byte> destination)
    {
        lock (_gate)
        {
            if (_failure is not null)
            {
                return ValueTask.FromException<int>(_failure);
            }

            if (EndPosition > 0)
            {
                return new ValueTask<int>(CopyBuffered(destination.Span));
            }

            if (_ended || _completed)
            {
                return new ValueTask<int>(0);
            }

            if (_receiving || _waiting)
            {
                throw new InvalidOperationException("A read is already pending.");
            }

            _into = destination;
            _wantsInto = true;
            var count = channel.Receive(this);
            switch (count)
            {
                case ByteChannel.Pending:
                    _receiving = true;
                    _waiting = true;
                    _readInto.Reset();
                    return new ValueTask<int>(this, _readInto.Version);
                case ByteChannel.Failed:
                    EndInto(0, channel.Failure);
                    return ValueTask.FromException<int>(_failure!);
                default:
                    EndInto(count, null);
                    return new ValueTask<int>(count);
            }
        }
    }

    /// <inheritdoc/>
    public bool CanSpliceTo(PipeWriter output) => channel.CanSplice && output is ChannelWriter { CanSplice: true };

    /// <inheritdoc/>
    public ISplice? TryBeginSplice(PipeWriter output) => SocketSplice.TryBegin(this, (ChannelWriter)output);

    /// <inheritdoc/>
    public ValueTask<int> WaitAsync()
    {
        lock (_gate)
        {
            _isCancellable = !_cancelRequested;
            return _isCancellable && _failure is null ? ReadIntoAsync(default) : new ValueTask<int>(0);
        }
    }

    /// <inheritdoc/>
    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    /// <inheritdoc/>
    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        lock (_gate)
        {
            if (_completed || _head is null || consumed.GetObject() is not Block block || examined.GetObject() is not Block examinedBlock)
            {
                return;
            }

            _examined = Math.Max(_examined, examinedBlock.RunningIndex + examined.GetInteger());
            while (_head != block)
            {
                _head = _head!.Release();
                if (_head is null)
                {
                    throw new InvalidOperationException("AdvanceTo was given a position that was consumed before.");
                }
            }

            _headIndex = consumed.GetInteger();
            while (_headIndex == _head!.End && _head != _tail)
            {
                _head = _head.Release();
                _headIndex = 0;
            }

            if (_head == _tail && _headIndex == _head.End && !_receiving)
            {
                ReleaseAll();
            }
        }
    }

    /// <inheritdoc/>
    public override void CancelPendingRead()
    {
        var result = default(ReadResult);
        bool waits;
        lock (_gate)
        {
            _cancelRequested = true;
            waits = _wantsInto;
            if (!_waiting || (waits && !_isCancellable))
            {
                return;
            }

            _waiting = false;
            if (waits)
            {
                // It holds no memory: nothing is left behind.
                _receiving = false;
                EndInto(0, null);
            }
            else
            {
                result = TakeResult();
            }
        }

        if (waits)
        {
            _readInto.SetResult(0);
        }
        else
        {
            _read.SetResult(result);
        }
    }

    /// <inheritdoc/>
    public override void Complete(Exception? exception = null)
    {
        lock (_gate)
        {
            _completed = true;
            if (!_receiving)
            {
                ReleaseAll();
            }
        }
    }

    ReadResult IValueTaskSource<ReadResult>.GetResult(short token) => _read.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<ReadResult>.GetStatus(short token) => _read.GetStatus(token);

    void IValueTaskSource<ReadResult>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _read.OnCompleted(continuation, state, token, flags);

    int IValueTaskSource<int>.GetResult(short token) => _readInto.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<int>.GetStatus(short token) => _readInto.GetStatus(token);

    void IValueTaskSource<int>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _readInto.OnCompleted(continuation, state, token, flags);

    /// <inheritdoc cref="ISplice.Fill"/>
    internal int Splice(SocketSplice splice, int most)
    {
        lock (_gate)
        {
            if (EndPosition > 0 || _receiving)
            {
                throw new InvalidOperationException("Something is unread that comes before the bytes of the splice.");
            }

            if (_cancelRequested || _ended || _completed || _failure is not null || !channel.CanSplice)
            {
                return -1;
            }

            switch (channel.Splice(splice, most))
            {
                case ByteChannel.Pending:
                    return 0;
                case ByteChannel.Failed:
                    _failure = channel.Failure;
                    return -1;
                case 0:
                    // The end, or all that lies before urgent data: a receive finds out.
                    return -1;
                case var count:
                    return count;
            }
        }
    }

    /// <summary>Where the channel puts what it receives now. Called by the channel inside a receive, under the lock or while the receive is its own.</summary>
    internal Memory<byte> Destination()
    {
        if (_wantsInto)
        {
            return _into;
        }

        if (_tail is { } tail)
        {
            if (IsRoomy(tail))
            {
                return tail.FreeMemory;
            }

            var next = pool.Rent(_large);
            tail.Append(next);
            _tail = next;
            return next.FreeMemory;
        }

        _head = _tail = pool.Rent(_large);
        _headIndex = 0;
        _examined = 0;
        return _tail.FreeMemory;
    }

    /// <summary>The length of what <see cref="Destination"/> gives in this receive, in bytes; takes no block for it.</summary>
    internal int DestinationLength => _wantsInto ? _into.Length : _tail is { } tail && IsRoomy(tail) ? tail.Free : _large ? BlockPool.LargeSize : BlockPool.SmallSize;

    /// <summary>The same as <see cref="Destination"/>, for a channel that receives after it has answered Pending.</summary>
    internal Memory<byte> DestinationLocked()
    {
        lock (_gate)
        {
            return Destination();
        }
    }

    /// <summary>Told by the channel, inside a receive: nothing came, so an idle connection need not hold the block.</summary>
    internal void ReturnUnused()
    {
        if (_head == _tail && _tail is { } tail && _headIndex == tail.End)
        {
            ReleaseAll();
        }
    }

    /// <summary>Told by the channel: bytes are at hand now, receive again.</summary>
    internal void OnReady()
    {
        ReadResult result;
        int count;
        bool into;
        lock (_gate)
        {
            if (!_receiving)
            {
                return;
            }

            into = _wantsInto;
            count = channel.Receive(this);
            if (count == ByteChannel.Pending || !FinishReceive(count, count == ByteChannel.Failed ? channel.Failure : null, out result))
            {
                return;
            }
        }

        Wake(into, count, result);
    }

    /// <summary>Told by the channel: the receive that was pending has ended.</summary>
    internal void OnReceived(int count, Exception? failure)
    {
        ReadResult result;
        bool into;
        lock (_gate)
        {
            if (!_receiving)
            {
                return;
            }

            into = _wantsInto;
            if (!FinishReceive(failure is null ? count : ByteChannel.Failed, failure, out result))
            {
                return;
            }
        }

        Wake(into, count, result);
    }

    /// <summary>Runs an action that must not overlap a receive: the channel closes its descriptor in it.</summary>
    internal void Exclusively(Action action)
    {
        lock (_gate)
        {
            action();
        }
    }

    // A read that was cancelled leaves its receive behind; what that brings waits in the pipe for the next read.
    private bool FinishReceive(int count, Exception? failure, out ReadResult result)
    {
        result = default;
        _receiving = false;
        var into = _wantsInto;
        if (into)
        {
            EndInto(count, failure);
        }
        else
        {
            Commit(count, failure);
        }

        if (_completed)
        {
            ReleaseAll();
        }

        if (!_waiting)
        {
            return false;
        }

        _waiting = false;
        if (!into && _failure is null)
        {
            result = TakeResult();
        }

        return true;
    }

    // A nearly empty rest of a small block would cut a large read to pieces.
    private bool IsRoomy(Block tail) => tail.Free >= LeastRoom && (!_large || tail.Capacity > BlockPool.SmallSize);

    private void Wake(bool into, int count, in ReadResult result)
    {
        if (into)
        {
            if (_failure is { } failure)
            {
                _readInto.SetException(failure);
            }
            else
            {
                _readInto.SetResult(count);
            }
        }
        else if (_failure is { } failure)
        {
            _read.SetException(failure);
        }
        else
        {
            _read.SetResult(result);
        }
    }

    private void ReceiveUnderGate()
    {
        var count = channel.Receive(this);
        if (count == ByteChannel.Pending)
        {
            _receiving = true;
        }
        else
        {
            Commit(count, count == ByteChannel.Failed ? channel.Failure : null);
        }
    }

    private void Commit(int count, Exception? failure)
    {
        if (count > 0)
        {
            var tail = _tail!;
            // Small again as soon as a read brings little: a connection that once carried a body does not hold large blocks for its next small requests.
            _large = count == tail.Free || (_large && count > BlockPool.SmallSize);
            tail.End += count;
            return;
        }

        if (count == 0)
        {
            _ended = true;
        }
        else
        {
            _failure = failure ?? channel.Failure;
        }

        ReturnUnused();
    }

    private void EndInto(int count, Exception? failure)
    {
        if (failure is not null)
        {
            _failure = failure;
        }
        else if (count == 0 && !_into.IsEmpty)
        {
            _ended = true;
        }

        _into = default;
        _wantsInto = _isCancellable = false;
    }

    private int CopyBuffered(Span<byte> destination)
    {
        var copied = 0;
        while (_head is { } head && copied < destination.Length)
        {
            var source = head.Written(_headIndex).Span;
            var count = Math.Min(source.Length, destination.Length - copied);
            source[..count].CopyTo(destination[copied..]);
            copied += count;
            _headIndex += count;
            if (_headIndex < head.End)
            {
                break;
            }

            _head = head.Release();
            _headIndex = 0;
        }

        if (_head is null)
        {
            _tail = null;
            _examined = 0;
        }

        return copied;
    }

    private ReadResult TakeResult()
    {
        if (!_cancelRequested && _failure is { } failure && !HasUnexamined)
        {
            throw failure;
        }

        var buffer = _head is { } head ? new ReadOnlySequence<byte>(head, _headIndex, _tail!, _tail!.End) : ReadOnlySequence<byte>.Empty;
        var result = new ReadResult(buffer, _cancelRequested, _ended);
        _cancelRequested = false;
        return result;
    }

    private void ReleaseAll()
    {
        while (_head is { } head)
        {
            _head = head.Release();
        }

        _tail = null;
        _headIndex = 0;
        _examined = 0;
    }

    // The token is for callers off the hot path; CancelPendingRead costs nothing.
    private async ValueTask<ReadResult> ReadWithTokenAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await using (cancellationToken.UnsafeRegister(static state => ((ChannelReader)state!).CancelPendingRead(), this))
        {
            var result = await ReadAsync(CancellationToken.None);
            if (result.IsCanceled && cancellationToken.IsCancellationRequested)
            {
                AdvanceTo(result.Buffer.Start);
                cancellationToken.ThrowIfCancellationRequested();
            }

            return result;
        }
    }
}
