using System.Buffers;
using System.Runtime.CompilerServices;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>An exchange that a body can be moved to.</summary>
internal interface IHttp1BodyTarget
{
    /// <summary>The outgoing body; null once the exchange has ended.</summary>
    Http1BodyWriter? OutgoingBody { get; }
}

/// <summary>
/// One message's body onto a connection's output, any framing, the same for requests and responses: never a byte more or less than its head has said.
/// Reused from message to message. One writer at a time.
/// A message that ends by its length looks whole to its reader with the last byte of that length, while its writer may not know yet that it is: an HTTP/2 peer that
/// has declared a length can still send more, which makes its message malformed, and a malformed message must not go on (RFC 9113 section 8.1.1). So the last
/// byte is kept back until the writer says that the message ends with it; with a length of 0 that byte is the last one of the head.
/// </summary>
internal sealed class Http1BodyWriter(Http1Output output)
{
    private BodyKind _kind;
    private long _remaining;
    private bool _discards;
    private byte _last;
    private bool _holdsLast;

    /// <summary>True from the head to the end of the body.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>True when the message was written whole.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>Whether a head whose body ends so keeps its last byte back: nothing else of the message is left to.</summary>
    public static bool HoldsHead(BodyFraming framing, bool isComplete) => framing is { Kind: BodyKind.Length, Length: 0 } && !isComplete;

    /// <summary>Makes ready for the next message.</summary>
    public void Reset() => IsOpen = IsComplete = false;

    /// <summary>The head was written. <paramref name="discards"/>: what is written of the body is thrown away, because none may follow (HEAD, 204, 304).</summary>
    public void Begin(BodyFraming framing, bool isComplete, bool discards = false)
    {
        _kind = framing.Kind;
        _remaining = framing.Length;
        _discards = discards;
        _holdsLast = HoldsHead(framing, isComplete);
        _last = (byte)'\n';
        IsOpen = !isComplete;
        IsComplete = isComplete;
        if (isComplete && _kind == BodyKind.Tunnel)
        {
            output.CloseWhenSent();
        }
    }

    /// <summary>Counts bytes that are about to be written against the declared length.</summary>
    /// <returns>False when they are too many, or too few at the end.</returns>
    public bool TryCount(long bytes, bool endStream)
    {
        if (_kind != BodyKind.Length || _discards)
        {
            return true;
        }

        if (bytes > _remaining || (endStream && bytes < _remaining))
        {
            return false;
        }

        _remaining -= bytes;
        return true;
    }

    /// <summary>Whether the next <paramref name="remaining"/> bytes of a body can come here by a splice.</summary>
    public bool CanSpliceFrom(Http1Input input, long remaining) =>
        IsOpen && _kind == BodyKind.Length && !_discards && _remaining == remaining && output.CanSpliceFrom(input);

    /// <summary>A way from <paramref name="input"/> to here, once all is sent that was written before; null when none is left.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<ISplice?> BeginSpliceAsync(Http1Input input) =>
        await output.WaitForLevelAsync(0).ConfigureAwait(false) ? output.TryBeginSplice(input) : null;

    /// <summary>Sends what a splice of <see cref="BeginSpliceAsync"/> holds: less than what is left of the length.</summary>
    public ValueTask DrainAsync(ISplice splice, long count)
    {
        _remaining -= count;
        return output.DrainAsync(splice, count);
    }

    /// <summary>Copies bytes out, waiting for buffer space.</summary>
    public ValueTask<bool> WriteAsync(in ReadOnlySequence<byte> data, bool endStream)
    {
        if (_discards)
        {
            OnWritten(endStream);
            return new ValueTask<bool>(!output.IsDead);
        }

        var isWritten = _kind == BodyKind.Length && _remaining == 0 && (_holdsLast || !endStream)
            ? WriteLast(data, endStream)
            : output.WriteBody(data, _kind == BodyKind.Chunked, endStream);
        if (!isWritten)
        {
            return new ValueTask<bool>(false);
        }

        OnWritten(endStream);
        return output.WaitForLevelAsync(Http1Output.HighWaterBytes);
    }

    /// <summary>Ends the body with trailers; a framing that has no place for them drops them (RFC 9110 section 6.5.1).</summary>
    /// <returns>False when bytes are missing, a trailer can not be written, or the output is dead.</returns>
    public bool WriteTrailers(FieldMap trailers)
    {
        if (!TryCount(0, endStream: true) || (_kind == BodyKind.Chunked && !_discards && !output.WriteTrailers(trailers))
            || (_holdsLast && !WriteLast(default, endStream: true)))
        {
            return false;
        }

        OnWritten(endStream: true);
        return true;
    }

    // All of the length has been counted: its last byte goes out with the end.
    private bool WriteLast(in ReadOnlySequence<byte> data, bool endStream)
    {
        if (!data.IsEmpty)
        {
            var before = data.Length - 1;
            _last = data.Slice(before).FirstSpan[0];
            _holdsLast = true;
            return output.WriteBody(data.Slice(0, before), isChunked: false, isLast: false);
        }

        if (!endStream)
        {
            return !output.IsDead;
        }

        _holdsLast = false;
        return output.Write(new ReadOnlySpan<byte>(in _last));
    }

    private void OnWritten(bool endStream)
    {
        if (!endStream)
        {
            return;
        }

        IsOpen = false;
        IsComplete = true;
        if (_kind == BodyKind.Tunnel)
        {
            output.CloseWhenSent();
        }
    }
}
