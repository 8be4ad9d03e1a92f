using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// A TCP (or Unix) stream under a reader and a writer. A receive is tried only when the kernel has said that something came, or when the last one filled its
/// memory; a send that was cut short waits for room without trying again: no system call is made in vain.
/// </summary>
/// <remarks>The descriptor is closed under both gates (the reader's, held across receives; <see cref="_sendGate"/>, held across sends), so no call can hit
/// a descriptor that was closed and given to another connection.</remarks>
internal sealed class SocketChannel : ByteChannel, IEventTarget
{
    // A connection that brings data faster than we take it lets the others have their turn after so many receives.
    private const int ReceivesPerRound = 16;

    // A full pipe is as much as so many full blocks.
    private const int ReceivesPerSplice = SocketSplice.PipeBytes / BlockPool.LargeSize;
    private const int MostVectors = 64;

    private readonly Lock _sendGate = new();
    private readonly EventLoop _loop;
    private int _descriptor;
    private int _slot = -1;
    private volatile bool _readable;
    private volatile bool _peerHalfClosed;

    // TCP's urgent data, which nobody wants here: a receive ends before it and passes over it, a splice never gets past it.
    private volatile bool _hasUrgent;

    // True while the rest waits for room. Set before each call already, so that an event that tells of room at once finds it; it is settled under the gate.
    private volatile bool _sendBlocked;

    // The kernel tells of a reset once: when a send has met it, reading ends as if the peer had closed in order. Then this is what the send met. Under the send gate.
    private Exception? _sendFailure;
    private int _ended;
    private long _round;
    private int _receivesInRound;

    /// <summary>Takes a connected, non-blocking descriptor over.</summary>
    public SocketChannel(int descriptor, EventLoop loop, BlockPool pool)
    {
        _descriptor = descriptor;
        _loop = loop;
        Reader = new ChannelReader(this, pool);
        Writer = new ChannelWriter(this, pool);
    }

    /// <summary>The reading end.</summary>
    public ChannelReader Reader { get; }

    /// <summary>The writing end.</summary>
    public ChannelWriter Writer { get; }

    /// <summary>The descriptor, for options; negative once closed.</summary>
    public int Descriptor => _descriptor;

    /// <summary>Told once, when the connection failed or was closed.</summary>
    public Action? Ended { get; set; }

    /// <summary>Begins to hear events. Data that came before is told at once.</summary>
    public void Start() => _slot = _loop.Register(_descriptor, this, LinuxSocket.EventIn | LinuxSocket.EventUrgent | LinuxSocket.EventOut | LinuxSocket.EventReadHangUp);

    /// <inheritdoc/>
    public override unsafe int Receive(ChannelReader reader)
    {
        while (true)
        {
            if (Failure is not null)
            {
                return Failed;
            }

            if (!_readable)
            {
                return Pending;
            }

            if (reader.WaitsOnly)
            {
                return 0;
            }

            if (IsOthersTurn(1))
            {
                return Pending;
            }

            // Before the call: an event that comes during it must not be lost. Set again where it may be too little.
            _readable = false;
            var memory = reader.Destination();
            nint count;
            int error;
            fixed (byte* buffer = memory.Span)
            {
                count = LinuxSocket.Receive(_descriptor, buffer, memory.Length, LinuxSocket.MessageDontWait);
                error = count < 0 ? LinuxSocket.LastError : 0;
            }

            if (count == 0 && CutOff() is { } cut)
            {
                Fail(cut);
            }
            else if (count >= 0)
            {
                // Short: the kernel has no more, and tells when more comes. But a FIN that was told before is not told twice, nor what lies behind urgent data.
                if (count == memory.Length || _peerHalfClosed || _hasUrgent)
                {
                    _readable = true;
                }

                return (int)count;
            }
            else if (error == LinuxSocket.Interrupted)
            {
                _readable = true;
            }
            else if (error == LinuxSocket.Again)
            {
                reader.ReturnUnused();
            }
            else
            {
                Fail(new ConnectionResetException($"The connection failed while reading ({Describe(error)})."));
            }
        }
    }

    /// <inheritdoc/>
    public override bool CanSplice => !_hasUrgent;

    /// <inheritdoc/>
    public override int Splice(SocketSplice splice, int most)
    {
        while (Failure is null)
        {
            if (!_readable)
            {
                return Pending;
            }

            _readable = false;
            if (IsOthersTurn(ReceivesPerSplice))
            {
                return Pending;
            }

            var count = splice.Fill(_descriptor, most);
            if (count >= 0)
            {
                // A count that is short says nothing: the pipe may have no place for more pieces.
                _readable = true;
                return (int)count;
            }

            var error = LinuxSocket.LastError;
            if (error == LinuxSocket.Interrupted)
            {
                _readable = true;
            }
            else if (error != LinuxSocket.Again)
            {
                Fail(new ConnectionResetException($"The connection failed while reading ({Describe(error)})."));
            }
        }

        return Failed;
    }

    /// <inheritdoc/>
    public override bool Send(ChannelWriter writer)
    {
        bool wake;
        bool isOver;
        lock (_sendGate)
        {
            wake = SendUnderGate(writer);
            isOver = !_sendBlocked;
        }

        if (wake)
        {
            writer.Wake();
        }

        return isOver;
    }

    /// <inheritdoc/>
    public void OnEvents(uint events)
    {
        const uint end = LinuxSocket.EventReadHangUp | LinuxSocket.EventHangUp | LinuxSocket.EventError;
        if ((events & end) != 0)
        {
            _peerHalfClosed = true;
        }

        if ((events & LinuxSocket.EventUrgent) != 0)
        {
            _hasUrgent = true;
        }

        if ((events & (LinuxSocket.EventIn | LinuxSocket.EventUrgent | end)) != 0)
        {
            _readable = true;
            Reader.OnReady();
        }

        if ((events & (LinuxSocket.EventOut | LinuxSocket.EventHangUp | LinuxSocket.EventError)) != 0)
        {
            ResumeSend();
        }

        if ((events & (LinuxSocket.EventHangUp | LinuxSocket.EventError)) != 0)
        {
            OnEnded();
        }
    }

    /// <summary>Breaks off with RST. Whatever waits ends with <paramref name="reason"/>.</summary>
    public void Abort(ConnectionAbortedException reason)
    {
        bool wake;
        lock (_sendGate)
        {
            Fail(reason);
            if (_descriptor >= 0)
            {
                LinuxSocket.Disconnect(_descriptor);
            }

            _sendBlocked = false;
            wake = Writer.OnBroken();
        }

        if (wake)
        {
            Writer.Wake();
        }

        Reader.OnReady();
    }

    /// <summary>Closes the descriptor. Unread bytes are thrown away first, because closing on top of them makes the kernel reset the connection and takes from
    /// the peer what it has not read yet.</summary>
    public void Close()
    {
        var wake = false;
        Reader.Exclusively(() =>
        {
            lock (_sendGate)
            {
                Fail(new ConnectionAbortedException("The connection was closed by us."));
                _sendBlocked = false;
                wake = Writer.OnBroken();
                if (_descriptor < 0)
                {
                    return;
                }

                if (_readable)
                {
                    ThrowAwayUnread();
                }

                if (_slot >= 0)
                {
                    _loop.Forget(_slot);
                }

                _ = LinuxSocket.Close(_descriptor);
                _descriptor = -1;
            }
        });
        if (wake)
        {
            Writer.Wake();
        }

        Reader.OnReady();
    }

    private static string Describe(int error) => ((System.Net.Sockets.SocketError)LinuxSocket.ToSocketError(error)).ToString();

    private unsafe void ThrowAwayUnread()
    {
        // For TCP this flag discards without copying.
        byte nothing;
        for (var i = 0; i < 4; i++)
        {
            if (LinuxSocket.Receive(_descriptor, &nothing, 1 << 20, LinuxSocket.MessageDontWait | LinuxSocket.MessageTruncate) <= 0)
            {
                return;
            }
        }
    }

    // Whichever loop this runs on: a continuation may have come from the other end of an exchange, which lives on another one.
    private bool IsOthersTurn(int receives)
    {
        if (EventLoop.Current is not { } loop)
        {
            return false;
        }

        if (_round != loop.Round)
        {
            _round = loop.Round;
            _receivesInRound = 0;
        }

        _receivesInRound += receives;
        if (_receivesInRound <= ReceivesPerRound)
        {
            return false;
        }

        loop.Again(this);
        return true;
    }

    private void ResumeSend()
    {
        // Most events of a socket tell of room that nobody waits for.
        if (!_sendBlocked)
        {
            return;
        }

        bool wake;
        lock (_sendGate)
        {
            if (!_sendBlocked)
            {
                return;
            }

            _sendBlocked = false;
            wake = SendUnderGate(Writer);
        }

        if (wake)
        {
            Writer.Wake();
        }
    }

    [SkipLocalsInit]
    private unsafe bool SendUnderGate(ChannelWriter writer)
    {
        var vectors = stackalloc IoVector[MostVectors];
        while (true)
        {
            if (Failure is not null)
            {
                return writer.OnBroken();
            }

            if (writer.Splice is { } splice)
            {
                BeginCall();
                if (splice.Drain(_descriptor, out var wasCut))
                {
                    _sendBlocked = false;
                    writer.OnDrained();
                }
                else if (OnSendFailed(writer, wasCut) is { } ended)
                {
                    return ended;
                }

                continue;
            }

            var pieces = writer.Gather(new Span<IoVector>(vectors, MostVectors), out var endNow, out var wake);
            if (pieces == 0)
            {
                if (!endNow)
                {
                    return wake;
                }

                _ = LinuxSocket.Shutdown(_descriptor, 1);
                continue;
            }

            nint wanted = 0;
            for (var i = 0; i < pieces; i++)
            {
                wanted += vectors[i].Length;
            }

            BeginCall();
            var sent = LinuxSocket.Send(_descriptor, vectors, pieces);
            if (sent == wanted)
            {
                _sendBlocked = false;
                if (writer.EndIfSent(sent, out wake))
                {
                    return wake;
                }
            }
            else if (sent >= 0)
            {
                // The kernel's buffer is full; it has noted that we want to hear of room.
                writer.OnSent(sent);
                return false;
            }
            else if (OnSendFailed(writer) is { } ended)
            {
                return ended;
            }
        }
    }

    // Why an end that was read is none in order; null when it is. The gate waits for a send that is just meeting the reset, on another thread.
    private Exception? CutOff()
    {
        lock (_sendGate)
        {
            return _sendFailure;
        }
    }

    private void BeginCall()
    {
        _sendBlocked = true;
        if (!_loop.IsCurrent)
        {
            // The event can come on the loop's thread before the call returns on this one.
            Interlocked.MemoryBarrier();
        }
    }

    // Null: try again. Otherwise the send is over, or goes on when there is room; whether to wake the writer.
    private bool? OnSendFailed(ChannelWriter writer, bool mayHideReset = false)
    {
        var error = LinuxSocket.LastError;
        if (error == LinuxSocket.Again)
        {
            return false;
        }

        _sendBlocked = false;
        if (error == LinuxSocket.Interrupted)
        {
            return null;
        }

        // A broken pipe is no such loss: the peer's FIN had come before its reset. Unless the reset itself was not told.
        if (error != LinuxSocket.BrokenPipe || mayHideReset)
        {
            _sendFailure = new ConnectionResetException($"The connection failed while sending ({Describe(error)}).");
        }

        // The reader finds out by itself: what came before the reset may still be read, such as an early response.
        return writer.OnBroken();
    }

    // Whoever waits to send hears of it by the event that comes with the failure, or from whoever called; never from here, where gates are held.
    private void Fail(Exception failure)
    {
        if (Failure is null)
        {
            Failure = failure;
            OnEnded();
        }
    }

    private void OnEnded()
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
        {
            Ended?.Invoke();
        }
    }
}
