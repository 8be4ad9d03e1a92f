using System.Net;
using System.Net.Sockets;
using System.Text;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>
/// What exchanges through the whole proxy allocate once it is warm, more of them in flight at once than there are processors: nothing. Both ends are threads
/// with blocking sockets, which allocate nothing themselves. The executable is held to the same by bench/allocations.
/// </summary>
[NonParallelizable]
internal sealed class AllocationTests
{
    private const int Connections = 16;
    private const int WarmRounds = 300;
    private const int MeasuredRounds = 30;
    private const int Windows = 20;

    private static readonly byte[] s_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"u8.ToArray();

    [TestCase("GET / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\n\r\n", "\r\n\r\n")]
    [TestCase("POST /pay HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 7\r\n\r\npayment", "\r\n\r\npayment")]
    [TestCase("POST /pay HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npayment\r\n0\r\n\r\n", "\r\n0\r\n\r\n")]
    public async Task Exchanges_allocate_nothing(string request, string end)
    {
        // The executable has none, and every wait that begins under one is posted.
        SynchronizationContext.SetSynchronizationContext(null);
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(Connections);
        for (var i = 0; i < Connections; i++)
        {
            _ = OnThread(() => Answer(listener, Encoding.ASCII.GetBytes(end)));
        }

        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), (IPEndPoint)listener.LocalEndPoint!), logs: false);
        var least = await OnThread(() => Ask(proxy.EndPoint(), Encoding.ASCII.GetBytes(request))).WaitAsync(Wire.Patience);
        Assert.That(least, Is.Zero);
    }

    // Whatever else the test process does can only add to a window: the least of them is what the exchanges need.
    private static long Ask(IPEndPoint proxy, byte[] request)
    {
        var buffer = new byte[4096];
        var sockets = new Socket[Connections];
        for (var i = 0; i < Connections; i++)
        {
            sockets[i] = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            sockets[i].Connect(proxy);
        }

        var least = long.MaxValue;
        Rounds(WarmRounds);
        for (var window = 0; window < Windows; window++)
        {
            var before = GC.GetTotalAllocatedBytes(precise: true);
            Rounds(MeasuredRounds);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Array.ForEach(sockets, socket => socket.Dispose());
        return least;

        void Rounds(int count)
        {
            for (var round = 0; round < count; round++)
            {
                foreach (var socket in sockets)
                {
                    socket.Send(request);
                }

                foreach (var socket in sockets)
                {
                    ReadUntil(socket, buffer, "ok"u8);
                }
            }
        }
    }

    // Ends with the listener or its connection. The proxy opens as many connections as it has requests in flight, perhaps fewer than there are threads.
    private static long Answer(Socket listener, byte[] endOfRequest)
    {
        using var socket = listener.Accept();
        socket.NoDelay = true;
        var buffer = new byte[4096];
        var answers = 0L;
        for (; ReadUntil(socket, buffer, endOfRequest); answers++)
        {
            socket.Send(s_answer);
        }

        return answers;
    }

    private static bool ReadUntil(Socket socket, byte[] buffer, ReadOnlySpan<byte> end)
    {
        var length = 0;
        while (length < end.Length || !buffer.AsSpan(0, length).EndsWith(end))
        {
            var count = socket.Receive(buffer.AsSpan(length));
            if (count == 0)
            {
                return false;
            }

            length += count;
        }

        return true;
    }

    // A thread of its own, whose failure is the task's: one that escaped would end the test host.
    private static Task<long> OnThread(Func<long> run) =>
        Task.Factory.StartNew(run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
