using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Carries one opaque connection: dials an endpoint, then moves bytes both ways with half-close and backpressure. A dial that fails goes to one other
/// endpoint, because nothing was sent. Between sidecars it speaks ALPN meshproxy-tcp/1 of mesh protocol 1: one ready byte 0x00 from the inbound once the
/// application is connected, then raw bytes; half-close is close_notify, and an end without it is passed on as a reset.
/// </summary>
/// <param name="services">What every forwarder shares.</param>
/// <param name="connector">Dials.</param>
/// <param name="limits">Bounds.</param>
/// <param name="isTls">Whether the bytes are TLS of the client's own: they are never wrapped a second time.</param>
internal sealed class TcpForwarder(ForwardingServices services, UpstreamConnector connector, TcpForwarderLimits limits, bool isTls = false)
{
    private TcpRecord? _record;
    private ConnectionContext? _downstream;

    // Also begins the idle limit: whoever sees it must see when something last moved.
    private volatile ConnectionContext? _upstream;
    private readonly Lock _gate = new();
    private Failure _stop;
    private Failure _broken;
    private long _lastActivity;

    /// <summary>Whether the other half runs through the mesh.</summary>
    public bool IsMeshUpstream { get; private set; }

    /// <summary>Judges the idle limit.</summary>
    public void OnTick(long now)
    {
        if (_upstream is not null && now - Volatile.Read(ref _lastActivity) >= (long)limits.IdleTimeout.TotalMilliseconds)
        {
            Abort(new Failure(FailureCause.StreamIdle, FailureStage.Relaying, RetrySafety.Never, Initiator.Us, "tcp_idle: nothing moved in either direction"));
        }
    }

    /// <summary>Ends the connection now, with a reset to both sides.</summary>
    public void Abort(Failure failure)
    {
        ConnectionContext? downstream;
        ConnectionContext? upstream;
        lock (_gate)
        {
            if (_stop.IsFailure)
            {
                return;
            }

            _stop = failure;
            downstream = _downstream;
            upstream = _upstream;
        }

        var reason = new ConnectionAbortedException(failure.Detail);
        downstream?.Abort(reason);
        upstream?.Abort(reason);
    }

    /// <summary>Forwards until both sides are done. Never throws; the caller disposes the downstream.</summary>
    /// <param name="downstream">Where the bytes come from; bytes already read are still in its pipe.</param>
    /// <param name="backends">Where they may go.</param>
    /// <param name="direction">For metrics and logs.</param>
    /// <param name="info">Who the downstream is.</param>
    /// <param name="sendsReadyByte">Whether the downstream is a sidecar that waits for the ready byte.</param>
    public async Task ForwardAsync(ConnectionContext downstream, WeightedBackends backends, Direction direction, ConnectionInfo info, bool sendsReadyByte)
    {
        _record = new TcpRecord(direction, info, services.Time.GetTimestamp());
        lock (_gate)
        {
            _downstream = downstream;
            if (_stop.IsFailure)
            {
                downstream.Abort(new ConnectionAbortedException(_stop.Detail));
            }
        }

        _record.Failure = await ForwardAsync(backends, sendsReadyByte);
        _record.Flag = FailureMap.Of(_record.Failure.Cause).Flag;
        services.Telemetry.Complete(_record);
    }

    private async Task<Failure> ForwardAsync(WeightedBackends backends, bool sendsReadyByte)
    {
        var downstream = _downstream!;
        var backend = backends.Pick();
        if (backend?.Cluster is not { } cluster)
        {
            downstream.Abort(new ConnectionAbortedException("no backend"));
            return new Failure(FailureCause.InvalidBackend, FailureStage.Routing, RetrySafety.Never, Initiator.Us, backend?.Invalid ?? "no_backend: no backend has a weight");
        }

        _record!.Service = cluster.ServiceName;
        _record.Cluster = cluster.Name;
        if (services.Overload is { IsFailure: true } overload)
        {
            downstream.Abort(new ConnectionAbortedException(overload.Detail));
            return overload;
        }

        if (!cluster.CircuitBreaker.TryEnter())
        {
            downstream.Abort(new ConnectionAbortedException("circuit breaker"));
            return new Failure(FailureCause.CircuitBreakerOpen, FailureStage.Balancing, RetrySafety.Never, Initiator.Us, $"max_requests: {cluster.Name}");
        }

        try
        {
            var (endpoint, failure) = await ConnectAsync(cluster);
            if (failure.IsFailure)
            {
                downstream.Abort(new ConnectionAbortedException(failure.Detail));
                return failure;
            }

            endpoint!.Enter();
            try
            {
                return await RelayAsync(downstream, _upstream!, sendsReadyByte);
            }
            finally
            {
                endpoint.Leave();
                cluster.Meters.OnConnectionClosed();
                await _upstream!.DisposeAsync();
            }
        }
        finally
        {
            cluster.CircuitBreaker.Leave();
        }
    }

    private async Task<(ClusterEndpoint? Endpoint, Failure Failure)> ConnectAsync(Cluster cluster)
    {
        ClusterEndpoint? tried = null;
        for (var retries = limits.MaxRetries; ; retries--)
        {
            var endpoint = cluster.Pick(tried);
            if (endpoint is null)
            {
                return (null, new Failure(FailureCause.NoHealthyEndpoint, FailureStage.Balancing, RetrySafety.Never, Initiator.Us,
                    $"no_ready_endpoint: {cluster.Name} has {cluster.Endpoints.Count} endpoints and none is ready"));
            }

            _record!.Endpoint = endpoint.Address;
            _record.Attempts++;
            IsMeshUpstream = endpoint.Pool.Key.IsMesh;
            var dialed = await connector.DialAsync(isTls ? endpoint.Pool.Key.WithoutTls : endpoint.Pool.Key, isOpaque: true, cluster.Config.ConnectTimeout, services.Time);
            var failure = dialed.Failure;
            if (!failure.IsFailure)
            {
                failure = endpoint.Pool.Key.IsMesh ? await ReadReadyByteAsync(dialed.Connection!, endpoint, cluster.Config.ConnectTimeout) : default;
                if (!failure.IsFailure)
                {
                    Volatile.Write(ref _lastActivity, services.NowMilliseconds);
                    lock (_gate)
                    {
                        _upstream = dialed.Connection;
                        failure = _stop;
                    }
                }

                if (!failure.IsFailure)
                {
                    cluster.Meters.OnAttempt(ResponseFlag.None);
                    cluster.Meters.OnConnectionOpened();
                    return (endpoint, default);
                }

                await dialed.Connection!.DisposeAsync();
            }

            cluster.Meters.OnAttempt(FailureMap.Of(failure.Cause).Flag);
            if (retries == 0 || IsStopped || cluster.Pick(endpoint) == endpoint)
            {
                return (null, failure);
            }

            tried = endpoint;
        }
    }

    private async Task<Failure> ReadReadyByteAsync(ConnectionContext connection, ClusterEndpoint endpoint, TimeSpan timeout)
    {
        // Until the ready byte is here no downstream byte has been written: any end is a failure to connect, safe to try elsewhere.
        var input = connection.Transport.Input;
        await using var timer = services.Time.CreateTimer(static pipe => ((PipeReader)pipe!).CancelPendingRead(), input, timeout, Timeout.InfiniteTimeSpan);
        try
        {
            var read = await input.ReadAsync();
            if (read.Buffer.IsEmpty)
            {
                return UpstreamConnector.ConnectFailure($"{(read.IsCanceled ? "ready_timeout" : "ended_before_ready")}: {endpoint.Address} ({endpoint.Config.Id}) is not connected to its application; its inbound log tells why");
            }

            if (read.Buffer.FirstSpan[0] != 0x00)
            {
                return new Failure(FailureCause.UpstreamProtocolError, FailureStage.Connecting, RetrySafety.Never, Initiator.Peer, $"no_ready_byte: {endpoint.Address}");
            }

            input.AdvanceTo(read.Buffer.GetPosition(1));
            return default;
        }
        catch (Exception error) when (error is IOException or OperationCanceledException)
        {
            return UpstreamConnector.ConnectFailure($"ended_before_ready: {endpoint.Address} ({endpoint.Config.Id}): {error.Message}");
        }
    }

    private async Task<Failure> RelayAsync(ConnectionContext downstream, ConnectionContext upstream, bool sendsReadyByte)
    {
        var up = PumpAsync(downstream, upstream, isRequest: true, sendsFirst: false);
        await PumpAsync(upstream, downstream, isRequest: false, sendsReadyByte);
        await up;
        lock (_gate)
        {
            return _stop.IsFailure ? _stop : _broken;
        }
    }

    private bool IsStopped
    {
        get
        {
            lock (_gate)
            {
                return _stop.IsFailure;
            }
        }
    }

    private async Task PumpAsync(ConnectionContext from, ConnectionContext to, bool isRequest, bool sendsFirst)
    {
        var input = from.Transport.Input;
        var output = to.Transport.Output;
        try
        {
            if (sendsFirst)
            {
                // The ready byte of mesh protocol 1.
                output.Write<byte>([0x00]);
                await output.FlushAsync();
            }

            while (true)
            {
                var read = await input.ReadAsync();
                var length = read.Buffer.Length;
                if (length > 0)
                {
                    Volatile.Write(ref _lastActivity, services.NowMilliseconds);
                    foreach (var segment in read.Buffer)
                    {
                        output.Write<byte>(segment.Span);
                    }

                    input.AdvanceTo(read.Buffer.End);
                    var flushed = await output.FlushAsync();
                    Count(isRequest, length);
                    if (!flushed.IsCompleted && length >= BlockPool.LargeSize && input is ISplicingReader splicing && splicing.CanSpliceTo(output))
                    {
                        flushed = await SpliceAsync(splicing, output, isRequest);
                    }

                    if (flushed.IsCompleted)
                    {
                        // Nobody reads there any more. What that side still sends is passed on; its end is seen by the other pump.
                        return;
                    }
                }
                else
                {
                    input.AdvanceTo(read.Buffer.End);
                }

                if (read.IsCompleted)
                {
                    await output.CompleteAsync();
                    return;
                }
            }
        }
        catch (Exception error)
        {
            // One side was reset: the other gets a reset too, never an orderly end that would make a truncated stream look whole.
            if (error is not (IOException or OperationCanceledException or ObjectDisposedException))
            {
                ForwardingLog.Bug(services.Log, error);
            }

            var failure = isRequest
                ? new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"reset: {error.Message}")
                : new Failure(FailureCause.UpstreamConnectionEnded, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"reset: {error.Message}");
            lock (_gate)
            {
                // The first break tells what happened; the second is its echo.
                _broken = _broken.IsFailure ? _broken : failure;
            }

            to.Abort(new ConnectionAbortedException(failure.Detail));
            from.Abort(new ConnectionAbortedException(failure.Detail));
        }
    }

    // Much at once: it goes past the process, until little comes or the end, which is for a read to see.
    private async ValueTask<FlushResult> SpliceAsync(ISplicingReader input, PipeWriter output, bool isRequest)
    {
        while (true)
        {
            await input.WaitAsync();
            using var splice = input.TryBeginSplice(output);
            var count = splice?.Fill(long.MaxValue) ?? -1;
            if (count < 0)
            {
                return default;
            }

            if (count > 0)
            {
                Volatile.Write(ref _lastActivity, services.NowMilliseconds);
                var drained = await splice!.DrainAsync();
                Count(isRequest, count);
                if (drained.IsCompleted || count < BlockPool.LargeSize)
                {
                    return drained;
                }
            }
        }
    }

    private void Count(bool isRequest, long bytes)
    {
        if (isRequest)
        {
            _record!.BytesReceived += bytes;
        }
        else
        {
            _record!.BytesSent += bytes;
        }
    }
}

/// <summary>Bounds of an opaque connection.</summary>
internal sealed record TcpForwarderLimits
{
    /// <summary>Without a byte in either direction: design default 1 h, with TCP keep-alive below it.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromHours(1);

    /// <summary>How often a dial that failed is tried elsewhere.</summary>
    public int MaxRetries { get; init; } = 1;
}
