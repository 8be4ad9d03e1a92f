using System.Runtime.CompilerServices;

namespace MeshProxy.Http;

/// <summary>
/// A wait for one event that is used again and again: one waits, one sets, in either order, and going on makes it new. It is awaited itself; a task in between
/// would check its type at every step. The waiter continues inline in <see cref="Set"/>, without its execution context.
/// </summary>
internal sealed class Wakeup
{
    private static readonly Action s_set = static () => { };

    // Null, who waits, or s_set.
    private Action? _state;

    /// <summary>The event has come.</summary>
    public void Set()
    {
        var waiting = Interlocked.Exchange(ref _state, s_set);
        if (waiting is not null && waiting != (object)s_set)
        {
            waiting();
        }
    }

    /// <summary>For the compiler.</summary>
    public Awaiter GetAwaiter() => new(this);

    /// <summary>For the compiler.</summary>
    public readonly struct Awaiter(Wakeup wakeup) : ICriticalNotifyCompletion
    {
        public bool IsCompleted => Volatile.Read(ref wakeup._state) == (object)s_set;

        public void GetResult() => Volatile.Write(ref wakeup._state, null);

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation)
        {
            if (Interlocked.CompareExchange(ref wakeup._state, continuation, null) is not null)
            {
                // Set since it was looked at.
                continuation();
            }
        }
    }
}
