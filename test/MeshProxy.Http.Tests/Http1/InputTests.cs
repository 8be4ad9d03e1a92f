using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Who is told when a read ends, where two may wait: the look ahead for the peer's end, and whoever comes for the bytes.</summary>
public sealed class InputTests
{
    [Test]
    public void WhoeverTakesAWaitersPlaceWhileTheReadBeginsIsTold()
    {
        EventLoop.Imitate();
        var reader = new ReaderThatCallsBack();
        var input = new Http1Input(reader);
        var (watch, body) = (new Waiter(), new Waiter());
        reader.DuringRead = () => Assert.That(input.BeginRead(body), Is.False, "a read is under way");
        Assert.That(input.BeginReadAhead(watch), Is.False, "its place was taken");
        Assert.That((watch.Told, body.Told), Is.EqualTo((0, 1)));
        Assert.That(input.IsHeld);
        Assert.That(input.Buffer.Length, Is.EqualTo(3));
    }

    [Test]
    public void TheLookAheadNeverTakesSomebodysPlace()
    {
        EventLoop.Imitate();
        var pipe = new Pipe(new PipeOptions(readerScheduler: PipeScheduler.Inline, useSynchronizationContext: false));
        var input = new Http1Input(pipe.Reader);
        var (watch, body) = (new Waiter(), new Waiter());
        Assert.That(input.BeginRead(body), Is.False);
        Assert.That(input.BeginReadAhead(watch), Is.False);
        pipe.Writer.Write("abc"u8);
        _ = pipe.Writer.FlushAsync().AsTask();
        Assert.That((watch.Told, body.Told), Is.EqualTo((0, 1)));
    }

    // The answer to an upgrade and the reader of the tunnel meet on two threads, again and again, in whichever order.
    [Test]
    public async Task ATunnelThatIsOpenedWhileItIsReadLosesNoByte()
    {
        for (var round = 0; round < 500; round++)
        {
            var pipes = new InMemoryDuplex();
            var client = new Peer(pipes.Client);
            var server = new Http1ServerConnection(pipes.Server.Input, pipes.Server.Output, new Http1ServerOptions { Date = new DateField(new FixedTime()) });
            var read = "";
            var run = server.RunAsync(new Handler(async exchange =>
            {
                exchange.Response.Status = 101;
                exchange.Response.IsTunnel = true;
                var reading = Task.Run(async () => await exchange.RequestBody.ReadAsync());
                var writing = Task.Run(() => exchange.WriteHead(exchange.Response));
                Assert.That(await writing);
                var chunk = await reading;
                read = Encoding.ASCII.GetString(chunk.Data);
                exchange.RequestBody.Advance(chunk.Data.Length);
                await exchange.WriteBodyAsync(default, endStream: true);
            }));
            client.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nraw");
            client.Close();
            await run.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.That(read, Is.EqualTo("raw"), $"round {round}");
            Assert.That(server.EndedAbruptly, Is.False);
        }
    }

    private sealed class Waiter : IHttp1InputWaiter
    {
        public int Told { get; private set; }

        public void OnInput() => Told++;
    }

    // Completes every read at once, after somebody else has had his turn: what another thread may do between the two.
    private sealed class ReaderThatCallsBack : PipeReader
    {
        public Action DuringRead { get; set; } = () => { };

        public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
        {
            DuringRead();
            return new ValueTask<ReadResult>(new ReadResult(new ReadOnlySequence<byte>("abc"u8.ToArray()), isCanceled: false, isCompleted: false));
        }

        public override void AdvanceTo(SequencePosition consumed) => throw new NotSupportedException();

        public override void AdvanceTo(SequencePosition consumed, SequencePosition examined) => throw new NotSupportedException();

        public override void CancelPendingRead() => throw new NotSupportedException();

        public override void Complete(Exception? exception = null) => throw new NotSupportedException();

        public override bool TryRead(out ReadResult result) => throw new NotSupportedException();
    }
}
