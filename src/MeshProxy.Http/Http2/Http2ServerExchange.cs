using System.Buffers;
using System.Runtime.CompilerServices;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>One request and its response on a server connection. Pooled with its stream; reused when its handler has returned.</summary>
internal sealed class Http2ServerExchange : HttpServerExchange, IStreamOwner
{
    private readonly Http2ServerConnection _connection;
    private readonly Action _onHandled;
    private ConfiguredValueTaskAwaitable.ConfiguredValueTaskAwaiter _handling;
    private IExchangeObserver? _observer;
    private bool _isEndTold;
    private bool _hasResponseStarted;
    private bool _hasContinued;

    public Http2ServerExchange(Http2ServerConnection connection)
    {
        _connection = connection;
        Stream = new Http2Stream(connection.Engine, this);
        _onHandled = OnHandled;
    }

    public Http2Stream Stream { get; }

    public override HttpBodyReader RequestBody => Stream.Body;

    public override bool AwaitsContinue => !_hasContinued && !_hasResponseStarted && Request.ExpectsContinue;

    public override StreamEnd End => Stream.End;

    public override long Progress => Stream.SentBytes;

    public override bool HasResponseStarted => _hasResponseStarted;

    public override IExchangeObserver? Observer
    {
        get => _observer;
        set
        {
            var tell = false;
            lock (Stream.Connection.Gate)
            {
                _observer = value;
                if (value is not null && Stream.HasEnded && !_isEndTold)
                {
                    _isEndTold = tell = true;
                }
            }

            if (tell)
            {
                value!.OnAborted(Stream.End);
            }
        }
    }

    public override bool Takes(ResponseHead head) => Stream.Connection.PeerTakes(head);

    public override bool WriteInformational(ResponseHead head)
    {
        if (!head.IsInformational)
        {
            throw new ArgumentException("not a 1xx head", nameof(head));
        }

        if (head.Status == 100)
        {
            if (!AwaitsContinue)
            {
                return true;
            }

            _hasContinued = true;
        }

        return Write(head, endStream: false, isFinal: false);
    }

    public override bool WriteHead(ResponseHead head) => Write(head, head.EndsStream && !head.IsTunnel, isFinal: true);

    public override ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream) => ExchangeStream.WriteBody(Stream, data, endStream);

    public override bool WriteTrailers(FieldMap trailers)
    {
        if (Stream.Connection.PeerTakes(trailers))
        {
            return ExchangeStream.WriteTrailers(Stream, trailers);
        }

        Reset(TooLarge("response_trailers_too_large"));
        return false;
    }

    public override ValueTask<bool> FlushAsync() => ExchangeStream.Flush(Stream);

    public override void Reset(StreamEnd end)
    {
        lock (Stream.Connection.Gate)
        {
            // Who resets needs not be told.
            _isEndTold = true;
        }

        ExchangeStream.Reset(Stream, end, isServer: true);
    }

    /// <summary>Keeps the handler's task until it completes.</summary>
    public void Await(ValueTask handling)
    {
        _handling = handling.ConfigureAwait(false).GetAwaiter();
        _handling.UnsafeOnCompleted(_onHandled);
    }

    /// <summary>From here on nobody is told anything. Under the lock.</summary>
    public void StopTelling() => _isEndTold = true;

    void IStreamOwner.OnStreamEnded(StreamEnd end)
    {
        IExchangeObserver? observer = null;
        lock (Stream.Connection.Gate)
        {
            if (!_isEndTold && _observer is not null)
            {
                observer = _observer;
                _isEndTold = true;
            }
        }

        observer?.OnAborted(end);
    }

    void IStreamOwner.Recycle()
    {
        Request.Clear();
        Response.Clear();
        _observer = null;
        _isEndTold = false;
        _hasResponseStarted = false;
        _hasContinued = false;
        _handling = default;
        _connection.Return(this);
    }

    private bool Write(ResponseHead head, bool endStream, bool isFinal)
    {
        var connection = Stream.Connection;
        if (isFinal && connection.LacksDate(head))
        {
            head.Fields.Add(KnownField.Date, connection.Options.Date!.Value);
        }

        if (!connection.PeerTakes(head))
        {
            if (isFinal)
            {
                Reset(TooLarge("response_head_too_large"));
            }

            // The final head says all that matters: an informational one may be left out.
            return !isFinal;
        }

        var readable = false;
        BodyChunk chunk = default;
        Deferred deferred;
        lock (connection.Gate)
        {
            if (!Stream.State.CanSend || connection.IsClosed || _hasResponseStarted)
            {
                return false;
            }

            _hasResponseStarted = isFinal;
            connection.Writer.WriteResponseHead(Stream, head, endStream);
            if (endStream)
            {
                connection.OnEndSent(Stream);
            }

            if (isFinal && Stream.WithholdsBody)
            {
                Stream.WithholdsBody = false;
                readable = Stream.Body.TryTakeWaiting(out chunk);
            }

            deferred = connection.Writer.TakeDeferred();
        }

        if (readable)
        {
            Stream.Body.Signal.Complete(chunk);
        }

        connection.Run(deferred);
        return true;
    }

    // To the peer it is as if we had failed: there is no code for a message that the peer itself would refuse.
    private static StreamEnd TooLarge(string detail) => new(StreamResetReason.PeerLimit, Initiator.Us, (uint)Http2ErrorCode.InternalError, detail);

    private void OnHandled()
    {
        using var batch = FlushBatch.Enter();
        var failed = false;
        try
        {
            _handling.GetResult();
        }
        catch (Exception)
        {
            // Handlers never throw; one that does has lost its exchange.
            failed = true;
        }

        _connection.OnHandled(this, failed);
    }
}
