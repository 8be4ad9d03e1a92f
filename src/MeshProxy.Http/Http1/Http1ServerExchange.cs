using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>The one exchange object of a server connection, reused from request to request.</summary>
public sealed class Http1ServerExchange : HttpServerExchange, IHttp1BodyOwner, IHttp1BodyTarget
{
    private readonly Http1ServerConnection _connection;
    private readonly Http1Output _output;
    private readonly Http1BodyReader _body;
    private readonly Http1BodyWriter _response;
    private readonly Lock _gate = new();
    private IExchangeObserver? _observer;
    private StreamEnd _end;
    private volatile bool _hasEnded;
    private bool _isOpen;
    private bool _isTold;
    private int _notifier;
    private bool _awaitsContinue;

    internal Http1ServerExchange(Http1ServerConnection connection, Http1Input input, Http1Output output, Http1Limits limits)
    {
        _connection = connection;
        _output = output;
        _body = new Http1BodyReader(input, this, limits);
        _response = new Http1BodyWriter(output);
    }

    /// <inheritdoc/>
    public override HttpBodyReader RequestBody => _body;

    /// <inheritdoc/>
    public override bool HasResponseStarted => ResponseStarted;

    /// <inheritdoc/>
    public override long Progress => _output.WaitProgress;

    /// <inheritdoc/>
    public override bool AwaitsContinue => _awaitsContinue;

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
    public override IExchangeObserver? Observer
    {
        get => _observer;
        set
        {
            StreamEnd end = default;
            lock (_gate)
            {
                _observer = value;
                if (value is not null && _hasEnded && !_isTold)
                {
                    _isTold = true;
                    end = _end;
                }
            }

            if (end.Reason != StreamResetReason.None)
            {
                value!.OnAborted(end);
                return;
            }

            // An OnAborted that is running on the reading thread belongs to the observer that is taken away here: it must be over before the
            // caller reuses that object. It returns at once by contract, so this turns a few times at most.
            var spin = default(SpinWait);
            while (Volatile.Read(ref _notifier) is var notifier && notifier != 0 && notifier != Environment.CurrentManagedThreadId)
            {
                spin.SpinOnce();
            }
        }
    }

    internal bool ResponseStarted { get; private set; }

    internal bool ResponseComplete => _response.IsComplete;

    internal bool RequestComplete => _body.IsComplete;

    /// <summary>Nobody reads on now: what comes is the next request, or bytes of a tunnel that is not there yet.</summary>
    internal bool IsRequestRead => _body.IsComplete || _body.IsWithheld;

    /// <summary>From here on both directions are raw bytes, and the connection ends with them.</summary>
    internal bool IsTunnel { get; private set; }

    /// <summary>The connection ends after this exchange.</summary>
    internal bool MustClose { get; private set; }

    internal Http1BodyReader Body => _body;

    Http1BodyWriter? IHttp1BodyTarget.OutgoingBody => _hasEnded ? null : _response;

    /// <inheritdoc/>
    public override bool WriteInformational(ResponseHead head)
    {
        if (_hasEnded || ResponseStarted || head.Status is < 100 or 101 or > 199)
        {
            return false;
        }

        if (head.Status == 100)
        {
            if (!_awaitsContinue)
            {
                // Nobody waits (any more): a second 100, or one that was not asked for, helps no one.
                return true;
            }

            _awaitsContinue = false;
        }

        return Request.Version == HttpProtocolVersion.Http10 || WriteHeadBytes(head, default, -1, ConnectionOptions.None, null);
    }

    /// <inheritdoc/>
    public override bool WriteHead(ResponseHead head)
    {
        if (_hasEnded || ResponseStarted)
        {
            return false;
        }

        if (head.IsTunnel)
        {
            return WriteTunnelHead(head);
        }

        if (!TryFrame(head, out var framing, out var stated))
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_response_head"));
            return false;
        }

        if (_awaitsContinue)
        {
            // The body may come or not (RFC 9110 section 10.1.1): what comes next on the connection can not be told apart.
            MustClose |= !_body.IsComplete;
            _awaitsContinue = false;
        }

        // After an error nobody reads the rest of the request, and when that is more than is thrown away the connection closes. Said now, the client does not send its
        // next request into that.
        MustClose |= _connection.IsDraining || framing.Kind == BodyKind.UntilClose
            || (head.Status >= 400 && !_body.EndsWithin(_connection.Options.Limits.MaxDrainBytes) && !_body.IsWithheld)
            || (ConnectionOptionsReader.TryRead(head.Fields, int.MaxValue, out var asked) && (asked & ConnectionOptions.Close) != 0);
        var options = MustClose ? ConnectionOptions.Close
            : Request.Version == HttpProtocolVersion.Http10 ? ConnectionOptions.KeepAlive
            : ConnectionOptions.None;
        ResponseStarted = true;
        if (!WriteHeadBytes(head, framing, stated, options, _connection.Options.Date, holdsLast: Http1BodyWriter.HoldsHead(framing, head.EndsStream)))
        {
            return false;
        }

        _response.Begin(framing, head.EndsStream, discards: !BodyFraming.AllowsBody(head.Status, Request.Method));
        if (_body.IsWithheld)
        {
            _body.Open(isThere: false);
        }

        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream)
    {
        if (_hasEnded || !_response.IsOpen)
        {
            return new ValueTask<bool>(false);
        }

        if (!_response.TryCount(data.Length, endStream))
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "content_length_mismatch"));
            return new ValueTask<bool>(false);
        }

        return _response.WriteAsync(data, endStream);
    }

    /// <inheritdoc/>
    public override bool WriteTrailers(FieldMap trailers)
    {
        if (_hasEnded || !_response.IsOpen)
        {
            return false;
        }

        if (_response.WriteTrailers(trailers))
        {
            return true;
        }

        if (!_output.IsDead)
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_trailers"));
        }

        return false;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> FlushAsync() => _hasEnded ? new ValueTask<bool>(false) : _output.FlushAsync();

    /// <inheritdoc/>
    public override void Reset(StreamEnd end)
    {
        Fail(end, tellsObserver: false);
        _connection.WakeReader();
    }

    void IHttp1BodyOwner.OnBodyComplete() => _connection.OnRequestComplete();

    void IHttp1BodyOwner.OnBodyBroken(StreamEnd end)
    {
        // A body that breaks the rules can still be answered (400, 413); a dead connection can not.
        MustClose = true;
        if (end.Reason == StreamResetReason.ConnectionReset)
        {
            Fail(end, tellsObserver: true);
        }
    }

    /// <summary>Begins with the head that the parser has filled in.</summary>
    internal void Begin(RequestParser parser)
    {
        Response.Clear();
        _body.Begin(parser.Framing, _connection.Options.Limits.MaxRequestBodyBytes, isWithheld: parser.Framing.Kind == BodyKind.Tunnel);
        _response.Reset();
        IsTunnel = false;
        _awaitsContinue = parser.ExpectsContinue;
        ResponseStarted = false;

        // A client that sent the bytes of its tunnel behind CONNECT must not have them read as requests when the tunnel is refused.
        MustClose = (parser.Connection & ConnectionOptions.Close) != 0
            || Request.Method == RequestMethod.Connect
            || (Request.Version == HttpProtocolVersion.Http10 && (parser.Connection & ConnectionOptions.KeepAlive) == 0);
        lock (_gate)
        {
            _observer = null;
            _end = default;
            _hasEnded = false;
            _isTold = false;
            _isOpen = true;
        }
    }

    /// <summary>The handler has returned: nobody is told anything any more.</summary>
    internal void Close()
    {
        lock (_gate)
        {
            _isOpen = false;
            _observer = null;
        }
    }

    /// <summary>Ends the exchange. Thread-safe; the first end counts.</summary>
    internal void Fail(StreamEnd end, bool tellsObserver)
    {
        IExchangeObserver? observer = null;
        lock (_gate)
        {
            if (!_isOpen || _hasEnded)
            {
                return;
            }

            _end = end;
            _hasEnded = true;
            if (!tellsObserver)
            {
                _isTold = true;
            }
            else if (_observer is not null)
            {
                observer = _observer;
                _isTold = true;
                Volatile.Write(ref _notifier, Environment.CurrentManagedThreadId);
            }
        }

        if (observer is not null)
        {
            observer.OnAborted(end);
            Volatile.Write(ref _notifier, 0);
        }

        _body.WakeAwaiting();
    }

    // RFC 9112 section 6.3, from the sender's side. False: a head that can not be sent.
    private bool TryFrame(ResponseHead head, out BodyFraming framing, out long stated)
    {
        framing = default;
        stated = -1;
        var declared = head.ContentLength;
        if (head.Status < 200
            || (head.Fields.TryGet(KnownField.ContentLength, out var value) && !BodyFraming.TryParseLength(value, out declared))
            || (Request.Method == RequestMethod.Connect && head.Status < 300))
        {
            // The last one would be a tunnel to the client, and to nobody else.
            return false;
        }

        if (!BodyFraming.AllowsBody(head.Status, Request.Method))
        {
            stated = head.Status == 204 ? -1 : declared;
            return true;
        }

        // A message that came over HTTP/2 may have a length and trailers; here only chunks carry trailers, so that the length gives way where some are announced.
        var hasTrailers = !head.EndsStream && Request.Version == HttpProtocolVersion.Http11 && head.Fields.Contains(KnownField.Trailer);
        if (declared >= 0 && !hasTrailers)
        {
            framing = new BodyFraming(BodyKind.Length, declared);
            stated = declared;
            return !head.EndsStream || declared == 0;
        }

        if (head.EndsStream)
        {
            stated = 0;
        }
        else
        {
            framing = new BodyFraming(Request.Version == HttpProtocolVersion.Http11 ? BodyKind.Chunked : BodyKind.UntilClose);
        }

        return true;
    }

    // RFC 9110 sections 7.8 and 9.3.6: 101 with what was switched to, or the 2xx that answers CONNECT.
    private bool WriteTunnelHead(ResponseHead head)
    {
        var isConnect = Request.Method == RequestMethod.Connect;
        if (!_body.IsWithheld || (isConnect && head.Status is < 200 or > 299))
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_response_head"));
            return false;
        }

        if (WebSocketHandshake.IsAskedFor(Request.Protocol) && !head.Fields.Contains(KnownField.SecWebSocketAccept)
            && WebSocketHandshake.TryGetKey(Request.Fields, out var key))
        {
            // The upstream spoke HTTP/2, which has no such field: the client's key is answered here.
            Span<byte> accept = stackalloc byte[WebSocketHandshake.AcceptBytes];
            WebSocketHandshake.MakeAccept(key, accept);
            head.Fields.Add(KnownField.SecWebSocketAccept, accept);
        }

        ResponseStarted = true;
        IsTunnel = true;
        MustClose = true;
        if (!WriteHeadBytes(head, default, -1, ConnectionOptions.None, isConnect ? _connection.Options.Date : null, Request.Protocol))
        {
            return false;
        }

        _response.Begin(new BodyFraming(BodyKind.Tunnel), head.EndsStream);
        _body.Open(isThere: true);
        return true;
    }

    private bool WriteHeadBytes(
        ResponseHead head, BodyFraming framing, long stated, ConnectionOptions options, DateField? date, ReadOnlySpan<byte> protocol = default, bool holdsLast = false)
    {
        var written = -1;
        var room = _output.Begin(HeadWriter.Bound(head) + protocol.Length);
        try
        {
            written = HeadWriter.WriteResponse(room, head, framing, stated, options, date, protocol);
        }
        finally
        {
            _output.End(Math.Max(holdsLast ? written - 1 : written, 0));
        }

        if (written < 0)
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_response_head"));
        }

        return written > 0 && !_output.IsDead;
    }
}
