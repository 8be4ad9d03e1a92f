using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// Builds async methods whose state is used again, however many of them wait at once: the runtime's own pooling builder keeps one state for each thread and
/// processor and allocates all others, which is every one on a proxy with hundreds of requests in flight. See <see cref="RecycledState{TMachine,TResult}"/>.
/// What it returns may be awaited once. It does not carry the execution context: nothing on the path of a request keeps anything there.
/// </summary>
internal struct RecycledMethodBuilder
{
    private RecycledMethodBuilder<bool> _inner;

    /// <summary>What the method returns.</summary>
    public ValueTask Task => _inner.State is { } state ? new ValueTask(state, state.Version) : default;

    public static RecycledMethodBuilder Create() => default;

    public readonly void Start<TMachine>(ref TMachine machine)
        where TMachine : IAsyncStateMachine => machine.MoveNext();

    public readonly void SetStateMachine(IAsyncStateMachine machine) => RecycledMethodBuilder<bool>.Unused(machine);

    public void SetResult() => _inner.SetResult(true);

    public void SetException(Exception exception) => _inner.SetException(exception);

    public void AwaitOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : INotifyCompletion
        where TMachine : IAsyncStateMachine => _inner.AwaitOnCompleted(ref awaiter, ref machine);

    public void AwaitUnsafeOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : ICriticalNotifyCompletion
        where TMachine : IAsyncStateMachine => _inner.AwaitUnsafeOnCompleted(ref awaiter, ref machine);
}

/// <summary>The same for methods with a result.</summary>
internal struct RecycledMethodBuilder<TResult>
{
    private TResult? _result;

    /// <summary>What the method returns; read by the compiler when the method has completed, or has waited for the first time.</summary>
    public readonly ValueTask<TResult> Task => State is { } state ? new ValueTask<TResult>(state, state.Version) : new ValueTask<TResult>(_result!);

    /// <summary>Null while the method has not waited for anything, and when it never did.</summary>
    internal RecycledState<TResult>? State { get; private set; }

    public static RecycledMethodBuilder<TResult> Create() => default;

    public readonly void Start<TMachine>(ref TMachine machine)
        where TMachine : IAsyncStateMachine => machine.MoveNext();

    public readonly void SetStateMachine(IAsyncStateMachine machine) => Unused(machine);

    public void SetResult(TResult result)
    {
        if (State is { } state)
        {
            state.SetResult(result);
        }
        else
        {
            _result = result;
        }
    }

    public void SetException(Exception exception) => (State ??= new FailedState<TResult>()).SetException(exception);

    public void AwaitOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : INotifyCompletion
        where TMachine : IAsyncStateMachine => awaiter.OnCompleted(StateOf(ref machine).Continuation);

    public void AwaitUnsafeOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : ICriticalNotifyCompletion
        where TMachine : IAsyncStateMachine => awaiter.UnsafeOnCompleted(StateOf(ref machine).Continuation);

    // Only machines that the compiler made into classes (debug builds) are told, and those tell nothing new.
    internal static void Unused(IAsyncStateMachine machine) => _ = machine;

    private RecycledState<TMachine, TResult> StateOf<TMachine>(ref TMachine machine)
        where TMachine : IAsyncStateMachine
    {
        if (State is RecycledState<TMachine, TResult> known)
        {
            return known;
        }

        var state = RecycledState<TMachine, TResult>.Rent();

        // This builder lies inside of the machine: the state goes into it first, so that the copy has it too.
        State = state;
        state.Machine = machine;
        return state;
    }
}

/// <summary>What a waiting method's caller awaits.</summary>
internal abstract class RecycledState<TResult> : IValueTaskSource<TResult>, IValueTaskSource
{
    private ManualResetValueTaskSourceCore<TResult> _core;

    public short Version => _core.Version;

    public void SetResult(TResult result) => _core.SetResult(result);

    public void SetException(Exception exception) => _core.SetException(exception);

    public TResult GetResult(short token)
    {
        try
        {
            return _core.GetResult(token);
        }
        finally
        {
            _core.Reset();
            Return();
        }
    }

    void IValueTaskSource.GetResult(short token) => GetResult(token);

    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    protected abstract void Return();
}

/// <summary>A method that failed before it waited for anything.</summary>
internal sealed class FailedState<TResult> : RecycledState<TResult>
{
    protected override void Return()
    {
    }
}

/// <summary>
/// The state of one method while it waits. Each thread keeps a list for each method, without a lock. A method may begin on one thread and end on another: a
/// list that has grown to twice <see cref="Chain"/> gives half of it to a list that all threads share, and an empty one takes such a half, so that the lock of
/// the shared list is taken once for so many methods. All that were ever in use at once are kept; limits on requests and connections bound them.
/// </summary>
internal sealed class RecycledState<TMachine, TResult> : RecycledState<TResult>
    where TMachine : IAsyncStateMachine
{
    private const int Chain = 32;

    private static readonly Lock s_gate = new();
    private static RecycledState<TMachine, TResult>? s_chains;

    [ThreadStatic]
    private static RecycledState<TMachine, TResult>? t_free;

    [ThreadStatic]
    private static int t_count;

    private RecycledState<TMachine, TResult>? _next;
    private RecycledState<TMachine, TResult>? _nextChain;

    private RecycledState() => Continuation = Continue;

    public TMachine? Machine;

    /// <summary>Goes on after a wait.</summary>
    public Action Continuation { get; }

    public static RecycledState<TMachine, TResult> Rent()
    {
        var state = t_free ?? TakeChain();
        if (state is null)
        {
            return new RecycledState<TMachine, TResult>();
        }

        t_free = state._next;
        t_count--;
        state._next = null;
        return state;
    }

    protected override void Return()
    {
        // What the method held must not live on in here.
        Machine = default;
        if (t_count == 2 * Chain)
        {
            GiveChain();
        }

        _next = t_free;
        t_free = this;
        t_count++;
    }

    private static RecycledState<TMachine, TResult>? TakeChain()
    {
        lock (s_gate)
        {
            if (s_chains is not { } chain)
            {
                return null;
            }

            s_chains = chain._nextChain;
            chain._nextChain = null;
            t_count = Chain;
            return chain;
        }
    }

    private static void GiveChain()
    {
        var chain = t_free!;
        var last = chain;
        for (var i = 1; i < Chain; i++)
        {
            last = last._next!;
        }

        t_free = last._next;
        t_count -= Chain;
        last._next = null;
        lock (s_gate)
        {
            chain._nextChain = s_chains;
            s_chains = chain;
        }
    }

    private void Continue() => Machine!.MoveNext();
}
