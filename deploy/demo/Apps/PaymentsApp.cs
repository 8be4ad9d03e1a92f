using Grpc.Core;
using MeshProxy.Demo.Protos;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace MeshProxy.Demo.Apps;

/// <summary>gRPC in, gRPC to <c>ledger</c> out. A receipt is given only after the ledger has booked. Retries nothing.</summary>
internal static class PaymentsApp
{
    public static async Task RunAsync(AppOptions options)
    {
        using var channel = AppHost.ChannelThroughSidecar(options, "ledger:8080");
        var builder = AppHost.CreateBuilder(options, HttpProtocols.Http2);
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton(new Ledger.LedgerClient(channel));
        await using var app = builder.Build();
        app.MapGrpcService<PaymentsService>();
        await app.RunAsync();
    }
}

internal sealed class PaymentsService(AppOptions options, Ledger.LedgerClient ledger) : Protos.Payments.PaymentsBase
{
    public override async Task<Receipt> Pay(Payment request, ServerCallContext context)
    {
        var payment = new Payment(request) { HandledBy = options.Name };
        var booking = await ledger.BookAsync(payment, deadline: context.Deadline, cancellationToken: context.CancellationToken);
        return new Receipt { Booking = booking.Number, Version = options.Version, Instance = options.Name };
    }

    public override async Task<CheckReply> Check(CheckRequest request, ServerCallContext context)
    {
        var behind = await ledger.CheckAsync(request, deadline: context.Deadline, cancellationToken: context.CancellationToken);
        var reply = new CheckReply { Through = { options.Name } };
        reply.Through.AddRange(behind.Through);
        return reply;
    }
}
