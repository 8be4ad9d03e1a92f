using System.Threading.Tasks.Sources;
using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>One wait of a <see cref="LeaseWaiter"/>: what a pool queues. A waiter that its forwarder gave up is reused at once, perhaps in the queue of
/// another pool; the number keeps a stale place in a queue from being served in the name of that later wait (which would send a request to a stranger).</summary>
internal readonly record struct LeaseTicket(LeaseWaiter Waiter, int Number)
{
    /// <summary>True while nobody has settled this wait: the pool may still count on it.</summary>
    public bool IsWaiting => Waiter.IsWaiting(Number);

    /// <summary>Ends the wait with an exchange. False: it is over already, and the caller keeps the exchange.</summary>
    public bool TrySettle(HttpClientExchange exchange) => Waiter.TrySettle(Number, exchange);

    /// <summary>Ends the wait with a failure.</summary>
    public bool TryFail(Failure failure) => Waiter.TryFail(Number, failure);
}

/// <summary>
/// One forwarder's place in the queue of a pool, reused from request to request. Settled exactly once for each wait: by the pool (an exchange or a
/// failure) or by its own forwarder, when that is stopped; whoever loses that race gets false and keeps what it holds.
/// </summary>
internal sealed class LeaseWaiter : IValueTaskSource<bool>
{
    private ManualResetValueTaskSourceCore<bool> _source;

    // Twice the number of the wait, plus one when it is settled.
    private int _state = 1;

    /// <summary>What was leased, after a wait that ended true.</summary>
    public HttpClientExchange? Exchange { get; private set; }

    /// <summary>Why nothing was leased, after a wait that ended false.</summary>
    public Failure Failure { get; private set; }

    /// <summary>Makes it ready for the next wait.</summary>
    public LeaseTicket Begin()
    {
        Exchange = null;
        Failure = default;
        _source.Reset();
        var number = unchecked((Volatile.Read(ref _state) >> 1) + 1) & 0x3FFF_FFFF;
        Volatile.Write(ref _state, number << 1);
        return new LeaseTicket(this, number);
    }

    public bool TrySettle(int number, HttpClientExchange exchange)
    {
        if (!TryClaim(number))
        {
            return false;
        }

        Exchange = exchange;
        _source.SetResult(true);
        return true;
    }

    /// <summary>Ends the wait at hand, if there is one. For the forwarder that waits.</summary>
    public bool TryFail(Failure failure) => TryFail(Volatile.Read(ref _state) >> 1, failure);

    public bool TryFail(int number, Failure failure)
    {
        if (!TryClaim(number))
        {
            return false;
        }

        Failure = failure;
        _source.SetResult(false);
        return true;
    }

    public bool IsWaiting(int number) => Volatile.Read(ref _state) == number << 1;

    /// <summary>The wait itself.</summary>
    public ValueTask<bool> WaitAsync() => new(this, _source.Version);

    bool IValueTaskSource<bool>.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _source.OnCompleted(continuation, state, token, flags);

    private bool TryClaim(int number) => Interlocked.CompareExchange(ref _state, (number << 1) | 1, number << 1) == number << 1;
}
