using System.Buffers;
using System.Threading.Tasks.Sources;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>The one exchange object of a client connection, reused from request to request.</summary>
public sealed class Http1ClientExchange : HttpClientExchange, IHttp1BodyOwner, IHttp1BodyTarget, IHttp1InputWaiter, IValueTaskSource<bool>
{
    private readonly Http1ClientConnection _connection;
    private readonly Http1Input _input;
    private readonly Http1Output _output;
    private readonly Http1Limits _limits;
    private readonly ResponseParser _parser;
    private readonly Http1BodyReader _body;
    private readonly Http1BodyWriter _request;
    private readonly UpgradeOffer _offer = new();
    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<bool> _source;
    private StreamEnd _end;
    private volatile bool _hasEnded;
    private int _informationalHeads;
    private bool _hasHead;
    private bool _asksForTunnel;

    internal Http1ClientExchange(Http1ClientConnection connection, Http1Input input, Http1Output output, Http1Limits limits)
    {
        _connection = connection;
        _input = input;
        _output = output;
        _limits = limits;
        _parser = new ResponseParser(Response, limits);
        _body = new Http1BodyReader(input, this, limits);
        _request = new Http1BodyWriter(output);
    }

    /// <inheritdoc/>
    public override HttpBodyReader ResponseBody => _body;

    /// <inheritdoc/>
    public override StreamEnd End
    {
        get
        {
            if (!_hasEnded)
            {
                return default;
            }

            lock (_gate)
            {
                return _end;
            }
        }
    }

    /// <inheritdoc/>
    public override long Progress => _output.WaitProgress;

    /// <inheritdoc/>
    public override bool IsSent
    {
        get
        {
            if (_hasEnded)
            {
                // The end may be told a moment before the output hears of it: what is said to be unsent must stay so.
                _output.Kill();
            }

            return _output.HasFlushedSinceMark;
        }
    }

    /// <summary>True when the connection had carried an exchange before. An end with the detail "reused_connection_closed" then says that not one byte
    /// of a response had come: in all likelihood the peer closed the idle connection while the request was on its way.</summary>
    public bool IsReused { get; private set; }

    Http1BodyWriter? IHttp1BodyTarget.OutgoingBody => _hasEnded ? null : _request;

    internal bool RequestStarted { get; private set; }

    internal bool RequestComplete => _request.IsComplete;

    internal bool ResponseComplete => _hasHead && _body.IsComplete;

    /// <summary>Waiting for response body bytes makes sense for the stall clock. Either end of a tunnel may be silent for as long as the other one
    /// talks: its owner judges that.</summary>
    internal bool IsInBody => _hasHead && !_body.IsComplete && !Response.IsTunnel;

    /// <summary>True when a tunnel did not end in order in both directions: the peer must not take what it has for all there was.</summary>
    internal bool IsTunnelBroken => _hasHead && Response.IsTunnel && (_hasEnded || !RequestComplete || !ResponseComplete);

    /// <summary>Whether the response lets the connection live on.</summary>
    internal bool AllowsReuse => ResponseComplete && RequestComplete && !_hasEnded && _parser.Framing.Kind != BodyKind.UntilClose && !Response.IsTunnel
        && (_parser.Connection & ConnectionOptions.Close) == 0
        && (Response.Version == HttpProtocolVersion.Http11 || (_parser.Connection & ConnectionOptions.KeepAlive) != 0);

    /// <inheritdoc/>
    public override bool WriteHead(RequestHead head)
    {
        if (_hasEnded || RequestStarted)
        {
            return false;
        }

        var declared = head.ContentLength;
        var isTunnel = head.AsksForTunnel;
        if ((!head.Protocol.IsEmpty && !_offer.TryMake(head))
            || (isTunnel && head.EndsStream)
            || (head.Fields.TryGet(KnownField.ContentLength, out var value) && !BodyFraming.TryParseLength(value, out declared))
            || (head.EndsStream && declared > 0))
        {
            Fail(new StreamEnd(StreamResetReason.Cancelled, Detail: "invalid_request_head"));
            return false;
        }

        var framing = head.EndsStream ? default
            : isTunnel ? new BodyFraming(BodyKind.Tunnel)
            : declared >= 0 && !head.Fields.Contains(KnownField.Trailer) ? new BodyFraming(BodyKind.Length, declared)
            : new BodyFraming(BodyKind.Chunked);
        _parser.Method = head.Method;
        var written = -1;
        var room = _output.Begin(HeadWriter.Bound(head));
        try
        {
            written = HeadWriter.WriteRequest(room, head, framing);
        }
        finally
        {
            _output.End(Math.Max(Http1BodyWriter.HoldsHead(framing, head.EndsStream) ? written - 1 : written, 0));
        }

        if (written < 0)
        {
            Fail(new StreamEnd(StreamResetReason.Cancelled, Detail: "invalid_request_head"));
            return false;
        }

        RequestStarted = true;
        _asksForTunnel = isTunnel;
        if (!isTunnel)
        {
            _request.Begin(framing, head.EndsStream);
        }

        return !_output.IsDead;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream)
    {
        if (_hasEnded || !_request.IsOpen)
        {
            return new ValueTask<bool>(false);
        }

        if (!_request.TryCount(data.Length, endStream))
        {
            Reset(new StreamEnd(StreamResetReason.Cancelled, Detail: "content_length_mismatch"));
            return new ValueTask<bool>(false);
        }

        return _request.WriteAsync(data, endStream);
    }

    /// <inheritdoc/>
    public override bool WriteTrailers(FieldMap trailers)
    {
        if (_hasEnded || !_request.IsOpen)
        {
            return false;
        }

        if (_request.WriteTrailers(trailers))
        {
            return true;
        }

        if (!_output.IsDead)
        {
            Reset(new StreamEnd(StreamResetReason.Cancelled, Detail: "invalid_trailers"));
        }

        return false;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> FlushAsync() => _hasEnded ? new ValueTask<bool>(false) : _output.FlushAsync();

    /// <inheritdoc/>
    public override ValueTask<bool> ReadHeadAsync()
    {
        if (_hasHead)
        {
            return new ValueTask<bool>(false);
        }

        if (Response.IsInformational)
        {
            _parser.Reset();
        }

        if (TryReadHead(out var result))
        {
            return new ValueTask<bool>(result);
        }

        _source.Reset();
        while (_input.BeginRead(this))
        {
            if (TryReadHead(out result))
            {
                return new ValueTask<bool>(result);
            }
        }

        return new ValueTask<bool>(this, _source.Version);
    }

    /// <inheritdoc/>
    public override void Reset(StreamEnd end)
    {
        Fail(end);
        _input.Cancel();
    }

    /// <inheritdoc/>
    public override void Complete() => _connection.OnExchangeCompleted();

    void IHttp1InputWaiter.OnInput()
    {
        do
        {
            if (TryReadHead(out var result))
            {
                _source.SetResult(result);
                return;
            }
        }
        while (_input.BeginRead(this));
    }

    void IHttp1BodyOwner.OnBodyComplete()
    {
    }

    void IHttp1BodyOwner.OnBodyBroken(StreamEnd end) => Fail(end);

    bool IValueTaskSource<bool>.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _source.OnCompleted(continuation, state, token, flags);

    /// <summary>Begins anew. Under the connection's lock.</summary>
    internal void Begin(bool isReused)
    {
        _parser.Reset();
        _body.Begin(default, long.MaxValue);
        _request.Reset();
        _offer.Clear();
        _informationalHeads = 0;
        _hasHead = false;
        IsReused = isReused;
        RequestStarted = false;
        _asksForTunnel = false;
        lock (_gate)
        {
            _end = default;
            _hasEnded = false;
        }
    }

    /// <summary>Ends the exchange and with it the connection. Thread-safe; the first end counts.</summary>
    internal void Fail(StreamEnd end)
    {
        lock (_gate)
        {
            if (_hasEnded)
            {
                return;
            }

            _end = end;
            _hasEnded = true;
        }

        _connection.OnExchangeFailed();
    }

    /// <summary>The peer's end, seen before a byte of the response.</summary>
    internal void FailByPeer(bool isFault, bool isInHead)
    {
        var detail = isInHead ? "closed_in_response_head" : IsReused ? "reused_connection_closed" : "closed_before_response";
        Fail(new StreamEnd(isFault ? StreamResetReason.ConnectionReset : StreamResetReason.PeerClosed, Initiator.Peer, Detail: detail));
    }

    /// <summary>Takes what is at hand of a body that nobody wants any more.</summary>
    internal void DrainAtHand()
    {
        while (_hasHead && !_body.IsComplete && _body.TryRead(out var chunk) && !chunk.IsBroken)
        {
            _body.Advance(chunk.Data.Length);
        }
    }

    // True: the answer of ReadHeadAsync is known.
    private bool TryReadHead(out bool result)
    {
        result = false;
        if (_hasEnded)
        {
            return true;
        }

        if (!_input.IsHeld)
        {
            return false;
        }

        if (_input.IsFaulted)
        {
            FailByPeer(isFault: true, _parser.HasBegun);
            return true;
        }

        if (!_input.Buffer.IsEmpty && !IsSent)
        {
            Fail(new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, Detail: "response_before_request"));
            return true;
        }

        var status = _parser.Parse(_input.Buffer, out var consumed);
        _input.Consume(consumed);
        switch (status)
        {
            case Http1ParseStatus.Failed:
                Fail(new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, Detail: _parser.Error.Detail));
                return true;
            case Http1ParseStatus.NeedMore when _input.IsCompleted:
                FailByPeer(isFault: false, _parser.HasBegun);
                return true;
            case Http1ParseStatus.NeedMore:
                _input.Release();
                return false;
        }

        var framing = _parser.Framing;
        if (Response.Status == 101)
        {
            if (_offer.Judge(Response, _parser.Connection) is { } wrong)
            {
                Fail(new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, Detail: wrong));
                return true;
            }

            Response.IsTunnel = true;
            framing = new BodyFraming(BodyKind.Tunnel);
        }
        else if (Response.IsInformational && ++_informationalHeads > _limits.MaxInformationalHeads)
        {
            Fail(new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, Detail: "too_many_informational_heads"));
            return true;
        }

        if (!Response.IsInformational)
        {
            _hasHead = true;
            _body.Begin(framing, long.MaxValue);
            if (_asksForTunnel)
            {
                // The tunnel that was asked for is there, or it will not be: then the request has been complete all along.
                _request.Begin(Response.IsTunnel ? framing : default, isComplete: !Response.IsTunnel);
            }
        }

        result = true;
        return true;
    }
}
