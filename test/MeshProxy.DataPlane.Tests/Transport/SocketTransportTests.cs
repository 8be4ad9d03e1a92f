using System.Buffers;
using System.Net;
using System.Net.Sockets;
using MeshProxy.DataPlane.Transport;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace MeshProxy.DataPlane.Tests.Transport;

/// <summary>What only our transport promises.</summary>
internal sealed class SocketTransportTests
{
    private readonly BlockPool _pool = new();

    private SocketTransport Transport => new(new SocketTransportOptions { Pool = _pool });

    [Test]
    public async Task More_can_be_appended_while_a_flush_waits()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport, receiveBuffer: 4096);
        var data = Pipes.Pattern(24 * 1024 * 1024);
        var first = pair.Output.WriteAsync(data.AsMemory(0, 16 * 1024 * 1024)).AsTask();
        Assert.That(first.IsCompleted, Is.False, "the flush must be waiting for this test to mean anything");
        for (var at = 16 * 1024 * 1024; at < data.Length; at += 1000)
        {
            pair.Output.Write(data.AsSpan(at, Math.Min(1000, data.Length - at)));
        }

        var receiving = pair.Peer.ReceiveExactlyAsync(data.Length);
        await first.WaitAsync(Pipes.Patience);
        await pair.Output.FlushAsync().AsTask().WaitAsync(Pipes.Patience);
        Assert.That((await receiving).AsSpan().SequenceEqual(data), Is.True);
    }

    [Test]
    public async Task A_flush_that_is_cancelled_while_it_is_begun_waits_no_more_than_one_that_waits_already()
    {
        var channel = new FullChannel();
        var writer = new ChannelWriter(channel, _pool);
        writer.Write("one"u8);
        Assert.That((await writer.FlushAsync().AsTask().WaitAsync(Pipes.Patience)).IsCanceled, Is.True);
        var next = writer.FlushAsync();
        Assert.That(next.IsCompleted, Is.False, "what was cancelled was that one alone");
        writer.OnBroken();
        writer.Wake();
        Assert.That((await next).IsCompleted, Is.True);
    }

    [Test]
    public async Task What_follows_urgent_data_is_read_without_waiting_for_more()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        await pair.Peer.SendAsync("before"u8.ToArray());
        await pair.Peer.SendAsync("!"u8.ToArray(), SocketFlags.OutOfBand);
        await pair.Peer.SendAsync("after"u8.ToArray());
        Assert.That(await pair.Input.ReadExactlyAsync(11), Is.EqualTo("beforeafter"u8.ToArray()));
    }

    [Test]
    public async Task Who_reads_from_a_connection_of_another_event_loop_gives_his_own_loop_its_turn_too()
    {
        if (EventLoop.All is not [var own, var other, ..])
        {
            Assert.Ignore("There is one event loop.");
            return;
        }

        await using var here = await OpenAsync(own);
        await using var there = await OpenAsync(other);
        await there.Peer.SendAsync(new byte[200]);
        await ReadIntoAsync(there, 0);
        var reading = CountAsync();
        await here.Peer.SendAsync(new byte[1]);
        Assert.That(await reading.WaitAsync(Pipes.Patience), Is.LessThan(199));

        // How many reads end at once, one after the other.
        async Task<int> CountAsync()
        {
            await ReadIntoAsync(here, 1).ConfigureAwait(false);
            Assert.That(own.IsCurrent, Is.True);
            for (var count = 0; ; count++)
            {
                var next = ReadIntoAsync(there, 1);
                var isOver = !next.IsCompleted || count == 199;
                await next.ConfigureAwait(false);
                if (isOver)
                {
                    Assert.That(own.IsCurrent, Is.True, "it goes on where it was");
                    return count;
                }
            }
        }

        static ValueTask<int> ReadIntoAsync(ConnectedPair pair, int count) => ((ChannelReader)pair.Input).ReadIntoAsync(new byte[count]);

        async Task<ConnectedPair> OpenAsync(EventLoop loop)
        {
            while (true)
            {
                var pair = await ConnectedPair.OpenAsync(Transport);
                if (((SocketConnection)pair.Connection).Loop == loop)
                {
                    return pair;
                }

                await pair.DisposeAsync();
            }
        }
    }

    [Test]
    public async Task What_is_not_flushed_is_not_sent()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        pair.Output.Write("one"u8);
        await pair.Output.FlushAsync();
        pair.Output.Write("two"u8);
        Assert.That(await pair.Peer.ReceiveExactlyAsync(3), Is.EqualTo("one"u8.ToArray()));
        Assert.That(pair.Peer.Available, Is.Zero);
        await pair.Output.FlushAsync();
        Assert.That(await pair.Peer.ReceiveExactlyAsync(3), Is.EqualTo("two"u8.ToArray()));
    }

    [Test]
    public async Task Completing_the_output_sends_the_rest_and_a_FIN_and_reading_goes_on()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        pair.Output.Write("bye"u8);
        await pair.Output.CompleteAsync();
        Assert.That(await pair.Peer.ReceiveExactlyAsync(3), Is.EqualTo("bye"u8.ToArray()));
        Assert.That(await pair.Peer.ReceiveAsync(new byte[1]), Is.Zero);
        await pair.Peer.SendAsync("still here"u8.ToArray());
        Assert.That(await pair.Input.ReadExactlyAsync(10), Is.EqualTo("still here"u8.ToArray()));
    }

    [Test]
    public async Task A_FIN_that_came_together_with_the_last_bytes_is_seen()
    {
        for (var i = 0; i < 200; i++)
        {
            await using var pair = await ConnectedPair.OpenAsync(Transport);
            await pair.Peer.SendAsync("x"u8.ToArray());
            pair.Peer.Shutdown(SocketShutdown.Send);
            Assert.That(await pair.Input.ReadToEndAsync(), Is.EqualTo("x"u8.ToArray()));
        }
    }

    [Test]
    public async Task Flushing_to_a_peer_that_is_gone_is_answered_not_thrown()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        pair.Peer.LingerState = new LingerOption(true, 0);
        pair.Peer.Dispose();
        await Assert.CatchAsync<ConnectionResetException>(async () => await pair.Input.ReadAsync());
        var flushed = await pair.Output.WriteAsync(new byte[100_000]);
        Assert.That(flushed.IsCompleted, Is.True);
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task What_came_before_a_reset_is_read_after_a_flush_has_met_it_and_does_not_end_in_order(bool hasEnded)
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        var reset = new TaskCompletionSource();
        using var registration = pair.Connection.ConnectionClosed.Register(reset.SetResult);
        await pair.Peer.SendAsync(new byte[100]);
        if (hasEnded)
        {
            // Its direction is complete: what the reset takes is ours.
            pair.Peer.Shutdown(SocketShutdown.Send);
        }

        pair.Peer.LingerState = new LingerOption(true, 0);
        pair.Peer.Dispose();
        await reset.Task.WaitAsync(Pipes.Patience);
        Assert.That((await pair.Output.WriteAsync(new byte[10])).IsCompleted, Is.True);
        await pair.Input.ReadExactlyAsync(100);
        if (hasEnded)
        {
            Assert.That(await pair.Input.ReadToEndAsync(), Is.Empty);
        }
        else
        {
            await Assert.CatchAsync<ConnectionResetException>(async () => await pair.Input.ReadAsync());
        }
    }

    [Test]
    public async Task Disposing_with_unread_bytes_still_delivers_what_was_written()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        await pair.Peer.SendAsync(new byte[100_000]);
        await pair.Input.ReadExactlyAsync(1);
        pair.Output.Write("answer"u8);
        await pair.Connection.DisposeAsync();
        Assert.That(await pair.Peer.ReceiveExactlyAsync(6), Is.EqualTo("answer"u8.ToArray()));
        Assert.That(await pair.Peer.ReceiveAsync(new byte[1]), Is.Zero);
    }

    [Test]
    public async Task Aborting_wakes_a_flush_that_waits()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport, receiveBuffer: 4096);
        var flushing = pair.Output.WriteAsync(new byte[16 * 1024 * 1024]).AsTask();
        Assert.That(flushing.IsCompleted, Is.False);
        pair.Connection.Abort();
        Assert.That((await flushing.WaitAsync(Pipes.Patience)).IsCompleted, Is.True);
    }

    [Test]
    public async Task Disposing_does_not_wait_for_ever_for_a_peer_that_does_not_read()
    {
        var transport = new SocketTransport(new SocketTransportOptions { Pool = _pool, CloseTimeout = TimeSpan.FromMilliseconds(50) });
        await using var pair = await ConnectedPair.OpenAsync(transport, receiveBuffer: 4096);
        pair.Output.Write(new byte[16 * 1024 * 1024]);
        await pair.Connection.DisposeAsync().AsTask().WaitAsync(Pipes.Patience);
        await Assert.CatchAsync<SocketException>(
            async () =>
            {
                while (await pair.Peer.ReceiveAsync(new byte[1024 * 1024]) > 0)
                {
                }
            },
            "the peer must not take the cut message for a whole one");
    }

    [Test]
    public async Task The_end_of_a_connection_is_told()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        var told = new TaskCompletionSource();
        pair.Connection.ConnectionClosed.Register(told.SetResult);
        pair.Peer.LingerState = new LingerOption(true, 0);
        pair.Peer.Dispose();
        await told.Task.WaitAsync(Pipes.Patience);
    }

    [Test]
    public async Task Options_can_be_asked_of_the_socket()
    {
        await using var pair = await ConnectedPair.OpenAsync(Transport);
        var socket = pair.Connection.Features.Get<IConnectionSocketFeature>()!.Socket;
        Assert.That(socket.NoDelay, Is.True, "accepted sockets inherit it");
        Assert.That(((IPEndPoint)socket.RemoteEndPoint!).Port, Is.EqualTo(((IPEndPoint)pair.Peer.LocalEndPoint!).Port));
    }

    [Test]
    public async Task A_round_trip_allocates_nothing()
    {
        // The test framework's execution context costs an allocation each time a continuation enters it: measure without.
        Task<double> measuring;
        using (ExecutionContext.SuppressFlow())
        {
            measuring = Task.Run(MeasureAsync);
        }

        Assert.That(await measuring, Is.LessThan(4), "bytes for each round trip, the whole process counted");
    }

    [Test]
    public async Task Every_block_comes_back_and_idle_connections_hold_none()
    {
        var pool = new BlockPool();
        var transport = new SocketTransport(new SocketTransportOptions { Pool = pool });
        await using (var listener = await transport.BindAsync(new IPEndPoint(IPAddress.Loopback, 0)))
        {
            var connections = new List<ConnectionContext>();
            var echoes = new List<Task>();
            for (var i = 0; i < 40; i++)
            {
                var accepting = listener.AcceptAsync();
                var dialed = await transport.ConnectAsync(listener.EndPoint);
                var accepted = (await accepting)!;
                connections.Add(dialed);
                connections.Add(accepted);
                echoes.Add(EchoAsync(accepted));
                await RoundTripsAsync(dialed, Pipes.Pattern(20_000, i), 5);
            }

            // An echo returns its last block after the answer is out: it is back once its next read waits.
            await Eventually(() => pool.RentedBlocks == 0);
            Assert.That(pool.RentedBlocks, Is.Zero, "while idle");
            for (var i = 0; i < connections.Count; i++)
            {
                // What was written and not sent comes back too. Only on the dialed ends: the others have a writer, their echo.
                if (i % 2 == 0)
                {
                    connections[i].Transport.Output.Write(new byte[5000]);
                }

                await connections[i].DisposeAsync();
            }

            await Task.WhenAll(echoes).WaitAsync(Pipes.Patience);
        }

        // The loops let go of what they were sending when they see the close.
        await Eventually(() => pool.RentedBlocks == 0);
        Assert.That(pool.RentedBlocks, Is.Zero, "after the close");
    }

    private async Task<double> MeasureAsync()
    {
        await using var listener = await Transport.BindAsync(new IPEndPoint(IPAddress.Loopback, 0));
        var accepting = listener.AcceptAsync();
        await using var dialed = await Transport.ConnectAsync(listener.EndPoint);
        await using var accepted = (await accepting)!;
        var echo = EchoAsync(accepted);
        var message = Pipes.Pattern(200);
        await RoundTripsAsync(dialed, message, 2000);
        var before = GC.GetTotalAllocatedBytes(precise: true);
        await RoundTripsAsync(dialed, message, 5000);
        var after = GC.GetTotalAllocatedBytes(precise: true);
        await dialed.Transport.Output.CompleteAsync();
        await echo.WaitAsync(Pipes.Patience);
        return (after - before) / 5000.0;
    }

    private static async Task Eventually(Func<bool> condition)
    {
        for (var i = 0; i < 400 && !condition(); i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    private static async Task RoundTripsAsync(ConnectionContext connection, byte[] message, int count)
    {
        for (var i = 0; i < count; i++)
        {
            connection.Transport.Output.Write(message);
            await connection.Transport.Output.FlushAsync();
            long got = 0;
            while (got < message.Length)
            {
                var read = await connection.Transport.Input.ReadAsync();
                got += read.Buffer.Length;
                connection.Transport.Input.AdvanceTo(read.Buffer.End);
            }
        }
    }

    private static async Task EchoAsync(ConnectionContext connection)
    {
        try
        {
            while (true)
            {
                var read = await connection.Transport.Input.ReadAsync();
                foreach (var piece in read.Buffer)
                {
                    connection.Transport.Output.Write(piece.Span);
                }

                connection.Transport.Input.AdvanceTo(read.Buffer.End);
                await connection.Transport.Output.FlushAsync();
                if (read.IsCompleted)
                {
                    return;
                }
            }
        }
        catch (Exception gone) when (gone is IOException or OperationCanceledException or InvalidOperationException)
        {
            // The test closed it.
        }
    }

    // Takes nothing, and whoever sends is told to wait no more before the call has returned.
    private sealed class FullChannel : ByteChannel
    {
        private bool _isCalled;

        public override int Receive(ChannelReader reader) => Pending;

        public override bool Send(ChannelWriter writer)
        {
            if (!_isCalled)
            {
                _isCalled = true;
                writer.CancelPendingFlush();
            }

            return false;
        }
    }
}
