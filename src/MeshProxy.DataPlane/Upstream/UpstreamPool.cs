using System.Collections.Concurrent;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>Bounds of one pool, and of the connections in it.</summary>
internal sealed record UpstreamPoolOptions
{
    /// <summary>Bounds TCP, TLS and the wait for the peer's first byte.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long an unused connection is kept. HTTP/1.1: below the server's own, so that a request never meets a connection that is
    /// just being closed (Node.js closes after 5 s, Kestrel after 130 s, nginx after 75 s).</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>The same for HTTP/2, whose servers say GOAWAY before they close.</summary>
    public TimeSpan Http2IdleTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Whether connections are probed with PING while requests are open (mesh connections).</summary>
    public bool KeepAlive { get; init; }

    /// <summary>The age at which a connection takes no further request. Up to a tenth earlier, so that connections that were made together are not renewed
    /// together.</summary>
    public TimeSpan MaxConnectionAge { get; init; } = TimeSpan.FromHours(1);
}

/// <summary>Places that a pool asks for before it makes a connection or queues a request; the cluster's circuit breaker.</summary>
internal interface IUpstreamLimits
{
    bool TryAddConnection();

    /// <summary>The same for a connection that no request waits for: half of the places stay free for those that one does.</summary>
    bool TryAddSpareConnection();

    void RemoveConnection();

    bool TryAddPending();

    void RemovePending();
}

/// <summary>
/// The connections to one endpoint under one <see cref="PoolKey"/>. It never sees a cluster.
/// Invariants:
/// 1. A connection is in <see cref="_connections"/> from the moment its peer's first byte was seen until it retires; only such connections are leased.
/// 2. An HTTP/1.1 connection is in <see cref="_idle"/> only while it has no exchange; taking it out and opening its exchange is one step for others.
/// 3. A waiter is in the queue at most once; every waiter is settled: by a connection, by a failed dial, by retirement, or by its own forwarder.
/// 4. While there are waiters, a dial is under way, or no further connection may be made and one will report capacity, retire, or end: each of these looks for
///    waiters again.
/// 5. <see cref="_gate"/> is never held while code of another class runs that could call back (continuations, observers).
/// </summary>
internal sealed class UpstreamPool : IClientConnectionObserver
{
    // A dial in progress is expected to serve this many waiters once it is ready, when the peer multiplexes: as many as the last connection did, and until
    // there was one, this many.
    private const int WaitersPerMultiplexedDial = 100;

    // An event loop whose requests find only another loop's connection, and at least this many exchanges on it, gets a connection of its own: below that, what two
    // threads lose on one connection is less than what a further connection costs both ends.
    private const int ExchangesForOwnConnection = 8;
    private static readonly TimeSpan OwnConnectionInterval = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan FirstBackOff = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestBackOff = TimeSpan.FromSeconds(5);

    private readonly Lock _gate = new();
    private readonly UpstreamConnector _connector;
    private readonly UpstreamPoolOptions _options;
    private readonly IUpstreamLimits _limits;
    private readonly TimeProvider _time;
    private readonly ClusterMeters _meters;
    private readonly ConnectionAges _ages;
    private readonly Http1ClientOptions _http1Options;
    private readonly Http2Options _http2Options;
    private readonly IdleConnections _idle = new();
    private readonly Queue<LeaseTicket> _waiters = new();
    private readonly ConcurrentDictionary<HttpClientConnection, UpstreamConnection> _live = new();
    private volatile UpstreamConnection[] _connections = [];

    // For each event loop, when it may dial for itself again. Written by that loop alone.
    private readonly long[] _nextDialForLoop = new long[EventLoop.All.Length];

    // What the endpoint speaks. Where it chooses itself (ALPN), HTTP/2 until it has: a wrong guess costs the first requests one round of dials.
    private volatile bool _multiplexes;
    private int _waitersPerDial = WaitersPerMultiplexedDial;
    private int _dialing;
    private int _failedDials;
    private long _backOffUntil;
    private int _waiterCount;
    private bool _retired;

    public UpstreamPool(
        PoolKey key, UpstreamConnector connector, UpstreamPoolOptions options, IUpstreamLimits limits, ClusterMeters meters, TimeProvider time, uint seed, Func<bool>? isMemoryShort = null)
    {
        Key = key;
        _connector = connector;
        _options = options;
        _limits = limits;
        _meters = meters;
        _time = time;
        _ages = new ConnectionAges(seed);
        _http1Options = UpstreamCodecs.Http1(options);
        _http2Options = UpstreamCodecs.Http2(options, time, meters.OnHttp2Abuse, isMemoryShort);
        _multiplexes = key.Version != HttpProtocolVersion.Http11;
    }

    public PoolKey Key { get; }

    /// <summary>True for a while after a dial failed that was needed: better ask another endpoint, if there is one.</summary>
    public bool IsBackingOff => Volatile.Read(ref _failedDials) > 0 && _time.GetTimestamp() < Volatile.Read(ref _backOffUntil);

    /// <summary>Connections that can be leased from.</summary>
    public int ConnectionCount => _connections.Length;

    /// <summary>Whether it has no connection, and none is being dialed.</summary>
    public bool IsEmpty => _live.IsEmpty && Volatile.Read(ref _dialing) == 0;

    /// <summary>Leases an exchange: at once when there is a place, else when the first connection has one. With false,
    /// <see cref="LeaseWaiter.Failure"/> tells why.</summary>
    public ValueTask<bool> AcquireAsync(LeaseWaiter waiter)
    {
        var ticket = waiter.Begin();
        if (TryTake() is { } exchange)
        {
            Settle(ticket, exchange);
            return waiter.WaitAsync();
        }

        if (!_limits.TryAddPending())
        {
            ticket.TryFail(new Failure(FailureCause.CircuitBreakerOpen, FailureStage.Connecting, RetrySafety.Never, Initiator.Us,
                $"max_pending_requests: too many requests wait for a connection to {Key.Address}"));
            return waiter.WaitAsync();
        }

        var dial = false;
        var isRetired = false;
        var isFull = false;
        HttpClientExchange? idle;
        lock (_gate)
        {
            // What came free since TryTake stands on the idle stack; what comes free from here on finds the waiter.
            idle = _idle.TryOpenExchange();
            isRetired = idle is null && _retired;
            if (idle is null && !isRetired)
            {
                _waiters.Enqueue(ticket);
                _waiterCount = _waiters.Count;
                dial = TryBeginDial();
                isFull = IsStuck();
            }
        }

        if (idle is not null)
        {
            _limits.RemovePending();
            Settle(ticket, idle);
        }
        else if (isRetired)
        {
            _limits.RemovePending();
            ticket.TryFail(UpstreamConnector.ConnectFailure($"endpoint_removed: {Key.Address}"));
        }
        else if (isFull)
        {
            FailWaiters(TooManyConnections(), all: true);
        }

        if (dial)
        {
            _ = DialAsync();
        }

        // A stream that ended between TryTake and the enqueueing was told to nobody (OnCapacity saw no waiter): look once more.
        if (_multiplexes)
        {
            foreach (var connection in _connections)
            {
                if (connection.Http.Version == HttpProtocolVersion.Http2)
                {
                    Serve(connection.Http);
                }
            }
        }

        return waiter.WaitAsync();
    }

    /// <summary>No new leases; connections close when their exchanges have ended.</summary>
    public void Retire(ConnectionCloseReason reason)
    {
        lock (_gate)
        {
            _retired = true;
        }

        foreach (var connection in _live.Keys)
        {
            connection.Retire(reason);
        }

        FailWaiters(UpstreamConnector.ConnectFailure($"endpoint_removed: {Key.Address}"), all: true);
    }

    /// <summary>Ends every connection now: identity or trust no longer allow it.</summary>
    public void Abort(ConnectionCloseReason reason)
    {
        Retire(reason);
        foreach (var connection in _live.Keys)
        {
            connection.Abort(reason);
        }
    }

    public void OnTick(long nowMilliseconds)
    {
        DropGivenUp();
        if (_live.IsEmpty)
        {
            return;
        }

        var now = _time.GetUtcNow();
        foreach (var (http, connection) in _live)
        {
            if (now >= connection.RetireAt)
            {
                http.Retire(ConnectionCloseReason.MaxAge);
            }

            http.OnTick(nowMilliseconds);
        }
    }

    void IClientConnectionObserver.OnCapacity(HttpClientConnection connection)
    {
        if (connection.Version != HttpProtocolVersion.Http2 || Volatile.Read(ref _waiterCount) > 0)
        {
            Serve(connection);
        }
    }

    void IClientConnectionObserver.OnRetired(HttpClientConnection connection)
    {
        lock (_gate)
        {
            if (_live.TryGetValue(connection, out var live))
            {
                live.IsRetired = true;
            }

            _connections = Array.FindAll(_connections, other => other.Http != connection);
            _idle.Remove(connection);
        }

        DialForWaiter();
    }

    void IClientConnectionObserver.OnClosed(HttpClientConnection connection, ConnectionCloseReason reason)
    {
        // The transport is disposed by RunAsync below, after the codec has returned.
    }

    private HttpClientExchange? TryTake()
    {
        if (_multiplexes)
        {
            return TakeStream(_connections);
        }

        lock (_gate)
        {
            return _idle.TryOpenExchange();
        }
    }

    // A connection of the calling event loop, so that both ends of an exchange live on one thread; among these, or without one, the least busy, so that requests are
    // spread over what there is; among equals the oldest, so that what a burst left over idles out.
    private HttpClientExchange? TakeStream(UpstreamConnection[] connections)
    {
        var loop = EventLoop.CurrentNumber;
        UpstreamConnection? best = null;
        var isBestOwn = false;
        var least = int.MaxValue;
        foreach (var connection in connections)
        {
            if (connection.Http.Version != HttpProtocolVersion.Http2)
            {
                // Where the endpoint chooses (ALPN), it may have chosen otherwise before.
                continue;
            }

            var isOwn = connection.Loop == loop;
            var active = connection.Http.ActiveExchanges;
            if (isOwn == isBestOwn ? active < least : isOwn)
            {
                (best, isBestOwn, least) = (connection, isOwn, active);
            }
        }

        if (!isBestOwn && least is >= ExchangesForOwnConnection and < int.MaxValue)
        {
            DialForLoop(loop);
        }

        if (best?.Http.TryOpenExchange() is { } exchange)
        {
            return exchange;
        }

        // It is full, or was retired meanwhile: limits differ from one connection to the next.
        foreach (var connection in connections)
        {
            if (connection != best && connection.Http.Version == HttpProtocolVersion.Http2 && connection.Http.TryOpenExchange() is { } other)
            {
                return other;
            }
        }

        return null;
    }

    /// <summary>Begins a connection that will live on the calling event loop; now and then, for it may fail, or be more than the cluster may open.</summary>
    private void DialForLoop(int loop)
    {
        if (loop >= _nextDialForLoop.Length || _time.GetTimestamp() < Volatile.Read(ref _nextDialForLoop[loop]))
        {
            return;
        }

        Volatile.Write(ref _nextDialForLoop[loop], _time.GetTimestamp() + (long)(OwnConnectionInterval.TotalSeconds * _time.TimestampFrequency));
        lock (_gate)
        {
            if (_retired || !_limits.TryAddSpareConnection())
            {
                return;
            }

            _dialing++;
        }

        _ = DialAsync();
    }

    /// <summary>Gives the connection's free places to waiters; an HTTP/1.1 connection that nobody waits for goes to the idle stack.</summary>
    private void Serve(HttpClientConnection connection)
    {
        while (true)
        {
            LeaseTicket waiter;
            HttpClientExchange? exchange;
            lock (_gate)
            {
                while (_waiters.TryPeek(out var first) && !first.IsWaiting)
                {
                    // Its forwarder gave up.
                    RemoveFirstWaiter();
                }

                if (_waiters.Count == 0)
                {
                    if (connection.Version != HttpProtocolVersion.Http2)
                    {
                        _idle.Add(connection);
                    }

                    return;
                }

                exchange = connection.TryOpenExchange();
                if (exchange is null)
                {
                    return;
                }

                waiter = RemoveFirstWaiter();
            }

            if (!waiter.TrySettle(exchange))
            {
                exchange.Complete();
                return;
            }
        }
    }

    private static void Settle(LeaseTicket ticket, HttpClientExchange exchange)
    {
        if (!ticket.TrySettle(exchange))
        {
            // Its forwarder was stopped meanwhile.
            exchange.Complete();
        }
    }

    private LeaseTicket RemoveFirstWaiter()
    {
        var waiter = _waiters.Dequeue();
        _waiterCount = _waiters.Count;
        _limits.RemovePending();
        return waiter;
    }

    // Waiters whose forwarder gave up keep no place: else requests that are long answered would make the cluster refuse new ones.
    private void DropGivenUp()
    {
        if (Volatile.Read(ref _waiterCount) == 0)
        {
            return;
        }

        lock (_gate)
        {
            for (var i = _waiters.Count; i > 0; i--)
            {
                var waiter = _waiters.Dequeue();
                if (waiter.IsWaiting)
                {
                    _waiters.Enqueue(waiter);
                }
                else
                {
                    _limits.RemovePending();
                }
            }

            _waiterCount = _waiters.Count;
        }
    }

    private bool WantsDial() => _multiplexes
        ? _waiters.Count > _dialing * _waitersPerDial
        : _waiters.Count > _dialing;

    // Under the lock.
    private bool TryBeginDial()
    {
        if (_retired || !WantsDial() || !_limits.TryAddConnection())
        {
            return false;
        }

        _dialing++;
        return true;
    }

    /// <summary>Begins a dial when there are waiters that no dial under way will serve; fails them when nothing ever will.</summary>
    /// <returns>Whether one was begun.</returns>
    private bool DialForWaiter()
    {
        bool dial;
        bool isStuck;
        lock (_gate)
        {
            dial = TryBeginDial();
            isStuck = !dial && IsStuck();
        }

        if (dial)
        {
            _ = DialAsync();
        }
        else if (isStuck)
        {
            FailWaiters(TooManyConnections(), all: true);
        }

        return dial;
    }

    // Under the lock. Somebody waits, and nothing that this pool has will ever wake him: the cluster's connections are all elsewhere.
    private bool IsStuck() => _waiters.Count > 0 && _dialing == 0 && _connections.Length == 0 && _live.IsEmpty;

    private Failure TooManyConnections() => new(FailureCause.CircuitBreakerOpen, FailureStage.Connecting, RetrySafety.Never, Initiator.Us,
        $"max_connections: no connection to {Key.Address}, and the cluster may not open another one");

    private async Task DialAsync()
    {
        var dialed = await _connector.DialAsync(Key, isOpaque: false, _options.ConnectTimeout, _time);
        if (dialed.Connection is not { } transport)
        {
            _limits.RemoveConnection();
            OnDialFailed(dialed.Failure);
            return;
        }

        var input = transport.Transport.Input;
        var output = transport.Transport.Output;
        HttpClientConnection http = dialed.Version == HttpProtocolVersion.Http2
            ? new Http2ClientConnection(input, output, _http2Options, this)
            : new Http1ClientConnection(input, output, _http1Options, this);
        var retireAt = _time.GetUtcNow() + _ages.Next(_options.MaxConnectionAge);
        var connection = new UpstreamConnection(http, transport, dialed.PeerNotAfter < retireAt ? dialed.PeerNotAfter : retireAt);
        _live[http] = connection;
        _meters.OnConnectionOpened();
        _ = RunAsync(connection);

        // In TLS 1.3 the client learns only from the peer's first byte that its certificate was accepted: nothing is leased before.
        bool ready;
        await using (_time.CreateTimer(static state => ((HttpClientConnection)state!).Abort(ConnectionCloseReason.HeadTimeout), http, _options.ConnectTimeout, Timeout.InfiniteTimeSpan))
        {
            ready = await http.WaitReadyAsync();
        }

        bool retired;
        lock (_gate)
        {
            // It may have ended between its first byte and now.
            ready &= !connection.IsRetired;
            retired = ready && _retired;
            if (ready)
            {
                _dialing--;
                _failedDials = 0;
                _waitersPerDial = Math.Clamp(http.MaxConcurrentExchanges, 1, WaitersPerMultiplexedDial);
                if (!retired)
                {
                    _connections = [.. _connections, connection];
                }

                _multiplexes = http.Version == HttpProtocolVersion.Http2;
            }
        }

        if (!ready)
        {
            OnDialFailed(UpstreamConnector.ConnectFailure(
                $"no_first_byte: {Key.Address}{(Key.IsMesh ? $" ({Key.ServerName})" : "")} took the connection but ended it, or stayed silent, before its first byte; "
                + "in the mesh its inbound log tells why"));
            return;
        }

        if (retired)
        {
            http.Retire(ConnectionCloseReason.Drain);
            return;
        }

        Serve(http);

        // Who still waits, perhaps because this connection was thought to serve them all, needs further ones; unless this peer takes no streams at all.
        while (http.MaxConcurrentExchanges > 0 && DialForWaiter())
        {
        }
    }

    private async Task RunAsync(UpstreamConnection connection)
    {
        await connection.Http.RunAsync();
        _meters.OnConnectionClosed();
        _limits.RemoveConnection();
        _live.TryRemove(connection.Http, out _);

        // The place that it held may be the one that a waiter could not get when this connection retired.
        DialForWaiter();
        if (connection.Http is Http1ClientConnection { EndedAbruptly: true } or Http2ClientConnection { EndedAbruptly: true })
        {
            // An orderly close would tell the peer that a tunnel had ended in order, or send it requests that count as unsent.
            connection.Transport.Abort(new ConnectionAbortedException("the connection was broken off"));
        }

        await connection.Transport.DisposeAsync();
    }

    private void OnDialFailed(Failure failure)
    {
        bool isLast;
        lock (_gate)
        {
            if (_waiters.Count > 0 || _connections.Length == 0)
            {
                // Else nobody needed it: an endpoint that takes no further connection serves well on those that it has.
                _backOffUntil = _time.GetTimestamp() + (long)(BackOff(_failedDials++).TotalSeconds * _time.TimestampFrequency);
            }

            // The last one counts as under way until its waiters have failed: nobody dials for those. Any other does not: a waiter that fails may be back, on this
            // very stack, with a retry that no dial stands for.
            isLast = _dialing == 1 && _connections.Length == 0;
            _dialing -= isLast ? 0 : 1;
        }

        // One dial stood for one waiter in HTTP/1.1. A connection that multiplexes will get to all of them, if there is one left.
        if (isLast || !_multiplexes)
        {
            FailWaiters(failure, all: isLast);
        }

        if (isLast)
        {
            lock (_gate)
            {
                _dialing--;
            }

            // For who came since.
            DialForWaiter();
        }
    }

    // Doubles from failure to failure. No jitter: one proxy's dials are caused by requests, which come when they come.
    private static TimeSpan BackOff(int failures) =>
        failures < 16 && FirstBackOff * (1 << failures) is var wait && wait < LongestBackOff ? wait : LongestBackOff;

    private void FailWaiters(Failure failure, bool all)
    {
        while (true)
        {
            LeaseTicket waiter;
            lock (_gate)
            {
                if (_waiters.Count == 0)
                {
                    return;
                }

                waiter = RemoveFirstWaiter();
            }

            if (waiter.TryFail(failure) && !all)
            {
                return;
            }
        }
    }
}
