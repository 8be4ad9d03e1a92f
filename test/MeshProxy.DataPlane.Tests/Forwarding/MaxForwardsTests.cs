using System.Text;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>Max-Forwards in TRACE and OPTIONS (RFC 9110 section 7.6.2), at a gateway and through a mesh.</summary>
internal sealed class MaxForwardsTests
{
    private const string Secrets = "Authorization: Bearer s3cret\r\nCookie: sid=s3cret\r\nX-Api-Key: s3cret\r\nX-Anything: s3cret\r\n";

    private readonly TestCa _ca = new();

    [OneTimeTearDown]
    public void TearDown() => _ca.Dispose();

    [TestCase("OPTIONS", "7", "6")]
    [TestCase("TRACE", "1", "0")]
    [TestCase("OPTIONS", "0010", "9")]
    [TestCase("TRACE", "999999999", "999999998")]
    [TestCase("TRACE", "1000000000", "999999999")]
    [TestCase("OPTIONS", "99999999999999999999999999", "999999999")]
    [TestCase("OPTIONS", null, null)]
    [TestCase("GET", "0", "0")]
    [TestCase("GET", "seven", "seven")]
    [TestCase("POST", "3", "3")]
    public async Task What_goes_on_tells_one_forward_less(string method, string? came, string? goes)
    {
        Message? seen = null;
        await using var server = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("app");
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        var field = came is null ? "" : $"Max-Forwards: {came}\r\n";
        Assert.That((await proxy.SendAsync($"{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n")).Text, Is.EqualTo("app"));
        Assert.That(seen!.Fields.GetValueOrDefault("max-forwards"), Is.EqualTo(goes));
        Assert.That(seen.StartLine, Does.StartWith(method));
    }

    [TestCase("OPTIONS", "0", "/a?q=1")]
    [TestCase("OPTIONS", "000", "*")]
    [TestCase("TRACE", "0", "/a?q=s3cret")]
    public async Task At_0_the_proxy_is_the_last_recipient(string method, string value, string target)
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        for (var round = 0; round < 2; round++)
        {
            await client.SendAsync($"{method} {target} HTTP/1.1\r\nHost: a\r\nVia: 1.1 front\r\n{Secrets}Max-Forwards: {value}\r\n\r\n");
            var answer = await client.ReadResponseAsync();
            Assert.That(answer.Status, Is.EqualTo(200));
            Assert.That(answer.Text, Does.Not.Contain("s3cret"));
            if (method == "TRACE")
            {
                Assert.That(answer.Fields["content-type"], Is.EqualTo("message/http"));
                Assert.That(answer.Text, Is.EqualTo("TRACE /a HTTP/1.1\r\nhost: a\r\nvia: 1.1 front\r\nmax-forwards: 0\r\n\r\n"));
            }
            else
            {
                Assert.That(answer.Text, Does.StartWith("max_forwards: "));
            }

            var line = await proxy.AccessAsync();
            Assert.That(line.GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(200));
            Assert.That(line.TryGetProperty("meshproxy.flags", out _), Is.False);
        }
    }

    [Test]
    public async Task Over_HTTP2_it_is_the_same()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 5, 1, Wire.Block((":method", "TRACE"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("authorization", "s3cret"), ("max-forwards", "0")));
        await client.ReadFrameAsync(Frame.Headers);
        var body = await client.ReadFrameAsync(Frame.Data, Frame.Reset);
        Assert.That(Encoding.ASCII.GetString(body.Payload), Is.EqualTo("TRACE / HTTP/2.0\r\nhost: a\r\nmax-forwards: 0\r\n\r\n"));
    }

    [TestCase("")]
    [TestCase("-1")]
    [TestCase("+1")]
    [TestCase("1.5")]
    [TestCase("0x1")]
    [TestCase("1, 2")]
    [TestCase("3\r\nMax-Forwards: 3")]
    public async Task What_is_no_number_is_refused(string value)
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        foreach (var method in (string[])["OPTIONS", "TRACE"])
        {
            var answer = await proxy.SendAsync($"{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
            Assert.That((answer.Status, answer.Flag), Is.EqualTo((400, "DPE")));
            Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.failure").GetString(), Does.StartWith("malformed_max_forwards: "));
        }
    }

    // Two data planes of the mesh forward: the caller's, then the application's.
    [TestCase("0", "200", "")]
    [TestCase("1", "200", "")]
    [TestCase("2", "app", "0")]
    [TestCase("5", "app", "3")]
    public async Task In_the_mesh_every_data_plane_counts(string value, string answers, string reaches)
    {
        Message? seen = null;
        await using var app = ScriptedServer.Http1(request =>
        {
            seen = request;
            return ScriptedServer.Ok("app");
        });
        await using var mesh = await Mesh.StartAsync(_ca, app.EndPoint);
        foreach (var method in (string[])["OPTIONS", "TRACE"])
        {
            seen = null;
            var answer = await mesh.Client.SendAsync($"{method} / HTTP/1.1\r\nHost: payments\r\n{Secrets}Max-Forwards: {value}\r\n\r\n", "outbound");
            Assert.That(answer.Status, Is.EqualTo(200));
            Assert.That(answer.Text == "app" ? "app" : "200", Is.EqualTo(answers));
            Assert.That(answer.Text, Does.Not.Contain("s3cret"));
            Assert.That(seen?.Fields["max-forwards"] ?? "", Is.EqualTo(reaches));
        }
    }

    [Test]
    public async Task A_retry_counts_no_second_time()
    {
        Message? seen = null;
        var first = true;
        await using var server = new ScriptedServer(async (wire, _) =>
        {
            while (await wire.ReadRequestAsync() is { } request)
            {
                if (first)
                {
                    first = false;
                    wire.Reset();
                    return;
                }

                seen = request;
                await wire.SendAsync(ScriptedServer.Ok("app"));
            }
        });
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        Assert.That((await proxy.SendAsync("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\n\r\n")).Text, Is.EqualTo("app"));
        Assert.That(seen!.Fields["max-forwards"], Is.EqualTo("6"));
        Assert.That((await proxy.AccessAsync()).GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(2));
    }

    [Test]
    public async Task TRACE_with_content_is_refused_in_HTTP2_too()
    {
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed()));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();
        await client.SendFrameAsync(Frame.Headers, 4, 1, Wire.Block((":method", "TRACE"), (":scheme", "http"), (":authority", "a"), (":path", "/")));
        await client.SendFrameAsync(Frame.Data, 1, 1, 1, 2, 3);
        await client.ReadFrameAsync(Frame.Headers);
        var line = await proxy.AccessAsync();
        Assert.That((line.GetProperty("http.response.status_code").GetInt32(), line.GetProperty("meshproxy.flags").GetString()), Is.EqualTo((400, "DPE")));
    }
}
