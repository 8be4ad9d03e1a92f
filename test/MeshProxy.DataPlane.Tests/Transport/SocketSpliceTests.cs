using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Tests.Transport;

/// <summary>Bytes that go from one socket to another inside the kernel, and what becomes of them when either end fails, is slow, or is given up.</summary>
internal sealed class SocketSpliceTests
{
    private const int Length = 20 * 1024 * 1024;

    private readonly SocketTransport _transport = new(new SocketTransportOptions { Pool = new BlockPool() });

    [SetUp]
    public void NeedsLinux()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("splice(2) is a call of Linux");
        }
    }

    [Test]
    public async Task Every_byte_arrives_once_and_in_order()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        var data = Pipes.Pattern(Length);
        var moved = SocketSplice.MovedBytes;
        var receiving = to.Peer.ReceiveExactlyAsync(data.Length);
        var sending = SendAsync(from.Peer, data);
        await MoveAsync(from, to, data.Length);
        await sending;
        Assert.That((await receiving).AsSpan().SequenceEqual(data), Is.True);
        Assert.That(SocketSplice.MovedBytes - moved, Is.GreaterThanOrEqualTo(data.Length));
    }

    [Test]
    public async Task What_was_read_and_written_before_and_after_keeps_its_place()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        var data = Pipes.Pattern(300_000);
        var sending = SendAsync(from.Peer, data);
        var first = await from.Input.ReadExactlyAsync(1);
        while (from.Input.TryRead(out var more))
        {
            // What came with the first byte.
            first = [.. first, .. more.Buffer.ToArray()];
            from.Input.AdvanceTo(more.Buffer.End);
        }

        await to.Output.WriteAsync(first);
        await MoveAsync(from, to, 200_000 - first.Length);
        await to.Output.WriteAsync(await from.Input.ReadExactlyAsync(100_000));
        await sending;
        Assert.That((await to.Peer.ReceiveExactlyAsync(data.Length)).AsSpan().SequenceEqual(data), Is.True);
    }

    [Test]
    public async Task Nothing_is_taken_beyond_what_was_asked_for()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        await SendAsync(from.Peer, Pipes.Pattern(50_000));
        await MoveAsync(from, to, 12_345);
        Assert.That(await from.Input.ReadExactlyAsync(50_000 - 12_345), Is.EqualTo(Pipes.Pattern(50_000)[12_345..]));
    }

    [Test]
    public async Task A_peer_that_does_not_read_holds_the_other_one_up()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport, receiveBuffer: 4096);
        var data = Pipes.Pattern(Length);
        var sent = 0;
        var sending = Task.Run(async () =>
        {
            while (sent < data.Length)
            {
                sent += await from.Peer.SendAsync(data.AsMemory(sent, Math.Min(100_000, data.Length - sent)));
            }
        });
        var moving = MoveAsync(from, to, data.Length);
        var before = -1;
        while (before != sent)
        {
            before = sent;
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }

        Assert.That(sent, Is.LessThan(data.Length), "what nobody reads fills the kernel's buffers and no more");
        Assert.That((await to.Peer.ReceiveExactlyAsync(data.Length)).AsSpan().SequenceEqual(data), Is.True);
        await moving;
        await sending;
    }

    [Test]
    public async Task The_end_of_the_input_is_left_to_a_read()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        await SendAsync(from.Peer, "abc"u8.ToArray());
        from.Peer.Shutdown(SocketShutdown.Send);
        await MoveAsync(from, to, 3);
        await Splicing(from).WaitAsync().AsTask().WaitAsync(Pipes.Patience);
        using var splice = Splicing(from).TryBeginSplice(to.Output)!;
        Assert.That(splice.Fill(1), Is.Negative);
        Assert.That((await from.Input.ReadAsync()).IsCompleted, Is.True);
        Assert.That(await to.Peer.ReceiveExactlyAsync(3), Is.EqualTo("abc"u8.ToArray()));
    }

    [Test]
    public async Task A_reset_of_the_input_is_left_to_a_read()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        var waiting = Splicing(from).WaitAsync().AsTask();
        Assert.That(waiting.IsCompleted, Is.False);
        from.Peer.LingerState = new LingerOption(true, 0);
        from.Peer.Dispose();
        await waiting.WaitAsync(Pipes.Patience);
        using var splice = Splicing(from).TryBeginSplice(to.Output)!;
        Assert.That(splice.Fill(1), Is.Negative);
        await Assert.CatchAsync<ConnectionResetException>(async () => await from.Input.ReadAsync());
    }

    [Test]
    public async Task Aborting_wakes_a_wait()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        var waiting = Splicing(from).WaitAsync().AsTask();
        from.Connection.Abort();
        await Assert.CatchAsync<ConnectionAbortedException>(() => waiting.WaitAsync(Pipes.Patience));
        await Assert.CatchAsync<ConnectionAbortedException>(async () => await from.Input.ReadAsync());
    }

    [Test]
    public async Task A_wait_is_cancelled_as_a_read_is()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        var waiting = Splicing(from).WaitAsync().AsTask();
        Assert.That(waiting.IsCompleted, Is.False);
        from.Input.CancelPendingRead();
        await waiting.WaitAsync(Pipes.Patience);
        using (var splice = Splicing(from).TryBeginSplice(to.Output)!)
        {
            Assert.That(splice.Fill(1), Is.Negative);
        }

        var read = await from.Input.ReadAsync();
        Assert.That(read.IsCanceled, Is.True);
        from.Input.AdvanceTo(read.Buffer.End);
        await SendAsync(from.Peer, "abc"u8.ToArray());
        Assert.That(await from.Input.ReadExactlyAsync(3), Is.EqualTo("abc"u8.ToArray()));
    }

    [TestCase(true)]
    [TestCase(false)]
    public async Task An_output_that_fails_while_bytes_wait_for_room_ends_the_wait_and_keeps_no_pipe(bool byPeer)
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport, receiveBuffer: 4096);
        var sending = SendAsync(from.Peer, Pipes.Pattern(Length));
        var pipes = SocketSplice.OpenPipes;
        var (splice, draining) = await FillUpAsync(from, to);
        if (byPeer)
        {
            to.Peer.LingerState = new LingerOption(true, 0);
            to.Peer.Dispose();
        }
        else
        {
            to.Connection.Abort();
        }

        Assert.That((await draining.WaitAsync(Pipes.Patience)).IsCompleted, Is.True);
        Assert.That(splice.Held, Is.Positive);
        splice.Dispose();
        Assert.That(SocketSplice.OpenPipes, Is.LessThanOrEqualTo(pipes), "a pipe with another connection's bytes in it is closed");
        from.Connection.Abort();
        await Assert.CatchAsync<SocketException>(() => sending);
    }

    [Test]
    public async Task A_drain_that_was_given_up_sends_on_and_then_gives_the_pipe_back()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport, receiveBuffer: 4096);
        var data = Pipes.Pattern(Length);
        var sending = SendAsync(from.Peer, data);
        var (splice, draining) = await FillUpAsync(from, to);
        to.Output.CancelPendingFlush();
        Assert.That((await draining.WaitAsync(Pipes.Patience)).IsCanceled, Is.True);
        splice.Dispose();
        var completing = to.Output.CompleteAsync().AsTask();
        var received = 0;
        var buffer = new byte[100_000];
        while (await to.Peer.ReceiveAsync(buffer) is var count and > 0)
        {
            Assert.That(buffer.AsSpan(0, count).SequenceEqual(data.AsSpan(received, count)), Is.True);
            received += count;
        }

        await completing.WaitAsync(Pipes.Patience);
        from.Connection.Abort();
        await Assert.CatchAsync<SocketException>(() => sending);
    }

    [Test]
    public async Task Without_a_pipe_there_is_no_splice()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        var taken = new List<ISplice>();
        while (Splicing(from).TryBeginSplice(to.Output) is { } splice)
        {
            taken.Add(splice);
        }

        Assert.That(taken, Has.Count.LessThanOrEqualTo(SocketSplice.MaxPipes));
        Assert.That(SocketSplice.OpenPipes, Is.EqualTo(SocketSplice.MaxPipes));
        taken.ForEach(splice => splice.Dispose());
        Assert.That(SocketSplice.OpenPipes, Is.LessThan(SocketSplice.MaxPipes / 2), "each event loop keeps a few");
        using var again = Splicing(from).TryBeginSplice(to.Output);
        Assert.That(again, Is.Not.Null);
    }

    [Test]
    public async Task Bytes_that_are_unsent_may_not_be_overtaken()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        await SendAsync(from.Peer, new byte[10]);
        await Splicing(from).WaitAsync();
        to.Output.Write("first"u8);
        using var splice = Splicing(from).TryBeginSplice(to.Output)!;
        Assert.That(splice.Fill(10), Is.Positive);
        await Assert.CatchAsync<InvalidOperationException>(async () => await splice.DrainAsync());
    }

    [Test]
    public async Task Urgent_data_ends_a_splice_and_what_follows_it_is_read()
    {
        await using var from = await ConnectedPair.OpenAsync(_transport);
        await using var to = await ConnectedPair.OpenAsync(_transport);
        await SendAsync(from.Peer, Pipes.Pattern(1000));
        await from.Peer.SendAsync("!"u8.ToArray(), SocketFlags.OutOfBand);
        await SendAsync(from.Peer, Pipes.Pattern(2000, seed: 2));
        from.Peer.Shutdown(SocketShutdown.Send);
        var moved = 0;
        while (true)
        {
            await Splicing(from).WaitAsync().AsTask().WaitAsync(Pipes.Patience);
            using var splice = Splicing(from).TryBeginSplice(to.Output)!;
            var count = splice.Fill(Length);
            if (count < 0)
            {
                break;
            }

            moved += count;
            if (count > 0)
            {
                await splice.DrainAsync();
            }
        }

        await to.Output.WriteAsync(await from.Input.ReadToEndAsync());
        Assert.That(moved, Is.LessThanOrEqualTo(1000));
        Assert.That(await to.Peer.ReceiveExactlyAsync(3000), Is.EqualTo((byte[])[.. Pipes.Pattern(1000), .. Pipes.Pattern(2000, seed: 2)]));
    }

    private static ISplicingReader Splicing(ConnectedPair pair) => (ISplicingReader)pair.Input;

    private static async Task SendAsync(Socket socket, byte[] data)
    {
        for (var sent = 0; sent < data.Length;)
        {
            sent += await socket.SendAsync(data.AsMemory(sent));
        }
    }

    private static async Task MoveAsync(ConnectedPair from, ConnectedPair to, long count)
    {
        Assert.That(Splicing(from).CanSpliceTo(to.Output), Is.True);
        while (count > 0)
        {
            await Splicing(from).WaitAsync().AsTask().WaitAsync(Pipes.Patience);
            using var splice = Splicing(from).TryBeginSplice(to.Output)!;
            var taken = splice.Fill(count);
            Assert.That(taken, Is.Not.Negative);
            if (taken > 0)
            {
                Assert.That((await splice.DrainAsync().AsTask().WaitAsync(Pipes.Patience)).IsCompleted, Is.False);
                Assert.That(splice.Held, Is.Zero);
                count -= taken;
            }
        }
    }

    // Moves until there is no more room.
    private static async Task<(ISplice Splice, Task<FlushResult> Draining)> FillUpAsync(ConnectedPair from, ConnectedPair to)
    {
        while (true)
        {
            await Splicing(from).WaitAsync().AsTask().WaitAsync(Pipes.Patience);
            var splice = Splicing(from).TryBeginSplice(to.Output)!;
            if (splice.Fill(Length) > 0)
            {
                var draining = splice.DrainAsync().AsTask();
                if (await Task.WhenAny(draining, Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System)) != draining)
                {
                    return (splice, draining);
                }
            }

            splice.Dispose();
        }
    }
}
