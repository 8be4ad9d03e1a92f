using System.Threading.Tasks.Sources;
using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>
/// One forwarder's place in the queue of a pool, reused from request to request. Settled exactly once for each wait: by the pool (an exchange or a
/// failure) or by its own forwarder, when that is stopped; whoever loses that race gets false and keeps what it holds.
/// </summary>
internal sealed class LeaseWaiter : IValueTaskSource<bool>
{
    private const int Idle = 0;
    private const int Waiting = 1;
    private const int Settled = 2;

    private ManualResetValueTaskSourceCore<bool> _source;
    private int _state;

    /// <summary>What was leased, after a wait that ended true.</summary>
    public HttpClientExchange? Exchange { get; private set; }

    /// <summary>Why nothing was leased, after a wait that ended false.</summary>
    public Failure Failure { get; private set; }

    /// <summary>Makes it ready for a wait.</summary>
    public void Begin()
    {
        Exchange = null;
        Failure = default;
        _source.Reset();
        Volatile.Write(ref _state, Waiting);
    }

    /// <summary>Ends the wait with an exchange.</summary>
    public bool TrySettle(HttpClientExchange exchange)
    {
        if (Interlocked.CompareExchange(ref _state, Settled, Waiting) != Waiting)
        {
            return false;
        }

        Exchange = exchange;
        _source.SetResult(true);
        return true;
    }

    /// <summary>Ends the wait with a failure.</summary>
    public bool TryFail(Failure failure)
    {
        if (Interlocked.CompareExchange(ref _state, Settled, Waiting) != Waiting)
        {
            return false;
        }

        Failure = failure;
        _source.SetResult(false);
        return true;
    }

    /// <summary>True while nobody has settled it: the pool may still count on it.</summary>
    public bool IsWaiting => Volatile.Read(ref _state) == Waiting;

    /// <summary>The wait itself.</summary>
    public ValueTask<bool> WaitAsync() => new(this, _source.Version);

    bool IValueTaskSource<bool>.GetResult(short token)
    {
        var result = _source.GetResult(token);
        Volatile.Write(ref _state, Idle);
        return result;
    }

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _source.OnCompleted(continuation, state, token, flags);
}
