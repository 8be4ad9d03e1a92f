using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>The one exchange object of a server connection, reused from request to request.</summary>
public sealed class Http1ServerExchange : HttpServerExchange, IHttp1BodyOwner
{
    private readonly Http1ServerConnection _connection;
    private readonly Http1Output _output;
    private readonly Http1BodyReader _body;
    private readonly Lock _gate = new();
    private IExchangeObserver? _observer;
    private StreamEnd _end;
    private volatile bool _hasEnded;
    private bool _isOpen;
    private bool _isTold;
    private int _notifier;
    private BodyFraming _framing;
    private long _remaining;
    private bool _discardsBody;
    private bool _awaitsContinue;

    internal Http1ServerExchange(Http1ServerConnection connection, Http1Input input, Http1Output output, Http1Limits limits)
    {
        _connection = connection;
        _output = output;
        _body = new Http1BodyReader(input, this, limits);
    }

    /// <inheritdoc/>
    public override HttpBodyReader RequestBody => _body;

    /// <inheritdoc/>
    public override bool HasResponseStarted => ResponseStarted;

    /// <summary>True while the client waits for a 100 before it sends its body. Writing an informational 100 ends that.</summary>
    public bool AwaitsContinue => _awaitsContinue;

    /// <summary>Whether the codec sends 100 by itself when the handler begins to wait for the body. True for each new exchange; a forwarder that
    /// passes on the upstream's own 100 sets it to false.</summary>
    public bool SendsContinueOnRead { get; set; }

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

    internal bool ResponseComplete { get; private set; }

    internal bool RequestComplete => _body.IsComplete;

    /// <summary>The connection ends after this exchange.</summary>
    internal bool MustClose { get; private set; }

    internal Http1BodyReader Body => _body;

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

        var declared = head.ContentLength;
        if (head.Status < 200
            || (head.Fields.TryGet(KnownField.ContentLength, out var value) && !BodyFraming.TryParseLength(value, out declared))
            || !TryFrame(head, declared, out var stated))
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

        MustClose |= _connection.IsDraining || _framing.Kind == BodyKind.UntilClose
            || (ConnectionOptionsReader.Read(head.Fields) & ConnectionOptions.Close) != 0;
        var options = MustClose ? ConnectionOptions.Close
            : Request.Version == HttpProtocolVersion.Http10 ? ConnectionOptions.KeepAlive
            : ConnectionOptions.None;
        ResponseStarted = true;
        if (!WriteHeadBytes(head, _framing, stated, options, _connection.Options.Date))
        {
            return false;
        }

        ResponseComplete = head.EndsStream;
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream)
    {
        if (_hasEnded || !ResponseStarted || ResponseComplete)
        {
            return new ValueTask<bool>(false);
        }

        if (_discardsBody)
        {
            ResponseComplete = endStream;
            return new ValueTask<bool>(!_output.IsDead);
        }

        if (_framing.Kind == BodyKind.Length)
        {
            var length = data.Length;
            if (length > _remaining || (endStream && length < _remaining))
            {
                Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "content_length_mismatch"));
                return new ValueTask<bool>(false);
            }

            _remaining -= length;
        }

        if (!_output.WriteBody(data, _framing.Kind == BodyKind.Chunked, endStream))
        {
            return new ValueTask<bool>(false);
        }

        ResponseComplete = endStream;
        return _output.WaitForLevelAsync(Http1Output.HighWaterBytes);
    }

    /// <inheritdoc/>
    public override bool WriteTrailers(FieldMap trailers)
    {
        if (_hasEnded || !ResponseStarted || ResponseComplete)
        {
            return false;
        }

        if (!_discardsBody && _framing.Kind == BodyKind.Length && _remaining != 0)
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "content_length_mismatch"));
            return false;
        }

        if (!_discardsBody && _framing.Kind == BodyKind.Chunked && !_output.WriteTrailers(trailers))
        {
            if (!_output.IsDead)
            {
                Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_trailers"));
            }

            return false;
        }

        ResponseComplete = true;
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> FlushAsync() => _hasEnded ? new ValueTask<bool>(false) : _output.FlushAsync();

    /// <inheritdoc/>
    public override void Reset(StreamEnd end)
    {
        Fail(end, tellsObserver: false);
        _connection.WakeReader();
    }

    void IHttp1BodyOwner.OnBodyWait()
    {
        if (_awaitsContinue && SendsContinueOnRead && !ResponseStarted)
        {
            _awaitsContinue = false;
            if (_output.Write("HTTP/1.1 100 Continue\r\n\r\n"u8))
            {
                FlushBatch.Request(_output);
            }
        }
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
        _body.Begin(parser.Framing, _connection.Options.Limits.MaxRequestBodyBytes);
        _framing = default;
        _remaining = 0;
        _discardsBody = false;
        _awaitsContinue = parser.ExpectsContinue;
        SendsContinueOnRead = true;
        ResponseStarted = false;
        ResponseComplete = false;
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
    }

    // RFC 9112 section 6.3, from the sender's side.
    private bool TryFrame(ResponseHead head, long declared, out long stated)
    {
        stated = -1;
        if (!BodyFraming.AllowsBody(head.Status, Request.Method))
        {
            _discardsBody = true;
            stated = head.Status == 204 ? -1 : declared;
            return true;
        }

        if (declared >= 0)
        {
            _framing = new BodyFraming(BodyKind.Length, declared);
            _remaining = declared;
            stated = declared;
            return !head.EndsStream || declared == 0;
        }

        if (head.EndsStream)
        {
            stated = 0;
        }
        else
        {
            _framing = new BodyFraming(Request.Version == HttpProtocolVersion.Http11 ? BodyKind.Chunked : BodyKind.UntilClose);
        }

        return true;
    }

    private bool WriteHeadBytes(ResponseHead head, BodyFraming framing, long stated, ConnectionOptions options, DateField? date)
    {
        var written = -1;
        var room = _output.Begin(HeadWriter.Bound(head));
        try
        {
            written = HeadWriter.WriteResponse(room, head, framing, stated, options, date);
        }
        finally
        {
            _output.End(Math.Max(written, 0));
        }

        if (written < 0)
        {
            Reset(new StreamEnd(StreamResetReason.ProtocolError, Detail: "invalid_response_head"));
        }

        return written > 0 && !_output.IsDead;
    }
}
