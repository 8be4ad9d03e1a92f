using System.Runtime.InteropServices;

namespace MeshProxy.Load;

/// <summary>
/// One client connection: connects, does the TLS handshake, moves bytes; what the bytes mean is the subclass's.
/// Owner: the generator's only thread. States: Closed -> Connecting -> (Handshaking ->) Open -> Closed; <see cref="Fail"/> leads to Closed from any.
/// </summary>
internal abstract unsafe class Connection(Generator generator, int slot)
{
    private enum Phase
    {
        Closed,
        Connecting,
        Handshaking,
        Open,
    }

    private Phase _phase = Phase.Closed;
    private int _fd = -1;
    private nint _ssl;
    private int _interest;
    private byte[] _unsent = [];
    private int _unsentLength;

    internal int Slot => slot;

    internal bool IsOpen => _phase == Phase.Open;

    internal bool IsClosed => _phase == Phase.Closed;

    protected Generator Generator => generator;

    /// <summary>Requests that were started and not answered: how many more this connection can take is the generator's ring.</summary>
    internal abstract int InFlight { get; }

    /// <summary>Sends a request that was due at the given time. The connection is open, except in churn, where this opens it.</summary>
    internal abstract void Start(long due);

    /// <summary>Sends what <see cref="Start"/> left for one write.</summary>
    internal virtual void Flush()
    {
    }

    /// <summary>Gives the due times of all unanswered requests to the generator, and forgets them.</summary>
    internal abstract void Abandon(Action<long> each);

    internal void Open()
    {
        _fd = Native.Socket(2, 1 | 0x800 | 0x80000, 0);
        if (_fd < 0)
        {
            Generator.OnConnectFailed("no socket: too many open files?");
            return;
        }

        var one = 1;
        _ = Native.SetSocketOption(_fd, 6, 1, &one, sizeof(int));
        _phase = Phase.Connecting;
        _interest = 0;
        Watch(Native.EpollIn | Native.EpollOut);
        var address = stackalloc byte[16];
        generator.WriteSocketAddress(address);
        if (Native.Connect(_fd, address, 16) != 0 && Marshal.GetLastPInvokeError() != Native.EInProgress)
        {
            Fail($"connect: errno {Marshal.GetLastPInvokeError()}");
        }
    }

    internal void OnEvent(int events)
    {
        switch (_phase)
        {
            case Phase.Connecting:
                OnConnected();
                break;
            case Phase.Handshaking:
                Handshake();
                break;
            case Phase.Open:
                if ((events & Native.EpollOut) != 0)
                {
                    SendUnsent();
                }

                if (_phase == Phase.Open && (events & ~Native.EpollOut) != 0)
                {
                    ReceiveAll();
                }

                break;
            default:
                break; // An event of the same epoll_wait batch for a connection that was closed by an earlier one.
        }
    }

    internal void Close(bool sayGoodbye)
    {
        if (_phase == Phase.Closed)
        {
            return;
        }

        if (_ssl != 0)
        {
            if (sayGoodbye && _phase == Phase.Open)
            {
                _ = Native.SslShutdown(_ssl);
            }

            Native.SslFree(_ssl);
            _ssl = 0;
        }

        _ = Native.Close(_fd);
        _fd = -1;
        _unsentLength = 0;
        _phase = Phase.Closed;
    }

    protected abstract void OnOpen();

    /// <summary>Takes bytes from the peer; they are gone after the call.</summary>
    protected abstract void OnReceived(ReadOnlySpan<byte> bytes);

    /// <summary>The peer ended the connection in order. Requests in flight have failed, unless the subclass knows better.</summary>
    protected virtual void OnEnd() => Fail("connection ended by the peer");

    protected void Fail(string reason)
    {
        var wasOpen = _phase == Phase.Open;
        Close(sayGoodbye: false);
        generator.OnFailed(this, wasOpen, reason);
    }

    protected void Send(ReadOnlySpan<byte> bytes)
    {
        if (_unsentLength > 0)
        {
            Keep(bytes);
            return;
        }

        fixed (byte* pointer = bytes)
        {
            var sent = Write(pointer, bytes.Length);
            if (sent < 0)
            {
                Fail("send failed");
            }
            else if (sent < bytes.Length)
            {
                Keep(bytes[sent..]);
                Watch(Native.EpollIn | Native.EpollOut);
            }
        }
    }

    private void OnConnected()
    {
        int error = 0;
        var length = sizeof(int);
        _ = Native.GetSocketOption(_fd, 1, 4, &error, &length);
        if (error != 0)
        {
            Fail($"connect: errno {error}");
            return;
        }

        if (generator.TlsContext == 0)
        {
            BecomeOpen();
            return;
        }

        _ssl = generator.NewTls(_fd);
        _phase = Phase.Handshaking;
        Handshake();
    }

    private void Handshake()
    {
        Native.ErrorClear();
        var result = Native.SslDoHandshake(_ssl);
        if (result == 1)
        {
            generator.OnHandshake(Native.SslSessionReused(_ssl) != 0);
            BecomeOpen();
            return;
        }

        switch (Native.SslGetError(_ssl, result))
        {
            case Native.SslErrorWantRead:
                Watch(Native.EpollIn);
                break;
            case Native.SslErrorWantWrite:
                Watch(Native.EpollIn | Native.EpollOut);
                break;
            default:
                Fail("TLS handshake failed");
                break;
        }
    }

    private void BecomeOpen()
    {
        _phase = Phase.Open;
        Watch(Native.EpollIn);
        generator.OnConnectionOpen();
        OnOpen();
    }

    private void ReceiveAll()
    {
        var buffer = generator.ReceiveBuffer;
        while (_phase == Phase.Open)
        {
            nint count;
            if (_ssl == 0)
            {
                count = Native.Receive(_fd, buffer, Generator.ReceiveBufferBytes, Native.MsgDontWaitNoSignal);
                if (count < 0)
                {
                    if (Marshal.GetLastPInvokeError() != Native.EAgain)
                    {
                        Fail($"receive: errno {Marshal.GetLastPInvokeError()}");
                    }

                    return;
                }
            }
            else
            {
                Native.ErrorClear();
                count = Native.SslRead(_ssl, buffer, Generator.ReceiveBufferBytes);
                if (count <= 0)
                {
                    switch (Native.SslGetError(_ssl, (int)count))
                    {
                        case Native.SslErrorWantRead or Native.SslErrorWantWrite:
                            return;
                        case Native.SslErrorZeroReturn:
                            break;
                        default:
                            Fail("TLS read failed");
                            return;
                    }
                }
            }

            if (count <= 0)
            {
                OnEnd();
                return;
            }

            OnReceived(new ReadOnlySpan<byte>(buffer, (int)count));

            // A short read from a socket means that it is empty; TLS hands out one record at a time and must be asked until it wants more.
            if (_ssl == 0 && count < Generator.ReceiveBufferBytes)
            {
                return;
            }
        }
    }

    private void SendUnsent()
    {
        if (_unsentLength > 0)
        {
            fixed (byte* pointer = _unsent)
            {
                var sent = Write(pointer, _unsentLength);
                if (sent < 0)
                {
                    Fail("send failed");
                    return;
                }

                _unsent.AsSpan(sent, _unsentLength - sent).CopyTo(_unsent);
                _unsentLength -= sent;
            }
        }

        if (_unsentLength == 0)
        {
            Watch(Native.EpollIn);
        }
    }

    private int Write(byte* pointer, int length)
    {
        if (_ssl != 0)
        {
            Native.ErrorClear();
            var written = Native.SslWrite(_ssl, pointer, length);
            if (written > 0)
            {
                return written;
            }

            return Native.SslGetError(_ssl, written) is Native.SslErrorWantRead or Native.SslErrorWantWrite ? 0 : -1;
        }

        var sent = (int)Native.Send(_fd, pointer, length, Native.MsgDontWaitNoSignal);
        return sent >= 0 ? sent : Marshal.GetLastPInvokeError() == Native.EAgain ? 0 : -1;
    }

    private void Keep(ReadOnlySpan<byte> bytes)
    {
        if (_unsent.Length < _unsentLength + bytes.Length)
        {
            Array.Resize(ref _unsent, Math.Max(4096, 2 * (_unsentLength + bytes.Length)));
        }

        bytes.CopyTo(_unsent.AsSpan(_unsentLength));
        _unsentLength += bytes.Length;
    }

    private void Watch(int interest)
    {
        if (_interest != interest)
        {
            generator.Watch(_fd, slot, interest, isNew: _interest == 0);
            _interest = interest;
        }
    }
}
