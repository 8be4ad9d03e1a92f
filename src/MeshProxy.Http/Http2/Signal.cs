using System.Threading.Tasks.Sources;

namespace MeshProxy.Http.Http2;

/// <summary>
/// A reusable "wait for this" of one waiter. <see cref="Begin"/> and <see cref="TryTake"/> run under the connection's lock, <see cref="Complete"/>
/// outside it, by whoever took it: the continuation runs inside Complete.
/// </summary>
internal sealed class Signal<T> : IValueTaskSource<T>
{
    private ManualResetValueTaskSourceCore<T> _core;
    private bool _waiting;

    public ValueTask<T> Begin()
    {
        _core.Reset();
        _waiting = true;
        return new ValueTask<T>(this, _core.Version);
    }

    /// <summary>True while someone waits whom nobody has taken yet.</summary>
    public bool IsWaiting => _waiting;

    /// <summary>Claims the waiter, exactly once.</summary>
    public bool TryTake()
    {
        var taken = _waiting;
        _waiting = false;
        return taken;
    }

    public void Complete(T result) => _core.SetResult(result);

    T IValueTaskSource<T>.GetResult(short token) => _core.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<T>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<T>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
