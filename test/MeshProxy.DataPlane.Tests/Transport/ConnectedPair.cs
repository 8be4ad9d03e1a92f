using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using MeshProxy.DataPlane.Transport;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Tests.Transport;

/// <summary>One of our connections, accepted on loopback, and the plain socket that dialed it.</summary>
internal sealed class ConnectedPair : IAsyncDisposable
{
    private readonly IConnectionListener _listener;

    private ConnectedPair(IConnectionListener listener, Socket peer, ConnectionContext connection)
    {
        _listener = listener;
        Peer = peer;
        Connection = connection;
    }

    public Socket Peer { get; }

    public ConnectionContext Connection { get; }

    public PipeReader Input => Connection.Transport.Input;

    public PipeWriter Output => Connection.Transport.Output;

    public static async Task<ConnectedPair> OpenAsync(IConnectionListenerFactory factory, int? receiveBuffer = null)
    {
        var listener = await factory.BindAsync(new IPEndPoint(IPAddress.Loopback, 0));
        var peer = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        if (receiveBuffer is { } size)
        {
            peer.ReceiveBufferSize = size;
        }

        var accepting = listener.AcceptAsync();
        await peer.ConnectAsync(listener.EndPoint);
        return new ConnectedPair(listener, peer, (await accepting)!);
    }

    public async ValueTask DisposeAsync()
    {
        Peer.Dispose();
        await Connection.DisposeAsync();
        await _listener.DisposeAsync();
    }
}

internal static class Pipes
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    public static async Task<byte[]> ReadExactlyAsync(this PipeReader input, int count)
    {
        while (true)
        {
            var read = await input.ReadAsync().AsTask().WaitAsync(Patience);
            if (read.Buffer.Length >= count)
            {
                var taken = read.Buffer.Slice(0, count).ToArray();
                input.AdvanceTo(read.Buffer.GetPosition(count));
                return taken;
            }

            Assert.That(read.IsCompleted, Is.False, $"ended after {read.Buffer.Length} of {count} bytes");
            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    public static async Task<byte[]> ReadToEndAsync(this PipeReader input)
    {
        while (true)
        {
            var read = await input.ReadAsync().AsTask().WaitAsync(Patience);
            if (read.IsCompleted)
            {
                var all = read.Buffer.ToArray();
                input.AdvanceTo(read.Buffer.End);
                return all;
            }

            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    public static async Task<byte[]> ReceiveExactlyAsync(this Socket socket, int count)
    {
        var buffer = new byte[count];
        var got = 0;
        while (got < count)
        {
            var n = await socket.ReceiveAsync(buffer.AsMemory(got)).AsTask().WaitAsync(Patience);
            Assert.That(n, Is.GreaterThan(0), $"ended after {got} of {count} bytes");
            got += n;
        }

        return buffer;
    }

    public static byte[] Pattern(int count, int seed = 1)
    {
        var bytes = new byte[count];
        var state = (uint)seed * 2654435761u;
        for (var i = 0; i < count; i++)
        {
            state = (state * 1664525u) + 1013904223u;
            bytes[i] = (byte)(state >> 24);
        }

        return bytes;
    }
}
