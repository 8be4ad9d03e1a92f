using System.Globalization;
using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>HTTP/1.1 and HTTP/2 at either end: one table of what a server may say, and what a foreign client must have understood.</summary>
internal sealed class ConversionTests
{
    private static readonly Answer[] Answers =
    [
        new("trailers") { Body = "abc", Trailers = [("x-t", "9"), ("x-u", "1")] },
        new("trailers without a body") { Body = "", Trailers = [("x-t", "9")] },
        new("announced trailers") { Fields = [("trailer", "x-t")], Body = "abc", Trailers = [("x-t", "9")] },
        new("announced trailers behind a length") { Fields = [("trailer", "x-t")], Length = 3, Body = "abc", Trailers = [("x-t", "9")], IsHttp2Only = true },
        new("announced trailers behind a length of none") { Fields = [("trailer", "x-t")], Length = 0, Body = "", Trailers = [("x-t", "9")], IsHttp2Only = true },
        new("1xx") { Informational = [103, 103], Body = "abc" },
        new("head") { Method = "HEAD", Length = 5 },
        new("head without length") { Method = "HEAD" },
        new("204") { Status = 204 },
        new("304") { Status = 304, Fields = [("etag", "\"1\"")] },
        new("empty") { Length = 0, Body = "" },
        new("empty, unknown length") { Body = "" },
        new("unknown length") { Body = new string('x', 60_000) },
        new("length") { Length = 60_000, Body = new string('x', 60_000) },
        new("error status with a body") { Status = 500, Length = 3, Body = "bad" },
        new("reset in a body of known length") { Length = 10, Body = "half", IsReset = true },
        new("reset in a body of unknown length") { Body = "half", IsReset = true },
    ];

    private static readonly (string Client, AppProtocol Server)[] Pairings =
        [("1.1", AppProtocol.Http), ("1.1", AppProtocol.Http2), ("2.0", AppProtocol.Http), ("2.0", AppProtocol.Http2)];

    private static IEnumerable<TestCaseData> Responses() =>
        from pairing in Pairings
        from answer in Answers
        where pairing.Server == AppProtocol.Http2 || !answer.IsHttp2Only
        select new TestCaseData(pairing.Client, pairing.Server, answer.Name).SetArgDisplayNames(pairing.Client, pairing.Server.ToString(), answer.Name);

    private static IEnumerable<TestCaseData> Uploads() =>
        from pairing in Pairings
        from body in (string[])["abc", "", new string('x', 16_000)]
        from kind in ((bool IsAnnounced, bool IsCounted)[])[(false, false), (true, false), (true, true)]
        where pairing.Client == "2.0" || !kind.IsCounted
        select new TestCaseData(pairing.Client, pairing.Server, body, kind.IsAnnounced, kind.IsCounted)
            .SetArgDisplayNames(pairing.Client, pairing.Server.ToString(), $"{body.Length} bytes", kind.IsAnnounced ? "announced" : "unannounced", kind.IsCounted ? "with a length" : "without");

    private static IEnumerable<TestCaseData> Pairs() => Pairings.Select(pairing => new TestCaseData(pairing.Client, pairing.Server));

    [TestCaseSource(nameof(Responses))]
    public async Task What_a_server_says_is_what_a_client_understands(string version, AppProtocol protocol, string name)
    {
        var answer = Answers.Single(one => one.Name == name);
        await using var server = new ScriptedServer((wire, _) => protocol == AppProtocol.Http ? answer.ServeHttp1Async(wire) : answer.ServeHttp2Async(wire));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        using var client = ForeignServer.Client(proxy.EndPoint(), version);
        for (var round = 0; round < (answer.IsReset ? 1 : 2); round++)
        {
            using var request = new HttpRequestMessage(new HttpMethod(answer.Method), "/") { Version = Version.Parse(version), VersionPolicy = HttpVersionPolicy.RequestVersionExact };
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            Assert.That((int)response.StatusCode, Is.EqualTo(answer.Status));
            if (answer.IsReset)
            {
                Assert.That(async () => await response.Content.ReadAsStringAsync(), Throws.InstanceOf<HttpRequestException>().Or.InstanceOf<HttpIOException>(), "never as if it were whole");
                continue;
            }

            Assert.That(await response.Content.ReadAsStringAsync(), Is.EqualTo(answer.Method == "HEAD" ? "" : answer.Body ?? ""));
            if (answer.Length is { } length)
            {
                Assert.That(response.Content.Headers.ContentLength, Is.EqualTo(length));
            }

            foreach (var (field, value) in answer.Fields)
            {
                Assert.That(response.Headers.NonValidated[field].Single(), Is.EqualTo(value));
            }

            Assert.That(response.TrailingHeaders.Select(trailer => (trailer.Key, trailer.Value.Single())), Is.EquivalentTo(answer.Trailers));
        }
    }

    // RFC 9110 section 6.6.1: whoever forwards a response without Date says when it came; one that is there stays.
    [TestCaseSource(nameof(Pairs))]
    public async Task A_response_without_Date_gets_one(string version, AppProtocol protocol)
    {
        var served = 0;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            if (protocol == AppProtocol.Http)
            {
                while (await wire.ReadRequestAsync() is not null)
                {
                    await wire.SendAsync(ScriptedServer.Ok("", served++ == 0 ? "" : "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"));
                }

                return;
            }

            await wire.AcceptHttp2Async();
            while (true)
            {
                var head = await wire.ReadFrameAsync(Frame.Headers);
                (string, string)[] date = served++ == 0 ? [] : [("date", "Tue, 15 Nov 1994 08:12:31 GMT")];
                await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, Wire.Block([(":status", "200"), .. date]));
            }
        });
        var cluster = Configs.Cluster(protocol: protocol);
        var route = Configs.Route(Configs.Rule(cluster.Id) with { Matches = [Configs.Prefix("/app")] });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([route], [cluster], Configs.Set(cluster.Id, server.EndPoint)));
        using var client = ForeignServer.Client(proxy.EndPoint(), version);
        Assert.That((await client.GetAsync("/app")).Headers.Date, Is.EqualTo(DateTimeOffset.UtcNow).Within(TimeSpan.FromMinutes(1)));
        Assert.That((await client.GetAsync("/app")).Headers.Date, Is.EqualTo(new DateTimeOffset(1994, 11, 15, 8, 12, 31, TimeSpan.Zero)));
        Assert.That((await client.GetAsync("/none")).Headers.Date, Is.EqualTo(DateTimeOffset.UtcNow).Within(TimeSpan.FromMinutes(1)), "a reply of our own");
    }

    // RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5: there is no content, whatever Content-Length says.
    [TestCase("HEAD", "200", "5")]
    [TestCase("GET", "204", null)]
    [TestCase("GET", "304", "5")]
    public async Task Content_where_there_is_none_goes_no_further(string method, string status, string? length)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            (string, string)[] fields = length is null ? [] : [("content-length", length)];
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block([(":status", status), .. fields]));
            await wire.SendFrameAsync(Frame.Data, 1, head.Stream, "12345"u8.ToArray());
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: AppProtocol.Http2), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        var end = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
        Assert.That(end.Type, Is.EqualTo(Frame.Reset));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UPE"));
    }

    [TestCaseSource(nameof(Uploads))]
    public async Task Trailers_of_a_request_reach_the_server(string version, AppProtocol protocol, string body, bool isAnnounced, bool isCounted)
    {
        var seen = new TaskCompletionSource<(string Body, string Trailers)>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            if (protocol == AppProtocol.Http)
            {
                var request = (await wire.ReadRequestAsync())!;
                await wire.SendAsync(ScriptedServer.Ok("ok"));
                seen.SetResult((request.Text, string.Join(',', request.Trailers.Select(trailer => $"{trailer.Key}={trailer.Value}"))));
                await wire.ReadToEndAsync();
                return;
            }

            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            var (received, fields) = ("", new HpackReader());
            fields.Read(head.Payload);
            Frame frame;
            while ((frame = await wire.ReadFrameAsync(Frame.Data, Frame.Headers, Frame.Reset)) is { Type: Frame.Data, EndsStream: false })
            {
                received += Encoding.ASCII.GetString(frame.Payload);
            }

            seen.SetResult((received, frame.Type == Frame.Headers ? string.Join(',', fields.Read(frame.Payload).Select(field => $"{field.Name}={field.Value}")) : $"frame {frame.Type}"));
            await wire.SendFrameAsync(Frame.Headers, 5, head.Stream, 0x88);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        await using var client = await proxy.DialAsync();
        if (version == "1.1")
        {
            // A trailer that would frame, route or authenticate is nobody's.
            await client.SendAsync($"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{(isAnnounced ? "Trailer: x-t, x-u\r\n" : "")}\r\n"
                + (body.Length > 0 ? $"{body.Length:x}\r\n{body}\r\n" : "") + "0\r\nX-T: 9\r\nContent-Length: 3\r\nx-u: \r\n\r\n");
            Assert.That((await client.ReadResponseAsync()).Status, Is.EqualTo(200));
        }
        else
        {
            (string, string)[] more = [.. isAnnounced ? [("trailer", "x-t, x-u")] : Array.Empty<(string, string)>(), .. isCounted ? [("content-length", $"{body.Length}")] : Array.Empty<(string, string)>()];
            await client.BeginHttp2Async();
            await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), .. more]));
            if (body.Length > 0)
            {
                await client.SendFrameAsync(Frame.Data, 0, 1, Encoding.ASCII.GetBytes(body));
            }

            await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block(("x-t", "9"), ("x-u", "")));
            Assert.That((await client.ReadFrameAsync(Frame.Headers, Frame.Reset)).Type, Is.EqualTo(Frame.Headers));
        }

        Assert.That(await seen.Task.WaitAsync(Wire.Patience), Is.EqualTo((body, "x-t=9,x-u=")));
    }

    [TestCaseSource(nameof(Pairs))]
    public async Task Both_directions_stream_at_the_same_time(string version, AppProtocol protocol)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            // What comes goes back at once, piece by piece.
            if (protocol == AppProtocol.Http)
            {
                await wire.ReadHeadAsync();
                await wire.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while (Encoding.ASCII.GetString(await wire.ReadExactlyAsync(3)) is "1\r\n")
                {
                    var piece = await wire.ReadExactlyAsync(3);
                    await wire.SendAsync($"1\r\n{(char)piece[0]}\r\n");
                }

                await wire.SendAsync("0\r\n\r\n");
                await wire.ReadToEndAsync();
                return;
            }

            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, 0x88);
            while (await wire.ReadFrameAsync(Frame.Data) is { EndsStream: false } data)
            {
                await wire.SendFrameAsync(Frame.Data, 0, head.Stream, data.Payload);
            }

            await wire.SendFrameAsync(Frame.Data, 1, head.Stream);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        await using var client = await proxy.DialAsync();
        if (version == "1.1")
        {
            await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(200));
            foreach (var piece in "abcdef")
            {
                await client.SendAsync($"1\r\n{piece}\r\n");
                Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(6)), Is.EqualTo($"1\r\n{piece}\r\n"));
            }

            await client.SendAsync("0\r\n\r\n");
            Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(5)), Is.EqualTo("0\r\n\r\n"));
            return;
        }

        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        Assert.That((await client.ReadFrameAsync(Frame.Headers, Frame.Reset)) is { Type: Frame.Headers, EndsStream: false }, Is.True);
        foreach (var piece in "abcdef"u8.ToArray())
        {
            await client.SendFrameAsync(Frame.Data, 0, 1, piece);
            Assert.That((await client.ReadFrameAsync(Frame.Data, Frame.Reset)) is { Type: Frame.Data, EndsStream: false, Payload: [var back] } && back == piece, Is.True);
        }

        await client.SendFrameAsync(Frame.Data, 1, 1);
        Assert.That((await client.ReadFrameAsync(Frame.Data, Frame.Reset)) is { Type: Frame.Data, EndsStream: true }, Is.True);
    }

    [TestCaseSource(nameof(Pairs))]
    public async Task An_upload_that_breaks_off_never_looks_whole(string version, AppProtocol protocol)
    {
        var reached = new TaskCompletionSource();
        var wasReset = new TaskCompletionSource<bool>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            if (protocol == AppProtocol.Http)
            {
                await wire.ReadHeadAsync();
                await wire.ReadExactlyAsync("4\r\nhalf\r\n".Length);
                reached.SetResult();
                byte[] rest;
                try
                {
                    rest = await wire.ReadToEndAsync();
                }
                catch (System.Net.Sockets.SocketException)
                {
                    rest = [];
                }

                wasReset.SetResult(rest.Length == 0);
                return;
            }

            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            await wire.ReadFrameAsync(Frame.Data);
            reached.SetResult();
            wasReset.SetResult((await wire.ReadFrameAsync(Frame.Data, Frame.Headers, Frame.Reset)).Type == Frame.Reset);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        var client = await proxy.DialAsync();
        if (version == "1.1")
        {
            await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            await reached.Task.WaitAsync(Wire.Patience);
            client.Reset();
        }
        else
        {
            await client.BeginHttp2Async();
            await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
            await client.SendFrameAsync(Frame.Data, 0, 1, "half"u8.ToArray());
            await reached.Task.WaitAsync(Wire.Patience);
            await client.SendFrameAsync(Frame.Reset, 0, 1, 0, 0, 0, 8);
        }

        Assert.That(await wasReset.Task.WaitAsync(Wire.Patience), Is.True);
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DC"));
        client.Socket.Dispose();
    }

    [TestCaseSource(nameof(Pairs))]
    public async Task An_early_response_comes_whole_though_the_request_goes_on(string version, AppProtocol protocol)
    {
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            if (protocol == AppProtocol.Http)
            {
                await wire.ReadHeadAsync();
                await wire.SendAsync("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong");
                await wire.ReadToEndAsync();
                return;
            }

            await wire.AcceptHttp2Async();
            var head = await wire.ReadFrameAsync(Frame.Headers);
            await wire.SendFrameAsync(Frame.Headers, 4, head.Stream, Wire.Block((":status", "413"), ("content-length", "4")));
            await wire.SendFrameAsync(Frame.Data, 1, head.Stream, "long"u8.ToArray());
            await wire.SendFrameAsync(Frame.Reset, 0, head.Stream, 0, 0, 0, 0);
            await wire.ReadToEndAsync();
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(protocol: protocol), server.EndPoint));
        await using var client = await proxy.DialAsync();
        if (version == "1.1")
        {
            await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            var response = await client.ReadResponseAsync();
            Assert.That((response.Status, response.Text), Is.EqualTo((413, "long")));
            return;
        }

        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        await client.SendFrameAsync(Frame.Data, 0, 1, "half"u8.ToArray());
        Assert.That((await client.ReadFrameAsync(Frame.Headers, Frame.Reset)).Type, Is.EqualTo(Frame.Headers));
        var body = new List<byte>();
        Frame frame;
        do
        {
            frame = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
            Assert.That(frame.Type, Is.EqualTo(Frame.Data));
            body.AddRange(frame.Payload);
        }
        while (!frame.EndsStream);
        Assert.That(Encoding.ASCII.GetString([.. body]), Is.EqualTo("long"));
        Assert.That((await client.ReadFrameAsync(Frame.Reset)).Payload, Is.EqualTo(new byte[4]), "NO_ERROR: no more of the request, please");
    }

    /// <summary>One response, in either version's bytes.</summary>
    private sealed record Answer(string Name)
    {
        public string Method { get; init; } = "GET";

        public int[] Informational { get; init; } = [];

        public int Status { get; init; } = 200;

        public (string Name, string Value)[] Fields { get; init; } = [];

        public int? Length { get; init; }

        public string? Body { get; init; }

        public (string Name, string Value)[] Trailers { get; init; } = [];

        public bool IsReset { get; init; }

        /// <summary>HTTP/1.1 can not say it.</summary>
        public bool IsHttp2Only { get; init; }

        public async Task ServeHttp1Async(Wire wire)
        {
            while (await wire.ReadHeadAsync() is not null)
            {
                var text = new StringBuilder();
                foreach (var status in Informational)
                {
                    text.Append(CultureInfo.InvariantCulture, $"HTTP/1.1 {status} Hints\r\nlink: </a>\r\n\r\n");
                }

                var isChunked = Body is not null && Length is null;
                text.Append(CultureInfo.InvariantCulture, $"HTTP/1.1 {Status} Status\r\n");
                text.Append(Length is { } length ? $"content-length: {length}\r\n" : isChunked ? "transfer-encoding: chunked\r\n" : "");
                text.AppendJoin("", Fields.Select(field => $"{field.Name}: {field.Value}\r\n")).Append("\r\n");
                text.Append(isChunked && Body!.Length > 0 ? $"{Body.Length:x}\r\n{Body}\r\n" : Body);
                if (IsReset)
                {
                    await wire.SendAsync(text.ToString());

                    // FIN in the middle of a message: an end in order of the connection, not of the body.
                    wire.Finish();
                    await wire.ReadToEndAsync();
                    return;
                }

                text.Append(isChunked ? "0\r\n" + string.Concat(Trailers.Select(trailer => $"{trailer.Name}: {trailer.Value}\r\n")) + "\r\n" : "");
                await wire.SendAsync(text.ToString());
            }
        }

        public async Task ServeHttp2Async(Wire wire)
        {
            // No body is longer than a stream's first window.
            await wire.AcceptHttp2Async();
            while (true)
            {
                var stream = (await wire.ReadFrameAsync(Frame.Headers)).Stream;
                foreach (var status in Informational)
                {
                    await wire.SendFrameAsync(Frame.Headers, 4, stream, Wire.Block((":status", $"{status}"), ("link", "</a>")));
                }

                (string, string)[] length = Length is { } bytes ? [("content-length", $"{bytes}")] : [];
                await wire.SendFrameAsync(Frame.Headers, (byte)(Body is null ? 5 : 4), stream, Wire.Block([(":status", $"{Status}"), .. length, .. Fields]));
                if (Body is null)
                {
                    continue;
                }

                var isLast = Trailers.Length == 0 && !IsReset;
                for (var at = 0; at < Body.Length || (at == 0 && isLast); at += 1000)
                {
                    var piece = Encoding.ASCII.GetBytes(Body[at..Math.Min(Body.Length, at + 1000)]);
                    await wire.SendFrameAsync(Frame.Data, (byte)(isLast && at + 1000 >= Body.Length ? 1 : 0), stream, piece);
                }

                if (IsReset)
                {
                    await wire.SendFrameAsync(Frame.Reset, 0, stream, 0, 0, 0, 2);
                }
                else if (Trailers.Length > 0)
                {
                    await wire.SendFrameAsync(Frame.Headers, 5, stream, Wire.Block(Trailers));
                }
            }
        }
    }
}
