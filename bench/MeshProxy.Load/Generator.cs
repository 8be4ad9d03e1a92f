using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MeshProxy.Load;

/// <summary>
/// The run: one thread, one epoll set. Open loop means that the schedule does not wait for answers: request i is due at start + i / rate, goes out on the next
/// free connection at or after that time, and its latency counts from when it was due. Requests whose turn never came, and those unanswered at the end,
/// are recorded with the time they had waited by then, so that a proxy that falls behind cannot look fast. A multiplexed connection takes what has come due since
/// the last burst in one write, each in turn: a write for each request would cost this one thread a core of what it measures at 50,000 a second.
/// </summary>
internal sealed unsafe class Generator : IDisposable
{
    internal const int ReceiveBufferBytes = 256 * 1024;
    private const int EventBatch = 256;
    private const int ConnectFailureLimit = 20;
    private const int OpeningAtOnce = 32;
    private const int StandardInputSlot = -1;

    // In nanoseconds; counted in the latency, as all waiting is.
    private const long BetweenBursts = 100_000;
    private static readonly TimeSpan s_drain = TimeSpan.FromSeconds(1);

    private readonly Connection[] _connections;
    private readonly Queue<Connection> _free;
    private readonly List<Connection> _unflushed = [];
    private readonly Queue<Connection> _toOpen = new();
    private readonly int _epoll = Native.EpollCreate(0x80000);
    private readonly byte* _events;
    private readonly byte* _hostName;
    private readonly LoadResult _result = new();
    private readonly double _nanosecondsBetween;

    private long _scheduleStart;
    private long _measureStart;
    private long _end;
    private long _nextIndex;
    private long _nextBurst;
    private int _turn;
    private int _connectFailures;
    private int _opening;
    private long _now;
    private long _allowed = long.MaxValue;

    internal Generator(LoadOptions options)
    {
        Options = options;
        Http1Request = options.Http1Request();
        Http2HeaderBlock = options.Http2HeaderBlock();
        Body = new byte[options.BodyBytes];
        Body.AsSpan().Fill((byte)'x');
        ReceiveBuffer = (byte*)NativeMemory.AlignedAlloc(ReceiveBufferBytes, 64);
        _events = (byte*)NativeMemory.Alloc((nuint)(EventBatch * Native.EpollEventSize));
        var name = System.Text.Encoding.ASCII.GetBytes(options.Authority + "\0");
        _hostName = (byte*)NativeMemory.Alloc((nuint)name.Length);
        name.CopyTo(new Span<byte>(_hostName, name.Length));
        _nanosecondsBetween = options.Rate > 0 ? 1e9 / options.Rate : 0;
        _connections = new Connection[options.Connections];
        _free = new Queue<Connection>((options.Connections * options.Streams) + 1);
        for (var i = 0; i < _connections.Length; i++)
        {
            _connections[i] = options.Protocol == LoadProtocol.Http1 ? new Http1Connection(this, i) : new Http2Connection(this, i);
        }

        if (options.Tls)
        {
            TlsContext = NewTlsContext(options);
        }
    }

    internal LoadOptions Options { get; }

    internal byte[] Http1Request { get; }

    internal byte[] Http2HeaderBlock { get; }

    internal byte[] Body { get; }

    internal byte* ReceiveBuffer { get; }

    internal nint TlsContext { get; }

    private bool IsMultiplexed => Options.Streams > 1;

    private static long Now => (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    public void Dispose()
    {
        foreach (var connection in _connections)
        {
            connection.Close(sayGoodbye: false);
        }

        NativeMemory.AlignedFree(ReceiveBuffer);
        NativeMemory.Free(_events);
        NativeMemory.Free(_hostName);
        _ = Native.Close(_epoll);
    }

    internal LoadResult Run()
    {
        // The kernel rounds waits up by 50 us unless told otherwise; the schedule is finer than that.
        _ = Native.ProcessControl(Native.PrSetTimerSlack, 1, 0, 0, 0);
        _now = Now;
        if (Options.Churn)
        {
            foreach (var connection in _connections)
            {
                _free.Enqueue(connection);
            }
        }
        else
        {
            foreach (var connection in _connections)
            {
                _toOpen.Enqueue(connection);
            }

            OpenMore();
            var patience = _now + 10_000_000_000;
            while (_result.Fatal is null && (_opening > 0 || _toOpen.Count > 0))
            {
                if (_now > patience)
                {
                    _result.Fatal = "not all connections could be opened within 10 s";
                }

                Wait(patience);
                OpenMore();
            }
        }

        _scheduleStart = _now = Now;
        _measureStart = _scheduleStart + ToNanoseconds(Options.WarmUp);
        _end = _measureStart + ToNanoseconds(Options.Duration);
        if (Options.Idle)
        {
            RunIdle();
        }
        else if (Options.Counts.Count > 0)
        {
            RunCounts();
        }
        else
        {
            RunLoad();
        }

        _result.Measured = Options.Duration;
        return _result;
    }

    internal void WriteSocketAddress(byte* address)
    {
        var span = new Span<byte>(address, 16);
        span.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(span, 2);
        BinaryPrimitives.WriteUInt16BigEndian(span[2..], Options.Port);
        Options.Address.CopyTo(span[4..]);
    }

    internal nint NewTls(int fd)
    {
        var ssl = Native.SslNew(TlsContext);
        _ = Native.SslSetFd(ssl, fd);
        _ = Native.SslControl(ssl, 55, 0, _hostName); // SSL_set_tlsext_host_name
        Native.SslSetConnectState(ssl);
        return ssl;
    }

    internal void Watch(int fd, int slot, int interest, bool isNew)
    {
        var epollEvent = stackalloc byte[16];
        new Span<byte>(epollEvent, 16).Clear();
        *(int*)epollEvent = interest;
        *(int*)(epollEvent + Native.EpollDataOffset) = slot;
        _ = Native.EpollControl(_epoll, isNew ? Native.EpollAdd : Native.EpollMod, fd, epollEvent);
    }

    internal void OnConnectionOpen()
    {
        _connectFailures = 0;
        _result.Connects++;
        if (_opening > 0)
        {
            _opening--;
            OpenMore();
        }
    }

    internal void OnHandshake(bool resumed)
    {
        _result.Handshakes++;
        if (resumed)
        {
            _result.ResumedHandshakes++;
        }
    }

    internal void OnFree(Connection connection)
    {
        if (!IsMultiplexed)
        {
            _free.Enqueue(connection);
        }
    }

    internal void NeedsFlush(Connection connection) => _unflushed.Add(connection);

    internal void OnBodyBytes(int count) => _result.BodyBytes += count;

    internal void OnCompleted(long due, int status)
    {
        var now = Now;
        _result.AllRequests++;
        if (status is < 200 or > 299)
        {
            _result.BadStatus++;
            _result.Note(status < 0 ? "stream reset or unreadable status" : $"status {status}");
        }

        if (now >= _measureStart && now < _end)
        {
            _result.CompletedInWindow++;
        }

        if (due >= _measureStart && due < _end)
        {
            _result.Latency.Record(now - due);
        }
    }

    /// <summary>A connection without requests was closed in order: a keep-alive limit. It is opened again and not an error.</summary>
    internal void OnClosedIdle(Connection connection)
    {
        _result.Reconnects++;
        Reopen(connection);
    }

    internal void OnFailed(Connection connection, bool wasOpen, string reason)
    {
        _result.Note(reason);
        connection.Abandon(due =>
        {
            _result.Errors++;
            if (due >= _measureStart && due < _end)
            {
                _result.Latency.Record(Now - due);
            }
        });

        if (!wasOpen)
        {
            if (_opening > 0)
            {
                _opening--;
            }

            OnConnectFailed(reason);
        }

        if (Options.Churn)
        {
            OnFree(connection);
        }
        else
        {
            _result.Reconnects++;
            Reopen(connection);
        }
    }

    internal void OnConnectFailed(string reason)
    {
        if (++_connectFailures >= ConnectFailureLimit)
        {
            _result.Fatal = $"{ConnectFailureLimit} connections failed one after the other, the last with: {reason}";
        }
    }

    private static long ToNanoseconds(TimeSpan time) => time.Ticks * 100;

    private static nint NewTlsContext(LoadOptions options)
    {
        var context = Native.SslContextNew(Native.TlsClientMethod());
        _ = Native.SslContextControl(context, 123, 0x0304, null); // least version TLS 1.3
        _ = Native.SslContextControl(context, 44, 0, null); // no session cache: every handshake is a full one
        _ = Native.SslContextControl(context, 33, 0x1 | 0x2, null); // partial writes, moving write buffer
        var protocols = options.Protocol == LoadProtocol.Http1 ? "\x08http/1.1"u8 : "\x02h2"u8;
        fixed (byte* pointer = protocols)
        {
            _ = Native.SslContextSetAlpn(context, pointer, (uint)protocols.Length);
        }

        return context;
    }

    private void Reopen(Connection connection)
    {
        // Ring entries of the closed connection are skipped where they are taken: see TakeFree.
        if (_result.Fatal is null && (_end == 0 || _now < _end))
        {
            _toOpen.Enqueue(connection);
        }
    }

    private void OpenMore()
    {
        while (_opening < OpeningAtOnce && _toOpen.TryDequeue(out var connection))
        {
            _opening++;
            connection.Open();
        }
    }

    private void RunLoad()
    {
        while (_result.Fatal is null && _now < _end)
        {
            OpenMore();
            var next = Dispatch();
            Wait(Math.Min(next, _end));
        }

        // What was due and never had its turn.
        if (Options.Rate > 0)
        {
            for (var due = Due(_nextIndex); due < _end && _result.Fatal is null; due = Due(++_nextIndex))
            {
                if (due >= _measureStart)
                {
                    _result.Unfinished++;
                    _result.Latency.Record(_end - due);
                }
            }
        }

        var drainEnd = _now + ToNanoseconds(s_drain);
        while (_result.Fatal is null && _now < drainEnd && AnyInFlight())
        {
            Wait(drainEnd);
        }

        foreach (var connection in _connections)
        {
            connection.Abandon(due =>
            {
                if (due >= _measureStart && due < _end)
                {
                    _result.Unfinished++;
                    _result.Latency.Record(_now - due);
                }
            });
        }
    }

    private bool AnyInFlight()
    {
        foreach (var connection in _connections)
        {
            if (connection.InFlight > 0)
            {
                return true;
            }
        }

        return false;
    }

    private void RunIdle()
    {
        foreach (var connection in _connections)
        {
            if (connection.IsOpen && connection.InFlight == 0)
            {
                connection.Start(_now);
                connection.Flush();
            }
        }

        while (_result.Fatal is null && _result.AllRequests + _result.Errors < _connections.Length && _now < _end)
        {
            Wait(_end);
        }

        Console.Out.WriteLine("idle");
        Console.Out.Flush();
        Watch(0, StandardInputSlot, Native.EpollIn, isNew: true);
        while (_result.Fatal is null && _now < _end)
        {
            Wait(_end);
        }
    }

    private void RunCounts()
    {
        for (var i = 0; i < Options.Counts.Count && _result.Fatal is null; i++)
        {
            if (i > 0)
            {
                _ = Console.In.ReadLine();
            }

            _now = Now;
            _end = _now + ToNanoseconds(Options.Duration);
            _allowed = Options.Counts[i];
            var wanted = _result.AllRequests + _allowed;
            while (_result.Fatal is null && _result.AllRequests < wanted && _now < _end)
            {
                _ = Dispatch();
                Wait(_end);
            }

            if (_result.AllRequests < wanted || _result.Errors > 0)
            {
                _result.Fatal ??= $"{_result.AllRequests} of {wanted} requests were answered, {_result.Errors} failed";
            }

            Console.Out.WriteLine(Options.Counts[i]);
            Console.Out.Flush();
        }
    }

    private long Due(long index) => _scheduleStart + (long)(index * _nanosecondsBetween);

    /// <summary>Sends what is due on free connections. Gives the time at which it must be called again even if nothing arrives.</summary>
    private long Dispatch()
    {
        var next = long.MaxValue;
        if (IsMultiplexed && Options.Rate > 0)
        {
            if (_now < _nextBurst)
            {
                return _nextBurst;
            }

            _nextBurst = _now + BetweenBursts;
            _turn++;
        }

        while (true)
        {
            if (Options.Rate > 0 && Due(_nextIndex) > _now)
            {
                next = Math.Max(Due(_nextIndex), _nextBurst);
                break;
            }

            if (_allowed == 0 || !TakeFree(out var connection))
            {
                break;
            }

            _allowed--;
            var due = Options.Rate > 0 ? Due(_nextIndex++) : Now;
            connection.Start(due);
        }

        foreach (var connection in _unflushed)
        {
            connection.Flush();
        }

        _unflushed.Clear();
        return next;
    }

    private bool TakeFree(out Connection connection)
    {
        for (var i = 0; IsMultiplexed && i < _connections.Length; i++)
        {
            connection = _connections[(_turn + i) % _connections.Length];
            if (connection.IsOpen && connection.InFlight < Options.Streams)
            {
                return true;
            }
        }

        while (_free.TryDequeue(out connection!))
        {
            if (Options.Churn ? connection.IsClosed : connection.IsOpen && connection.InFlight < Options.Streams)
            {
                return true;
            }
        }

        return false;
    }

    private void Wait(long until)
    {
        var timeout = stackalloc long[2];
        var left = Math.Max(0, until - Now);
        timeout[0] = left / 1_000_000_000;
        timeout[1] = left % 1_000_000_000;
        var count = Native.EpollWait(_epoll, _events, EventBatch, timeout, null);
        for (var i = 0; i < count; i++)
        {
            var epollEvent = _events + (i * Native.EpollEventSize);
            var slot = *(int*)(epollEvent + Native.EpollDataOffset);
            if (slot == StandardInputSlot)
            {
                _end = 0;
            }
            else
            {
                _connections[slot].OnEvent(*(int*)epollEvent);
            }
        }

        _now = Now;
    }
}
