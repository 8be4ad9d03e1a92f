using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>The class library's client and server: peers that are not our codec.</summary>
internal sealed class ForeignServer : IAsyncDisposable
{
    private readonly WebApplication _app;

    private ForeignServer(WebApplication app) => _app = app;

    public IPEndPoint EndPoint => new(IPAddress.Loopback, new Uri(_app.Urls.Single()).Port);

    /// <summary>A server on a free port.</summary>
    /// <param name="protocols">What it speaks.</param>
    /// <param name="serve">Answers; by default /echo with the body, any other path with itself.</param>
    /// <param name="listen">What else its listener needs.</param>
    public static async Task<ForeignServer> StartAsync(HttpProtocols protocols, RequestDelegate? serve = null, Action<ListenOptions>? listen = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, options =>
        {
            options.Protocols = protocols;
            listen?.Invoke(options);
        }));
        var app = builder.Build();
        app.UseWebSockets();
        app.Run(serve ?? EchoAsync);
        await app.StartAsync();
        return new ForeignServer(app);
    }

    public static HttpClient Client(IPEndPoint proxy, string version) => new(new SocketsHttpHandler { EnableMultipleHttp2Connections = true, MaxConnectionsPerServer = 64 })
    {
        BaseAddress = new Uri($"http://{proxy}"),
        DefaultRequestVersion = Version.Parse(version),
        DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        DefaultRequestHeaders = { TE = { new TransferCodingWithQualityHeaderValue("trailers") } },
        Timeout = Wire.Patience,
    };

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync(new CancellationToken(true));
        await _app.DisposeAsync();
    }

    private static async Task EchoAsync(HttpContext context)
    {
        if (context.Request.Path == "/echo")
        {
            // All of it before the answer: the class library's client does not read while it sends.
            var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body);
            if (context.Response.SupportsTrailers())
            {
                context.Response.DeclareTrailer("x-sum");
                context.Response.AppendTrailer("x-sum", body.Length.ToString(CultureInfo.InvariantCulture));
            }

            body.Position = 0;
            await body.CopyToAsync(context.Response.Body);
            return;
        }

        var text = context.Request.Path == "/hello" ? "hello" : context.Request.Path.Value!;
        context.Response.ContentLength = text.Length;
        await context.Response.WriteAsync(text);
    }
}
