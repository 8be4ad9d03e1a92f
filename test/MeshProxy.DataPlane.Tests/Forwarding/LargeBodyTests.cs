using System.Net.Sockets;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.DataPlane.Tests.Transport;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Bodies of a declared length between plaintext HTTP/1.1 connections, which the kernel moves from one socket to the other: whole, in both directions, and
/// however they are cut off. The same requests with bodies that are copied stand beside them.</summary>
internal sealed class LargeBodyTests
{
    private const int Large = 8 * 1024 * 1024;

    // Around everything that decides which way a piece of a body goes.
    private static readonly int[] s_lengths = [1, 4096, 32 * 1024, 34815, 34816, 34817, 40_000, 65_536, 65_537, 100_000, 262_144, 1_000_000, 5_000_000];

    [Test]
    public async Task Downloads_of_every_length_arrive_whole_and_both_connections_serve_on()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(Body(int.Parse(request.StartLine.Split(' ')[1][1..], System.Globalization.CultureInfo.InvariantCulture))));
        await using var proxy = await StartAsync(server);
        await using var client = await proxy.DialAsync();
        var moved = SocketSplice.MovedBytes;
        foreach (var length in s_lengths)
        {
            await client.SendAsync($"GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n");
            var response = await client.ReadResponseAsync();
            Assert.That(response.Text == Body(length), Is.True, $"{length} bytes, got {response.Body.Length}");
            Assert.That((await proxy.AccessAsync()).GetProperty("http.response.body.bytes").GetInt64(), Is.EqualTo(length));
        }

        Assert.That(server.Accepted, Is.EqualTo(1));
        Assert.That(SocketSplice.MovedBytes - moved, Is.GreaterThan(4_000_000), "most of it was moved, not copied");
    }

    [Test]
    public async Task Uploads_of_every_length_arrive_whole_and_both_connections_serve_on()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Text == Body(request.Body.Length) ? $"{request.Body.Length}" : "damaged"));
        await using var proxy = await StartAsync(server);
        await using var client = await proxy.DialAsync();
        var moved = SocketSplice.MovedBytes;
        foreach (var length in s_lengths)
        {
            await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            await client.SendAsync(Body(length));
            Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo($"{length}"));
            Assert.That((await proxy.AccessAsync()).GetProperty("http.request.body.bytes").GetInt64(), Is.EqualTo(length));
        }

        Assert.That(server.Accepted, Is.EqualTo(1));
        Assert.That(SocketSplice.MovedBytes - moved, Is.GreaterThan(4_000_000), "most of it was moved, not copied");
    }

    [Test]
    public async Task Many_at_once_in_both_directions_get_each_their_own()
    {
        await using var server = ScriptedServer.Http1(request => ScriptedServer.Ok(request.Text));
        await using var proxy = await StartAsync(server);
        await Task.WhenAll(Enumerable.Range(0, 24).Select(async i =>
        {
            await using var client = await proxy.DialAsync();
            for (var round = 0; round < 4; round++)
            {
                var body = Body(300_000 + (i * 7919) + round, seed: i + 1);
                await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n");
                var sending = client.SendAsync(body);
                var echo = await client.ReadResponseAsync();
                await sending;
                Assert.That(echo.Text == body, Is.True, $"client {i}, round {round}");
            }
        }));
    }

    [Test]
    public async Task Pieces_that_come_slowly_are_passed_on_as_they_come()
    {
        const int Pieces = 12;
        var go = new SemaphoreSlim(0);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Pieces * 20_000}\r\n\r\n");
            for (var i = 0; i < Pieces; i++)
            {
                await go.WaitAsync(Wire.Patience);
                await wire.SendAsync(Body(20_000, i + 1));
            }

            await wire.ReadToEndAsync();
        });
        await using var proxy = await StartAsync(server);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadHeadAsync();
        for (var i = 0; i < Pieces; i++)
        {
            go.Release();
            Assert.That(Encoding.Latin1.GetString(await client.ReadExactlyAsync(20_000)) == Body(20_000, i + 1), Is.True, $"piece {i}");
        }
    }

    [TestCase(true)]
    [TestCase(false)]
    public async Task A_download_that_breaks_off_never_looks_whole(bool byReset)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Large}\r\n\r\n");
            await wire.SendAsync(Body(Large / 2));
            if (byReset)
            {
                wire.Reset();
            }
            else
            {
                wire.Finish();
                await wire.ReadToEndAsync();
            }
        });
        await using var proxy = await StartAsync(server);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadHeadAsync();
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        var line = await proxy.AccessAsync();
        Assert.That(line.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UC"));
        Assert.That(line.GetProperty("http.response.body.bytes").GetInt64(), Is.LessThanOrEqualTo(Large / 2));
    }

    [Test]
    public async Task A_client_that_leaves_takes_the_download_with_it()
    {
        var ended = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Large}\r\n\r\n");
            try
            {
                await wire.SendAsync(Body(Large));
                await wire.ReadToEndAsync();
            }
            catch (SocketException)
            {
            }

            ended.SetResult();
        });
        await using var proxy = await StartAsync(server);
        await using (var client = await proxy.DialAsync(receiveBuffer: 4096))
        {
            await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            await client.ReadExactlyAsync(1_000_000);
            client.Reset();
        }

        await ended.Task.WaitAsync(Wire.Patience);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));
        await proxy.QuietAsync();
    }

    [Test]
    public async Task A_client_that_leaves_takes_its_upload_with_it()
    {
        var received = new TaskCompletionSource<bool>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            received.SetResult(await wire.EndsWithResetAsync());
        });
        await using var proxy = await StartAsync(server);
        await using (var client = await proxy.DialAsync())
        {
            await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {Large}\r\n\r\n");
            await client.SendAsync(Body(Large / 2));
            client.Reset();
        }

        await received.Task.WaitAsync(Wire.Patience);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task An_endpoint_that_answers_in_the_middle_of_an_upload_is_heard(bool clientPauses)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.ReadExactlyAsync(200_000);
            await wire.SendAsync("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            await wire.ReadToEndAsync();
        });
        await using var proxy = await StartAsync(server);
        await using var client = await proxy.DialAsync();
        await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {Large}\r\n\r\n");
        await client.SendAsync(Body(250_000));
        if (clientPauses)
        {
            Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(409));
            return;
        }

        var sending = client.SendAsync(Body(Large - 250_000));
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(409));
        await Task.WhenAny(sending);
    }

    [TestCase("silent endpoint")]
    [TestCase("client that does not read")]
    [TestCase("silent client")]
    [TestCase("endpoint that does not read")]
    public async Task A_transfer_in_which_nothing_moves_ends_by_the_idle_limit(string which)
    {
        var time = new ManualTime();
        var stuck = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            switch (which)
            {
                case "silent endpoint":
                    await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Large}\r\n\r\n{Body(500_000)}");
                    stuck.SetResult();
                    await wire.ReadToEndAsync();
                    break;
                case "client that does not read":
                    stuck.SetResult();
                    await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Large * 4}\r\n\r\n{Body(Large * 4)}");
                    break;
                case "silent client":
                    await wire.ReadExactlyAsync(500_000);
                    stuck.SetResult();
                    await wire.ReadToEndAsync();
                    break;
                default:
                    stuck.SetResult();
                    await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
                    break;
            }
        });
        await using var proxy = await StartAsync(server, time);
        await using var client = await proxy.DialAsync(receiveBuffer: 4096);
        var isUpload = which is "silent client" or "endpoint that does not read";
        await client.SendAsync(isUpload ? $"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {Large * 4}\r\n\r\n" : "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if (isUpload)
        {
            _ = client.SendAsync(Body(which == "silent client" ? 500_000 : Large * 4)).ContinueWith(_ => { }, TaskScheduler.Default);
        }
        else if (which == "silent endpoint")
        {
            await client.ReadHeadAsync();
            await client.ReadExactlyAsync(500_000);
        }

        await stuck.Task.WaitAsync(Wire.Patience);
        var told = proxy.AccessAsync();
        await time.AdvanceUntilAsync(told, TimeSpan.FromSeconds(10));
        Assert.That((await told).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("SI"));
        await proxy.QuietAsync();
        Assert.That(TimeSpan.FromTicks(time.GetTimestamp()), Is.LessThan(TimeSpan.FromSeconds(10)), "by this limit and no other");
    }

    [Test]
    public async Task A_body_longer_than_allowed_is_refused_midway()
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("x"));
        var config = Configs.Gateway(Configs.Cluster(), server.EndPoint);
        await using var proxy = await TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { ClientTraffic = new ClientTrafficConfig { MaxRequestBodyBytes = 300_000 } }] });
        await using var client = await proxy.DialAsync();
        await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {Large}\r\n\r\n");
        await client.SendAsync(Body(290_000));
        Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(413));
    }

    private static Task<TestProxy> StartAsync(ScriptedServer server, TimeProvider? time = null)
    {
        var config = Configs.Gateway(Configs.Cluster(), server.EndPoint);
        var traffic = new ClientTrafficConfig { Timeouts = new() { StreamIdle = TimeSpan.FromSeconds(3) } };
        return TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { ClientTraffic = traffic }] }, time: time);
    }

    private static string Body(int length, int seed = 1) => Encoding.Latin1.GetString(Pipes.Pattern(length, seed));
}
