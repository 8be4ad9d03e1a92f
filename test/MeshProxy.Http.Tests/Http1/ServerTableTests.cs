using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>
/// Streams of requests as clients and attackers send them, against a whole server connection: which requests a handler sees, how they are answered, and
/// whether the connection lives on. Every row is fed whole, byte by byte, cut in two at every place, and cut off at every place.
/// </summary>
public sealed partial class ServerTableTests
{
    private const string H = "Host: a\r\n";
    private const string Get = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    private const string Chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    private const string Upgrade = "GET /u HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n";

    private static readonly Http1Limits s_limits = new()
    {
        MaxHeadBytes = 400, MaxStartLineBytes = 100, MaxFields = 5, MaxRequestBodyBytes = 50, MaxTrailerBytes = 60, MaxDrainBytes = 20,
    };

    // The bytes; the requests that a handler saw whole (or !broken); the statuses on the wire; open, or closed by us.
    private static readonly (string Name, string Stream, string Seen, string Statuses, bool IsOpen)[] s_table =
    [
        ("one", Get, "GET /next", "200", true),
        ("pipelined", Get + Chunked + "3\r\nabc\r\n0\r\n\r\n" + "POST /l HTTP/1.1\r\n" + H + "Content-Length: 3\r\n\r\nabc\r\n" + Get,
            "GET /next; POST /c abc; POST /l abc; GET /next", "200 200 200 200", true),
        ("error in the middle", Get + "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + Get, "GET /next", "200 400", false),
        ("bare LF in the middle", Get + "GET / HTTP/1.1\nHost: a\n\n" + Get, "GET /next", "200 400", false),
        ("close", "GET / HTTP/1.1\r\n" + H + "Connection: close\r\n\r\n" + Get, "GET /", "200", false),
        ("close, keep-alive", "GET / HTTP/1.1\r\n" + H + "Connection: close, keep-alive\r\n\r\n" + Get, "GET /", "200", false),
        ("keep-alive, close on two lines", "GET / HTTP/1.1\r\n" + H + "Connection: keep-alive\r\nConnection: x, CLOSE\r\n\r\n" + Get, "GET /", "200", false),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n" + Get, "GET /", "200", false),
        ("HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + Get, "GET /; GET /next", "200 200", true),
        ("HTTP/1.0 keep-alive to a proxy", "GET http://a/ HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + Get, "GET /", "200", false),
        ("HTTP/1.0 close, keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n" + Get, "GET /", "200", false),

        ("CL.TE", "POST / HTTP/1.1\r\n" + H + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGPOST / HTTP/1.1\r\n\r\n", "", "400", false),
        ("TE.CL", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n", "", "400", false),
        ("TE.TE", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n0\r\n\r\n" + Get, "", "400", false),
        ("TE behind a space", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + Get, "", "400", false),
        ("CL twice", "POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc" + Get, "", "400", false),
        ("CL of a GET is its body", "GET / HTTP/1.1\r\n" + H + "Content-Length: 31\r\n\r\n" + Get, "GET / " + Get, "200", true),
        ("no CL, no body", "POST / HTTP/1.1\r\n" + H + "\r\n" + Get, "POST /; GET /next", "200 200", true),
        ("unknown coding", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + Get, "", "501", false),

        ("chunk size", Chunked + "x\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("chunk too short", Chunked + "2\r\nabc\r\n0\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("chunk too long", Chunked + "4\r\nabc\r\n0\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("chunk ends in LF", Chunked + "3\r\nabc\n0\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("extension ends in LF", Chunked + "3;a\nabc\r\n0\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("extension with a bare CR", Chunked + "3;a\rb\r\nabc\r\n0\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("last chunk and no more", Chunked + "0\r\n" + Get, "!ProtocolError", "400", false),
        ("trailer is no field", Chunked + "0\r\nGET /x HTTP/1.1\r\n\r\n" + Get, "!ProtocolError", "400", false),
        ("trailers frame nothing", Chunked + "0\r\nContent-Length: 30\r\nTransfer-Encoding: x\r\n\r\n" + Get, "POST /c; GET /next", "200 200", true),
        ("chunks over the limit", Chunked + "28\r\n" + new string('a', 40) + "\r\nb\r\n", "!BodyTooLarge", "400", false),
        ("trailers over the limit", Chunked + "0\r\nx: " + new string('a', 60) + "\r\n\r\n", "!TrailersTooLarge", "400", false),

        ("empty line first", "\r\n" + Get + "\r\n" + Get, "GET /next; GET /next", "200 200", true),
        ("two empty lines", "\r\n\r\n" + Get, "", "400", false),
        ("bytes behind a body", "POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\n\r\nabcGET " + Get, "POST / abc", "200 400", false),
        ("HTTP/0.9", "GET /\r\n", "", "400", false),
        ("HTTP/1.2", "GET / HTTP/1.2\r\n" + H + "\r\n" + Get, "GET /; GET /next", "200 200", true),
        ("HTTP/2.0", "GET / HTTP/2.0\r\n" + H + "\r\n" + Get, "", "505", false),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x4\0\0\0\0\0", "", "505", false),
        ("TLS", "\x16\x3\x1\x2\0\x1\0\x1\xFC", "", "400", false),
        ("https on http", "GET https://a/ HTTP/1.1\r\n" + H + "\r\n" + Get, "", "421", false),
        ("unknown expectation", "GET / HTTP/1.1\r\n" + H + "Expect: tea\r\n\r\n" + Get, "", "417", false),
        ("method too long", new string('M', 33) + " / HTTP/1.1\r\n" + H + "\r\n", "", "501", false),
        ("target too long", "GET /" + new string('a', 100) + " HTTP/1.1\r\n" + H + "\r\n", "", "414", false),
        ("head too large", "GET / HTTP/1.1\r\n" + H + "x: " + new string('a', 400) + "\r\n\r\n", "", "431", false),
        ("too many fields", "GET / HTTP/1.1\r\n" + H + "a:\r\nb:\r\nc:\r\nd:\r\ne:\r\n\r\n", "", "431", false),
        ("body too large", "POST / HTTP/1.1\r\n" + H + "Content-Length: 51\r\n\r\n", "", "413", false),
        ("h2c", "GET / HTTP/1.1\r\n" + H + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + Get, "GET /; GET /next", "200 200", true),
        ("upgrade refused", Upgrade + Get, "GET /u; GET /next", "200 200", true),
        ("upgrade with a body", "GET /u HTTP/1.1\r\n" + H + "Connection: upgrade\r\nUpgrade: foo\r\nContent-Length: 3\r\n\r\nabc" + Get, "GET /u abc; GET /next", "200 200", true),
        ("100 is not waited for", "POST /e HTTP/1.1\r\n" + H + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + Get, "POST /e abc; GET /next", "200 200", true),
    ];

    public static IEnumerable<TestCaseData> Rows() => s_table.Select((row, i) => new TestCaseData(i).SetArgDisplayNames(row.Name));

    [TestCaseSource(nameof(Rows))]
    public void EveryCutGivesTheSame(int row)
    {
        var (_, stream, seen, statuses, isOpen) = s_table[row];
        var bytes = Encoding.Latin1.GetBytes(stream);
        var expected = $"{seen} | {statuses} | {(isOpen ? "open" : "closed")}";
        Assert.That(Serve([bytes]).Text, Is.EqualTo(expected));
        Assert.That(Serve(bytes.Select(b => new[] { b })).Text, Is.EqualTo(expected), "byte by byte");
        for (var cut = 1; cut < bytes.Length; cut++)
        {
            Assert.That(Serve([bytes[..cut], bytes[cut..]]).Text, Is.EqualTo(expected), $"cut at {cut}");
        }
    }

    [TestCaseSource(nameof(Rows))]
    public void WhatIsCutOffIsNeverTakenForWhole(int row)
    {
        var (_, stream, seen, statuses, _) = s_table[row];
        var bytes = Encoding.Latin1.GetBytes(stream);
        var whole = seen.Split("; ", StringSplitOptions.RemoveEmptyEntries);
        for (var length = 0; length < bytes.Length; length++)
        {
            var (_, requests, codes, isOver) = Serve([bytes[..length]], closes: true);
            Assert.That(isOver, $"after {length} bytes");

            // What was served is what would have been, in order; what was cut off in its body is broken; nothing else is seen.
            var complete = requests.Where(request => request != "!PeerClosed").ToArray();
            Assert.That(complete, Is.EqualTo(whole.Take(complete.Length)), $"after {length} bytes");
            Assert.That(requests.Length - complete.Length, Is.LessThanOrEqualTo(1));
            Assert.That(codes.Where(code => code != "100"), Is.EqualTo(statuses.Split(' ').Take(codes.Count(code => code != "100"))), $"after {length} bytes");
            Assert.That(codes.Count(code => code == "200"), Is.EqualTo(complete.Count(request => request[0] != '!')), $"after {length} bytes");
        }
    }

    private static (string Text, string[] Requests, string[] Statuses, bool IsOver) Serve(IEnumerable<byte[]> pieces, bool closes = false)
    {
        EventLoop.Imitate();
        var pipes = new InMemoryDuplex();
        var client = new Peer(pipes.Client);
        var server = new Http1ServerConnection(
            pipes.Server.Input, pipes.Server.Output, new Http1ServerOptions { Date = new DateField(new FixedTime()), Limits = s_limits });
        var seen = new List<string>();
        var run = server.RunAsync(new Handler(exchange => AnswerAsync(exchange, seen)));
        foreach (var piece in pieces)
        {
            client.Send(piece);
        }

        if (closes)
        {
            client.Close();
        }

        var answer = client.Take();
        var statuses = StatusLine().Matches(answer).Select(match => match.Groups[1].Value).ToArray();
        var isOpen = !client.HasEnded && !run.IsCompleted;
        client.Close();
        return ($"{string.Join("; ", seen)} | {string.Join(' ', statuses.Where(code => code != "100"))} | {(isOpen ? "open" : "closed")}",
            [.. seen], statuses, run.IsCompletedSuccessfully);
    }

    private static async ValueTask AnswerAsync(HttpServerExchange exchange, List<string> seen)
    {
        var text = $"{Encoding.ASCII.GetString(exchange.Request.MethodToken)} {Encoding.ASCII.GetString(exchange.Request.Path)}";
        var body = "";
        var chunk = default(BodyChunk);
        while (!chunk.IsEnd && exchange.Request.Protocol.IsEmpty)
        {
            chunk = await exchange.RequestBody.ReadAsync();
            if (chunk.IsBroken)
            {
                seen.Add("!" + chunk.End.Reason);
                if (chunk.End.Reason == StreamResetReason.PeerClosed)
                {
                    return;
                }

                exchange.Response.Status = 400;
                exchange.Response.EndsStream = true;
                exchange.WriteHead(exchange.Response);
                return;
            }

            body += Encoding.Latin1.GetString(chunk.Data);
            exchange.RequestBody.Advance(chunk.Data.Length);
        }

        seen.Add(body.Length == 0 ? text : text + " " + body);
        await ServerConnectionTests.Answer(exchange, "ok");
    }

    [GeneratedRegex(@"HTTP/1\.1 (\d\d\d) ")]
    private static partial Regex StatusLine();
}
