using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Feeds the same bytes to a parser in different cuts and describes what came out.</summary>
internal static class ParserFeeds
{
    public static string Whole(byte[] message, bool isRequest, Http1Limits limits) => Run([message], isRequest, limits);

    public static string ByteByByte(byte[] message, bool isRequest, Http1Limits limits) =>
        Run(message.Select(b => new[] { b }), isRequest, limits);

    /// <summary>All there at once, but every byte in a segment of its own.</summary>
    public static string Segmented(byte[] message, bool isRequest, Http1Limits limits)
    {
        var feed = new Feed(isRequest, limits);
        feed.Add(Segment.Join(message.Select(b => new[] { b })));
        return feed.Describe();
    }

    public static string Run(IEnumerable<byte[]> pieces, bool isRequest, Http1Limits limits)
    {
        var feed = new Feed(isRequest, limits);
        byte[] pending = [];
        foreach (var piece in pieces)
        {
            pending = [.. pending, .. piece];
            pending = feed.Add(new ReadOnlySequence<byte>(pending));
        }

        return feed.Describe();
    }

    private static string Text(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    private sealed class Feed
    {
        private readonly RequestHead _request = new();
        private readonly ResponseHead _response = new();
        private readonly HeadParser _parser;
        private readonly ChunkedReader _chunked;
        private readonly Http1Limits _limits;
        private readonly StringBuilder _body = new();
        private BodyFraming _framing;
        private long _left;
        private int _trailing;
        private string _state = "more";

        public Feed(bool isRequest, Http1Limits limits)
        {
            _limits = limits;
            _parser = isRequest ? new RequestParser(_request, "http"u8.ToArray(), limits) : new ResponseParser(_response, limits);
            _parser.Reset();
            _chunked = new ChunkedReader(limits);
        }

        public byte[] Add(ReadOnlySequence<byte> input)
        {
            if (_state == "more")
            {
                var status = _parser.Parse(input, out var consumed);
                input = input.Slice(consumed);
                if (status == Http1ParseStatus.Failed)
                {
                    _state = $"failed {_parser.Error.Status} {_parser.Error.Detail}";
                    return [];
                }

                if (status == Http1ParseStatus.NeedMore)
                {
                    Assert.That(input.Length, Is.LessThanOrEqualTo(_limits.MaxHeadBytes), "a parser keeps less than a head");
                    return input.ToArray();
                }

                _framing = _parser is RequestParser request ? request.Framing : ((ResponseParser)_parser).Framing;
                _left = _framing.Length;
                _chunked.Reset();
                _state = "body";
            }

            while (_state == "body" && !input.IsEmpty)
            {
                if (_framing.Kind == BodyKind.Chunked)
                {
                    if (_chunked.DataRemaining == 0 && !_chunked.SkipFraming(ref input))
                    {
                        _state = $"body failed {_chunked.Error.Status} {_chunked.Error.Detail}";
                        return [];
                    }

                    if (_chunked.IsDone)
                    {
                        _state = "done";
                        break;
                    }

                    var count = Math.Min(_chunked.DataRemaining, input.Length);
                    if (count == 0)
                    {
                        return input.ToArray();
                    }

                    _body.Append(Encoding.Latin1.GetString(input.Slice(0, count)));
                    _chunked.OnDataTaken(count);
                    input = input.Slice(count);
                }
                else
                {
                    var isEndless = _framing.Kind is BodyKind.UntilClose or BodyKind.Tunnel;
                    var count = isEndless ? input.Length : Math.Min(_left, input.Length);
                    _body.Append(Encoding.Latin1.GetString(input.Slice(0, count)));
                    _left -= count;
                    input = input.Slice(count);
                    if (!isEndless && _left == 0)
                    {
                        _state = "done";
                    }
                }
            }

            if (_state == "done")
            {
                _trailing += (int)input.Length;
                return [];
            }

            return input.ToArray();
        }

        public string Describe()
        {
            var text = new StringBuilder(_state);
            if (_state is "more" || _state.StartsWith("failed", StringComparison.Ordinal))
            {
                return text.ToString();
            }

            var fields = _request.Fields;
            if (_parser is RequestParser)
            {
                text.Append($" {Text(_request.MethodToken)} {Text(_request.Scheme)}://{Text(_request.Authority)} {Text(_request.Path)} {_request.Version}");
                if (!_request.Protocol.IsEmpty)
                {
                    text.Append($" upgrade={Text(_request.Protocol)}");
                }
            }
            else
            {
                text.Append($" {_response.Status} {_response.Version}");
                fields = _response.Fields;
            }

            text.Append($" {_framing.Kind} {_framing.Length}");
            Append(text, fields);
            text.Append($" body={_body} +{_trailing}");
            if (_framing.Kind == BodyKind.Chunked)
            {
                Append(text, _chunked.Trailers);
            }

            return text.ToString();
        }

        private static void Append(StringBuilder text, FieldMap fields)
        {
            for (var i = 0; i < fields.Count; i++)
            {
                text.Append($" [{Text(fields[i].Name)}: {Text(fields[i].Value)}]");
            }
        }
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public static ReadOnlySequence<byte> Join(IEnumerable<byte[]> pieces)
        {
            Segment? first = null;
            Segment? last = null;
            foreach (var piece in pieces)
            {
                var segment = new Segment { Memory = piece };
                if (last is null)
                {
                    first = segment;
                }
                else
                {
                    segment.RunningIndex = last.RunningIndex + last.Memory.Length;
                    last.Next = segment;
                }

                last = segment;
            }

            return first is null ? default : new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
        }
    }
}
