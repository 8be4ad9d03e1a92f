using System.Buffers;
using System.IO.Pipelines;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Carries one opaque connection: dials an endpoint, then moves bytes both ways with half-close and backpressure. A dial that fails goes to one other
/// endpoint, because nothing was sent. Between sidecars it speaks ALPN meshproxy-tcp/1 of mesh protocol 1: one ready byte 0x00 from the inbound once the
/// application is connected, then raw bytes; half-close is close_notify, and an end without it is passed on as a reset.
/// </summary>
internal sealed class TcpForwarder(ForwardingServices services, UpstreamConnector connector, TcpForwarderLimits limits)
{
    private TcpRecord? _record;
    private ConnectionContext? _downstream;
    private ConnectionContext? _upstream;
    private Failure _stop;
    private long _lastActivity;

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
        _stop = failure;
        var reason = new ConnectionAbortedException(failure.Detail);
        _downstream?.Abort(reason);
        _upstream?.Abort(reason);
    }

    /// <summary>Forwards until both sides are done. Never throws; the caller disposes the downstream.</summary>
    /// <param name="downstream">Where the bytes come from; bytes already read are still in its pipe.</param>
    /// <param name="backends">Where they may go.</param>
    /// <param name="direction">For metrics and logs.</param>
    /// <param name="info">Who the downstream is.</param>
    /// <param name="sendsReadyByte">Whether the downstream is a sidecar that waits for the ready byte.</param>
    public async Task ForwardAsync(ConnectionContext downstream, WeightedBackends backends, Direction direction, ConnectionInfo info, bool sendsReadyByte)
    {
        _downstream = downstream;
        _record = new TcpRecord(direction, info, services.Time.GetTimestamp());
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
            var dialed = await connector.DialAsync(endpoint.Pool.Key, UpstreamConnector.TcpAlpn, cluster.Config.ConnectTimeout, services.Time);
            var failure = dialed.Failure;
            if (!failure.IsFailure)
            {
                failure = endpoint.Pool.Key.IsMesh ? await ReadReadyByteAsync(dialed.Connection!, endpoint, cluster.Config.ConnectTimeout) : default;
                if (!failure.IsFailure)
                {
                    _upstream = dialed.Connection;
                    return (endpoint, default);
                }

                await dialed.Connection!.DisposeAsync();
            }

            if (retries == 0 || _stop.IsFailure || cluster.Pick(endpoint) == endpoint)
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
        Volatile.Write(ref _lastActivity, services.NowMilliseconds);
        if (sendsReadyByte)
        {
            downstream.Transport.Output.Write<byte>([0x00]);
            await downstream.Transport.Output.FlushAsync();
        }

        var up = PumpAsync(downstream, upstream, isRequest: true);
        var down = PumpAsync(upstream, downstream, isRequest: false);
        var first = await up;
        var second = await down;
        return _stop.IsFailure ? _stop : first.IsFailure ? first : second;
    }

    private async Task<Failure> PumpAsync(ConnectionContext from, ConnectionContext to, bool isRequest)
    {
        var input = from.Transport.Input;
        var output = to.Transport.Output;
        try
        {
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
                    if (flushed.IsCompleted)
                    {
                        return default;
                    }
                }
                else
                {
                    input.AdvanceTo(read.Buffer.End);
                }

                if (read.IsCompleted)
                {
                    await output.CompleteAsync();
                    return default;
                }
            }
        }
        catch (Exception error) when (error is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // One side was reset: the other gets a reset too, never an orderly end that would make a truncated stream look whole.
            var failure = isRequest
                ? new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"reset: {error.Message}")
                : new Failure(FailureCause.UpstreamConnectionEnded, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"reset: {error.Message}");
            to.Abort(new ConnectionAbortedException(failure.Detail));
            from.Abort(new ConnectionAbortedException(failure.Detail));
            return failure;
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
