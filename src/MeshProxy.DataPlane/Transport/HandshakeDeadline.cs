using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Breaks a connection off when its handshake takes too long, or when the caller gives it up.</summary>
internal sealed class HandshakeDeadline : IDisposable
{
    private readonly ConnectionContext _raw;
    private readonly TimeSpan _timeout;
    private readonly ITimer _timer;
    private readonly CancellationTokenRegistration _registration;
    private volatile string? _reason;

    /// <summary>Starts it.</summary>
    public HandshakeDeadline(ConnectionContext raw, TimeSpan timeout, TimeProvider time, CancellationToken cancellationToken)
    {
        _raw = raw;
        _timeout = timeout;
        _timer = time.CreateTimer(static state => ((HandshakeDeadline)state!).OnLate(), this, timeout, Timeout.InfiniteTimeSpan);
        _registration = cancellationToken.UnsafeRegister(static state => ((HandshakeDeadline)state!).End("the handshake was given up by us"), this);
    }

    /// <summary>Why the connection was broken off; null when it was not.</summary>
    public string? Reason => _reason;

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer.Dispose();
        _registration.Dispose();
    }

    private void OnLate() => End($"the TLS handshake took longer than {_timeout.TotalSeconds:0.###} s: is the peer overloaded, or does it speak TLS at all?");

    private void End(string reason)
    {
        _reason ??= reason;
        _raw.Abort(new ConnectionAbortedException(reason));
    }
}
