using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>Bytes to a <see cref="ResponseHead"/> (RFC 9112 sections 4 and 5), as strict as <see cref="RequestParser"/>.</summary>
public sealed class ResponseParser : HeadParser
{
    private readonly ResponseHead _head;

    /// <summary>Fills <paramref name="head"/>.</summary>
    public ResponseParser(ResponseHead head, Http1Limits limits)
        : base(limits) => _head = head;

    /// <summary>The method of the request that is answered: HEAD has no body.</summary>
    public RequestMethod Method { get; set; }

    /// <summary>How the body ends.</summary>
    public BodyFraming Framing { get; private set; }

    /// <summary>What Connection said.</summary>
    internal ConnectionOptions Connection { get; private set; }

    /// <inheritdoc/>
    private protected override FieldMap Fields => _head.Fields;

    /// <inheritdoc/>
    public override void Reset()
    {
        base.Reset();
        _head.Clear();
        Framing = default;
        Connection = default;
    }

    private protected override Http1ParseStatus ParseStartLine(ReadOnlySpan<byte> input, out int consumed)
    {
        var isClipped = input.Length >= Limits.MaxStartLineBytes;
        var status = ParseStatusLine(isClipped ? input[..Limits.MaxStartLineBytes] : input, out consumed);
        return status == Http1ParseStatus.NeedMore && isClipped ? Fail(431, "status_line_too_long") : status;
    }

    private protected override bool TakeField(KnownField name, ReadOnlySpan<byte> value) => false;

    private protected override bool Finish()
    {
        if (!BodyFraming.TryForResponse(_head, Method, out var framing, out var error))
        {
            Fail(error);
            return false;
        }

        Framing = framing;
        if (!ConnectionOptionsReader.TryRead(_head.Fields, Limits.MaxFields, out var options))
        {
            Fail(431, "too_many_connection_options");
            return false;
        }

        Connection = options;
        return true;
    }

    private Http1ParseStatus ParseStatusLine(ReadOnlySpan<byte> input, out int consumed)
    {
        consumed = 0;
        var read = StartLine.ReadVersion(input, out var version, out var isKnown);
        if (read != Http1ParseStatus.Done)
        {
            return read == Http1ParseStatus.NeedMore ? read : Fail(400, "invalid_status_line");
        }

        if (!isKnown)
        {
            return Fail(505, "unsupported_version");
        }

        var status = 0;
        for (var i = StartLine.VersionLength; i < StartLine.VersionLength + 4; i++)
        {
            if (i == input.Length)
            {
                return Http1ParseStatus.NeedMore;
            }

            if (i == StartLine.VersionLength ? input[i] != ' ' : !Http1Syntax.IsDigit(input[i]))
            {
                return Fail(400, "invalid_status_line");
            }

            status = i == StartLine.VersionLength ? 0 : (status * 10) + (input[i] - '0');
        }

        if (status is < 100 or > 599)
        {
            return Fail(400, "invalid_status");
        }

        var rest = input[(StartLine.VersionLength + 4)..];
        var end = rest.IndexOfAny(Http1Syntax.NotInValue);

        // The space before an empty reason phrase is left out by so many that asking for it would only break them.
        if (!rest.IsEmpty && rest[0] != ' ' && end != 0)
        {
            return Fail(400, "invalid_status_line");
        }

        if (end < 0)
        {
            return Http1ParseStatus.NeedMore;
        }

        if (rest[end] != '\r')
        {
            return Fail(400, rest[end] == '\n' ? "bare_lf" : "invalid_status_line");
        }

        if (end + 1 == rest.Length)
        {
            return Http1ParseStatus.NeedMore;
        }

        if (rest[end + 1] != '\n')
        {
            return Fail(400, "bare_cr");
        }

        _head.Status = status;
        _head.Version = version;
        consumed = StartLine.VersionLength + 4 + end + 2;
        return Http1ParseStatus.Done;
    }
}
