using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Downloads that nobody reads, on the one mesh connection that everybody shares. The full size, with its p99 and resident bytes: <c>bench/soak --scenario fairness</c>.</summary>
public sealed class FairnessTests
{
    private const int Stalled = 16;
    private const long LargeBytes = 1 << 30;

    // Two socket buffers of the kernel's largest default size (4 and 6 MiB) on each of the two plain hops of a stream, and our own windows beside them.
    private const long MostUnderWayBytes = Stalled * 24L * 1024 * 1024;

    [Test]
    [CancelAfter(60_000)]
    public async Task Sixteen_stalled_downloads_hold_nobody_up_and_keep_little_under_way()
    {
        var written = 0L;
        var block = new byte[256 * 1024];
        await using var application = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                if (!request.StartLine.Contains("/large", StringComparison.Ordinal))
                {
                    await wire.SendAsync(ScriptedServer.Ok("small"));
                    continue;
                }

                await wire.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {LargeBytes}\r\n\r\n");
                while (true)
                {
                    await wire.SendAsync(block);
                    Interlocked.Add(ref written, block.Length);
                }
            }
        });
        using var ca = new TestCa();
        await using var mesh = await Mesh.StartAsync(ca, application.EndPoint, circuitBreaker: new CircuitBreakerConfig { MaxConnections = 1 });
        var downloads = new List<Wire>();
        try
        {
            for (var i = 0; i < Stalled; i++)
            {
                var wire = await mesh.Client.DialAsync("outbound", receiveBuffer: 16 * 1024);
                downloads.Add(wire);
                await wire.SendAsync("GET /large HTTP/1.1\r\nHost: payments\r\n\r\n");
                Assert.That((await wire.ReadHeadAsync())!.Status, Is.EqualTo(200));
            }

            // Small requests go by until the downloads stand still, and then some more.
            await using var client = await mesh.Client.DialAsync("outbound");
            for (var (before, rounds) = (-1L, 0); Interlocked.Read(ref written) != before || rounds < 20; rounds++)
            {
                before = Interlocked.Read(ref written);
                Assert.That(before, Is.LessThan(MostUnderWayBytes), "bytes of stalled downloads that the application could write");
                for (var i = 0; i < 50; i++)
                {
                    await client.SendAsync("GET / HTTP/1.1\r\nHost: payments\r\n\r\n");
                    Assert.That((await client.ReadResponseAsync()).Text, Is.EqualTo("small"));
                }
            }

            Assert.That(mesh.Server.Server.DescribeConnections(), Has.Count.EqualTo(1), "all of it on one mesh connection");

            // None of them was given up: each goes on when it is read.
            foreach (var wire in downloads)
            {
                await wire.ReadExactlyAsync(2 * 1024 * 1024);
            }
        }
        finally
        {
            foreach (var wire in downloads)
            {
                await wire.DisposeAsync();
            }
        }
    }
}
