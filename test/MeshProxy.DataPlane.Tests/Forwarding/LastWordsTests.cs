using System.Net.Security;
using System.Net.Sockets;
using MeshProxy.DataPlane.Tests.Proxy;
using MeshProxy.Model;
using MeshProxy.Model.Config;
using MeshProxy.Testing;

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

    [Test]
    public async Task GOAWAY_arrives_over_TLS_although_an_upload_goes_on()
    {
        using var ca = new TestCa();
        var pem = ca.ToPem(ca.IssueServer("shop.example"));
        var key = pem[pem.IndexOf("-----BEGIN PRIVATE", StringComparison.Ordinal)..];
        var config = Configs.Gateway(Configs.Cluster(), ScriptedServer.Closed());
        var certificate = new ServerCertificateConfig(new ResourceName("shop", "tls"), pem[..^key.Length], key);
        await using var proxy = await TestProxy.StartAsync(config with { Listeners = [config.Listeners[0] with { Protocol = ListenerProtocol.Https, Certificates = [certificate] }] });
        await using var wire = await proxy.DialAsync();
        await using var client = new SslStream(new NetworkStream(wire.Socket), leaveInnerStreamOpen: true, (_, certificate, _, _) => certificate?.Issuer == ca.Root.Subject || ca.Intermediates.Any(issuer => issuer.Subject == certificate?.Issuer));
        await client.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "shop.example", ApplicationProtocols = [SslApplicationProtocol.Http2] });
        await client.WriteAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray());
        await client.WriteAsync(new byte[] { 0, 0, 0, Frame.Settings, 0, 0, 0, 0, 0 });
        await client.WriteAsync(new byte[] { 0, 0, 8, Frame.Ping, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0 });
        byte[] data = [0, 0x40, 0, Frame.Data, 0, 0, 0, 0, 1, .. new byte[16_384]];
        for (var i = 0; i < 400; i++)
        {
            await client.WriteAsync(data).AsTask().WaitAsync(Wire.Patience);
        }

        using var received = new MemoryStream();
        await client.CopyToAsync(received).WaitAsync(Wire.Patience);
        Assert.That(received.ToArray().AsSpan()[^17..].ToArray(), Is.EqualTo(new byte[] { 0, 0, 8, Frame.GoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }), "the last frame is GOAWAY PROTOCOL_ERROR");
    }
}
