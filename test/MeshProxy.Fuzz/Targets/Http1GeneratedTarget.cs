using System.Globalization;
using System.Text;
using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;
using MeshProxy.Http.Http1;

namespace MeshProxy.Fuzz.Targets;

/// <summary>
/// Valid messages of every shape, written from the grammar together with what they mean: parsers and oracle must both find exactly that, however the bytes
/// are cut. Then the message is damaged, and both must still agree. The input is only the row of choices that it is made by.
/// </summary>
internal sealed class Http1GeneratedTarget : FuzzTarget
{
    private const string Letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    private const string Token = Letters + "!#$%&'*+-.^_`|~";
    private const string Visible = Token + "\"(),/:;<=>?@[\\]{}";
    private const string ObsText = "\x80\xA0\xC3\xE4\xFF";

    private readonly StringBuilder _wire = new();
    private readonly List<(string Name, string Value)> _fields = [];
    private Entropy _entropy = new([]);
    private string _body = "";
    private string _trailers = "";

    public override string Name => "http1-generated";

    public override IReadOnlyList<string> Tokens => [];

    public override string Run(byte[] input)
    {
        _entropy = new Entropy(input);
        _wire.Clear();
        _fields.Clear();
        var isRequest = _entropy.Once(2);
        var answersHead = !isRequest && _entropy.Once(5);
        var expected = isRequest ? WriteRequest() : WriteResponse(answersHead);
        var bytes = Encoding.Latin1.GetBytes(_wire.ToString());
        var oracle = isRequest ? Http1Reading.Request(Text(bytes)) : Http1Reading.Response(Text(bytes), answersHead);
        Same(oracle, expected, $"the oracle does not find what was written: {Escaped.Write(bytes)}");
        Same(Read(isRequest, answersHead, bytes), expected, $"the parser does not find what was written: {Escaped.Write(bytes)}");

        for (var count = _entropy.Next(4); count > 0; count--)
        {
            bytes = Damage(bytes);
            oracle = isRequest ? Http1Reading.Request(Text(bytes)) : Http1Reading.Response(Text(bytes), answersHead);
            Http1Judgement.Judge(Read(isRequest, answersHead, bytes), oracle);
        }

        return Http1Judgement.Outcome(oracle);
    }

    private static string Read(bool isRequest, bool answersHead, byte[] bytes)
    {
        var method = answersHead ? RequestMethod.Head : RequestMethod.Get;
        return Http1Feed.ReadEveryWay(
            () => isRequest ? Http1Feed.Request(Http1Limits.Default) : Http1Feed.Response(method, Http1Limits.Default), bytes, out _);
    }

    private string WriteRequest()
    {
        var minor = _entropy.Of(1, 1, 1, 0, 2, 9);
        var version = minor == 0 ? "Http10" : "Http11";
        var method = _entropy.Of("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get", _entropy.Text(Token, 1, 12));
        var host = _entropy.Of("a", "A.b-c_d", "a:80", "a:", "a:8080", "[::1]", "[1::3.4.5.6]:0080", "%C3%A4", "x!$&'()*+;=~");
        var hasHost = minor > 0 || _entropy.Once(2);
        var (target, path) = WriteTarget(method, ref host, hasHost);
        _wire.Append(_entropy.Once(4) ? "\r\n" : "").Append(CultureInfo.InvariantCulture, $"{method} {target} HTTP/1.{minor}\r\n");

        var hostAt = hasHost ? _entropy.Next(3) : -1;
        var count = _entropy.Next(6);
        for (var i = 0; i <= Math.Max(count, hostAt); i++)
        {
            if (i == hostAt)
            {
                WriteField("hOsT", host, isKept: false);
            }

            if (i < count)
            {
                WriteOrdinaryField();
            }
        }

        var authority = hasHost || target[0] is not ('/' or '*') ? host : "";
        var framing = WriteFraming(minor, canBeChunked: minor > 0, otherwise: "None:0");
        return $"{method} http://{authority} {path} {version}{Fields()} {End(framing)}";
    }

    private (string Target, string Path) WriteTarget(string method, ref string host, bool hasHost)
    {
        if (method == "OPTIONS" && _entropy.Once(2))
        {
            return ("*", "*");
        }

        var path = "/" + _entropy.Text(Visible.Replace("#", "", StringComparison.Ordinal), 0, 20);
        if (_entropy.Once(3))
        {
            // The same host in another spelling: case, and the default port.
            var spelled = _entropy.Once(2) ? host.ToUpperInvariant() : host;
            spelled = hasHost && spelled == "A" && _entropy.Once(2) ? "a:0080" : spelled;
            host = hasHost ? host : spelled;
            var tail = _entropy.Of(path, "", "?" + path);
            return ($"{_entropy.Of("http", "HTTP")}://{spelled}{tail}", tail.Length == 0 ? method == "OPTIONS" ? "*" : "/" : tail[0] == '?' ? "/" + tail : tail);
        }

        return (path, path);
    }

    private string WriteResponse(bool answersHead)
    {
        var minor = _entropy.Of(1, 1, 1, 0, 2);
        var status = _entropy.Of(200, 204, 304, 100, 103, 100 + _entropy.Next(500));
        var reason = _entropy.Of(" ", " " + _entropy.Text(Visible + " \t" + ObsText, 0, 20), "");
        _wire.Append(CultureInfo.InvariantCulture, $"HTTP/1.{minor} {status}{reason}\r\n");
        for (var count = _entropy.Next(6); count > 0; count--)
        {
            WriteOrdinaryField();
        }

        var hasBody = !answersHead && status is >= 200 and not (204 or 304);
        var framing = hasBody ? WriteFraming(minor, canBeChunked: minor > 0, otherwise: "UntilClose:0") : WriteVainLength(status);
        return $"{status} {(minor == 0 ? "Http10" : "Http11")}{Fields()} {End(framing)}";
    }

    // Where no body may be, a length is legal for HEAD and 304, and no use for 1xx and 204.
    private string WriteVainLength(int status)
    {
        if (_entropy.Once(2))
        {
            WriteField("Content-Length", "5", isKept: status is >= 200 and not 204);
        }

        _wire.Append("\r\n");
        return "None:0";
    }

    private string WriteFraming(int minor, bool canBeChunked, string otherwise)
    {
        (_body, _trailers) = ("", "");
        var choice = _entropy.Next(canBeChunked ? 3 : 2);
        if (choice == 0)
        {
            _wire.Append("\r\n");
            return otherwise;
        }

        _body = _entropy.Text(Visible + "\r\n\0" + ObsText, 0, 40);
        if (choice == 1)
        {
            var zeros = _entropy.Of("", "", "0", "000");
            var canonical = _body.Length.ToString(CultureInfo.InvariantCulture);
            WriteField("Content-Length", zeros + canonical, isKept: zeros.Length == 0);
            WriteOrdinaryField();
            if (zeros.Length > 0)
            {
                // Rewritten at the end.
                _fields.Add(("content-length", canonical));
            }

            _wire.Append("\r\n").Append(_body);
            return _body.Length == 0 ? "None:0" : $"Length:{canonical}";
        }

        WriteField(_entropy.Of("Transfer-Encoding", "TRANSFER-ENCODING"), _entropy.Of("chunked", "Chunked"), isKept: true);
        WriteOrdinaryField();
        _wire.Append("\r\n");
        WriteChunks();
        return "Chunked:0";
    }

    private void WriteChunks()
    {
        for (var at = 0; at < _body.Length;)
        {
            var size = 1 + _entropy.Next(_body.Length - at);
            _wire.Append(_entropy.Of("", "0", "00000")).Append(size.ToString(_entropy.Of("x", "X"), CultureInfo.InvariantCulture)).Append(Extensions()).Append("\r\n");
            _wire.Append(_body, at, size).Append("\r\n");
            at += size;
        }

        _wire.Append(_entropy.Of("0", "000")).Append(Extensions()).Append("\r\n");
        for (var count = _entropy.Next(4); count > 0; count--)
        {
            var (name, value) = (_entropy.Of("x-" + _entropy.Text(Token, 1, 8), "Content-Length", "Host", "transfer-encoding", "Cookie"), Value());
            _wire.Append(CultureInfo.InvariantCulture, $"{name}:{Blank()}{value}{Blank()}\r\n");
            _trailers += name.StartsWith("x-", StringComparison.Ordinal) ? $" [{name.ToLowerInvariant()}: {value}]" : "";
        }

        _wire.Append("\r\n");
    }

    private string Extensions()
    {
        var text = "";
        for (var count = _entropy.Next(3); count > 0; count--)
        {
            text += $"{Blank()};{Blank()}{_entropy.Text(Token, 1, 5)}";
            text += _entropy.Next(3) switch
            {
                0 => "",
                1 => $"{Blank()}={Blank()}{_entropy.Text(Token, 1, 5)}",
                _ => $"{Blank()}={Blank()}\"{_entropy.Text(Letters + " \t;=!#[]" + ObsText, 0, 5)}{_entropy.Of("", "\\\"", "\\\\", "\\x")}\"",
            };
        }

        return text;
    }

    private void WriteOrdinaryField()
    {
        // A prefix that no name with a meaning has.
        var name = _entropy.Of("x-y-" + _entropy.Text(Token, 0, 8), "Accept", "Server", "Cookie", "Content-Type");
        WriteField(name, Value(), isKept: true);
    }

    private void WriteField(string name, string value, bool isKept)
    {
        _wire.Append(CultureInfo.InvariantCulture, $"{name}:{Blank()}{value}{Blank()}\r\n");
        if (isKept)
        {
            _fields.Add((name.ToLowerInvariant(), value));
        }
    }

    private string Value() => _entropy.Text(Visible + " \t" + ObsText, 0, 16).Trim(' ', '\t');

    private string Blank() => _entropy.Of("", " ", " ", "\t", " \t ");

    private string Fields() => string.Concat(_fields.Select(field => $" [{field.Name}: {field.Value}]"));

    // What stands behind the message is none of its business, unless it has no end.
    private string End(string framing)
    {
        var rest = _entropy.Of("", "", "GET / HTTP/1.1\r\n\r\n", "\0");
        _wire.Append(rest);
        return framing switch
        {
            "UntilClose:0" => $"{framing} | body | {rest} |",
            "Chunked:0" => $"{framing} | done | {_body} |{_trailers} rest {rest.Length}",
            "None:0" => $"{framing} | done |  | rest {rest.Length}",
            _ => $"{framing} | done | {_body} | rest {rest.Length}",
        };
    }

    private byte[] Damage(byte[] bytes)
    {
        var at = _entropy.Next(Math.Min(bytes.Length, 65_536));
        var odd = Encoding.Latin1.GetBytes("\r\n\t :;,=\"\\0aF\0\x7F\xE4+-x/*#@[]%.").AsSpan();
        return _entropy.Next(5) switch
        {
            0 => [.. bytes[..at], .. bytes[(at + 1)..]],
            1 => [.. bytes[..at], odd[_entropy.Next(odd.Length)], .. bytes[at..]],
            2 => [.. bytes[..at], odd[_entropy.Next(odd.Length)], .. bytes[(at + 1)..]],
            3 => [.. bytes[..at], .. bytes[at..Math.Min(bytes.Length, at + 1 + _entropy.Next(24))], .. bytes[at..]],
            _ => [.. bytes[..at], (byte)(bytes[at] ^ (1 << _entropy.Next(8))), .. bytes[(at + 1)..]],
        };
    }
}
