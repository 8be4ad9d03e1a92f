using MeshProxy.DataPlane.Tests.Proxy;

namespace MeshProxy.DataPlane.Tests.Forwarding;

/// <summary>What is said before a connection closes reaches the client, whatever it is still sending.</summary>
internal sealed class LastWordsTests
{
    [Test]
    public async Task GOAWAY_arrives_although_an_upload_goes_on()
    {
        await using var server = ScriptedServer.Http1(_ => ScriptedServer.Ok("ok"));
        await using var proxy = await TestProxy.StartAsync(Configs.Gateway(Configs.Cluster(), server.EndPoint));
        await using var client = await proxy.DialAsync();
        await client.BeginHttp2Async();

        // PING on a stream; behind it what fits no socket's buffers: the kernel of a proxy that closed at once would answer with a reset.
        await client.SendFrameAsync(Frame.Ping, 0, 1, new byte[8]);
        for (var i = 0; i < 400; i++)
        {
            await client.SendFrameAsync(Frame.Data, 0, 1, new byte[16_384]);
        }

        var away = await client.ReadFrameAsync(Frame.GoAway);
        Assert.That(away.Payload[7], Is.EqualTo(1), "PROTOCOL_ERROR");
        Assert.That(await client.ReadToEndAsync(), Is.Empty);
        client.Finish();
        await proxy.QuietAsync();
    }
}
