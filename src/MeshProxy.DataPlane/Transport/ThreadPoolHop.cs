using System.Runtime.CompilerServices;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Awaited to leave an event loop before long work; costs nothing on a thread of the pool.</summary>
internal readonly struct ThreadPoolHop : ICriticalNotifyCompletion
{
    /// <summary>Whether there is nothing to leave.</summary>
    public bool IsCompleted => Thread.CurrentThread.IsThreadPoolThread;

    /// <summary>Makes it awaitable.</summary>
    public ThreadPoolHop GetAwaiter() => this;

    /// <inheritdoc/>
    public void OnCompleted(Action continuation) => ThreadPool.QueueUserWorkItem(static action => action(), continuation, preferLocal: false);

    /// <inheritdoc/>
    public void UnsafeOnCompleted(Action continuation) => ThreadPool.UnsafeQueueUserWorkItem(static action => action(), continuation, preferLocal: false);

    /// <summary>Nothing to give.</summary>
    public void GetResult()
    {
    }
}
