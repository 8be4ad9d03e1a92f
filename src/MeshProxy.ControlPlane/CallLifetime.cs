using Grpc.Core;

namespace MeshProxy.ControlPlane;

/// <summary>Bounds the life of a streaming call: the caller's leaving, its certificate's end, and the server's stop.</summary>
/// <remarks>At a stop, streams end and their statuses are written before the web server begins to close connections. Ending both at once is a race that the
/// closing wins now and then, and callers then see a broken connection instead of UNAVAILABLE.</remarks>
internal sealed class CallLifetime(ControlPlaneLimits limits, TimeProvider time) : IHostedLifecycleService, IDisposable
{
    /// <summary>Timers do not reach further; a longer stream is asked to reconnect, which is harmless.</summary>
    private static readonly TimeSpan Longest = TimeSpan.FromDays(20);

    private static readonly TimeSpan Flush = TimeSpan.FromMilliseconds(100);

    private readonly CancellationTokenSource _stopping = new();
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Streams that run, and one for the server itself until it stops.</summary>
    private int _running = 1;

    /// <summary>Ends every streaming call with UNAVAILABLE, so that callers come again, and waits until they are told.</summary>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        if (_stopping.IsCancellationRequested)
        {
            return; // the host is stopped once by the signal and once by its owner
        }

        await _stopping.CancelAsync();
        Leave();
        try
        {
            await _drained.Task.WaitAsync(limits.StopTimeout / 2, TimeProvider.System, cancellationToken);

            // The web server counts a response as complete when its trailers are queued, and a closing connection drops that queue.
            await Task.Delay(Flush, TimeProvider.System, cancellationToken);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            // A caller that does not read its status is cut off with the rest.
        }
    }

    /// <inheritdoc/>
    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Runs the body of a streaming call until one of the ends comes, and turns it into the status that says which.</summary>
    public async Task RunAsync(ServerCallContext context, DateTimeOffset certificateEnd, Func<CancellationToken, Task> body)
    {
        Interlocked.Increment(ref _running);
        context.GetHttpContext().Response.OnCompleted(() =>
        {
            Leave();
            return Task.CompletedTask;
        });
        var left = certificateEnd - time.GetUtcNow();
        using var expiry = new CancellationTokenSource(left < TimeSpan.Zero ? TimeSpan.Zero : left < Longest ? left : Longest, time);
        using var any = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, _stopping.Token, expiry.Token);
        try
        {
            await body(any.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or InvalidOperationException && any.IsCancellationRequested)
        {
            if (context.CancellationToken.IsCancellationRequested)
            {
                throw new RpcException(new Status(StatusCode.Cancelled, "the caller left"));
            }

            throw _stopping.IsCancellationRequested
                ? new RpcException(new Status(StatusCode.Unavailable, "The control plane is stopping; connect again."))
                : new RpcException(new Status(StatusCode.Unauthenticated, "The caller's certificate has ended; connect again with a current one."));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stopping.Dispose();

    private void Leave()
    {
        if (Interlocked.Decrement(ref _running) == 0)
        {
            _drained.TrySetResult();
        }
    }
}
