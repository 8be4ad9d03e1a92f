using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>One request and its response on a client connection. Pooled with its stream; reused after <see cref="Complete"/>.</summary>
internal sealed class Http2ClientExchange : HttpClientExchange, IStreamOwner
{
    private readonly Http2ClientConnection _connection;
    private readonly Signal<bool> _headSignal = new();
    private readonly Queue<ResponseHead> _laterHeads = new();
    private bool _isHeadReady;
    private bool _wasHeadGiven;
    private bool _wasFinalGiven;
    private int _informational;

    public Http2ClientExchange(Http2ClientConnection connection)
    {
        _connection = connection;
        Stream = new Http2Stream(connection.Engine, this);
    }

    public Http2Stream Stream { get; }

    /// <summary>A place is kept for it, but it has no stream yet. Under the lock.</summary>
    public bool IsReserved { get; set; }

    /// <summary>Whether the request's method is HEAD: its response's Content-Length counts no DATA.</summary>
    public bool IsHead { get; private set; }

    /// <summary>Whether a 2xx accepts a tunnel.</summary>
    public bool AsksForTunnel { get; private set; }

    public override HttpBodyReader ResponseBody => Stream.Body;

    public override StreamEnd End => Stream.End;

    public override long Progress => Stream.SentBytes;

    public override bool IsSent
    {
        get
        {
            lock (Stream.Connection.Gate)
            {
                return Stream.Connection.Writer.IsSent(Stream);
            }
        }
    }

    public override bool WriteHead(RequestHead head)
    {
        IsHead = head.Method == RequestMethod.Head && head.Protocol.IsEmpty;
        AsksForTunnel = head.AsksForTunnel;
        return _connection.WriteHead(this, head);
    }

    public override ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream) => ExchangeStream.WriteBody(Stream, data, endStream);

    public override bool WriteTrailers(FieldMap trailers)
    {
        if (Stream.Connection.PeerTakes(trailers))
        {
            return ExchangeStream.WriteTrailers(Stream, trailers);
        }

        Reset(new StreamEnd(StreamResetReason.PeerLimit, Initiator.Us, (uint)Http2ErrorCode.Cancel, "request_trailers_too_large"));
        return false;
    }

    public override ValueTask<bool> FlushAsync() => ExchangeStream.Flush(Stream);

    public override ValueTask<bool> ReadHeadAsync()
    {
        lock (Stream.Connection.Gate)
        {
            if (TryTakeHead())
            {
                return new ValueTask<bool>(true);
            }

            return _wasFinalGiven || Stream.HasEnded || Stream.Id == 0 ? new ValueTask<bool>(false) : _headSignal.Begin();
        }
    }

    public override void Reset(StreamEnd end) => ExchangeStream.Reset(Stream, end);

    public override void Complete() => _connection.Complete(this);

    /// <summary>Where to decode the next head: into <see cref="HttpClientExchange.Response"/> while nobody looks at it. Under the lock.</summary>
    public ResponseHead BeginHead() =>
        !_isHeadReady && _laterHeads.Count == 0 && (!_wasHeadGiven || _headSignal.IsWaiting) ? Response : new ResponseHead();

    /// <summary>The head is complete and legal. Under the lock.</summary>
    /// <returns>True when its reader waits: <see cref="WakeHeadReader"/> is to be called outside the lock.</returns>
    public bool PublishHead(ResponseHead head)
    {
        if (head == Response)
        {
            _isHeadReady = true;
        }
        else
        {
            _laterHeads.Enqueue(head);
        }

        return _headSignal.IsWaiting && TryTakeHead() && _headSignal.TryTake();
    }

    public void WakeHeadReader(bool result) => _headSignal.Complete(result);

    /// <summary>Counts an informational head. Under the lock.</summary>
    public int CountInformational() => ++_informational;

    void IStreamOwner.OnStreamEnded(StreamEnd end)
    {
        bool waiting;
        lock (Stream.Connection.Gate)
        {
            waiting = _headSignal.TryTake();
        }

        if (waiting)
        {
            _headSignal.Complete(false);
        }
    }

    void IStreamOwner.Recycle()
    {
        Response.Clear();
        _laterHeads.Clear();
        _isHeadReady = false;
        _wasHeadGiven = false;
        _wasFinalGiven = false;
        _informational = 0;
        IsHead = false;
        AsksForTunnel = false;
        _connection.Return(this);
    }

    private bool TryTakeHead()
    {
        if (_isHeadReady)
        {
            _isHeadReady = false;
        }
        else if (_laterHeads.TryDequeue(out var later))
        {
            Response.CopyFrom(later);
        }
        else
        {
            return false;
        }

        _wasHeadGiven = true;
        _wasFinalGiven = !Response.IsInformational;
        return true;
    }
}
