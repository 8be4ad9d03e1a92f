using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;
using MeshProxy.Http.Http1;

namespace MeshProxy.Fuzz.Targets;

/// <summary>Requests, with their bodies.</summary>
internal sealed class Http1RequestTarget : FuzzTarget
{
    public override string Name => "http1-request";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\r\\n", "\\n", "\\r", "\\r\\n\\r\\n", ":", " ", "\\t", "\\x00", ",", ";", "0", "1", "chunked", "identity", "Content-Length: 5\\r\\n", "Content-Length: 05\\r\\n", "Content-Length: +5\\r\\n",
        "Transfer-Encoding: chunked\\r\\n", "Transfer-Encoding : chunked\\r\\n", "Transfer-Encoding: chunked, chunked\\r\\n", "Transfer-Encoding:\\tchunked\\r\\n", "Host: a\\r\\n", "Host: b:80\\r\\n",
        "Connection: close\\r\\n", "Connection: keep-alive\\r\\n", "Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n", "Expect: 100-continue\\r\\n", "Cookie: a=b\\r\\n", "X: y\\r\\n", " folded\\r\\n",
        "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "GET ", "HEAD ", "POST ", "OPTIONS * ", "CONNECT a:1 ", "TRACE ", "HTTP/1.2", "Upgrade: foo\\r\\nConnection: upgrade\\r\\n", "Upgrade: h2c, websocket\\r\\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n", "Expect: x\\r\\n", "http://a", "http://A:80/", "https://a/", "http://a?x", "//", "[::1]", "[1:2::3.4.5.6]", "::", "0:", ":65536", "%41", "%00", "\\x80", "#",
        "5\\r\\nhello\\r\\n0\\r\\n\\r\\n", "5;x=\\\"y\\\"\\r\\n", "00000000000000005\\r\\n", "0\\r\\nx: y\\r\\nContent-Length: 1\\r\\n\\r\\n", "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n",
    ];

    public override string Run(byte[] input)
    {
        var ours = Http1Feed.ReadEveryWay(() => Http1Feed.Request(Http1Limits.Default), input, out var detail);
        Http1Judgement.Judge(ours, Http1Reading.Request(Text(input)));

        // Small limits: no oracle but that every cut agrees.
        Http1Feed.ReadEveryWay(() => Http1Feed.Request(Http1Judgement.SmallLimits), input, out _);
        return Http1Judgement.Outcome(ours) + detail;
    }
}

/// <summary>Responses, with their bodies. The first byte says whether a HEAD is answered.</summary>
internal sealed class Http1ResponseTarget : FuzzTarget
{
    public override string Name => "http1-response";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\r\\n", "\\n", "\\r", "\\r\\n\\r\\n", ":", " ", "\\t", "\\x00", "HTTP/1.0 200 OK\\r\\n", "HTTP/1.1 204\\r\\n", "HTTP/1.1 304 \\r\\n", "HTTP/1.1 103 Early\\r\\n\\r\\n", "100", "101", "599", "600", "99", "0200",
        "Content-Length: 5\\r\\n", "Content-Length: 05\\r\\n", "Content-Length: 5, 5\\r\\n", "Transfer-Encoding: chunked\\r\\n", "Transfer-Encoding: gzip, chunked\\r\\n", "Connection: close\\r\\n", "X: \\x80\\r\\n", " folded\\r\\n",
        "5\\r\\nhello\\r\\n0\\r\\n\\r\\n", "0\\r\\n\\r\\n", "G", "H",
    ];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var answersHead = input[0] == 'H';
        var method = answersHead ? RequestMethod.Head : RequestMethod.Get;
        var message = input[1..];
        var ours = Http1Feed.ReadEveryWay(() => Http1Feed.Response(method, Http1Limits.Default), message, out var detail);
        Http1Judgement.Judge(ours, Http1Reading.Response(Text(message), answersHead));
        Http1Feed.ReadEveryWay(() => Http1Feed.Response(method, Http1Judgement.SmallLimits), message, out _);
        return Http1Judgement.Outcome(ours) + detail;
    }
}

/// <summary>Chunked bodies alone.</summary>
internal sealed class ChunkedTarget : FuzzTarget
{
    public override string Name => "chunked";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\r\\n", "\\n", "\\r", ";", " ;", "\\t", ";a=b", "\\t=\\t", "\\\"", "\\\\", ";a=\\\"b\\r\\n\\\"", "0", "0\\r\\n", "0\\r\\n\\r\\n", "5\\r\\nhello\\r\\n", "A", "f", "0x5", "-1", "+5", "5 ", "000000000000005", "0000000000000005", "fffffffffffffff",
        "7fffffffffffffff", "x: y\\r\\n", "content-length: 4\\r\\n", "Trailer: x\\r\\n", " folded\\r\\n", "\\x00", "\\x80",
    ];

    public override string Run(byte[] input)
    {
        var ours = Http1Feed.ReadEveryWay(() => Http1Feed.ChunkedBody(Http1Limits.Default), input, out var detail);
        Http1Judgement.Judge(ours, $" Chunked:0 {Http1Reading.Chunked(Text(input), 0, out _)}");
        Http1Feed.ReadEveryWay(() => Http1Feed.ChunkedBody(Http1Judgement.SmallLimits), input, out _);
        return Http1Judgement.Outcome(ours) + detail;
    }
}

/// <summary>How a reading of ours is held against the oracle's.</summary>
internal static class Http1Judgement
{
    private const string Either = "| more or refused |";

    public static Http1Limits SmallLimits { get; } = new()
    {
        MaxHeadBytes = 120,
        MaxStartLineBytes = 24,
        MaxMethodBytes = 6,
        MaxFields = 4,
        MaxTrailerBytes = 20,
        MaxChunkSizeDigits = 3,
        MaxChunkExtensionBytes = 6,
        MaxChunkExtensionBytesPerBody = 9,
        MaxRequestBodyBytes = 9,
    };

    /// <summary>Equal, except that what is not whole yet may be refused early: the first wrong byte decides, and the oracle looks at whole lines.</summary>
    public static void Judge(string ours, string oracle)
    {
        var agrees = ours == oracle || (oracle == "more" && ours == "refused")
            || (oracle.Contains(Either, StringComparison.Ordinal)
                && (ours == oracle.Replace(Either, "| body |", StringComparison.Ordinal) || ours == oracle.Replace(Either, "| body refused |", StringComparison.Ordinal)));
        if (!agrees)
        {
            throw new FindingException($"the grammar says otherwise\n  ours:    {Escaped.Write(ours)}\n  grammar: {Escaped.Write(oracle)}");
        }
    }

    /// <summary>The shape of a reading: letters and digits run together, so that only its structure counts.</summary>
    public static string Outcome(string reading)
    {
        var shape = new System.Text.StringBuilder();
        foreach (var character in reading)
        {
            var kind = char.IsAsciiLetterOrDigit(character) ? 'a' : character;
            if (shape.Length == 0 || shape[^1] != kind)
            {
                shape.Append(kind);
            }
        }

        return shape.ToString(0, Math.Min(shape.Length, 40));
    }
}
