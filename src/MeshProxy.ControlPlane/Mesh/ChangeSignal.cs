using System.Threading.Channels;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>"Look again": any number of calls before the next wait are one. One waiter.</summary>
internal sealed class ChangeSignal
{
    private readonly Channel<bool> _channel = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });

    /// <summary>Wakes the waiter, now or at its next wait. Never blocks and runs nothing of the waiter's on this thread.</summary>
    public void Set() => _channel.Writer.TryWrite(true);

    /// <summary>Waits for a call of <see cref="Set"/>.</summary>
    public async ValueTask WaitAsync(CancellationToken cancellation) => await _channel.Reader.ReadAsync(cancellation);
}
