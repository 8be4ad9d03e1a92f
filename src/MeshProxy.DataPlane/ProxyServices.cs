using System.IO.Pipelines;
using System.Net;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Model.Config;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane;

/// <summary>What inbound, outbound and gateway share: the snapshot cell, and the two ways in which any connection is served.</summary>
internal sealed class ProxyServices(
    ProxyServerOptions options,
    SnapshotCell cell,
    ForwardingServices forwarding,
    UpstreamConnector connector,
    ClusterServices clusterServices,
    ConnectionRegistry registry,
    IDestinationDemand? demand,
    ClientTrafficCompiler traffic,
    ILogger log)
{
    private readonly TcpForwarderLimits _tcpLimits = new();
    private readonly ConnectionAges _ages = new((uint)clusterServices.Random.Next());

    public ProxyServerOptions Options { get; } = options;

    public SnapshotCell Cell { get; } = cell;

    public ForwardingServices Forwarding { get; } = forwarding;

    public ConnectionRegistry Registry { get; } = registry;

    /// <summary>How clients are treated where no policy says so.</summary>
    public ClientTrafficCompiler Traffic { get; } = traffic;

    public IDestinationDemand? Demand { get; } = demand;

    /// <summary>Set when the drain has begun: connections that still come are told at once.</summary>
    public bool IsDraining { get; set; }

    /// <summary>Serves HTTP on a connection until it ends. Never throws.</summary>
    /// <param name="connection">The decrypted connection; closed at the end.</param>
    /// <param name="version">What the peer speaks.</param>
    /// <param name="downstream">Who routes its requests.</param>
    /// <param name="peerNotAfter">When the peer's certificate ends: the connection drains then.</param>
    public async Task ServeHttpAsync(ConnectionContext connection, HttpProtocolVersion version, DownstreamConnection downstream, DateTimeOffset? peerNotAfter = null)
    {
        var codec = ServerCodecs.Create(connection, version, downstream);
        var retireAt = Forwarding.Time.GetUtcNow() + _ages.Next(downstream.Traffic.MaxConnectionAge ?? Options.MaxConnectionAge);
        var entry = new HttpConnectionEntry(connection, codec, downstream, peerNotAfter < retireAt ? peerNotAfter.Value : retireAt, Forwarding.Time);
        Registry.Add(entry);
        Forwarding.Telemetry.Meters.OnConnectionOpened(downstream.Direction, downstream.Info);
        if (IsDraining)
        {
            // HTTP/1.1 is told with its first response. HTTP/2 would be told before its first request, and come again and again for nothing: it is told
            // when it has been of use.
            if (version == HttpProtocolVersion.Http2)
            {
                entry.DrainsWhenUsed = true;
            }
            else
            {
                codec.Drain(ConnectionCloseReason.Drain);
            }
        }

        await codec.RunAsync(downstream);
        Registry.Remove(entry);
        Forwarding.Telemetry.Meters.OnConnectionClosed(downstream.Direction, codec.CloseReason);
        if (codec is Http1ServerConnection { EndedAbruptly: true })
        {
            // A response that was cut off must not look whole: an orderly end is how a body without length ends.
            connection.Abort(new ConnectionAbortedException("a response was broken off"));
        }

        await connection.DisposeAsync();
    }

    /// <summary>Serves opaque bytes on a connection until it ends. Never throws.</summary>
    /// <param name="connection">The connection; closed at the end.</param>
    /// <param name="backends">Where its bytes may go.</param>
    /// <param name="direction">For metrics and logs.</param>
    /// <param name="info">Who the downstream is.</param>
    /// <param name="sendsReadyByte">Whether the downstream is a sidecar that waits for the ready byte.</param>
    /// <param name="isTls">Whether the bytes are TLS that the client and somebody behind us end.</param>
    public async Task ServeTcpAsync(ConnectionContext connection, WeightedBackends backends, Direction direction, ConnectionInfo info, bool sendsReadyByte = false, bool isTls = false)
    {
        var forwarder = new TcpForwarder(Forwarding, connector, _tcpLimits, isTls);
        var entry = new TcpConnectionEntry(connection, forwarder, direction, info);
        Registry.Add(entry);
        Forwarding.Telemetry.Meters.OnConnectionOpened(direction, info);
        await forwarder.ForwardAsync(connection, backends, direction, info, sendsReadyByte);
        Registry.Remove(entry);
        Forwarding.Telemetry.Meters.OnConnectionClosed(direction);
        await connection.DisposeAsync();
    }

    /// <summary>The HTTP version of a connection that was not declared to speak anything: judged by its first bytes, null when it is not HTTP or when nothing
    /// came in time.</summary>
    public async ValueTask<HttpProtocolVersion?> DetectHttpAsync(ConnectionContext connection, TimeSpan? timeout = null) =>
        await DetectAsync(connection, timeout ?? Options.DetectionTimeout) switch
        {
            DetectedProtocol.Http1 => HttpProtocolVersion.Http11,
            DetectedProtocol.Http2 => HttpProtocolVersion.Http2,
            _ => null,
        };

    /// <summary>What a connection speaks. One that was reset before it said anything is opaque: whoever serves it will see that.</summary>
    public async ValueTask<DetectedProtocol> DetectAsync(ConnectionContext connection, TimeSpan timeout)
    {
        try
        {
            return await ProtocolDetector.DetectAsync(connection.Transport.Input, timeout, Forwarding.Time);
        }
        catch (IOException)
        {
            return DetectedProtocol.Opaque;
        }
    }

    /// <summary>Whether the client has left without a word, as one does that probes a port or connects in advance: nobody is refused then.</summary>
    public static bool HasLeftUnheard(ConnectionContext connection)
    {
        try
        {
            if (!connection.Transport.Input.TryRead(out var read))
            {
                return false;
            }

            var hasLeft = read is { IsCompleted: true, Buffer.IsEmpty: true };
            connection.Transport.Input.AdvanceTo(read.Buffer.Start);
            return hasLeft;
        }
        catch (IOException)
        {
            return true;
        }
    }

    /// <summary>The HTTP version of a connection that is declared to speak HTTP. What is no HTTP, or too slow with its first bytes, is left to the HTTP/1.1
    /// codec to refuse.</summary>
    public async ValueTask<HttpProtocolVersion> DetectDeclaredHttpAsync(ConnectionContext connection, TimeSpan? timeout = null) =>
        await DetectHttpAsync(connection, timeout ?? Options.FirstByteTimeout) ?? HttpProtocolVersion.Http11;

    /// <summary>The server name in a TLS client's first flight, without consuming it; null when there is none. Not <see cref="ClientHelloResult.Complete"/>:
    /// it is no ClientHello, or not all of one came in time.</summary>
    public async ValueTask<(ClientHelloResult Hello, string? ServerName)> PeekServerNameAsync(ConnectionContext connection)
    {
        var input = connection.Transport.Input;
        await using var timer = Forwarding.Time.CreateTimer(static pipe => ((PipeReader)pipe!).CancelPendingRead(), input, Options.HandshakeTimeout, Timeout.InfiniteTimeSpan);
        while (true)
        {
            ReadResult read;
            try
            {
                read = await input.ReadAsync();
            }
            catch (IOException)
            {
                // Reset before it said anything: whoever serves it will see that.
                return (ClientHelloResult.Incomplete, null);
            }

            var result = ClientHello.TryParse(read.Buffer, out var serverName, out _);
            if (result != ClientHelloResult.Incomplete || read.IsCompleted || read.IsCanceled)
            {
                input.AdvanceTo(read.Buffer.Start);
                return (result, serverName);
            }

            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    /// <summary>Ends a connection that is not served, and says why.</summary>
    public void Refuse(ConnectionContext connection, Direction direction, string reason, string detail)
    {
        ProxyLog.ConnectionRefused(log, direction, connection.RemoteEndPoint, reason, detail);
        Forwarding.Telemetry.Meters.OnConnectionRefused(direction, reason);
        connection.Abort(new ConnectionAbortedException(detail));
        _ = connection.DisposeAsync().AsTask();
    }

    /// <summary>Ends a TLS connection of somebody else's that no route takes: the client is told (alert unrecognized_name, RFC 6066 section 3), and the
    /// access log has the connection with the flag of its failure.</summary>
    public async Task RefuseServerNameAsync(ConnectionContext connection, Direction direction, ConnectionInfo info, string detail)
    {
        await TlsServerStep.RefuseServerNameAsync(connection);
        RefuseRoute(connection, direction, info, detail);
    }

    /// <summary>Ends an opaque connection that no route takes; the access log has it with the flag of its failure.</summary>
    public void RefuseRoute(ConnectionContext connection, Direction direction, ConnectionInfo info, string detail)
    {
        var failure = new Failure(FailureCause.NoRoute, FailureStage.Routing, RetrySafety.Never, Initiator.Us, detail);
        Forwarding.Telemetry.Complete(new TcpRecord(direction, info, Forwarding.Time.GetTimestamp()) { Failure = failure, Flag = FailureMap.Of(failure.Cause).Flag });
        ProxyLog.ConnectionRefused(log, direction, connection.RemoteEndPoint, "no_route", detail);
        Forwarding.Telemetry.Meters.OnConnectionRefused(direction, "no_route");

        // In order, not by reset: what the client was told must arrive.
        _ = connection.DisposeAsync().AsTask();
    }

    /// <summary>A backend that is the original address itself, for traffic to unknown destinations that is passed through.</summary>
    public WeightedBackends PassThrough(IPEndPoint original)
    {
        var id = new ClusterId(new ResourceName("egress", "passthrough"), original.Port);
        var cluster = new Cluster(new ClusterConfig { Id = id, Protocol = AppProtocol.Tcp, ConnectTimeout = TimeSpan.FromSeconds(5) }, clusterServices, metersName: "egress/passthrough");
        cluster.Update(new EndpointSetConfig(id, [new EndpointConfig { Id = original.ToString(), Address = original.Address.ToString(), Port = original.Port }]));
        return new WeightedBackends([new RouteBackend(cluster, 1, null, MessageFilters.None, Forwarding.Telemetry.Meters.ForRoute(Direction.Outbound, cluster.ServiceName, "-"))]);
    }
}

/// <summary>A live connection from a downstream.</summary>
internal abstract class DownstreamEntry : ConnectionEntry
{
    protected DownstreamEntry(ConnectionContext connection, ConnectionInfo info, Direction direction)
    {
        Listener = direction.ToString();
        Remote = connection.RemoteEndPoint;
        Local = connection.LocalEndPoint;
        Info = info;
        Direction = direction;
    }

    public ConnectionInfo Info { get; }

    public Direction Direction { get; }

    public abstract int ActiveExchanges { get; }

    public abstract long TotalExchanges { get; }
}

/// <summary>A live connection that speaks HTTP.</summary>
internal sealed class HttpConnectionEntry(
    ConnectionContext connection, HttpServerConnection codec, DownstreamConnection downstream, DateTimeOffset retireAt, TimeProvider time)
    : DownstreamEntry(connection, downstream.Info, downstream.Direction)
{
    private const int UnusedTicks = 10;

    private int _ticks;

    /// <summary>It came while the proxy was draining: to be told after its first exchange, or after a second without one.</summary>
    public bool DrainsWhenUsed { get; set; }

    public override int ActiveExchanges => codec.ActiveExchanges;

    public override long TotalExchanges => codec.TotalExchanges;

    public override void OnTick(long nowMilliseconds)
    {
        if (time.GetUtcNow() >= retireAt)
        {
            codec.Drain(ConnectionCloseReason.MaxAge);
        }

        if (DrainsWhenUsed && (codec.TotalExchanges > 0 || ++_ticks >= UnusedTicks))
        {
            DrainsWhenUsed = false;
            codec.Drain(ConnectionCloseReason.Drain);
        }

        downstream.OnTick(nowMilliseconds);
        codec.OnTick(nowMilliseconds);
    }

    public override void Drain(ConnectionCloseReason reason)
    {
        if (!DrainsWhenUsed)
        {
            codec.Drain(reason);
        }
    }

    public override void Abort(ConnectionCloseReason reason) => codec.Abort(reason);
}

/// <summary>A live connection of opaque bytes.</summary>
internal sealed class TcpConnectionEntry(ConnectionContext connection, TcpForwarder forwarder, Direction direction, ConnectionInfo info)
    : DownstreamEntry(connection, info, direction)
{
    public override int ActiveExchanges => 1;

    public override long TotalExchanges => 1;

    /// <summary>Whether its other half runs through the mesh: it ends when the trust that it was judged by does.</summary>
    public bool IsMeshUpstream => forwarder.IsMeshUpstream;

    public override void OnTick(long nowMilliseconds) => forwarder.OnTick(nowMilliseconds);

    public override void Drain(ConnectionCloseReason reason)
    {
        // Opaque bytes have no way to be told: they run on until the deadline of the drain.
    }

    public override void Abort(ConnectionCloseReason reason) => forwarder.Abort(new Failure(
        FailureCause.LocalReset, FailureStage.Relaying, RetrySafety.Never, Initiator.Operator, $"connection_{reason.ToString().ToLowerInvariant()}"));
}
