using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// The access log. A record is formatted on the thread that completes it, into that thread's own ring; one background thread carries the rings to
/// the sink. A sink that is slow fills the rings: then records are dropped and counted, and nobody waits.
/// </summary>
/// <remarks>
/// Lines of one thread stay in order; lines of two threads may not. The writer thread sleeps without a timer while there is nothing to write.
/// </remarks>
public sealed class AccessLog : IDisposable
{
    private const int RingBytes = 512 * 1024;

    /// <summary>From here on the writer is woken at once instead of at its next round.</summary>
    private const int WakeBytes = 64 * 1024;

    /// <summary>How long lines may wait to be written together.</summary>
    private static readonly TimeSpan Round = TimeSpan.FromMilliseconds(100);

    [ThreadStatic]
    private static ThreadSlot? t_slot;

    private readonly Func<Stream> _open;
    private readonly Action<Exception>? _onError;
    private readonly Lock _growing = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _writer;
    private readonly byte[] _gather = new byte[WakeBytes + AccessLogFormat.MaxLineBytes];
    private ThreadSlot[] _slots = [];
    private Stream? _sink;
    private long _dropped;
    private int _asleep;
    private int _urgent;
    private volatile bool _reopen;
    private volatile bool _stopping;
    private bool _isTorn;

    private AccessLog(Func<Stream> open, Action<Exception>? onError)
    {
        _open = open;
        _onError = onError;
        _sink = open();
        _writer = new Thread(Run, 256 * 1024) { IsBackground = true, Name = "access-log" };
        _writer.Start();
    }

    /// <summary>Records that were lost because the sink was slow or failed.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>Logs to a stream, which is disposed with the log.</summary>
    /// <param name="open">Opens the sink; called again by <see cref="Reopen"/>. Unbuffered: the log buffers itself.</param>
    /// <param name="onError">Told, on the writer thread, when the sink fails.</param>
    public static AccessLog ToStream(Func<Stream> open, Action<Exception>? onError = null) => new(open, onError);

    /// <summary>Appends to a file, made with mode 0640.</summary>
    /// <exception cref="IOException">The file can not be opened.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be opened.</exception>
    public static AccessLog ToFile(string path, Action<Exception>? onError = null) => new(
        () =>
        {
            var options = new FileStreamOptions { Mode = FileMode.Append, Access = FileAccess.Write, Share = FileShare.ReadWrite | FileShare.Delete, BufferSize = 0 };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead;
            }

            return new FileStream(path, options);
        },
        onError);

    /// <summary>Opens the sink again before the next write: the file was rotated away.</summary>
    public void Reopen()
    {
        _reopen = true;
        Wake();
    }

    /// <summary>Writes what waits, for at most two seconds, and closes the sink.</summary>
    public void Dispose()
    {
        if (_stopping)
        {
            return;
        }

        _stopping = true;
        _wake.Set();
        // A sink that does not take its bytes must not hold up the process: the thread is a background thread and dies with it.
        if (_writer.Join(TimeSpan.FromSeconds(2)))
        {
            _wake.Dispose();
        }
    }

    internal void Write(RequestRecord record, DateTimeOffset start, TimeSpan duration)
    {
        var slot = Slot();
        Publish(slot, AccessLogFormat.Write(slot.Scratch, record, start, duration));
    }

    internal void Write(TcpRecord record, DateTimeOffset start, TimeSpan duration)
    {
        var slot = Slot();
        Publish(slot, AccessLogFormat.Write(slot.Scratch, record, start, duration));
    }

    private void Publish(ThreadSlot slot, int length)
    {
        if (length == 0 || !slot.Ring.TryWrite(slot.Scratch.AsSpan(0, length)))
        {
            Interlocked.Increment(ref _dropped);
            return;
        }

        // The full fence pairs with the writer's: either it sees these bytes before it sleeps, or we see that it sleeps.
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _asleep) != 0)
        {
            Wake();
        }
        else if (slot.Ring.Pending > WakeBytes && Interlocked.Exchange(ref _urgent, 1) == 0)
        {
            _wake.Set();
        }
    }

    private void Wake()
    {
        if (Interlocked.Exchange(ref _asleep, 0) != 0)
        {
            _wake.Set();
        }
    }

    private ThreadSlot Slot()
    {
        var slot = t_slot;
        return slot?.Owner == this ? slot : AddSlot();
    }

    private ThreadSlot AddSlot()
    {
        // Slots of threads that have died are given to new ones once they are drained, so that pool threads that come and go do not pile them up.
        lock (_growing)
        {
            foreach (var known in _slots)
            {
                if (known.Thread == Thread.CurrentThread || (!known.Thread.IsAlive && known.Ring.Pending == 0))
                {
                    known.Thread = Thread.CurrentThread;
                    return t_slot = known;
                }
            }

            var slot = new ThreadSlot(this);
            Volatile.Write(ref _slots, [.. _slots, slot]);
            return t_slot = slot;
        }
    }

    private void Run()
    {
        while (true)
        {
            var stopping = _stopping;
            if (_reopen)
            {
                _reopen = false;
                TryOpen();
            }

            Volatile.Write(ref _urgent, 0);
            if (Drain())
            {
                if (!stopping)
                {
                    _wake.WaitOne(Round);
                }

                continue;
            }

            if (stopping)
            {
                break;
            }

            Volatile.Write(ref _asleep, 1);
            Interlocked.MemoryBarrier();
            if (HasPending() || _reopen || _stopping)
            {
                Volatile.Write(ref _asleep, 0);
                continue;
            }

            _wake.WaitOne();
            Volatile.Write(ref _asleep, 0);
            if (!_stopping && !_reopen)
            {
                // The first line after a pause: let others join it.
                _wake.WaitOne(Round);
            }
        }

        _sink?.Dispose();
    }

    private bool HasPending()
    {
        foreach (var slot in Volatile.Read(ref _slots))
        {
            if (slot.Ring.Pending > 0)
            {
                return true;
            }
        }

        return false;
    }

    private bool Drain()
    {
        var any = false;
        foreach (var slot in Volatile.Read(ref _slots))
        {
            while (Gather(slot.Ring) is var length and > 0)
            {
                any = true;
                Send(_gather.AsSpan(0, length));
            }
        }

        return any;
    }

    /// <summary>Copies whole lines out of a ring (a piece that wraps is joined here) and gives their room back before the slow part begins.</summary>
    private int Gather(LogRing ring)
    {
        var length = 0;
        while (length < WakeBytes && ring.Peek() is { IsEmpty: false } piece)
        {
            if (piece.Length > WakeBytes - length)
            {
                piece = piece[..(WakeBytes - length)];
            }

            piece.CopyTo(_gather.AsSpan(length));
            ring.Advance(piece.Length);
            length += piece.Length;
        }

        // Ends in the middle of a line: fetch the rest of it, for which there is room, so that lines of two threads never mix. The producer publishes whole lines.
        while (length > 0 && _gather[length - 1] != '\n')
        {
            var piece = ring.Peek();
            var end = piece.IndexOf((byte)'\n') + 1;
            piece = end > 0 ? piece[..end] : piece;
            piece.CopyTo(_gather.AsSpan(length));
            ring.Advance(piece.Length);
            length += piece.Length;
        }

        return length;
    }

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Whatever a sink throws, the data path goes on and the loss is counted.")]
    private void Send(ReadOnlySpan<byte> lines)
    {
        try
        {
            if (_sink is null)
            {
                TryOpen();
            }

            if (_sink is null)
            {
                Interlocked.Add(ref _dropped, lines.Count((byte)'\n'));
                return;
            }

            if (_isTorn)
            {
                _sink.Write("\n"u8);
                _isTorn = false;
            }

            _sink.Write(lines);
        }
        catch (Exception exception)
        {
            _isTorn = true;
            Interlocked.Add(ref _dropped, lines.Count((byte)'\n'));
            _onError?.Invoke(exception);
        }
    }

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "As for Send.")]
    private void TryOpen()
    {
        try
        {
            var opened = _open();
            _sink?.Dispose();
            _sink = opened;
        }
        catch (Exception exception)
        {
            // The old sink, if there is one, goes on being used: better the rotated file than nothing.
            _onError?.Invoke(exception);
        }
    }

    private sealed class ThreadSlot(AccessLog owner)
    {
        public AccessLog Owner { get; } = owner;

        public Thread Thread { get; set; } = Thread.CurrentThread;

        public byte[] Scratch { get; } = GC.AllocateUninitializedArray<byte>(AccessLogFormat.MaxLineBytes);

        public LogRing Ring { get; } = new(RingBytes);
    }
}
