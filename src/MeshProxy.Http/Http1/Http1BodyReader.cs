using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>What a body reader needs of its exchange.</summary>
internal interface IHttp1BodyOwner
{
    /// <summary>How the exchange ended, or None.</summary>
    StreamEnd End { get; }

    /// <summary>The whole body was consumed.</summary>
    void OnBodyComplete();

    /// <summary>The body broke off.</summary>
    void OnBodyBroken(StreamEnd end);
}

/// <summary>
/// One message's body off a connection's input, any framing. Reused from message to message.
/// A body may be withheld: a tunnel was asked for, and what follows the head on the connection is either its bytes or the next request. Whoever reads
/// waits until <see cref="Open"/> says which, perhaps on another thread; <c>_gate</c> guards that meeting and nothing else.
/// </summary>
internal sealed class Http1BodyReader : HttpBodyReader, IHttp1InputWaiter, IValueTaskSource<BodyChunk>
{
    // Less than this is cheaper to copy: two system calls more for each piece.
    private const int LeastMovedBytes = 32 * 1024;

    // The end of a body always goes through ReadAsync and Advance, so that what ends a message stands in one place; so much of it comes with one receive.
    private const int RestBytes = 2048;

    private readonly Http1Input _input;
    private readonly IHttp1BodyOwner _owner;
    private readonly ChunkedReader _chunked;
    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<BodyChunk> _source;
    private BodyKind _kind;
    private long _remaining;
    private long _taken;
    private long _maxBytes;
    private StreamEnd _end;
    private volatile bool _isWithheld;
    private bool _isAwaited;

    public Http1BodyReader(Http1Input input, IHttp1BodyOwner owner, Http1Limits limits)
    {
        _input = input;
        _owner = owner;
        _chunked = new ChunkedReader(limits);
    }

    public override FieldMap Trailers => _chunked.Trailers;

    /// <summary>True when the framing's end was reached and everything before it consumed.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>True until it is known whether there is anything to read.</summary>
    public bool IsWithheld => _isWithheld;

    /// <summary>Whether what is left to read is known to be no more than so much.</summary>
    public bool EndsWithin(long bytes) => IsComplete || (_kind == BodyKind.Length && _remaining <= bytes);

    /// <summary>Begins a body; one that <paramref name="isWithheld"/> needs <see cref="Open"/> too.</summary>
    public void Begin(BodyFraming framing, long maxBytes, bool isWithheld = false)
    {
        _kind = framing.Kind;
        _remaining = framing.Length;
        _taken = 0;
        _maxBytes = maxBytes;
        _end = default;
        _chunked.Reset();
        IsComplete = framing.Kind == BodyKind.None;
        _isWithheld = isWithheld;
        _isAwaited = false;
    }

    /// <summary>A withheld body is now either there, with the framing that it began with, or is none.</summary>
    public void Open(bool isThere)
    {
        if (!isThere)
        {
            IsComplete = true;
        }

        _isWithheld = false;
        WakeAwaiting();
    }

    /// <summary>Wakes whoever waits for <see cref="Open"/>, because it is decided or the exchange has ended. Thread-safe.</summary>
    public void WakeAwaiting()
    {
        lock (_gate)
        {
            if (!_isAwaited)
            {
                return;
            }

            _isAwaited = false;
        }

        ReadOn();
    }

    public override bool TryRead(out BodyChunk chunk)
    {
        var ended = _owner.End;
        if (ended.Reason == StreamResetReason.None)
        {
            ended = _end;
        }

        if (ended.Reason != StreamResetReason.None)
        {
            chunk = new BodyChunk(default, false, ended);
            return true;
        }

        if (IsComplete)
        {
            chunk = new BodyChunk(default, true, default);
            return true;
        }

        chunk = default;
        if (_isWithheld || !_input.IsHeld)
        {
            return false;
        }

        if (_input.IsFaulted)
        {
            return Break(new StreamEnd(StreamResetReason.ConnectionReset, Initiator.Peer, Detail: "connection_reset_in_body"), out chunk);
        }

        switch (_kind)
        {
            case BodyKind.Chunked:
                return TryReadChunked(out chunk);
            case BodyKind.Length when !_input.Buffer.IsEmpty:
                var data = _input.Buffer;
                data = data.Length > _remaining ? data.Slice(0, _remaining) : data;
                chunk = new BodyChunk(data, data.Length == _remaining, default);
                return true;
            case BodyKind.UntilClose or BodyKind.Tunnel when !_input.Buffer.IsEmpty:
                chunk = new BodyChunk(_input.Buffer, _input.IsCompleted, default);
                return true;
            case BodyKind.UntilClose or BodyKind.Tunnel when _input.IsCompleted:
                Complete();
                chunk = new BodyChunk(default, true, default);
                return true;
            default:
                return NeedMore(out chunk);
        }
    }

    public override ValueTask<BodyChunk> ReadAsync()
    {
        if (TryRead(out var chunk))
        {
            return new ValueTask<BodyChunk>(chunk);
        }

        _source.Reset();
        if (_isWithheld)
        {
            if (Await())
            {
                return new ValueTask<BodyChunk>(this, _source.Version);
            }

            if (TryRead(out chunk))
            {
                return new ValueTask<BodyChunk>(chunk);
            }
        }

        while (_input.BeginRead(this))
        {
            if (TryRead(out chunk))
            {
                return new ValueTask<BodyChunk>(chunk);
            }
        }

        return new ValueTask<BodyChunk>(this, _source.Version);
    }

    public override void Advance(long count)
    {
        if (count == 0 || IsComplete)
        {
            return;
        }

        _input.Consume(_input.Buffer.GetPosition(count));
        switch (_kind)
        {
            case BodyKind.Chunked:
                _taken += count;
                _chunked.OnDataTaken(count);
                break;
            case BodyKind.Length:
                _remaining -= count;
                if (_remaining == 0)
                {
                    Complete();
                }

                break;
            default:
                if (_input.IsCompleted && _input.Buffer.IsEmpty)
                {
                    Complete();
                }

                break;
        }
    }

    /// <inheritdoc/>
    public override bool CanMoveTo(IHttpBodyWriter target) =>
        _kind == BodyKind.Length && _remaining >= LeastMovedBytes + RestBytes && !_isWithheld && !_input.IsHeld
        && target is IHttp1BodyTarget { OutgoingBody: { } outgoing } && outgoing.CanSpliceFrom(_input, _remaining);

    /// <inheritdoc/>
    public override ValueTask WaitAsync() => _input.WaitAsync();

    /// <inheritdoc/>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<long> MoveAsync(IHttpBodyWriter target, long most)
    {
        most = Math.Min(most, _remaining - RestBytes);
        if (most < LeastMovedBytes || target is not IHttp1BodyTarget { OutgoingBody: { } outgoing })
        {
            return -1;
        }

        using var splice = await outgoing.BeginSpliceAsync(_input).ConfigureAwait(false);
        var count = splice?.Fill(most) ?? -1;
        if (count > 0)
        {
            _remaining -= count;
            await outgoing.DrainAsync(splice!, count).ConfigureAwait(false);
        }

        return count;
    }

    void IHttp1InputWaiter.OnInput() => ReadOn();

    BodyChunk IValueTaskSource<BodyChunk>.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<BodyChunk>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<BodyChunk>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _source.OnCompleted(continuation, state, token, flags);

    private void ReadOn()
    {
        do
        {
            if (TryRead(out var chunk))
            {
                _source.SetResult(chunk);
                return;
            }
        }
        while (_input.BeginRead(this));
    }

    // False: it has been decided meanwhile, or the exchange has ended.
    private bool Await()
    {
        lock (_gate)
        {
            return _isAwaited = _isWithheld && _owner.End.Reason == StreamResetReason.None;
        }
    }

    private bool TryReadChunked(out BodyChunk chunk)
    {
        if (_chunked.DataRemaining == 0)
        {
            var rest = _input.Buffer;
            var isSound = _chunked.SkipFraming(ref rest);
            _input.Consume(rest.Start);
            if (!isSound)
            {
                var reason = _chunked.Error.Status switch
                {
                    413 => StreamResetReason.BodyTooLarge,
                    431 => StreamResetReason.TrailersTooLarge,
                    _ => StreamResetReason.ProtocolError,
                };
                return Break(new StreamEnd(reason, Initiator.Peer, Detail: _chunked.Error.Detail), out chunk);
            }

            if (_chunked.IsDone)
            {
                Complete();
                chunk = new BodyChunk(default, true, default);
                return true;
            }

            if (_chunked.DataRemaining > _maxBytes - _taken)
            {
                return Break(new StreamEnd(StreamResetReason.BodyTooLarge, Initiator.Peer, Detail: "body_too_large"), out chunk);
            }
        }

        if (_chunked.DataRemaining == 0 || !_input.IsHeld || _input.Buffer.IsEmpty)
        {
            return NeedMore(out chunk);
        }

        var data = _input.Buffer;
        chunk = new BodyChunk(data.Length > _chunked.DataRemaining ? data.Slice(0, _chunked.DataRemaining) : data, false, default);
        return true;
    }

    private bool NeedMore(out BodyChunk chunk)
    {
        if (_input.IsCompleted)
        {
            return Break(new StreamEnd(StreamResetReason.PeerClosed, Initiator.Peer, Detail: "closed_in_body"), out chunk);
        }

        _input.Release();
        chunk = default;
        return false;
    }

    private bool Break(StreamEnd end, out BodyChunk chunk)
    {
        _end = end;
        _owner.OnBodyBroken(end);
        chunk = new BodyChunk(default, false, end);
        return true;
    }

    private void Complete()
    {
        IsComplete = true;
        _owner.OnBodyComplete();
    }
}
