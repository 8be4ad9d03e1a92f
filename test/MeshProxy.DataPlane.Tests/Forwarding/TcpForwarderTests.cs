using System.Text;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.DataPlane.Tests.Transport;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Model.Config;
using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Opaque connections against the tick, which may come between any two steps.</summary>
internal sealed class TcpForwarderTests
{
    [Test]
    public async Task A_connection_that_has_only_just_been_made_is_not_idle_whenever_the_tick_comes()
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.SendAsync("hello");
            await wire.ReadToEndAsync();
            wire.Finish();
        });
        var time = new TickingTime();
        var telemetry = new ProxyTelemetry(time, null);
        var transport = new SocketTransport();
        var connector = new UpstreamConnector(transport, new TlsClientStep(null, null, time));
        var cluster = new Cluster(Configs.Cluster(protocol: AppProtocol.Tcp), new ClusterServices(connector, null, null, telemetry.Meters, time, new Random(1)));
        cluster.Update(Configs.Set(cluster.Config.Id, server.EndPoint));
        var backends = new WeightedBackends([new RouteBackend(cluster, 1, null, MessageFilters.None, telemetry.Meters.ForRoute(Direction.Gateway, cluster.ServiceName, "-"))]);
        var services = new ForwardingServices(
            telemetry, time, new RoundClock(time), new RequestIdSource(), new ForwardingLimits(), new MemoryBudget(MemoryBudget.LargestDefaultBytes), NullLogger.Instance);
        var forwarder = new TcpForwarder(services, connector, new TcpForwarderLimits());
        await using var pair = await ConnectedPair.OpenAsync(transport);
        time.Tick = forwarder.OnTick;
        var forwarding = forwarder.ForwardAsync(pair.Connection, backends, Direction.Gateway, ConnectionInfo.Of(pair.Connection), sendsReadyByte: false);
        var client = new Wire(pair.Peer);
        Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(5)), Is.EqualTo("hello"));
        client.Finish();
        Assert.That(await client.EndsWithResetAsync(), Is.False, "the end is in order");
        await forwarding.WaitAsync(Wire.Patience);
    }

    /// <summary>The clock of a machine that has been up for a day. The tick comes just before each look at it.</summary>
    private sealed class TickingTime : TimeProvider
    {
        public Action<long>? Tick { get; set; }

        public override long TimestampFrequency => System.TimestampFrequency;

        public override long GetTimestamp()
        {
            var now = System.GetTimestamp() + (24 * 60 * 60 * TimestampFrequency);
            Tick?.Invoke(now / (TimestampFrequency / 1000));
            return now;
        }
    }
}
