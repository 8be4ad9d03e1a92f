using System.Buffers;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Fuzz.Targets;

/// <summary>Bytes in pieces to our HTTP/1.1 parsers, and what came out in the words of <see cref="Oracles.Http1Reading"/>.</summary>
internal sealed class Http1Feed
{
    private readonly RequestHead _request = new();
    private readonly ResponseHead _response = new();
    private readonly HeadParser? _parser;
    private readonly ChunkedReader _chunked;
    private readonly StringBuilder _body = new();
    private BodyFraming _framing;
    private long _left;
    private int _rest;
    private string _state = "more";
    private byte[] _pending = [];

    private Http1Feed(HeadParser? parser, Http1Limits limits, RequestHead request, ResponseHead response)
    {
        (_parser, _request, _response) = (parser, request, response);
        _parser?.Reset();
        _chunked = new ChunkedReader(limits);
        _chunked.Reset();
        if (_parser is null)
        {
            _framing = new BodyFraming(BodyKind.Chunked);
            _state = "body";
        }
    }

    public static Http1Feed Request(Http1Limits limits)
    {
        var head = new RequestHead();
        return new Http1Feed(new RequestParser(head, "http"u8.ToArray(), limits), limits, head, new ResponseHead());
    }

    public static Http1Feed Response(RequestMethod method, Http1Limits limits)
    {
        var head = new ResponseHead();
        return new Http1Feed(new ResponseParser(head, limits) { Method = method }, limits, new RequestHead(), head);
    }

    /// <summary>A chunked body without a head.</summary>
    public static Http1Feed ChunkedBody(Http1Limits limits) => new(null, limits, new RequestHead(), new ResponseHead());

    /// <summary>The same input whole, byte by byte, in two parts and in many segments must be understood the same.</summary>
    public static string ReadEveryWay(Func<Http1Feed> make, byte[] input, out string detail)
    {
        var first = make().Add(new ReadOnlySequence<byte>(input));
        var whole = first.Describe();
        detail = first.Detail;
        var cut = input.Length == 0 ? 0 : input[^1] % input.Length;
        foreach (var (how, feed) in (ReadOnlySpan<(string, Http1Feed)>)
        [
            ("byte by byte", make().AddEach(input.Select(b => new[] { b }))),
            ($"cut at {cut}", make().AddEach([input[..cut], input[cut..]])),
            ("in segments", make().Add(Segment.Join(input.Chunk(3)))),
        ])
        {
            if (feed.Describe() is var other && (other != whole || feed.Detail != first.Detail))
            {
                throw new FindingException($"{how} it is understood differently\n  whole: {Escaped.Write(whole)} {first.Detail}\n  else:  {Escaped.Write(other)} {feed.Detail}");
            }
        }

        return whole;
    }

    /// <summary>Why it was refused; empty when it was not.</summary>
    private string Detail => (_parser is { Error.IsError: true } ? _parser.Error : _chunked.Error) is { IsError: true } error ? error.Detail : "";

    private static string Text(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    private Http1Feed AddEach(IEnumerable<byte[]> pieces)
    {
        foreach (var piece in pieces)
        {
            Add(new ReadOnlySequence<byte>([.. _pending, .. piece]));
        }

        return this;
    }

    private Http1Feed Add(ReadOnlySequence<byte> input)
    {
        Take(ref input);
        if (_state == "done" || _state.StartsWith("refused", StringComparison.Ordinal))
        {
            _rest += (int)input.Length;
            _pending = [];
            return this;
        }

        _pending = input.ToArray();
        return this;
    }

    private void Take(ref ReadOnlySequence<byte> input)
    {
        if (_state == "more")
        {
            var status = _parser!.Parse(input, out var consumed);
            input = input.Slice(consumed);
            if (status != Http1ParseStatus.Done)
            {
                _state = status == Http1ParseStatus.Failed ? "refused" : "more";
                return;
            }

            _framing = _parser is RequestParser request ? request.Framing : ((ResponseParser)_parser).Framing;
            _left = _framing.Length;
            _state = _framing.Kind == BodyKind.None ? "done" : "body";
        }

        while (_state == "body" && !input.IsEmpty)
        {
            if (_framing.Kind == BodyKind.Chunked)
            {
                if (_chunked.DataRemaining == 0 && !_chunked.SkipFraming(ref input))
                {
                    _state = "body refused";
                    return;
                }

                if (_chunked.IsDone)
                {
                    _state = "done";
                    return;
                }

                var count = Math.Min(_chunked.DataRemaining, input.Length);
                if (count == 0)
                {
                    return;
                }

                TakeBody(ref input, count);
                _chunked.OnDataTaken(count);
            }
            else
            {
                var count = _framing.Kind is BodyKind.UntilClose or BodyKind.Tunnel ? input.Length : Math.Min(_left, input.Length);
                TakeBody(ref input, count);
                _left -= count;
                if (_framing.Kind == BodyKind.Length && _left == 0)
                {
                    _state = "done";
                }
            }
        }
    }

    private void TakeBody(ref ReadOnlySequence<byte> input, long count)
    {
        _body.Append(Text(input.Slice(0, count).ToArray()));
        input = input.Slice(count);
    }

    public string Describe()
    {
        if (_state is "more" or "refused")
        {
            return _state;
        }

        var head = new StringBuilder();
        if (_parser is RequestParser)
        {
            head.Append($"{Text(_request.MethodToken)} {Text(_request.Scheme)}://{Text(_request.Authority)} {Text(_request.Path)} {_request.Version}");
            Append(head, _request.Fields);
        }
        else if (_parser is not null)
        {
            head.Append($"{_response.Status} {_response.Version}");
            Append(head, _response.Fields);
        }

        head.Append($" {_framing.Kind}:{_framing.Length} | {_state} | {_body} |");
        if (_state == "done")
        {
            Append(head, _chunked.Trailers);
            head.Append($" rest {_rest}");
        }

        return head.ToString();
    }

    private static void Append(StringBuilder text, FieldMap fields)
    {
        for (var i = 0; i < fields.Count; i++)
        {
            text.Append($" [{Text(fields[i].Name)}: {Text(fields[i].Value)}]");
        }
    }
}
