using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>Reads the DATA of one stream (see <see cref="HttpBodyReader"/>). Consuming gives the stream's window back.</summary>
internal sealed class Http2BodyReader(Http2Stream stream) : HttpBodyReader
{
    public override FieldMap Trailers => stream.Trailers;

    /// <summary>The waiting reader.</summary>
    public Signal<BodyChunk> Signal { get; } = new();

    public override bool TryRead(out BodyChunk chunk)
    {
        lock (stream.Connection.Gate)
        {
            return TryTakeChunk(out chunk);
        }
    }

    public override ValueTask<BodyChunk> ReadAsync()
    {
        lock (stream.Connection.Gate)
        {
            return TryTakeChunk(out var chunk) ? new ValueTask<BodyChunk>(chunk) : Signal.Begin();
        }
    }

    public override void Advance(long count) => stream.Connection.OnBodyConsumed(stream, count);

    /// <summary>What there is to read, if anything. Under the lock.</summary>
    public bool TryTakeChunk(out BodyChunk chunk)
    {
        if (stream.HasReceivedEnd && !stream.WithholdsBody)
        {
            chunk = new BodyChunk(stream.Received.Peek(), IsEnd: true, default);
            return true;
        }

        if (stream.HasEnded)
        {
            chunk = new BodyChunk(default, IsEnd: false, stream.End);
            return true;
        }

        if (stream.Received.Length > 0 && !stream.WithholdsBody)
        {
            chunk = new BodyChunk(stream.Received.Peek(), IsEnd: false, default);
            return true;
        }

        chunk = default;
        return false;
    }

    /// <summary>Claims the waiting reader when there is something for it, to be completed outside the lock. Under the lock.</summary>
    public bool TryTakeWaiting(out BodyChunk chunk)
    {
        chunk = default;
        return Signal.IsWaiting && TryTakeChunk(out chunk) && Signal.TryTake();
    }

    public void Renew() => Signal.TryTake();
}
