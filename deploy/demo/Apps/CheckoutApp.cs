using System.Text.Json.Serialization;
using Grpc.Core;
using MeshProxy.Demo.Protos;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace MeshProxy.Demo.Apps;

/// <summary>The shop's front: JSON over HTTP/1.1 in, one gRPC call to <c>payments</c> out. Retries nothing.</summary>
internal static class CheckoutApp
{
    public static async Task RunAsync(AppOptions options)
    {
        var builder = AppHost.CreateBuilder(options, HttpProtocols.Http1);
        builder.Services.ConfigureHttpJsonOptions(json => json.SerializerOptions.TypeInfoResolverChain.Insert(0, CheckoutJson.Default));
        await using var app = builder.Build();
        using var channel = AppHost.ChannelThroughSidecar(options, "payments:8080");
        var payments = new Protos.Payments.PaymentsClient(channel);

        app.MapPost("/payments", async (PaymentOrder order, CancellationToken aborted) =>
        {
            try
            {
                var receipt = await payments.PayAsync(
                    new Payment { Id = order.Id, AmountMinor = order.AmountMinor, Currency = order.Currency },
                    deadline: Deadline.In(TimeSpan.FromSeconds(8)),
                    cancellationToken: aborted);
                var answer = new PaymentAnswer(order.Id, receipt.Booking, receipt.Version, receipt.Instance);
                return Results.Json(answer, CheckoutJson.Default.PaymentAnswer, statusCode: StatusCodes.Status201Created);
            }
            catch (RpcException failure)
            {
                return Refusal(failure);
            }
        });

        app.MapGet("/check", async (CancellationToken aborted) =>
        {
            try
            {
                var reply = await payments.CheckAsync(new CheckRequest(), deadline: Deadline.In(TimeSpan.FromSeconds(8)), cancellationToken: aborted);
                return Results.Text(string.Join(' ', reply.Through.Prepend(options.Name)));
            }
            catch (RpcException failure)
            {
                return Refusal(failure);
            }
        });

        await app.RunAsync();
    }

    /// <summary>The caller learns which status the mesh or the application gave: that is the difference between "try again" and "find out first".</summary>
    private static IResult Refusal(RpcException failure)
    {
        var status = failure.StatusCode switch
        {
            StatusCode.Unavailable => StatusCodes.Status503ServiceUnavailable,
            StatusCode.DeadlineExceeded => StatusCodes.Status504GatewayTimeout,
            _ => StatusCodes.Status502BadGateway,
        };
        return Results.Json(
            new PaymentRefusal(failure.StatusCode.ToString(), failure.Status.Detail), CheckoutJson.Default.PaymentRefusal, statusCode: status);
    }
}

internal sealed record PaymentOrder(string Id, long AmountMinor, string Currency);

internal sealed record PaymentAnswer(string Id, long Booking, string Version, string Instance);

internal sealed record PaymentRefusal(string Error, string Detail);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(PaymentOrder))]
[JsonSerializable(typeof(PaymentAnswer))]
[JsonSerializable(typeof(PaymentRefusal))]
internal sealed partial class CheckoutJson : JsonSerializerContext;
