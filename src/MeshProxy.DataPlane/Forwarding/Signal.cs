using System.Threading.Tasks.Sources;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>A wake-up that can be used again and again without allocating: one waits, one sets, in either order, then <see cref="Reset"/>.
/// The waiter continues inline in <see cref="Set"/>.</summary>
internal sealed class Signal : IValueTaskSource
{
    private ManualResetValueTaskSourceCore<bool> _source;

    public void Set() => _source.SetResult(true);

    public void Reset() => _source.Reset();

    public ValueTask WaitAsync() => new(this, _source.Version);

    void IValueTaskSource.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _source.OnCompleted(continuation, state, token, flags);
}
