using Grpc.Core;

namespace MeshProxy.ControlPlane;

/// <summary>Bounds the life of a streaming call: the caller's leaving, its certificate's end, and the server's stop.</summary>
internal sealed class CallLifetime(TimeProvider time) : IDisposable
{
    /// <summary>Timers do not reach further; a longer stream is asked to reconnect, which is harmless.</summary>
    private static readonly TimeSpan Longest = TimeSpan.FromDays(20);

    private readonly CancellationTokenSource _stopping = new();

    /// <summary>Ends every streaming call with UNAVAILABLE, so that callers come again.</summary>
    public void Stop() => _stopping.Cancel();

    /// <summary>Runs the body of a streaming call until one of the ends comes, and turns it into the status that says which.</summary>
    public async Task RunAsync(ServerCallContext context, DateTimeOffset certificateEnd, Func<CancellationToken, Task> body)
    {
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
}
