using System.Buffers;
using System.Net;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Identity;
using MeshProxy.Testing;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Tests.Transport;

/// <summary>What TLS connections hold and allocate.</summary>
internal sealed class TlsMemoryTests
{
    private readonly BlockPool _pool = new();

    [Test]
    public async Task A_round_trip_allocates_nothing_and_an_idle_connection_holds_no_block()
    {
        // The test framework's execution context costs an allocation each time a continuation enters it: measure without.
        Task<(double Bytes, long Idle)> measuring;
        using (ExecutionContext.SuppressFlow())
        {
            measuring = Task.Run(MeasureAsync);
        }

        var (bytes, idle) = await measuring;
        Assert.That(idle, Is.Zero, "blocks held by two idle ends, plain and encrypted side");
        Assert.That(bytes, Is.LessThan(8), "bytes for each round trip, the whole process counted");
        await EmptyAsync();
        Assert.That(_pool.RentedBlocks, Is.Zero, "after the close");
    }

    // The other ends' loops may still be giving back their last block.
    private async Task EmptyAsync()
    {
        for (var i = 0; i < 400 && _pool.RentedBlocks != 0; i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    private async Task<(double Bytes, long Idle)> MeasureAsync()
    {
        using var ca = new TestCa();
        var transport = new SocketTransport(new SocketTransportOptions { Pool = _pool });
        var store = new SvidStore();
        var id = SpiffeId.Parse("spiffe://mesh.local/ns/shop/sa/payments");
        store.Update(new Svid(id, ca.IssueSvid(id.ToString()), ca.Intermediates));
        store.Update(TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), ca.RootPem));
        await using var listener = await transport.BindAsync(new IPEndPoint(IPAddress.Loopback, 0));
        var accepting = listener.AcceptAsync();
        var dialed = await transport.ConnectAsync(listener.EndPoint);
        var accepted = (await accepting)!;
        var serving = TlsServerStep.ForMesh(store, store, TimeProvider.System, _pool).AuthenticateAsync(accepted, Pipes.Patience, default).AsTask();
        var client = await new TlsClientStep(store, store, TimeProvider.System, _pool).AuthenticateAsync(dialed, "p1.a.b.mesh.mesh.local", "h2", [id], Pipes.Patience, default);
        var server = await serving;
        var echo = EchoAsync(server.Connection);
        var message = Pipes.Pattern(200);
        await RoundTripsAsync(client.Connection, message, 2000);
        var before = GC.GetTotalAllocatedBytes(precise: true);
        await RoundTripsAsync(client.Connection, message, 5000);
        var after = GC.GetTotalAllocatedBytes(precise: true);
        var idling = client.Connection.Transport.Input.ReadAsync();
        await EmptyAsync();
        var idle = _pool.RentedBlocks;
        await client.Connection.Transport.Output.CompleteAsync();
        await echo.WaitAsync(Pipes.Patience);
        await server.Connection.DisposeAsync();
        var end = await idling;
        client.Connection.Transport.Input.AdvanceTo(end.Buffer.End);
        await client.Connection.DisposeAsync();
        return ((after - before) / 5000.0, idle);
    }

    private static async Task RoundTripsAsync(ConnectionContext connection, byte[] message, int count)
    {
        for (var i = 0; i < count; i++)
        {
            connection.Transport.Output.Write(message);
            await connection.Transport.Output.FlushAsync();
            long got = 0;
            while (got < message.Length)
            {
                var read = await connection.Transport.Input.ReadAsync();
                got += read.Buffer.Length;
                connection.Transport.Input.AdvanceTo(read.Buffer.End);
            }
        }
    }

    private static async Task EchoAsync(ConnectionContext connection)
    {
        while (true)
        {
            var read = await connection.Transport.Input.ReadAsync();
            foreach (var piece in read.Buffer)
            {
                connection.Transport.Output.Write(piece.Span);
            }

            connection.Transport.Input.AdvanceTo(read.Buffer.End);
            await connection.Transport.Output.FlushAsync();
            if (read.IsCompleted)
            {
                return;
            }
        }
    }
}
