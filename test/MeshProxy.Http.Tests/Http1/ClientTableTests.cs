using System.Text;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>
/// What upstreams answer, good and hostile, against a whole client connection (RFC 9112 section 6.3): what the exchange hands on, how it ends, and whether
/// the connection is used again. Every row is fed whole, byte by byte, cut in two at every place, and cut off at every place.
/// </summary>
public sealed class ClientTableTests
{
    private const string Ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    private const string Chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    private static readonly Http1Limits s_limits = new() { MaxHeadBytes = 400, MaxStartLineBytes = 100, MaxFields = 5, MaxInformationalHeads = 2, MaxTrailerBytes = 60 };

    // The method asked with, the bytes, what came out of them, and whether the connection may carry another request.
    private static readonly (string Name, string Method, string Stream, string Outcome, bool IsReusable)[] s_table =
    [
        ("length", "GET", Ok, "200 ok", true),
        ("chunked", "GET", Chunked + "1\r\no\r\n1;x=\"y\"\r\nk\r\n0\r\nt: 1\r\n\r\n", "200 ok [t: 1]", true),
        ("empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 ", true),
        ("informational first", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + Ok, "100 103 200 ok", true),
        ("informational fields frame nothing", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + Ok, "103 200 ok", true),
        ("too many informational", "GET", string.Concat(Enumerable.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 3)) + Ok, "102 102 !ProtocolError too_many_informational_heads", false),
        ("unasked 101", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n" + Ok, "!ProtocolError unasked_upgrade", false),
        ("HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "200 ", true),
        ("HEAD, chunked", "HEAD", Chunked, "200 ", true),
        ("HEAD with a body", "HEAD", Ok, "200 ", false),
        ("204", "DELETE", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "204 ", true),
        ("204, chunked", "DELETE", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "204 ", true),
        ("204 with a body", "DELETE", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "204 ", false),
        ("304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 200\r\n\r\n", "304 ", true),
        ("304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", "304 ", false),
        ("close", "GET", "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "200 ok", true),
        ("HTTP/1.2", "GET", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok", true),
        ("behind a response", "GET", Ok + Ok, "200 ok", false),
        ("a byte behind a response", "GET", Ok + "\r", "200 ok", false),
        ("behind the last chunk", "GET", Chunked + "0\r\n\r\n\r\n", "200 ", false),

        ("length and chunked", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!ProtocolError content_length_with_transfer_encoding", false),
        ("two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "!ProtocolError several_content_lengths", false),
        ("equal lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "!ProtocolError several_content_lengths", false),
        ("list of lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "!ProtocolError invalid_content_length", false),
        ("signed length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "!ProtocolError invalid_content_length", false),
        ("unknown coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "!ProtocolError unknown_transfer_coding", false),
        ("chunked twice", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "!ProtocolError invalid_transfer_encoding", false),
        ("chunked in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!ProtocolError transfer_encoding_in_http10", false),
        ("no status line", "GET", "ok", "!ProtocolError invalid_status_line", false),
        ("HTTP/2 SETTINGS", "GET", "\0\0\0\x4\0\0\0\0\0", "!ProtocolError invalid_status_line", false),
        ("HTTP/2.0", "GET", "HTTP/2.0 200 OK\r\n\r\n", "!ProtocolError unsupported_version", false),
        ("status 600", "GET", "HTTP/1.1 600 Odd\r\n\r\n", "!ProtocolError invalid_status", false),
        ("empty line first", "GET", "\r\n" + Ok, "!ProtocolError invalid_status_line", false),
        ("bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "!ProtocolError bare_lf", false),
        ("bare CR", "GET", "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 2\r\n\r\nok", "!ProtocolError bare_cr", false),
        ("folded", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 2\r\n\r\nok", "!ProtocolError folded_line", false),
        ("space before colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "!ProtocolError white_space_before_colon", false),
        ("NUL", "GET", "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "!ProtocolError control_character_in_value", false),
        ("head too large", "GET", "HTTP/1.1 200 OK\r\nA: " + new string('a', 400) + "\r\n\r\n", "!ProtocolError head_too_large", false),
        ("status line too long", "GET", "HTTP/1.1 200 " + new string('a', 100) + "\r\n\r\n", "!ProtocolError status_line_too_long", false),
        ("too many fields", "GET", "HTTP/1.1 200 OK\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\n\r\n", "!ProtocolError too_many_fields", false),
        ("chunk size", "GET", Chunked + "0x2\r\nok\r\n0\r\n\r\n", "200 !ProtocolError invalid_chunk_size", false),
        ("chunk too short", "GET", Chunked + "1\r\nok\r\n0\r\n\r\n", "200 !ProtocolError invalid_chunk_terminator", false),
        ("chunk ends in LF", "GET", Chunked + "2\r\nok\n0\r\n\r\n", "200 !ProtocolError invalid_chunk_terminator", false),
        ("trailer is no field", "GET", Chunked + "0\r\nHTTP/1.1 200 OK\r\n\r\n", "200 !ProtocolError invalid_field_name", false),
        ("trailers too large", "GET", Chunked + "0\r\nx: " + new string('a', 60) + "\r\n\r\n", "200 !TrailersTooLarge trailers_too_large", false),
        ("trailers frame nothing", "GET", Chunked + "0\r\nContent-Length: 9\r\nSet-Cookie: a\r\n\r\n", "200 ", true),
    ];

    public static IEnumerable<TestCaseData> Rows() => s_table.Select((row, i) => new TestCaseData(i).SetArgDisplayNames(row.Name));

    [TestCaseSource(nameof(Rows))]
    public void EveryCutGivesTheSame(int row)
    {
        var (_, method, stream, outcome, isReusable) = s_table[row];
        var bytes = Encoding.Latin1.GetBytes(stream);

        // What breaks in its body may have given some of it before: only what is whole is compared.
        Assert.That(Exchange(method, [bytes]), Is.EqualTo((outcome, isReusable)));
        Assert.That(Exchange(method, bytes.Select(b => new[] { b })), Is.EqualTo((outcome, isReusable)), "byte by byte");
        for (var cut = 1; cut < bytes.Length; cut++)
        {
            Assert.That(Exchange(method, [bytes[..cut], bytes[cut..]]), Is.EqualTo((outcome, isReusable)), $"cut at {cut}");
        }
    }

    [TestCaseSource(nameof(Rows))]
    public void WhatIsCutOffIsBroken(int row)
    {
        var (_, method, stream, outcome, isReusable) = s_table[row];
        var bytes = Encoding.Latin1.GetBytes(stream);
        var isOver = false;
        for (var length = 0; length < bytes.Length; length++)
        {
            var (part, isUsedAgain) = Exchange(method, [bytes[..length]], closes: true);
            Assert.That(isUsedAgain, Is.False, $"after {length} bytes");

            // Once the outcome is there it stays, whatever is cut off behind it.
            isOver |= part == outcome;
            Assert.That(isOver ? part == outcome : part.Contains("!PeerClosed", StringComparison.Ordinal), $"after {length} bytes: {part}");
            Assert.That(isOver && isReusable, Is.False, $"after {length} of {bytes.Length} bytes it was taken for whole");
        }
    }

    [Test]
    public void UntilCloseIsWholeOnlyWithAnOrderlyEnd()
    {
        Assert.That(Exchange("GET", ["HTTP/1.1 200 OK\r\n\r\nall of it"u8.ToArray()], closes: true), Is.EqualTo(("200 all of it", false)));
        Assert.That(Exchange("GET", ["HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nall"u8.ToArray()], closes: true), Is.EqualTo(("200 all", false)));
    }

    private static (string Outcome, bool IsReusable) Exchange(string method, IEnumerable<byte[]> pieces, bool closes = false)
    {
        EventLoop.Imitate();
        var pipes = new InMemoryDuplex();
        var upstream = new Peer(pipes.Server);
        var events = new ClientConnectionTests.Recorder();
        var client = new Http1ClientConnection(pipes.Client.Input, pipes.Client.Output, new Http1ClientOptions { Limits = s_limits }, events);
        _ = client.RunAsync();
        var exchange = client.TryOpenExchange()!;
        var head = new RequestHead();
        head.SetMethod(Encoding.ASCII.GetBytes(method));
        head.SetAuthority("a"u8);
        head.SetPath("/"u8);
        head.EndsStream = true;
        exchange.WriteHead(head);
        _ = exchange.FlushAsync().AsTask();
        var reading = ReadAsync(exchange);
        foreach (var piece in pieces)
        {
            upstream.Send(piece);
        }

        if (closes)
        {
            upstream.Close();
        }

        Assert.That(reading.IsCompletedSuccessfully, "the exchange waits for more");
        exchange.Complete();
        return (reading.Result, client.TryOpenExchange() is not null);
    }

    private static async Task<string> ReadAsync(HttpClientExchange exchange)
    {
        var text = "";
        do
        {
            if (!await exchange.ReadHeadAsync())
            {
                return $"{text}!{exchange.End.Reason} {exchange.End.Detail}";
            }

            text += exchange.Response.Status + " ";
        }
        while (exchange.Response.IsInformational);

        var body = "";
        while (true)
        {
            var chunk = await exchange.ResponseBody.ReadAsync();
            if (chunk.IsBroken)
            {
                return $"{text}!{chunk.End.Reason} {chunk.End.Detail}";
            }

            body += Encoding.Latin1.GetString(chunk.Data);
            exchange.ResponseBody.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                break;
            }
        }

        var trailers = exchange.ResponseBody.Trailers;
        for (var i = 0; i < trailers.Count; i++)
        {
            body += $" [{Encoding.ASCII.GetString(trailers[i].Name)}: {Encoding.ASCII.GetString(trailers[i].Value)}]";
        }

        return text + body;
    }
}
