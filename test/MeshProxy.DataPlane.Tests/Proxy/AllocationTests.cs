using System.Net;
using System.Net.Sockets;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>What one exchange through the whole proxy allocates, once it is warm. Both ends are threads with blocking sockets, which allocate nothing.</summary>
[NonParallelizable]
internal sealed class AllocationTests
{
    private const int Warm = 2000;
    private const int Measured = 5000;

    // Bytes for each exchange, meters and the tick included, the access log not: the test's sink keeps every line.
    private const double Budget = 1200;

    [TestCase("GET / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\n\r\n")]
    [TestCase("POST /pay HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 7\r\n\r\npayment")]
    public async Task An_exchange_stays_within_its_budget(string request)
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(16);
        var answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"u8.ToArray();
        var server = new Thread(() =>
        {
            using var socket = listener.Accept();
            socket.NoDelay = true;
            var buffer = new byte[4096];
            while (socket.Receive(buffer) > 0)
            {
                socket.Send(answer);
            }
        });
        server.Start();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), (IPEndPoint)listener.LocalEndPoint!), logs: false);
        var each = 0.0;
        var client = new Thread(() =>
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            socket.Connect(proxy.EndPoint());
            var bytes = System.Text.Encoding.ASCII.GetBytes(request);
            var buffer = new byte[4096];
            var before = 0L;
            for (var i = 0; i < Warm + Measured; i++)
            {
                if (i == Warm)
                {
                    before = GC.GetTotalAllocatedBytes(precise: true);
                }

                socket.Send(bytes);
                while (!buffer.AsSpan(0, socket.Receive(buffer)).EndsWith("ok"u8))
                {
                }
            }

            each = (GC.GetTotalAllocatedBytes(precise: true) - before) / (double)Measured;
        });
        client.Start();
        await Task.Run(client.Join).WaitAsync(Wire.Patience);
        await TestContext.Out.WriteLineAsync($"{each:0} bytes for each exchange");
        Assert.That(each, Is.LessThan(Budget));
    }
}
