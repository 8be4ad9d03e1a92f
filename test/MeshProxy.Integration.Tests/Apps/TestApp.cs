using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.WebSockets;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Integration.Tests.Apps;

/// <summary>An application behind a proxy: HTTP/1.1 on one port, HTTP/2 with prior knowledge and gRPC on another. It knows nothing of meshes.</summary>
internal sealed class TestApp : IAsyncDisposable
{
    private readonly WebApplication _application;

    private TestApp(string name)
    {
        Name = name;
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxRequestBodySize = null;
            kestrel.Limits.MinRequestBodyDataRate = null;
            kestrel.Limits.MinResponseDataRate = null;
            kestrel.Listen(IPAddress.Loopback, 0, listener => listener.Protocols = HttpProtocols.Http1);
            kestrel.Listen(IPAddress.Loopback, 0, listener => listener.Protocols = HttpProtocols.Http2);
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(this);
        builder.Services.AddSingleton<ShapesService>();
        _application = builder.Build();
        _application.UseWebSockets();
        _application.UseRouting();
        _application.MapGrpcService<ShapesService>();
        Map(_application);
    }

    public string Name { get; }

    public int Http1Port { get; private set; }

    public int Http2Port { get; private set; }

    /// <summary>How often each id was executed, by POST /execute/{id}.</summary>
    public ConcurrentDictionary<string, int> Executions { get; } = new();

    public int Executed => Executions.Values.Sum();

    /// <summary>Held back by GET and POST /gate until it completes.</summary>
    public TaskCompletionSource Gate { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>How many wait at the gate now.</summary>
    public int AtGate;

    public static async Task<TestApp> StartAsync(string name = "app")
    {
        var app = new TestApp(name);
        await app._application.StartAsync();
        var addresses = app._application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ToArray();
        app.Http1Port = new Uri(addresses[0]).Port;
        app.Http2Port = new Uri(addresses[1]).Port;
        return app;
    }

    public async ValueTask DisposeAsync()
    {
        Gate.TrySetResult();
        using var now = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));
        await _application.StopAsync(now.Token);
        await _application.DisposeAsync();
    }

    private void Map(WebApplication application)
    {
        application.Use(async (context, next) =>
        {
            context.Response.Headers["x-app"] = Name;
            await next(context);
        });
        application.MapGet("/hello", () => $"hello from {Name}");
        application.MapMethods("/headers", ["GET", "POST"], (HttpContext context) =>
            string.Join('\n', context.Request.Headers.SelectMany(field => field.Value.Select(value => $"{field.Key.ToLowerInvariant()}: {value}"))) + $"\n:protocol {context.Request.Protocol}\n:host {context.Request.Host}\n");
        application.Map("/ws", async (HttpContext context) =>
        {
            // Messages in whatever pieces they come go back as they came.
            using var socket = await context.WebSockets.AcceptWebSocketAsync();
            var buffer = new byte[16 * 1024];
            while (true)
            {
                var piece = await socket.ReceiveAsync(buffer.AsMemory(), context.RequestAborted);
                if (piece.MessageType == WebSocketMessageType.Close)
                {
                    await socket.CloseAsync(socket.CloseStatus!.Value, socket.CloseStatusDescription, context.RequestAborted);
                    return;
                }

                await socket.SendAsync(buffer.AsMemory(0, piece.Count), piece.MessageType, piece.EndOfMessage, context.RequestAborted);
            }
        });
        application.MapPost("/echo", async (HttpContext context) =>
        {
            context.Response.ContentType = context.Request.ContentType;
            await context.Request.Body.CopyToAsync(context.Response.Body);
        });
        application.MapPost("/count", async (HttpContext context) =>
        {
            var buffer = new byte[64 * 1024];
            long total = 0, sum = 0;
            for (int read; (read = await context.Request.Body.ReadAsync(buffer)) > 0; total += read)
            {
                for (var i = 0; i < read; i++)
                {
                    sum += buffer[i];
                }
            }

            return string.Create(CultureInfo.InvariantCulture, $"{total} {sum}");
        });
        application.MapGet("/bytes/{count:long}", async (HttpContext context, long count) =>
        {
            context.Response.ContentLength = context.Request.Query.ContainsKey("chunked") ? null : count;
            var block = new byte[64 * 1024];
            block.AsSpan().Fill((byte)'x');
            for (var left = count; left > 0; left -= block.Length)
            {
                await context.Response.Body.WriteAsync(block.AsMemory(0, (int)Math.Min(left, block.Length)), context.RequestAborted);
            }
        });
        application.MapGet("/trailers", async (HttpContext context) =>
        {
            context.Response.DeclareTrailer("x-checksum");
            await context.Response.WriteAsync("with trailers");
            context.Response.AppendTrailer("x-checksum", "42");
        });
        application.MapPost("/execute/{id}", async (HttpContext context, string id) =>
        {
            await context.Request.Body.CopyToAsync(Stream.Null);
            Executions.AddOrUpdate(id, 1, (_, times) => times + 1);
            return $"done {id}";
        });
        application.MapMethods("/gate", ["GET", "POST"], async (HttpContext context) =>
        {
            Interlocked.Increment(ref AtGate);
            await Gate.Task.WaitAsync(context.RequestAborted);
            return "through the gate";
        });
        application.MapGet("/status/{code:int}", (int code) => Results.StatusCode(code));
        application.MapGet("/abort", (HttpContext context) =>
        {
            context.Abort();
            return Task.CompletedTask;
        });
    }
}

/// <summary>The four shapes; answers carry trailers of their own.</summary>
internal sealed class ShapesService(TestApp app) : Shapes.ShapesBase
{
    public override Task<Item> Unary(Item request, ServerCallContext context)
    {
        context.ResponseTrailers.Add("x-served-by", app.Name);
        return request.Text switch
        {
            "fail" => throw new RpcException(new Status(StatusCode.FailedPrecondition, "the account is closed: 100 % sure"), new Metadata { { "x-reason", "closed" } }),
            "peer" => Task.FromResult(new Item { Text = context.Host }),
            _ => Task.FromResult(new Item { Text = $"{request.Text} back", Count = request.Count + 1 }),
        };
    }

    public override async Task Down(Item request, IServerStreamWriter<Item> responseStream, ServerCallContext context)
    {
        for (var i = 0; i < request.Count; i++)
        {
            await responseStream.WriteAsync(new Item { Text = request.Text, Count = i });
        }

        context.ResponseTrailers.Add("x-sent", request.Count.ToString(CultureInfo.InvariantCulture));
    }

    public override async Task<Item> Up(IAsyncStreamReader<Item> requestStream, ServerCallContext context)
    {
        var (count, text) = (0, "");
        await foreach (var item in requestStream.ReadAllAsync())
        {
            count += item.Count;
            text += item.Text;
        }

        return new Item { Text = text, Count = count };
    }

    public override async Task Both(IAsyncStreamReader<Item> requestStream, IServerStreamWriter<Item> responseStream, ServerCallContext context)
    {
        await foreach (var item in requestStream.ReadAllAsync())
        {
            await responseStream.WriteAsync(new Item { Text = item.Text, Count = item.Count * 2 });
        }
    }
}
