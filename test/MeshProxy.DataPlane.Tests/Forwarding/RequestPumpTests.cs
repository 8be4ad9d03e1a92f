using System.Buffers;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>The pump alone, its peers in the test's hands: the moments that a socket seldom hits.</summary>
internal sealed class RequestPumpTests
{
    private static readonly ClientTraffic Traffic = new ClientTrafficCompiler(TimeProvider.System, (_, _, _) => { }).Default(Direction.Gateway);

    [Test]
    public async Task An_attempt_that_fails_while_a_piece_is_written_does_not_lose_that_piece()
    {
        var body = new Body();
        var first = new Target { Hold = true };
        var second = new Target();
        var pump = new RequestPump();
        body.Push("one ");
        var running = pump.RunAsync(body, first, Traffic);
        Assert.That(first.IsWriting, Is.True);

        // The forwarder waits for the write to end and goes on inside its end.
        var retried = RetryAsync();
        first.Release(accepted: true);
        Assert.That(await retried, Is.True);
        body.Push("two ");
        body.Push("three", isEnd: true);
        await running;
        Assert.That(second.Text, Is.EqualTo("one two three"));
        Assert.That(second.HasEnded, Is.True);
        Assert.That(pump.Bytes, Is.EqualTo(13));

        async Task<bool> RetryAsync()
        {
            await pump.DetachAsync();
            Assert.That(pump.CanReplay, Is.True);
            return await pump.AttachAsync(second, body);
        }
    }

    [Test]
    public async Task A_refused_piece_goes_to_the_next_attempt_and_a_stopped_pump_ends()
    {
        var body = new Body();
        var first = new Target { Hold = true };
        var second = new Target { Hold = true };
        var pump = new RequestPump();
        body.Push("one ");
        var running = pump.RunAsync(body, first, Traffic);
        first.Release(accepted: false);
        await pump.DetachAsync();
        Assert.That(await pump.AttachAsync(second, body), Is.True);
        await Proxy.TestProxy.EventuallyAsync(() => second.IsWriting, "the parked pump goes on");
        second.Release(accepted: false);
        await pump.DetachAsync();
        Assert.That(running.IsCompleted, Is.False);
        pump.Stop();
        await running;
        Assert.That((first.Text, second.Text, pump.IsComplete), Is.EqualTo(("", "", false)));
    }

    [Test]
    public async Task A_body_that_was_sent_whole_is_replayed_whole_with_its_trailers()
    {
        var body = new Body();
        body.Trailers.Add("x-t"u8, "1"u8);
        var first = new Target();
        var second = new Target();
        var completed = 0;
        var pump = new RequestPump { Completed = () => completed++ };
        body.Push("all", isEnd: true);
        await pump.RunAsync(body, first, Traffic);
        await pump.DetachAsync();
        Assert.That(await pump.AttachAsync(second, body), Is.True);
        Assert.That((second.Text, second.HasTrailers, completed), Is.EqualTo(("all", true, 1)));
    }

    [Test]
    public async Task Beyond_its_bound_the_buffer_lets_go()
    {
        var body = new Body();
        var first = new Target();
        var pump = new RequestPump();
        body.Push(new string('x', ReplayBuffer.MaxBytes));
        var running = pump.RunAsync(body, first, Traffic);
        Assert.That(pump.CanReplay, Is.True);
        body.Push("x", isEnd: true);
        await running;
        Assert.That(pump.CanReplay, Is.False);
    }

    private sealed class Body : HttpBodyReader
    {
        private readonly Queue<BodyChunk> _chunks = new();
        private TaskCompletionSource<BodyChunk>? _waiting;

        public override FieldMap Trailers { get; } = new();

        public void Push(string text, bool isEnd = false)
        {
            var chunk = new BodyChunk(new ReadOnlySequence<byte>(Encoding.ASCII.GetBytes(text)), isEnd, default);
            _chunks.Enqueue(chunk);
            if (_waiting is { } waiting)
            {
                _waiting = null;
                waiting.SetResult(chunk);
            }
        }

        public override bool TryRead(out BodyChunk chunk) => _chunks.TryPeek(out chunk);

        public override ValueTask<BodyChunk> ReadAsync() => TryRead(out var chunk) ? new(chunk) : new((_waiting = new TaskCompletionSource<BodyChunk>()).Task);

        public override void Advance(long count) => _chunks.Dequeue();
    }

    private sealed class Target : IHttpBodyWriter
    {
        private readonly StringBuilder _text = new();
        private TaskCompletionSource<bool>? _writing;
        private string _piece = "";
        private bool _pieceEnds;

        public bool Hold { get; init; }

        public bool IsWriting => _writing is not null;

        public string Text => _text.ToString();

        public bool HasEnded { get; private set; }

        public bool HasTrailers { get; private set; }

        public void Release(bool accepted)
        {
            if (accepted)
            {
                _text.Append(_piece);
                HasEnded = _pieceEnds;
            }

            var writing = _writing!;
            _writing = null;
            writing.SetResult(accepted);
        }

        public ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream)
        {
            _piece = Encoding.ASCII.GetString(data);
            _pieceEnds = endStream;
            if (Hold)
            {
                return new((_writing = new TaskCompletionSource<bool>()).Task);
            }

            _text.Append(_piece);
            HasEnded = endStream;
            return new(true);
        }

        public bool WriteTrailers(FieldMap trailers) => HasTrailers = true;

        public ValueTask<bool> FlushAsync() => new(true);
    }
}
