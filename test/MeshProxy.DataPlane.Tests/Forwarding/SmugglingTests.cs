using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>
/// Requests and responses that two readers could understand differently, through a whole proxy on real sockets: what the client gets, and that the endpoint
/// sees exactly the requests that were meant, written anew. The codec's own tables (ServerTableTests, ClientTableTests) have every case and every cut.
/// </summary>
internal sealed partial class SmugglingTests
{
    private const string H = "Host: a\r\n";
    private const string Next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    private const string Chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    [TestCase("plain", Next + Next, "200 200", "GET /next ; GET /next ")]
    [TestCase("CL.TE", "POST / HTTP/1.1\r\n" + H + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "400", "")]
    [TestCase("TE.CL", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1f\r\n" + Next + "\r\n0\r\n\r\n", "400", "")]
    [TestCase("TE.TE", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + Next, "501", "")]
    [TestCase("CL.0", "GET / HTTP/1.1\r\n" + H + "Content-Length: 31\r\n\r\n" + Next + Next, "200 200", "GET / GET /next HTTP/1.1~~Host: a~~~~; GET /next ")]
    [TestCase("TE.0", "OPTIONS / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n1f\r\n" + Next + "\r\n0\r\n\r\n" + Next, "200 200", "OPTIONS / GET /next HTTP/1.1~~Host: a~~~~; GET /next ")]
    [TestCase("bare CR", "POST / HTTP/1.1\r\n" + H + "X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + Next, "400", "")]
    [TestCase("space before colon", "POST / HTTP/1.1\r\n" + H + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + Next, "400", "")]
    [TestCase("Connection names framing", "POST / HTTP/1.1\r\n" + H + "Connection: content-length, host, x-a\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc" + Next, "200 200", "POST / abc; GET /next ")]
    [TestCase("extension and trailers", Chunked + "3;a=\"b\"\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n" + Next, "200 200", "POST /c abc; GET /next ")]
    [TestCase("extension ends in LF", Chunked + "3;a\nabc\r\n0\r\n\r\n" + Next, "400", "")]
    [TestCase("chunk size in LF", Chunked + "3\nabc\r\n0\r\n\r\n" + Next, "400", "")]
    [TestCase("chunk too long", Chunked + "3\r\nabcd\r\n0\r\n\r\n" + Next, "400", "")]
    [TestCase("h2c", "GET / HTTP/1.1\r\n" + H + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" + Next, "200 200", "GET / ; GET /next ")]
    [TestCase("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + Next, "404", "")]
    [TestCase("target and Host", "GET http://b/ HTTP/1.1\r\n" + H + "\r\n" + Next, "400", "")]
    public async Task Requests(string name, string stream, string statuses, string seen)
    {
        var requests = new List<string>();
        await using var server = ScriptedServer.Http1(request =>
        {
            Assert.That(request.Fields.Keys.Intersect(["x-a", "upgrade", "http2-settings", "te", "keep-alive", "connection"]), Is.Empty);
            Assert.That(request.Fields.ContainsKey("content-length") && request.Fields.ContainsKey("transfer-encoding"), Is.False);
            Assert.That(request.Trailers, Is.Empty);
            lock (requests)
            {
                requests.Add($"{request.StartLine[..request.StartLine.LastIndexOf(' ')]} {request.Text}");
            }

            return ScriptedServer.Ok("ok");
        });
        var cluster = Configs.Cluster();
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(cluster, server.EndPoint));
        await using var wire = await proxy.DialAsync();
        await wire.SendAsync(stream);
        wire.Finish();
        var answers = Encoding.Latin1.GetString(await wire.ReadToEndAsync());
        Assert.That(string.Join(' ', StatusLine().Matches(answers).Select(match => match.Groups[1].Value)), Is.EqualTo(statuses), name);
        Assert.That(string.Join("; ", requests).Replace("\r\n", "~~", StringComparison.Ordinal), Is.EqualTo(seen), name);
    }

    [TestCase("both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    [TestCase("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")]
    [TestCase("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok")]
    [TestCase("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok")]
    [TestCase("unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")]
    [TestCase("unasked 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")]
    [TestCase("no status line", "<html>hello</html>")]
    public async Task Responses_that_are_none(string name, string response)
    {
        await using var server = ScriptedServer.Http1(_ => response);
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var answer = await proxy.PostAsync("x");
        Assert.That((answer.Status, answer.Flag), Is.EqualTo((502, "UPE")), name);
    }

    // A second response behind the first must never become the answer to somebody else's request.
    [Test]
    public async Task A_response_too_many_is_nobodys()
    {
        await using var server = ScriptedServer.Http1(request =>
            ScriptedServer.Ok(request.Text) + (request.Text == "attack" ? ScriptedServer.Ok("poison") : ""));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        for (var round = 0; round < 20; round++)
        {
            Assert.That((await proxy.PostAsync("attack")).Text, Is.EqualTo("attack"));
            Assert.That((await proxy.PostAsync($"victim {round}")).Text, Is.EqualTo($"victim {round}"));
        }
    }

    [TestCase("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")]
    [TestCase("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")]
    [TestCase("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n")]
    public async Task A_response_that_is_cut_off_never_looks_whole(string response)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync(response);
            wire.Finish();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var wire = await proxy.DialAsync();
        await wire.SendAsync("GET / HTTP/1.0\r\n" + H + "\r\n");
        Assert.That(await wire.EndsWithResetAsync(), "an orderly end is how a response to HTTP/1.0 ends");
    }

    // RFC 9113 section 8.1.1: a request whose DATA is not what its content-length says is malformed, and must not be forwarded. The endpoint, which ends a request where
    // its length does, must not see one that looks whole before its END_STREAM has come.
    [TestCase("0", "", "x")]
    [TestCase("0", "", null)]
    [TestCase("1", "a", "x")]
    [TestCase("3", "abc", "x")]
    [TestCase("3", "ab", null)]
    [TestCase("3", "abc", null)]
    [TestCase("70000", "*", "x")]
    public async Task An_HTTP2_request_looks_whole_to_an_HTTP1_endpoint_only_when_it_is(string length, string data, string? more)
    {
        var body = data == "*" ? new string('a', 70_000) : data;
        var isWhole = more is null && body.Length == int.Parse(length, CultureInfo.InvariantCulture);
        var reached = new TaskCompletionSource();
        var seen = new TaskCompletionSource<string>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            var text = new StringBuilder();
            var buffer = new byte[100_000];
            try
            {
                while (await wire.ReadSomeAsync(buffer) is > 0 and var count)
                {
                    text.Append(Encoding.Latin1.GetString(buffer, 0, count));
                    if (text.Length >= body.Length)
                    {
                        reached.TrySetResult();
                    }

                    if (isWhole && text.ToString().EndsWith($"\r\n\r\n{body}", StringComparison.Ordinal))
                    {
                        await wire.SendAsync(ScriptedServer.Ok("ok"));
                        break;
                    }
                }
            }
            catch (SocketException)
            {
            }

            seen.SetResult(text.ToString());
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("content-length", length)));
        for (var at = 0; at < body.Length; at += 10_000)
        {
            await client.SendFrameAsync(Frame.Data, 0, 1, Encoding.ASCII.GetBytes(body[at..Math.Min(body.Length, at + 10_000)]));
            if (at == 40_000)
            {
                // The rest when there is room for it on the stream; the connection's window is opened at once.
                while ((await client.ReadFrameAsync(Frame.WindowUpdate)).Stream != 1)
                {
                }
            }
        }

        // It is on its way: what comes now decides what it was.
        await reached.Task.WaitAsync(Wire.Patience);
        await client.SendFrameAsync(Frame.Data, (byte)(more is null ? 1 : 0), 1, Encoding.ASCII.GetBytes(more ?? ""));
        var answer = await client.ReadFrameAsync(Frame.Headers, Frame.Reset);
        Assert.That(answer.Type, Is.EqualTo(isWhole ? Frame.Headers : Frame.Reset));
        var request = await seen.Task.WaitAsync(Wire.Patience);
        var end = request.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        if (isWhole)
        {
            Assert.That(request[(end + 4)..], Is.EqualTo(body));
            Assert.That(request, Does.Contain($"\r\ncontent-length: {length}\r\n"));
        }
        else
        {
            Assert.That(answer.Payload[3], Is.EqualTo(1), "PROTOCOL_ERROR");
            Assert.That(end < 0 || request.Length - end - 4 < int.Parse(length, CultureInfo.InvariantCulture), $"it never looked whole: {request.Length} bytes");
            Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DPE"));
        }
    }

    // The same the other way: a client must not take a malformed response for a good one.
    [TestCase("0", "", "x")]
    [TestCase("0", "", null)]
    [TestCase("3", "abc", "x")]
    [TestCase("3", "ab", null)]
    [TestCase("3", "abc", null)]
    public async Task An_HTTP2_response_looks_whole_to_an_HTTP1_client_only_when_it_is(string length, string data, string? more)
    {
        var isWhole = more is null && data.Length == int.Parse(length, CultureInfo.InvariantCulture);
        var reached = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "200"), ("content-length", length)));
            await wire.SendFrameAsync(Frame.Data, 0, head.Stream, Encoding.ASCII.GetBytes(data));
            await reached.Task.WaitAsync(Wire.Patience);
            await wire.SendFrameAsync(Frame.Data, (byte)(more is null ? 1 : 0), head.Stream, Encoding.ASCII.GetBytes(more ?? ""));
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        var text = new StringBuilder();
        var buffer = new byte[10_000];
        var isReset = false;
        try
        {
            while (await client.ReadSomeAsync(buffer) is > 0 and var count)
            {
                text.Append(Encoding.Latin1.GetString(buffer, 0, count));
                reached.TrySetResult();
            }
        }
        catch (SocketException)
        {
            isReset = true;
        }

        var response = text.ToString();
        var end = response.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        Assert.That(isReset, Is.EqualTo(!isWhole));
        Assert.That(end < 0 ? -1 : response.Length - end - 4, isWhole ? Is.EqualTo(data.Length) : Is.LessThan(int.Parse(length, CultureInfo.InvariantCulture)));
        Assert.That((await proxy.AccessAsync()).TryGetProperty("meshproxy.flags", out var flag) ? flag.GetString() : null, Is.EqualTo(isWhole ? null : "UPE"));
    }

    [GeneratedRegex(@"HTTP/1\.1 (\d\d\d) ")]
    private static partial Regex StatusLine();
}
