using System.Buffers;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.FlowControl;

namespace MeshProxy.Http.Http2;

/// <summary>The exchange that a stream belongs to.</summary>
internal interface IStreamOwner
{
    /// <summary>The stream ended before its exchange was complete. Called outside the lock, at most once for each stream.</summary>
    void OnStreamEnded(StreamEnd end);

    /// <summary>Nothing refers to the stream any more: back to the pool. Called under the lock.</summary>
    void Recycle();
}

/// <summary>Which of the writer's queues a stream stands in.</summary>
internal enum WriteQueueKind : byte
{
    None,

    /// <summary>Has DATA and stream window: waits for its turn, for connection window or for buffer space.</summary>
    Ready,

    /// <summary>Its FlushAsync waits for buffer space.</summary>
    Flushing,
}

/// <summary>
/// One HTTP/2 stream: state, both windows, what is received and unread, what is written and not yet framed. One object for each exchange object,
/// reused with it. Everything here is owned by the connection's lock, unless said otherwise.
/// </summary>
internal sealed class Http2Stream
{
    public Http2Stream(Http2Connection connection, IStreamOwner owner)
    {
        Connection = connection;
        Owner = owner;
        Body = new Http2BodyReader(this);
    }

    public Http2Connection Connection { get; }

    public IStreamOwner Owner { get; }

    /// <summary>The stream's number; 0 while it has none.</summary>
    public int Id { get; set; }

    public StreamState State;

    /// <summary>How it ended, when not in order.</summary>
    public StreamEnd End { get; set; }

    public bool HasEnded => End.Reason != StreamResetReason.None;

    // Sending.
    public int SendWindow;
    public ReadOnlySequence<byte> PendingData;
    public bool PendingEndStream;
    public bool HasPendingWrite;
    public bool WriteResult;
    public WriteQueueKind Queue;
    public Http2Stream? QueuePrevious;
    public Http2Stream? QueueNext;

    // Two links: a stream can end while the completion of its last write is still on its way.
    public Http2Stream? NextWritten;
    public Http2Stream? NextEnded;

    /// <summary>Waits for window or buffer space: one writer at a time, so one signal for body writes and flushes.</summary>
    public Signal<bool> WriteSignal { get; } = new();

    /// <summary>DATA bytes framed so far.</summary>
    public long SentBytes { get; set; }

    /// <summary>Since when less than enough of it was taken, and how much had been sent then; -1 while nothing waits. Set by ticks.</summary>
    public long StalledSince { get; set; } = -1;

    public long SentBytesThen { get; set; }

    /// <summary>Where in the connection's output the stream's first frame begins; -1 before.</summary>
    public long FirstByteAt { get; set; } = -1;

    // Receiving.
    public ReceiveBuffer Received { get; } = new();

    public ReceiveWindow ReceiveWindow;

    public Http2BodyReader Body { get; }

    public FieldMap Trailers { get; } = new();

    public bool HasReceivedHead { get; set; }

    /// <summary>END_STREAM was received: the message is whole, whatever happens afterwards.</summary>
    public bool HasReceivedEnd { get; set; }

    /// <summary>A CONNECT stream: DATA is the tunnel's bytes, and no other HEADERS may follow (RFC 9113 section 8.5).</summary>
    public bool IsTunnel { get; set; }

    /// <summary>The body is not given out: the tunnel that it belongs to is not accepted yet.</summary>
    public bool WithholdsBody { get; set; }

    /// <summary>Nobody will read the body any more.</summary>
    public bool DiscardsBody { get; set; }

    /// <summary>The declared length of the body, or -1.</summary>
    public long ExpectedLength { get; set; } = -1;

    public long ReceivedLength { get; set; }

    /// <summary>How many are at work on the stream outside the lock (telling its end, decoding into its fields): it is not reused meanwhile.</summary>
    public int Holds { get; set; }

    public bool IsRecycleWanted { get; set; }

    /// <summary>Its end is told, or about to be.</summary>
    public bool IsEndNoted { get; set; }

    /// <summary>Forgets the exchange, for the next one. Under the lock.</summary>
    public void Renew()
    {
        Id = 0;
        State.Renew();
        End = default;
        SendWindow = 0;
        PendingData = default;
        HasPendingWrite = false;
        FirstByteAt = -1;
        SentBytes = 0;
        StalledSince = -1;
        Trailers.Clear();
        HasReceivedHead = false;
        HasReceivedEnd = false;
        IsTunnel = false;
        WithholdsBody = false;
        DiscardsBody = false;
        ExpectedLength = -1;
        ReceivedLength = 0;
        IsRecycleWanted = false;
        IsEndNoted = false;
        Body.Renew();
    }
}
