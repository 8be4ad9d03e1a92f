using System.Net;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Transport;
using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.DataPlane.Tests.Listening;

internal sealed class LocalHttpServerTests
{
    [Test]
    public async Task PagesAreServedOnOneConnectionAndAFailingOneTakesNothingWithIt()
    {
        await using var server = await LocalHttpServer.StartAsync(
            new SocketTransport(), new IPEndPoint(IPAddress.Loopback, 0), "admin", HandleAsync, NullLogger.Instance, TimeProvider.System, CancellationToken.None);
        using var client = new HttpClient { BaseAddress = new Uri($"http://{server.EndPoint}") };
        Assert.Multiple(() =>
        {
            Assert.That(client.GetStringAsync(new Uri("/echo?level=de%62ug&x", UriKind.Relative)).Result, Is.EqualTo("GET /echo debug\n"));
            Assert.That(client.PostAsync(new Uri("/echo?level=a", UriKind.Relative), new StringContent("body")).Result.StatusCode, Is.EqualTo(HttpStatusCode.OK));
            Assert.That(client.GetAsync(new Uri("/fail", UriKind.Relative)).Result.StatusCode, Is.EqualTo(HttpStatusCode.InternalServerError));
            Assert.That(client.GetByteArrayAsync(new Uri("/large", UriKind.Relative)).Result, Has.Length.EqualTo(3_000_000));
        });
        using var head = await client.SendAsync(new HttpRequestMessage(HttpMethod.Head, "/large"));
        Assert.That(head.Content.Headers.ContentLength, Is.EqualTo(3_000_000));
    }

    private static Task<LocalResponse> HandleAsync(LocalRequest request) => request.Path switch
    {
        "/echo" => Task.FromResult(LocalResponse.Text(200, $"{request.Method} {request.Path} {request.Parameter("level")}")),
        "/large" => Task.FromResult(new LocalResponse(200, "text/plain", new byte[3_000_000])),
        _ => throw new InvalidOperationException("broken page"),
    };
}
