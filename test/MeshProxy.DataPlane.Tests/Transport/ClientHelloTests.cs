using System.Buffers;
using System.Net.Security;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Tests.Transport;

internal sealed class ClientHelloTests
{
    private static readonly string[] Offered = ["h2", "meshproxy-tcp/1"];

    [Test]
    public async Task A_real_hello_tells_name_and_protocols_whole_or_byte_by_byte()
    {
        var hello = await CaptureAsync("p8080.payments.shop.mesh.mesh.local");
        for (var length = 0; length < hello.Length; length++)
        {
            Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(hello, 0, length), out _, out _), Is.EqualTo(ClientHelloResult.Incomplete), $"after {length} bytes");
        }

        Check(hello);
    }

    [Test]
    public async Task A_hello_over_several_records_is_read()
    {
        var hello = await CaptureAsync("p8080.payments.shop.mesh.mesh.local");
        var cut = new List<byte>();
        foreach (var part in hello.Skip(5).Chunk(33))
        {
            cut.AddRange([0x16, 3, 1, 0, (byte)part.Length]);
            cut.AddRange(part);
        }

        Check([.. cut]);
    }

    [Test]
    public void What_is_no_hello_is_invalid()
    {
        foreach (var bytes in new byte[][] { [0x15], [0x16, 2], [0x16, 3, 1, 0, 0], [0x16, 3, 1, 0, 4, 2, 0, 0, 0], [0x16, 3, 1, 0, 4, 1, 255, 0, 0] })
        {
            Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(bytes), out _, out _), Is.EqualTo(ClientHelloResult.Invalid), Convert.ToHexString(bytes));
        }
    }

    [Test]
    public async Task Mutations_never_throw_and_never_read_more_than_allowed()
    {
        var hello = await CaptureAsync("p8080.payments.shop.mesh.mesh.local");
        var random = new Random(20261123);
        var results = new int[3];
        for (var i = 0; i < 50_000; i++)
        {
            var mutated = (byte[])hello.Clone();
            for (var change = random.Next(1, 4); change > 0; change--)
            {
                mutated[random.Next(mutated.Length)] = (byte)random.Next(256);
            }

            var result = ClientHello.TryParse(new ReadOnlySequence<byte>(mutated, 0, random.Next(mutated.Length + 1)), out var name, out _);
            results[(int)result]++;
            Assert.That(name?.Length ?? 0, Is.LessThanOrEqualTo(255));
        }

        Assert.That(results, Has.All.GreaterThan(0), "the mutations reach every outcome");
        var endless = new byte[ClientHello.LongestBytes + 5];
        for (var at = 0; at + 6 <= endless.Length; at += 6)
        {
            new byte[] { 0x16, 3, 1, 0, 1, (byte)(at == 0 ? 1 : 0) }.CopyTo(endless, at);
        }

        Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(endless), out _, out _), Is.Not.EqualTo(ClientHelloResult.Incomplete));
    }

    private static void Check(byte[] hello)
    {
        Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(hello), out var name, out var protocols), Is.EqualTo(ClientHelloResult.Complete));
        Assert.That(name, Is.EqualTo("p8080.payments.shop.mesh.mesh.local"));
        Assert.That(protocols, Is.EqualTo(Offered));
    }

    private static async Task<byte[]> CaptureAsync(string name)
    {
        var wire = new CapturingStream();
        await using var stream = new SslStream(wire);
        await Assert.CatchAsync<Exception>(() => stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = name,
            ApplicationProtocols = [.. Offered.Select(offered => new SslApplicationProtocol(offered))],
        }));
        return wire.Written.ToArray();
    }

    private sealed class CapturingStream : MemoryStream
    {
        public MemoryStream Written { get; } = new();

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(0);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (Written.Length == 0)
            {
                Written.Write(buffer.Span);
            }

            return default;
        }
    }
}
