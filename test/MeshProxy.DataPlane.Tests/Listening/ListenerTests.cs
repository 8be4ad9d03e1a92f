using System.Net;
using System.Net.Sockets;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Tests.Transport;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.DataPlane.Tests.Listening;

internal sealed class ListenerTests
{
    private static readonly IPEndPoint AnyPort = new(IPAddress.Loopback, 0);

    [Test]
    public async Task Serves_each_connection_and_stops_accepting_when_told()
    {
        await using var listener = await Listener.BindAsync(new SocketTransport(), AnyPort, "test", EchoOnceAsync, NullLogger.Instance, default);
        for (var i = 0; i < 20; i++)
        {
            Assert.That(await AskAsync(listener.EndPoint), Is.EqualTo((byte)42));
        }

        Assert.That(listener.Accepted, Is.EqualTo(20));
        await listener.StopAcceptingAsync();
        var refused = await Assert.CatchAsync<SocketException>(() => AskAsync(listener.EndPoint));
        Assert.That(refused!.SocketErrorCode, Is.EqualTo(SocketError.ConnectionRefused));
    }

    [Test]
    public async Task A_port_that_is_taken_is_explained()
    {
        await using var first = await Listener.BindAsync(new SocketTransport(), AnyPort, "inbound", EchoOnceAsync, NullLogger.Instance, default);
        var failure = await Assert.CatchAsync<IOException>(async () =>
            await Listener.BindAsync(new SocketTransport(), first.EndPoint, "outbound", EchoOnceAsync, NullLogger.Instance, default));
        Assert.That(failure!.Message, Does.Contain($"port {first.EndPoint.Port} on 127.0.0.1 is taken").And.Contain("ss -ltnp").And.Contain("outbound"));
    }

    [Test]
    public async Task Failed_accepts_are_waited_out()
    {
        var transport = new FailingTransport(failures: 3);
        await using var listener = await Listener.BindAsync(transport, AnyPort, "test", EchoOnceAsync, NullLogger.Instance, default);
        Assert.That(await AskAsync(listener.EndPoint), Is.EqualTo((byte)42));
        Assert.That((listener.AcceptFailures, listener.Accepted), Is.EqualTo((3L, 1L)));
    }

    [Test]
    public async Task A_server_that_throws_costs_its_connection_only()
    {
        var calls = 0;
        await using var listener = await Listener.BindAsync(
            new SocketTransport(),
            AnyPort,
            "test",
            connection => Interlocked.Increment(ref calls) == 1 ? throw new InvalidOperationException("a bug") : EchoOnceAsync(connection),
            NullLogger.Instance,
            default);
        using (var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
        {
            await socket.ConnectAsync(listener.EndPoint);
            Assert.That(await socket.ReceiveAsync(new byte[1]).WaitAsync(Pipes.Patience), Is.Zero);
        }

        Assert.That(await AskAsync(listener.EndPoint), Is.EqualTo((byte)42));
    }

    [Test]
    public void The_registry_knows_who_lives()
    {
        var registry = new ConnectionRegistry();
        var entries = Enumerable.Range(0, 10).Select(_ => new Entry { Listener = "test" }).ToArray();
        foreach (var entry in entries)
        {
            registry.Add(entry);
        }

        Assert.That(registry.Snapshot().Select(entry => entry.Id), Is.EqualTo(Enumerable.Range(1, 10).Select(id => (long)id)));
        registry.ForEach(entry => entry.Drain(ConnectionCloseReason.Drain));
        Assert.That(entries.All(entry => entry.Drained), Is.True);
        for (var left = 10; left > 0; left--)
        {
            Assert.That(registry.Count, Is.EqualTo(left));
            registry.Remove(entries[left - 1]);
            registry.Remove(entries[left - 1]);
        }

        Assert.That((registry.Count, registry.Total), Is.EqualTo((0, 10L)));
    }

    private static async Task EchoOnceAsync(ConnectionContext connection)
    {
        var bytes = await connection.Transport.Input.ReadExactlyAsync(1);
        await connection.Transport.Output.WriteAsync(bytes);
        await connection.DisposeAsync();
    }

    private static async Task<byte> AskAsync(EndPoint endPoint)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(endPoint);
        await socket.SendAsync(new byte[] { 42 });
        return (await socket.ReceiveExactlyAsync(1))[0];
    }

    private sealed class Entry : ConnectionEntry
    {
        public bool Drained { get; private set; }

        public override void OnTick(long nowMilliseconds)
        {
        }

        public override void Drain(ConnectionCloseReason reason) => Drained = true;

        public override void Abort(ConnectionCloseReason reason)
        {
        }
    }

    private sealed class FailingTransport(int failures) : IConnectionListenerFactory
    {
        private readonly SocketTransport _transport = new();

        public async ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
            new FailingListener(await _transport.BindAsync(endpoint, cancellationToken), failures);
    }

    private sealed class FailingListener(IConnectionListener listener, int failures) : IConnectionListener
    {
        private int _failures = failures;

        public EndPoint EndPoint => listener.EndPoint;

        public ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default) =>
            _failures-- > 0 ? throw new SocketException((int)SocketError.TooManyOpenSockets) : listener.AcceptAsync(cancellationToken);

        public ValueTask UnbindAsync(CancellationToken cancellationToken = default) => listener.UnbindAsync(cancellationToken);

        public ValueTask DisposeAsync() => listener.DisposeAsync();
    }
}
