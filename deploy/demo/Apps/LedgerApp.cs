using Grpc.Core;
using MeshProxy.Demo.Protos;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace MeshProxy.Demo.Apps;

/// <summary>gRPC in, SQLite behind. Answers only after the booking is committed.</summary>
internal static class LedgerApp
{
    public static async Task RunAsync(AppOptions options)
    {
        using var book = LedgerBook.Open(options.Database);
        var builder = AppHost.CreateBuilder(options, HttpProtocols.Http2);
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton(book);
        await using var app = builder.Build();
        app.MapGrpcService<LedgerService>();
        await app.RunAsync();
    }
}

internal sealed class LedgerService(AppOptions options, LedgerBook book) : Ledger.LedgerBase
{
    public override Task<Booking> Book(Payment request, ServerCallContext context) =>
        Task.FromResult(new Booking { Number = book.Append(request.Id, request.AmountMinor, request.Currency, request.HandledBy) });

    public override Task<CheckReply> Check(CheckRequest request, ServerCallContext context) =>
        Task.FromResult(new CheckReply { Through = { options.Name } });
}
