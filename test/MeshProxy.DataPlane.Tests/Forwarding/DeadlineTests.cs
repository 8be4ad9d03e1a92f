using System.Net;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Deadlines that callers send: read, enforced, and sent on reduced.</summary>
internal sealed class DeadlineTests
{
    [TestCase("1H", 3_600_000_000)]
    [TestCase("2M", 120_000_000)]
    [TestCase("3S", 3_000_000)]
    [TestCase("250m", 250_000)]
    [TestCase("00000007u", 7)]
    [TestCase("1n", 1)]
    [TestCase("1001n", 2)]
    [TestCase("0n", 0)]
    [TestCase("99999999H", 359_999_996_400_000_000)]
    public void A_grpc_timeout_is_one_to_eight_digits_and_a_unit(string text, long microseconds)
    {
        Assert.That(RequestDeadline.TryParseGrpc(Encoding.ASCII.GetBytes(text), out var parsed), Is.True);
        Assert.That(parsed, Is.EqualTo(microseconds));
    }

    [TestCase("")]
    [TestCase("1")]
    [TestCase("m")]
    [TestCase("1s")]
    [TestCase("1h")]
    [TestCase("-1m")]
    [TestCase("+1m")]
    [TestCase("1.5S")]
    [TestCase("1 S")]
    [TestCase("123456789m")]
    [TestCase("0x1m")]
    public void Nothing_else_is_a_grpc_timeout(string text) =>
        Assert.That(RequestDeadline.TryParseGrpc(Encoding.ASCII.GetBytes(text), out _), Is.False);

    [TestCase(1, "1u")]
    [TestCase(99_999_999, "99999999u")]
    [TestCase(100_000_999, "100000m")]
    [TestCase(99_999_999_999, "99999999m")]
    [TestCase(100_000_000_000, "100000S")]
    [TestCase(99_999_999_000_001, "99999999S")]
    [TestCase(100_000_000_000_000, "1666666M")]
    [TestCase(6_000_000_000_000_000, "1666666H")]
    [TestCase(long.MaxValue, "99999999H")]
    public void What_is_left_is_written_in_the_finest_unit_of_eight_digits_and_never_rounded_up(long microseconds, string text)
    {
        Span<byte> bytes = stackalloc byte[20];
        var written = bytes[..RequestDeadline.FormatGrpc(microseconds, bytes)];
        Assert.That(Encoding.ASCII.GetString(written), Is.EqualTo(text));
        Assert.That(RequestDeadline.TryParseGrpc(written, out var parsed), Is.True);
        Assert.That(parsed, Is.LessThanOrEqualTo(microseconds));
    }

    [Test]
    public void The_shortest_wins_and_goes_out_in_every_field_that_came()
    {
        var fields = new FieldMap();
        fields.Add(KnownField.GrpcTimeout, "5S"u8);
        fields.Add(KnownField.XRequestTimeout, "3000"u8);
        var deadline = default(RequestDeadline);
        Assert.That(deadline.TryRead(fields, 1_000_000), Is.True);
        Assert.That((deadline.Milliseconds, deadline.IsCallers), Is.EqualTo((4000L, true)));
        deadline.Bound(1_000_000, TimeSpan.FromSeconds(4));
        Assert.That((deadline.Milliseconds, deadline.IsCallers), Is.EqualTo((4000L, true)));
        deadline.Bound(1_000_000, TimeSpan.FromSeconds(2));
        Assert.That((deadline.Milliseconds, deadline.IsCallers), Is.EqualTo((3000L, false)));
        deadline.Write(fields, 1_500_999, long.MaxValue);
        Assert.That(Text(fields), Is.EqualTo(("1499001u", "1499")));
        deadline.Write(fields, 2_000_000, 2_250_000);
        Assert.That(Text(fields), Is.EqualTo(("250000u", "250")), "an attempt that is given up sooner");
        deadline.Write(fields, 9_000_000, long.MaxValue);
        Assert.That(Text(fields), Is.EqualTo(("1u", "1")), "never zero, never less");

        static (string, string) Text(FieldMap fields)
        {
            fields.TryGet(KnownField.GrpcTimeout, out var grpc);
            fields.TryGet(KnownField.XRequestTimeout, out var milliseconds);
            Assert.That(fields, Has.Count.EqualTo(2));
            return (Encoding.ASCII.GetString(grpc), Encoding.ASCII.GetString(milliseconds));
        }
    }

    [TestCase("grpc-timeout: 250m\r\n", "DT")]
    [TestCase("x-request-timeout: 250\r\n", "DT")]
    [TestCase("grpc-timeout: 0n\r\n", "DT")]
    [TestCase("x-request-timeout: 0\r\n", "DT")]
    [TestCase("x-request-timeout: 60000\r\n", "UT")]
    public async Task A_deadline_of_the_application_ends_the_exchange_and_resets_the_stream_to_the_endpoint(string field, string flag)
    {
        var time = new ManualTime();
        var reached = new SemaphoreSlim(0);
        var reset = new TaskCompletionSource<Frame>();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);

            // Behind the answer to a PING everything before it has been taken in, SETTINGS' acknowledgement too: time may jump.
            await wire.SendFrameAsync(Frame.Ping, 0, 0, new byte[8]);
            await wire.ReadFrameAsync(Frame.Ping);
            reached.Release();
            reset.SetResult(await wire.ReadFrameAsync(Frame.Reset));
        });
        await using var proxy = await OutboundAsync(server.EndPoint, time);
        var answer = proxy.GetAsync(host: "payments", fields: field, listener: "outbound");
        if (field.Contains(": 0", StringComparison.Ordinal))
        {
            Assert.That((await answer).Flag, Is.EqualTo("DT"), "it had passed already");
            Assert.That(server.Accepted, Is.Zero);
            return;
        }

        Assert.That(await reached.WaitAsync(Wire.Patience), Is.True);
        time.Advance(TimeSpan.FromMilliseconds(200));
        Assert.That(answer.IsCompleted, Is.False);
        time.Advance(flag == "DT" ? TimeSpan.FromMilliseconds(150) : TimeSpan.FromSeconds(15));
        Assert.That(((await answer).Status, (await answer).Flag), Is.EqualTo((504, flag)));
        Assert.That((await reset.Task.WaitAsync(Wire.Patience)).Payload, Is.EqualTo(new byte[] { 0, 0, 0, 8 }), "CANCEL");
    }

    [Test]
    public async Task A_gRPC_caller_is_told_status_4()
    {
        var time = new ManualTime();
        var reached = new SemaphoreSlim(0);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.AcceptHttp2Async();
            await wire.ReadFrameAsync(Frame.Headers);
            reached.Release();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await OutboundAsync(server.EndPoint, time);
        using var client = ForeignServer.Client(proxy.EndPoint("outbound"), "2.0");
        var content = new ByteArrayContent([0, 0, 0, 0, 0]);
        content.Headers.ContentType = new("application/grpc");
        var request = new HttpRequestMessage(HttpMethod.Post, "/pay.Payments/Book") { Content = content, Headers = { Host = "payments" }, Version = new Version(2, 0) };
        request.Headers.Add("grpc-timeout", "1S");
        var answer = client.SendAsync(request);
        Assert.That(await reached.WaitAsync(Wire.Patience), Is.True);
        time.Advance(TimeSpan.FromSeconds(1.1));
        Assert.That((await answer).Headers.GetValues("grpc-status").Single(), Is.EqualTo("4"));
        Assert.That((await answer).Headers.GetValues("grpc-message").Single(), Does.StartWith("DT: deadline_exceeded"));
    }

    [Test]
    public async Task A_deadline_passes_also_while_the_exchange_waits_for_a_connection()
    {
        var time = new ManualTime();
        var holds = new TaskCompletionSource();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            holds.SetResult();
            await wire.ReadToEndAsync();
        });
        await using var proxy = await OutboundAsync(server.EndPoint, time, AppProtocol.Http, new CircuitBreakerConfig { MaxConnections = 1 });
        var holder = proxy.GetAsync(host: "payments", fields: "x-request-timeout: 10000\r\n", listener: "outbound");

        // While it dials it is itself one of those that wait.
        await holds.Task.WaitAsync(Wire.Patience);
        var waits = proxy.GetAsync(host: "payments", fields: "x-request-timeout: 1000\r\n", listener: "outbound");
        await TestProxy.EventuallyAsync(() => proxy.Server.DescribeClusters().Single().PendingRequests == 1, "it waits");
        time.Advance(TimeSpan.FromSeconds(1.1));
        Assert.That((await waits).Flag, Is.EqualTo("DT"));
        Assert.That(holder.IsCompleted, Is.False);
        time.Advance(TimeSpan.FromSeconds(10));
        Assert.That((await holder).Flag, Is.EqualTo("DT"));
    }

    [Test]
    public async Task A_deadline_after_the_response_head_breaks_the_response_off()
    {
        var time = new ManualTime();
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            await wire.ReadToEndAsync();
        });
        await using var proxy = await OutboundAsync(server.EndPoint, time, AppProtocol.Http);
        await using var client = await proxy.DialAsync("outbound");
        await client.SendAsync("GET / HTTP/1.1\r\nHost: payments\r\nx-request-timeout: 1000\r\n\r\n");
        Assert.That((await client.ReadHeadAsync())!.Status, Is.EqualTo(200));
        Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(4)), Is.EqualTo("half"));
        time.Advance(TimeSpan.FromSeconds(1.1));
        Assert.That(await client.EndsWithResetAsync(), Is.True, "half a response must not look whole");
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DT"));
    }

    [TestCase("Content-Length: 64000000\r\n\r\n")]
    [TestCase("Transfer-Encoding: chunked\r\n\r\n3D09000\r\n")]
    public async Task A_deadline_does_not_wait_for_a_client_that_reads_no_more(string framing)
    {
        var time = new ManualTime();
        var sent = 0L;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadRequestAsync();
            await wire.SendAsync($"HTTP/1.1 200 OK\r\n{framing}");
            var piece = new string('x', 64_000);
            for (var i = 0; i < 1000; i++)
            {
                await wire.SendAsync(piece);
                Interlocked.Add(ref sent, piece.Length);
            }
        });
        await using var proxy = await OutboundAsync(server.EndPoint, time, AppProtocol.Http);
        await using var client = await proxy.DialAsync("outbound", receiveBuffer: 4096);
        await client.SendAsync("GET / HTTP/1.1\r\nHost: payments\r\nx-request-timeout: 1000\r\n\r\n");
        for (var before = -1L; before != Volatile.Read(ref sent) || before == 0;)
        {
            before = Volatile.Read(ref sent);
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }

        var told = proxy.AccessAsync();
        time.Advance(TimeSpan.FromSeconds(1.1));
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.That((await told.WaitAsync(Wire.Patience)).GetProperty("meshproxy.flags").GetString(), Is.EqualTo("DT"));
        Assert.That(await client.EndsWithResetAsync(), Is.True);
        await proxy.QuietAsync();
    }

    [Test]
    public async Task An_upload_that_ends_after_the_response_has_begun_starts_no_wait_for_its_head()
    {
        var time = new ManualTime();
        var uploaded = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var goOn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            await wire.ReadHeadAsync();
            await wire.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            var buffer = new byte[4096];
            for (var text = ""; !text.EndsWith("0\r\n\r\n", StringComparison.Ordinal);)
            {
                text += Encoding.ASCII.GetString(buffer, 0, await wire.ReadSomeAsync(buffer));
            }

            uploaded.SetResult();
            await goOn.Task;
            await wire.SendAsync("later");
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint), time: time);
        await using var client = await proxy.DialAsync();
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        Assert.That((await client.ReadResponseAsync(toHead: true)).Status, Is.EqualTo(200));
        await client.SendAsync("0\r\n\r\n");
        await uploaded.Task.WaitAsync(Wire.Patience);
        for (var second = 0; second < 20; second++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
        }

        goOn.SetResult();
        Assert.That(Encoding.ASCII.GetString(await client.ReadExactlyAsync(10)), Is.EqualTo("firstlater"));
    }

    [Test]
    public async Task Each_attempt_and_each_hop_is_told_what_is_left()
    {
        using var ca = new TestCa();
        var time = new ManualTime();
        var seen = new List<Message>();
        await using var app = new ScriptedServer(async (wire, number) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                lock (seen)
                {
                    seen.Add(request);
                }

                if (number == 1)
                {
                    // The first attempt fails after 400 ms, and may be made again.
                    time.Advance(TimeSpan.FromMilliseconds(400));
                    wire.Finish();
                    await wire.ReadToEndAsync();
                    return;
                }

                await wire.SendAsync(ScriptedServer.Ok("ok"));
            }
        });
        await using var mesh = await Mesh.StartAsync(ca, app.EndPoint, time: time);
        var response = await mesh.Client.GetAsync(host: "payments", fields: "grpc-timeout: 2S\r\nx-request-timeout: 90000\r\n", listener: "outbound");
        Assert.That(response.Text, Is.EqualTo("ok"));
        Assert.That(seen.Select(request => (request.Fields["grpc-timeout"], request.Fields["x-request-timeout"])),
            Is.EqualTo(new[] { ("2000000u", "2000"), ("1600000u", "1600") }));
    }

    [TestCase("grpc-timeout: 1s\r\n")]
    [TestCase("grpc-timeout: 123456789m\r\n")]
    [TestCase("grpc-timeout: 1S\r\ngrpc-timeout: 1S\r\n")]
    [TestCase("x-request-timeout: 1.5\r\n")]
    [TestCase("x-request-timeout:\r\n")]
    [TestCase("x-request-timeout: 1234567890123\r\n")]
    [TestCase("x-request-timeout: 1\r\nX-Request-Timeout: 2\r\n")]
    public async Task A_malformed_deadline_is_refused_where_it_would_be_believed_and_removed_where_not(string field)
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("ok");
        });
        await using var outbound = await OutboundAsync(server.EndPoint, TimeProvider.System, AppProtocol.Http);
        var response = await outbound.GetAsync(host: "payments", fields: field, listener: "outbound");
        Assert.That((response.Status, response.Flag), Is.EqualTo((400, "DPE")));
        Assert.That(response.Text, Does.Contain("malformed_deadline"));
        Assert.That(seen, Is.Null);

        await using var gateway = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        Assert.That((await gateway.GetAsync(fields: field)).Text, Is.EqualTo("ok"));
        Assert.That(seen!.Fields, Does.Not.ContainKey("grpc-timeout").And.Not.ContainKey("x-request-timeout"));
    }

    [Test]
    public async Task A_client_outside_decides_no_deadline_but_the_operators_filter_does()
    {
        var time = new ManualTime();
        var reached = new SemaphoreSlim(0);
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                Assert.That(request.Fields["x-request-timeout"], Is.EqualTo("2000"));
                reached.Release();
            }
        });
        var cluster = Configs.Cluster();
        var rule = Configs.Rule(cluster.Id) with { Filters = [new HeaderModifierConfig(false, [new("x-request-timeout", "2000")], [], [])] };
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway([Configs.Route(rule)], [cluster], Configs.Set(cluster.Id, server.EndPoint)), time: time);
        var answer = proxy.GetAsync(fields: "x-request-timeout: 1\r\n");
        Assert.That(await reached.WaitAsync(Wire.Patience), Is.True);
        time.Advance(TimeSpan.FromSeconds(1.9));
        Assert.That(answer.IsCompleted, Is.False);
        time.Advance(TimeSpan.FromSeconds(0.2));
        Assert.That((await answer).Flag, Is.EqualTo("DT"));
    }

    private static Task<TestProxy> OutboundAsync(
        IPEndPoint endPoint, TimeProvider time, AppProtocol protocol = AppProtocol.Http2, CircuitBreakerConfig? breaker = null)
    {
        var cluster = Configs.Cluster(protocol: protocol);
        cluster = breaker is null ? cluster : cluster with { CircuitBreaker = breaker };
        return TestProxy.StartAsync(
            Configs.Destination(cluster, [new EndpointConfig { Id = "shop/payments-1", Address = "127.0.0.1", Port = endPoint.Port }]), Mesh.Outbound(), time: time);
    }
}
