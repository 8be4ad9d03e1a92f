using System.Collections.Concurrent;
using System.Net;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Copies of requests: whole, bounded, and nobody's business but the mirror's.</summary>
internal sealed class MirrorTests
{
    [Test]
    public async Task A_mirror_gets_what_the_rule_sends_and_the_caller_never_hears_of_it()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("primary"));
        var copies = new ConcurrentQueue<Message>();
        await using var mirror = ScriptedServer.Http1(request =>
        {
            copies.Enqueue(request);
            return "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nnope";
        });
        var (primary, shadow) = (Configs.Cluster(), Configs.Cluster("shadow"));
        var rule = Configs.Rule(primary.Id) with
        {
            Filters = [new MirrorConfig(shadow.Id, 100, 100), new HeaderModifierConfig(false, [new("x-a", "1")], [], []), new UrlRewriteConfig(null, new PathRewriteConfig(true, "/new"))],
            Backends = [new BackendConfig(primary.Id, 1) { Filters = [new HeaderModifierConfig(false, [new("x-backend", "1")], [], [])] }],
        };
        await using var proxy = await TestProxy.StartAsync(
            Configs.Gateway([Configs.Route(rule)], [primary, shadow], Configs.Set(primary.Id, server.EndPoint), Configs.Set(shadow.Id, mirror.EndPoint)));
        Assert.That((await proxy.GetAsync("/x?q=1")).Text, Is.EqualTo("primary"));
        Assert.That((await proxy.PostAsync("body")).Text, Is.EqualTo("primary"));
        var large = new string('x', 60_000);
        Assert.That((await proxy.PostAsync(large)).Text, Is.EqualTo("primary"));
        await TestProxy.EventuallyAsync(() => copies.Count == 3, "three copies");
        Assert.Multiple(() =>
        {
            Assert.That(copies.Select(copy => copy.StartLine).Order(), Is.EqualTo(new[] { "GET /new/x?q=1 HTTP/1.1", "POST /new/ HTTP/1.1", "POST /new/ HTTP/1.1" }));
            Assert.That(copies.Select(copy => copy.Text).OrderBy(text => text.Length), Is.EqualTo(new[] { "", "body", large }));
            Assert.That(copies.Select(copy => copy.Fields["host"]), Is.All.EqualTo("shop.example"));
            Assert.That(copies.Select(copy => copy.Fields["x-a"]), Is.All.EqualTo("1"));
            Assert.That(copies.Any(copy => copy.Fields.ContainsKey("x-backend")), Is.False, "what is for the backend alone");
        });
        await CountedAsync(proxy, "answered", 3);
        Assert.That((await MetricsAsync(proxy)).Contains("meshproxy_requests_total{direction=\"gateway\",service=\"shop/payments\",route=\"shop/route\",code=\"200\",flag=\"\"} 3"), Is.True);
    }

    [Test]
    public async Task A_body_that_comes_in_pieces_is_copied_whole_with_its_trailers()
    {
        var firstPiece = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            var text = "";
            var buffer = new byte[4096];
            while (!text.EndsWith("x-sum: 7\r\n\r\n", StringComparison.Ordinal))
            {
                text += Encoding.ASCII.GetString(buffer, 0, await wire.ReadSomeAsync(buffer));
                if (text.Contains("first", StringComparison.Ordinal))
                {
                    firstPiece.TrySetResult();
                }
            }

            await wire.SendAsync(ScriptedServer.Ok("primary"));
        });
        var copied = new TaskCompletionSource<Message>(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var mirror = ScriptedServer.Http1(request =>
        {
            copied.TrySetResult(request);
            return ScriptedServer.Ok("copy");
        });
        await using var proxy = await StartAsync(server, mirror);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nfirst\r\n");
        await firstPiece.Task.WaitAsync(Wire.Patience);
        await client.SendAsync("6\r\nsecond\r\n0\r\nx-sum: 7\r\n\r\n");
        Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("primary"));
        var copy = await copied.Task.WaitAsync(Wire.Patience);
        Assert.That(copy.Text, Is.EqualTo("firstsecond"));
        Assert.That(copy.Trailers.GetValueOrDefault("x-sum"), Is.EqualTo("7"));
        await CountedAsync(proxy, "answered", 1);
    }

    [Test]
    public async Task A_body_that_is_larger_than_a_copy_may_be_is_not_mirrored()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("primary"));
        await using var mirror = ScriptedServer.Http1(request => ScriptedServer.Ok("never"));
        await using var proxy = await StartAsync(server, mirror);
        Assert.That((await proxy.PostAsync(new string('x', ReplayBuffer.MaxBytes + 1))).Text, Is.EqualTo("primary"));
        await CountedAsync(proxy, "skipped", 1);
    }

    [Test]
    public async Task A_mirror_that_cannot_be_reached_or_never_answers_harms_nobody()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok("primary"));
        await using var mirror = ScriptedServer.Http1(request => "");
        await using (var proxy = await StartAsync(server, mirror))
        {
            proxy.MayBeBusy = true;
            Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("primary"));
            Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("primary"));
        }

        await using (var proxy = await StartAsync(server, ScriptedServer.Closed()))
        {
            Assert.That((await proxy.GetAsync()).Text, Is.EqualTo("primary"));
            await CountedAsync(proxy, "failed", 1);
        }
    }

    [Test]
    public async Task A_retry_makes_no_second_copy()
    {
        await using var broken = new ScriptedServer(BreakOffAsync);
        var copies = 0;
        await using var mirror = ScriptedServer.Http1(request =>
        {
            Interlocked.Increment(ref copies);
            return ScriptedServer.Ok("copy");
        });
        await using var proxy = await StartAsync(broken, mirror);
        var response = await proxy.GetAsync();
        Assert.That(response.Status, Is.EqualTo(503));
        await CountedAsync(proxy, "answered", 1);
        Assert.That(copies, Is.EqualTo(1));
    }

    // Of 1,000 requests.
    [TestCase(0, 100, 0)]
    [TestCase(1, 100, 10)]
    [TestCase(25, 100, 250)]
    [TestCase(1, 3, 333)]
    [TestCase(100, 100, 1000)]
    [TestCase(int.MaxValue - 1, int.MaxValue, 1000)]
    public void A_share_is_spread_evenly(int numerator, int denominator, int expected)
    {
        var mirror = new RouteMirror(null!, numerator, denominator, MessageFilters.None, start: 12345);
        Assert.That(Enumerable.Range(0, 1000).Count(_ => mirror.Samples()), Is.EqualTo(expected).Within(3));
    }

    private static Task<TestProxy> StartAsync(ScriptedServer server, ScriptedServer mirror) => StartAsync(server, mirror.EndPoint);

    private static Task<TestProxy> StartAsync(ScriptedServer server, IPEndPoint mirror)
    {
        var (primary, shadow) = (Configs.Cluster(), Configs.Cluster("shadow"));
        var rule = Configs.Rule(primary.Id) with { Filters = [new MirrorConfig(shadow.Id, 100, 100)] };
        return TestProxy.StartAsync(Configs.Gateway([Configs.Route(rule)], [primary, shadow], Configs.Set(primary.Id, server.EndPoint), Configs.Set(shadow.Id, mirror)));
    }

    private static async Task<string> MetricsAsync(TestProxy proxy) => Encoding.UTF8.GetString(await proxy.Telemetry.Meters.ExportAsync());

    private static async Task BreakOffAsync(Wire wire, int number)
    {
        await wire.ReadRequestAsync();
        wire.Reset();
    }

    private static async Task CountedAsync(TestProxy proxy, string result, int count)
    {
        var line = $"meshproxy_mirror_total{{cluster=\"shop/shadow:80\",result=\"{result}\"}} {count}\n";
        for (var tries = 0; tries < 2000 && !(await MetricsAsync(proxy)).Contains(line); tries++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        Assert.That(await MetricsAsync(proxy), Does.Contain(line));
    }
}
