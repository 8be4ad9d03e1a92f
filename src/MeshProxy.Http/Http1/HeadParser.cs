using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>
/// Bytes to a head, line by line as they come: complete lines are consumed at once, the rest of a line waits. Performs no I/O. The same bytes give
/// the same answer however they are cut: nothing beyond a limit is ever looked at, and within it the first offending byte decides.
/// </summary>
public abstract class HeadParser
{
    private Phase _phase;
    private int _headBytes;
    private int _fieldCount;
    private bool _hasCookie;

    private protected HeadParser(Http1Limits limits) => Limits = limits;

    private enum Phase : byte
    {
        StartLine,
        Fields,
        Done,
        Failed,
    }

    /// <summary>What was wrong, after <see cref="Http1ParseStatus.Failed"/>.</summary>
    public Http1Error Error { get; private set; }

    /// <summary>True once a byte of the current head was seen.</summary>
    public bool HasBegun { get; private set; }

    private protected Http1Limits Limits { get; }

    private protected abstract FieldMap Fields { get; }

    /// <summary>Parses on. What lies before <paramref name="consumed"/> is never needed again; after <see cref="Http1ParseStatus.NeedMore"/>
    /// everything was examined.</summary>
    public Http1ParseStatus Parse(in ReadOnlySequence<byte> input, out SequencePosition consumed)
    {
        consumed = input.Start;
        if (_phase >= Phase.Done)
        {
            return _phase == Phase.Done ? Http1ParseStatus.Done : Http1ParseStatus.Failed;
        }

        if (input.IsEmpty)
        {
            return Http1ParseStatus.NeedMore;
        }

        HasBegun = true;
        var left = Limits.MaxHeadBytes - _headBytes;
        var length = input.Length;
        var isClipped = length >= left;
        int used;
        Http1ParseStatus status;
        if (input.IsSingleSegment)
        {
            status = ParseSpan(isClipped ? input.FirstSpan[..left] : input.FirstSpan, out used);
        }
        else
        {
            // A head across segments is rare (it has to straddle a block) and short: one copy is cheaper than a second, slower parser.
            var size = (int)Math.Min(length, left);
            var copy = ArrayPool<byte>.Shared.Rent(size);
            input.Slice(0, size).CopyTo(copy);
            status = ParseSpan(copy.AsSpan(0, size), out used);
            ArrayPool<byte>.Shared.Return(copy);
        }

        _headBytes += used;
        consumed = input.GetPosition(used);
        if (status == Http1ParseStatus.NeedMore && isClipped)
        {
            return Fail(431, "head_too_large");
        }

        return status;
    }

    /// <summary>Makes ready for the next head.</summary>
    public virtual void Reset()
    {
        _phase = Phase.StartLine;
        _headBytes = 0;
        _fieldCount = 0;
        _hasCookie = false;
        HasBegun = false;
        Error = default;
    }

    private protected abstract Http1ParseStatus ParseStartLine(ReadOnlySpan<byte> input, out int consumed);

    /// <summary>Takes a field that is not simply kept.</summary>
    /// <returns>True when it must not be added to the fields.</returns>
    private protected abstract bool TakeField(KnownField name, ReadOnlySpan<byte> value);

    private protected abstract bool Finish();

    private protected Http1ParseStatus Fail(int status, string detail)
    {
        _phase = Phase.Failed;
        if (!Error.IsError)
        {
            Error = new Http1Error(status, detail);
        }

        return Http1ParseStatus.Failed;
    }

    private protected Http1ParseStatus Fail(Http1Error error) => Fail(error.Status, error.Detail);

    private Http1ParseStatus ParseSpan(ReadOnlySpan<byte> input, out int consumed)
    {
        consumed = 0;
        if (_phase == Phase.StartLine)
        {
            if (input.IsEmpty)
            {
                return Http1ParseStatus.NeedMore;
            }

            var status = ParseStartLine(input, out consumed);
            if (status != Http1ParseStatus.Done)
            {
                return status;
            }

            _phase = Phase.Fields;
        }

        var fields = Fields;
        while (true)
        {
            var kind = FieldLineParser.Parse(input[consumed..], out var name, out var value, out var used, out var error);
            if (kind == FieldLineKind.Line)
            {
                consumed += used;
                var known = KnownFields.Parse(name);
                if (!IsCounted(known))
                {
                    return Fail(431, "too_many_fields");
                }

                if (known == KnownField.Other)
                {
                    fields.AddUnknown(name, value);
                }
                else if (!TakeField(known, value))
                {
                    fields.Add(known, value);
                }

                if (_phase == Phase.Failed)
                {
                    return Http1ParseStatus.Failed;
                }

                continue;
            }

            if (kind == FieldLineKind.NeedMore)
            {
                return Http1ParseStatus.NeedMore;
            }

            if (kind == FieldLineKind.Error)
            {
                return Fail(400, error!);
            }

            consumed += used;
            if (!Finish())
            {
                _phase = Phase.Failed;
                return Http1ParseStatus.Failed;
            }

            _phase = Phase.Done;
            return Http1ParseStatus.Done;
        }
    }

    private bool IsCounted(KnownField name)
    {
        if (name == KnownField.Cookie)
        {
            if (_hasCookie)
            {
                return true;
            }

            _hasCookie = true;
        }

        return ++_fieldCount <= Limits.MaxFields;
    }
}
