namespace MeshProxy.DataPlane.Transport;

/// <summary>How sockets are opened. Read once.</summary>
public sealed record SocketTransportOptions
{
    /// <summary>Connections that the kernel may hold before they are accepted. Default 4096, the kernel's own bound (net.core.somaxconn) permitting.</summary>
    public int Backlog { get; init; } = 4096;

    /// <summary>Silence after which TCP keep-alive probes a connection that was dialed or accepted; null (the default): never.</summary>
    public TimeSpan? KeepAlive { get; init; }

    /// <summary>How long a close waits for a peer that does not read. Default 5 s.</summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>The clock of <see cref="CloseTimeout"/>.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    internal BlockPool Pool { get; init; } = BlockPool.Shared;
}
