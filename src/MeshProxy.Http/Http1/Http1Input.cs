using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;

namespace MeshProxy.Http.Http1;

/// <summary>Told when the read that it waits for has ended. Called inline on the transport's thread, inside a <see cref="FlushBatch"/>.</summary>
internal interface IHttp1InputWaiter
{
    void OnInput();
}

/// <summary>
/// A connection's incoming bytes: at most one read at a time, with one waiter, no task and no allocation.
/// <code>
/// Idle -BeginRead-> Reading -completed-> Held -Release / all consumed-> Idle
/// </code>
/// Owner: whoever holds the buffer (the head loop, or the body reader of the open exchange: never both). Only Idle -> Reading and the choice of the
/// waiter are contended (the read-ahead that looks for the peer's end against a body reader on another thread); <c>_gate</c> guards those.
/// The pipe itself is called outside the lock, because it may run other code inline.
/// </summary>
internal sealed class Http1Input
{
    private readonly PipeReader _reader;
    private readonly Lock _gate = new();
    private readonly Action _onRead;
    private ConfiguredValueTaskAwaitable<ReadResult>.ConfiguredValueTaskAwaiter _awaiter;
    private IHttp1InputWaiter? _waiter;
    private ReadOnlySequence<byte> _buffer;

    // Written under the lock, but for the way out of Held, which is the holder's alone.
    private volatile State _state;

    public Http1Input(PipeReader reader)
    {
        _reader = reader;
        _onRead = OnReadCompleted;
    }

    private enum State : byte
    {
        Idle,
        Reading,
        Held,
    }

    /// <summary>True when there is a buffer (perhaps empty, at the end) to look at.</summary>
    public bool IsHeld => _state == State.Held;

    /// <summary>What is unconsumed.</summary>
    public ref readonly ReadOnlySequence<byte> Buffer => ref _buffer;

    /// <summary>The peer sent its FIN; what it sent before is still in <see cref="Buffer"/>.</summary>
    public bool IsCompleted { get; private set; }

    /// <summary>The connection failed.</summary>
    public bool IsFaulted { get; private set; }

    /// <summary>Reads that ended: tells progress to the tick.</summary>
    public int Progress { get; private set; }

    /// <summary>Whether the last read left bytes to look at. Unlike <see cref="Buffer"/> it may be asked by somebody who does not hold the buffer.</summary>
    public bool LastReadHadBytes { get; private set; }

    /// <summary>True while somebody waits for the peer.</summary>
    public bool IsWaiting => _state == State.Reading;

    /// <summary>Asks for bytes beyond what was released.</summary>
    /// <returns>True when a buffer is there now; false when <paramref name="waiter"/> will be told.</returns>
    public bool BeginRead(IHttp1InputWaiter waiter)
    {
        lock (_gate)
        {
            if (_state == State.Held)
            {
                return true;
            }

            _waiter = waiter;
            if (_state == State.Reading)
            {
                return false;
            }

            _state = State.Reading;
        }

        return Start(waiter);
    }

    /// <summary>As <see cref="BeginRead"/>, but never takes the place of somebody who waits already.</summary>
    /// <returns>True when a buffer is there now.</returns>
    public bool BeginReadAhead(IHttp1InputWaiter waiter)
    {
        lock (_gate)
        {
            if (_state != State.Idle)
            {
                return false;
            }

            _waiter = waiter;
            _state = State.Reading;
        }

        return Start(waiter);
    }

    /// <summary>Consumes from the front of the buffer; with everything consumed it goes back to the transport.</summary>
    public void Consume(SequencePosition position)
    {
        _buffer = _buffer.Slice(position);
        if (_buffer.IsEmpty && !IsCompleted && !IsFaulted)
        {
            Release();
        }
    }

    /// <summary>Gives the buffer back, everything examined, so that the next read brings more.</summary>
    public void Release()
    {
        // Only the holder leaves Held, so its own look at the state needs no lock.
        if (IsCompleted || IsFaulted || _state != State.Held)
        {
            return;
        }

        var start = _buffer.Start;
        var end = _buffer.End;
        _buffer = default;
        _reader.AdvanceTo(start, end);
        _state = State.Idle;
    }

    /// <summary>Whether what comes next can go to <paramref name="output"/> by a splice. For the owner, with nothing held.</summary>
    public bool CanSpliceTo(PipeWriter output) => _reader is ISplicingReader reader && reader.CanSpliceTo(output);

    /// <summary>A way to <paramref name="output"/>, after <see cref="CanSpliceTo"/>; null when none is left.</summary>
    public ISplice? TryBeginSplice(PipeWriter output) => ((ISplicingReader)_reader).TryBeginSplice(output);

    /// <summary>Waits for bytes, the end, a failure or <see cref="Cancel"/>, and leaves them where they are. For the owner, after <see cref="CanSpliceTo"/>.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask WaitAsync()
    {
        lock (_gate)
        {
            _waiter = null;
            _state = State.Reading;
        }

        try
        {
            _ = await ((ISplicingReader)_reader).WaitAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            // Every way in which the transport can fail. The read that follows finds it too.
        }

        Progress++;
        lock (_gate)
        {
            _state = State.Idle;
        }
    }

    /// <summary>Wakes whoever waits, without bytes. Thread-safe.</summary>
    public void Cancel() => _reader.CancelPendingRead();

    private bool Start(IHttp1InputWaiter waiter)
    {
        try
        {
#pragma warning disable CA2012 // the awaiter is consumed once: here, or in OnReadCompleted
            var awaiter = _reader.ReadAsync().ConfigureAwait(false).GetAwaiter();
#pragma warning restore CA2012
            if (awaiter.IsCompleted)
            {
                Take(awaiter.GetResult());
                return Hold(waiter);
            }

            _awaiter = awaiter;
        }
        catch (Exception)
        {
            // Every way in which the transport can fail: reset, TLS alert, I/O error, already closed.
            Fault();
            return Hold(waiter);
        }

        _awaiter.UnsafeOnCompleted(_onRead);
        return false;
    }

    // The read ended before Start returned. False: while it ran, somebody else took the waiter's place, and has been told.
    private bool Hold(IHttp1InputWaiter waiter)
    {
        IHttp1InputWaiter? current;
        lock (_gate)
        {
            current = _waiter;
            _waiter = null;
            _state = State.Held;
        }

        if (current == waiter)
        {
            return true;
        }

        using (FlushBatch.Enter())
        {
            current?.OnInput();
        }

        return false;
    }

    private void OnReadCompleted()
    {
        try
        {
            Take(_awaiter.GetResult());
        }
        catch (Exception)
        {
            Fault();
        }

        IHttp1InputWaiter? waiter;
        lock (_gate)
        {
            waiter = _waiter;
            _waiter = null;
            _state = State.Held;
        }

        // One read can wake handlers that write to several connections: they all flush when the batch closes.
        using (FlushBatch.Enter())
        {
            waiter?.OnInput();
        }
    }

    private void Take(in ReadResult result)
    {
        _buffer = result.Buffer;
        LastReadHadBytes = !result.Buffer.IsEmpty;
        IsCompleted = result.IsCompleted;
        Progress++;
    }

    private void Fault()
    {
        _buffer = default;
        LastReadHadBytes = false;
        IsFaulted = true;
    }
}
