using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Telemetry;

namespace MeshProxy.DataPlane.Tests.Telemetry;

internal sealed class MetersTests
{
    [Test]
    public async Task RequestsAndDurationsAreExportedExactly()
    {
        var meters = new Meters(TimeProvider.System);
        var route = meters.ForRoute(Direction.Outbound, "shop/payments", "shop/split");
        Assert.That(meters.ForRoute(Direction.Outbound, "shop/payments", "shop/split"), Is.SameAs(route));
        route.Record(200, ResponseFlag.None, TimeSpan.FromMilliseconds(3).Ticks);
        route.Record(200, ResponseFlag.None, TimeSpan.FromMilliseconds(4).Ticks);
        route.Record(503, ResponseFlag.UH, TimeSpan.FromMilliseconds(300).Ticks);

        var text = await ExportAsync(meters);
        const string Labels = "direction=\"outbound\",service=\"shop/payments\",route=\"shop/split\"";
        Assert.Multiple(() =>
        {
            Assert.That(text, Does.Contain($"meshproxy_requests_total{{{Labels},code=\"200\",flag=\"\"}} 2\n"));
            Assert.That(text, Does.Contain($"meshproxy_requests_total{{{Labels},code=\"503\",flag=\"UH\"}} 1\n"));
            Assert.That(text, Does.Contain($"meshproxy_request_duration_seconds_bucket{{{Labels},le=\"0.0025\"}} 0\n"));
            Assert.That(text, Does.Contain($"meshproxy_request_duration_seconds_bucket{{{Labels},le=\"0.005\"}} 2\n"));
            Assert.That(text, Does.Contain($"meshproxy_request_duration_seconds_bucket{{{Labels},le=\"0.5\"}} 3\n"));
            Assert.That(text, Does.Contain($"meshproxy_request_duration_seconds_count{{{Labels}}} 3\n"));
            Assert.That(text, Does.Contain($"meshproxy_request_duration_seconds_sum{{{Labels}}} 0.307\n"));
        });

        route.Record(200, ResponseFlag.None, TimeSpan.FromMilliseconds(4).Ticks);
        Assert.That(await ExportAsync(meters), Does.Contain($"meshproxy_request_duration_seconds_count{{{Labels}}} 4\n"));
    }

    [Test]
    public async Task WhatTheGuardsOfHttp2DoIsCountedFromZero()
    {
        var meters = new Meters(TimeProvider.System);
        meters.OnDownstreamAbuse("rapid_reset");
        meters.ForCluster("shop/payments:80").OnHttp2Abuse("stream_stalled");
        var text = await ExportAsync(meters);
        foreach (var kind in MeshProxy.Http.Http2.Http2AbuseKinds.All)
        {
            Assert.That(text, Does.Contain($"meshproxy_http2_abuse_total{{side=\"downstream\",kind=\"{kind}\"}} {(kind == "rapid_reset" ? 1 : 0)}\n"));
            Assert.That(text, Does.Contain($"meshproxy_http2_abuse_total{{side=\"upstream\",kind=\"{kind}\"}} {(kind == "stream_stalled" ? 1 : 0)}\n"));
        }
    }

    [Test]
    public async Task EveryCloseReasonHasALabel()
    {
        var meters = new Meters(TimeProvider.System);
        var reasons = Enum.GetValues<MeshProxy.Http.ConnectionCloseReason>().Where(reason => reason != MeshProxy.Http.ConnectionCloseReason.None).ToArray();
        foreach (var reason in reasons)
        {
            meters.OnConnectionClosed(Direction.Gateway, reason);
        }

        var text = await ExportAsync(meters);
        Assert.That(reasons.Select(CloseReasonNames.Of).Distinct().Count(), Is.EqualTo(reasons.Length));
        Assert.That(reasons, Has.All.Matches<MeshProxy.Http.ConnectionCloseReason>(reason =>
            text.Contains($"meshproxy_connection_closes_total{{direction=\"gateway\",reason=\"{CloseReasonNames.Of(reason)}\"}} 1\n", StringComparison.Ordinal)));
    }

    [Test]
    public async Task BeyondTheCapSeriesShareTheOverflow()
    {
        var meters = new Meters(TimeProvider.System);
        for (var i = 0; i < Meters.MaxSeries; i++)
        {
            meters.ForRoute(Direction.Gateway, "shop/payments", $"route-{i}");
        }

        var first = meters.ForRoute(Direction.Gateway, "shop/payments", "one-too-many");
        var second = meters.ForRoute(Direction.Gateway, "shop/other", "and-another");
        Assert.That(second, Is.SameAs(first));
        first.Record(200, ResponseFlag.None, 1);
        var text = await ExportAsync(meters);
        Assert.That(text, Does.Contain("service=\"_overflow\",route=\"_overflow\",code=\"200\",flag=\"\"} 1\n"));
        Assert.That(text, Does.Contain("meshproxy_series_overflow 1\n"));
        Assert.That(text, Does.Not.Contain("one-too-many"));
    }

    [Test]
    public async Task InventedStatusesDoNotGrowTheRegistry()
    {
        var meters = new Meters(TimeProvider.System);
        var route = meters.ForRoute(Direction.Gateway, "s", "r");
        for (var status = 100; status < 600; status++)
        {
            route.Record(status, ResponseFlag.None, 1);
        }

        var text = await ExportAsync(meters);
        Assert.That(text.Split('\n').Count(line => line.StartsWith("meshproxy_requests_total{", StringComparison.Ordinal)), Is.LessThanOrEqualTo(50));
        Assert.That(text, Does.Contain("code=\"other\""));
    }

    [Test]
    public async Task AnIdleSeriesLeavesAndComesBackWithItsTotals()
    {
        var time = new SteppedTime();
        var meters = new Meters(time);
        var route = meters.ForRoute(Direction.Gateway, "s", "idle-route");
        route.Record(200, ResponseFlag.None, 10_000);
        Assert.That(await ExportAsync(meters), Does.Contain("idle-route"));
        time.Step(Meters.IdleExpiry + TimeSpan.FromSeconds(1));
        Assert.That(await ExportAsync(meters), Does.Not.Contain("idle-route"));
        route.Record(200, ResponseFlag.None, 10_000);
        var text = await ExportAsync(meters);
        Assert.That(text, Does.Contain("route=\"idle-route\",code=\"200\",flag=\"\"} 2\n"));
        Assert.That(text, Does.Contain("meshproxy_request_duration_seconds_count{direction=\"gateway\",service=\"s\",route=\"idle-route\"} 2\n"));
    }

    [Test]
    public async Task ConnectionsClustersAndTcpAreExported()
    {
        var meters = new Meters(TimeProvider.System);
        meters.OnConnectionOpened(Direction.Inbound, new ConnectionInfo { IsTls = true, IsMutualTls = true });
        meters.OnConnectionOpened(Direction.Inbound, new ConnectionInfo());
        meters.OnConnectionClosed(Direction.Inbound);
        meters.OnConnectionRefused(Direction.Inbound, "plaintext_refused");
        var cluster = meters.ForCluster("shop/payments:8080");
        cluster.OnConnectionOpened();
        cluster.OnAttempt(ResponseFlag.None);
        cluster.OnAttempt(ResponseFlag.UF);
        meters.OnTcp(Direction.Outbound, "shop/ledger", ResponseFlag.None, 10, 20);
        meters.OnConfigApplied("r1");
        meters.OnConfigApplied("r2");
        var text = await ExportAsync(meters);
        Assert.Multiple(() =>
        {
            Assert.That(text, Does.Contain("meshproxy_connections_open{direction=\"inbound\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_connections_total{direction=\"inbound\",tls=\"mutual\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_connections_total{direction=\"inbound\",tls=\"none\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_connection_refusals_total{direction=\"inbound\",reason=\"plaintext_refused\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_upstream_connections_open{cluster=\"shop/payments:8080\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_upstream_attempts_total{cluster=\"shop/payments:8080\",result=\"ok\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_upstream_attempts_total{cluster=\"shop/payments:8080\",result=\"UF\"} 1\n"));
            Assert.That(text, Does.Contain("meshproxy_tcp_bytes_total{direction=\"outbound\",service=\"shop/ledger\",way=\"sent\"} 20\n"));
            Assert.That(text, Does.Contain("meshproxy_config_revision{revision=\"r2\"} 1\n").And.Not.Contain("revision=\"r1\""));
        });
    }

    [Test]
    public void CountingAllocatesNothing()
    {
        var route = new Meters(TimeProvider.System).ForRoute(Direction.Gateway, "s", "r");
        route.Record(200, ResponseFlag.None, 10_000);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            route.Record(200, ResponseFlag.None, 10_000);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    private static async Task<string> ExportAsync(Meters meters) => Encoding.UTF8.GetString(await meters.ExportAsync());

    private sealed class SteppedTime : TimeProvider
    {
        private long _now = 1;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public void Step(TimeSpan by) => _now += by.Ticks;
    }
}
