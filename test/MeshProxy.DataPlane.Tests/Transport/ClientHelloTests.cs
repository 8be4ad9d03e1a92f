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

    [Test]
    public void Names_and_lists_that_could_mean_two_things_are_invalid()
    {
        byte[] name = [0, 0, 1, (byte)'a'];
        var cases = new (string What, byte[] Hello)[]
        {
            ("two server names", Hello(null, Extension(0, [0, 8, .. name, .. name]))),
            ("two server name extensions", Hello(null, Extension(0, [0, 4, .. name]), Extension(0, [0, 4, .. name]))),
            ("a name of another type", Hello(null, Extension(0, [0, 4, 1, 0, 1, (byte)'a']))),
            ("an empty name", Hello(null, Extension(0, [0, 3, 0, 0, 0]))),
            ("an empty list", Hello(null, Extension(0, [0, 0]))),
            ("a list that is shorter than its extension", Hello(null, Extension(0, [0, 4, .. name, 0]))),
            ("a control character", Hello(null, Extension(0, [0, 4, 0, 0, 1, 0]))),
            ("a name of 256 bytes", Hello(new string('a', 256))),
            ("an extension that is longer than the block", Hello(null, [0x12, 0x34, 0xFF, 0xFF])),
            ("an extension of three bytes", Hello(null, [0, 1, 0])),
            ("an odd number of cipher suite bytes", Make("a", [0x13])),
            ("no cipher suite", Make("a", [])),
            ("a session of 33 bytes", Make("a", null, session: 33)),
        };
        foreach (var (what, hello) in cases)
        {
            Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(hello), out var found, out _), Is.EqualTo(ClientHelloResult.Invalid), what);
            Assert.That(found is null or "a", Is.True, what);
        }
    }

    [Test]
    public void What_is_legal_stays_legal()
    {
        byte[] name = [0, 0, 4, (byte)'A', (byte)'.', (byte)'b', (byte)'1'];
        var cases = new (string What, byte[] Hello, string? Name)[]
        {
            ("no extensions at all", Hello(null, extensions: null), null),
            ("no server name", Hello(null), null),
            ("upper case", Hello(null, Extension(0, [0, 7, .. name])), "a.b1"),
            ("GREASE (RFC 8701) before and after", Hello(null, Extension(0x0A0A, []), Extension(0, [0, 7, .. name]), Extension(0xFAFA, [0])), "a.b1"),
            ("the outer name of an encrypted ClientHello", Hello(null, Extension(0xFE0D, new byte[180]), Extension(0, [0, 7, .. name])), "a.b1"),
            ("a hello of 12 KiB", Hello(null, Extension(51, new byte[12 * 1024]), Extension(0, [0, 7, .. name])), "a.b1"),
            ("a session of 32 bytes", Make("a.b1", null, session: 32), "a.b1"),
        };
        foreach (var (what, hello, expected) in cases)
        {
            foreach (var records in new[] { hello, Recut(hello, 1), Recut(hello, 1000) })
            {
                Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(records), out var found, out _), Is.EqualTo(records.Length > ClientHello.LongestBytes ? ClientHelloResult.Invalid : ClientHelloResult.Complete), what);
                Assert.That(found, Is.EqualTo(records.Length > ClientHello.LongestBytes ? null : expected), what);
            }
        }
    }

    [Test]
    public void A_hello_that_is_too_long_or_carries_something_else_is_invalid_as_soon_as_that_is_known()
    {
        byte[] announced = [0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 0];
        Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(announced), out _, out _), Is.EqualTo(ClientHelloResult.Invalid), "longer than is looked at");
        var mixed = Recut(Hello("a"), 20);
        mixed[25] = 0x17;
        Assert.That(ClientHello.TryParse(new ReadOnlySequence<byte>(mixed), out _, out _), Is.EqualTo(ClientHelloResult.Invalid), "another kind of record in between");
    }

    [Test]
    public void In_any_pieces_it_is_incomplete_until_its_last_byte_and_then_the_same()
    {
        foreach (var hello in new[] { Hello("pay.example.com"), Recut(Hello("pay.example.com"), 1), Recut(Hello("pay.example.com"), 50) })
        {
            for (var length = 0; length <= hello.Length; length++)
            {
                var result = ClientHello.TryParse(Segments(hello.AsMemory(0, length), 13), out var name, out _);
                Assert.That(result, Is.EqualTo(length == hello.Length ? ClientHelloResult.Complete : ClientHelloResult.Incomplete), $"{length} of {hello.Length}");
                Assert.That(name, Is.EqualTo(length == hello.Length ? "pay.example.com" : null));
            }
        }
    }

    [Test]
    public void Random_bytes_behind_a_plausible_start_never_throw()
    {
        var random = new Random(20261124);
        var buffer = new byte[600];
        for (var i = 0; i < 100_000; i++)
        {
            random.NextBytes(buffer);
            new byte[] { 0x16, 3, 1, 1, (byte)random.Next(256), 1, 0, (byte)random.Next(2), (byte)random.Next(256) }.CopyTo(buffer, 0);
            buffer[43] = 0;
            var result = ClientHello.TryParse(Segments(buffer.AsMemory(0, random.Next(buffer.Length)), random.Next(1, 200)), out var name, out _);
            Assert.That(name is null || result == ClientHelloResult.Complete || name.Length <= 255, Is.True);
        }
    }

    /// <summary>A ClientHello in one record.</summary>
    internal static byte[] Hello(string? serverName, params byte[][]? extensions) => Make(serverName, null, 0, extensions);

    private static byte[] Make(string? serverName, byte[]? suites, int session = 0, byte[][]? extensions = null)
    {
        suites ??= [0x13, 0x01];
        List<byte> block = [];
        if (serverName is not null)
        {
            byte[] name = [.. System.Text.Encoding.ASCII.GetBytes(serverName)];
            block.AddRange(Extension(0, [.. UInt16(name.Length + 3), 0, .. UInt16(name.Length), .. name]));
        }

        foreach (var extension in extensions ?? [])
        {
            block.AddRange(extension);
        }

        byte[] body =
        [
            3, 3, .. new byte[32], (byte)session, .. new byte[session], .. UInt16(suites.Length), .. suites, 1, 0,
            .. extensions is null && serverName is null ? [] : UInt16(block.Count), .. block,
        ];
        return [0x16, 3, 1, .. UInt16(body.Length + 4), 1, 0, .. UInt16(body.Length), .. body];
    }

    /// <summary>The same message in records of at most so many bytes.</summary>
    internal static byte[] Recut(byte[] hello, int size) => [.. hello.Skip(5).Chunk(size).SelectMany(part => (byte[])[0x16, 3, 1, .. UInt16(part.Length), .. part])];

    private static byte[] Extension(int type, byte[] body) => [.. UInt16(type), .. UInt16(body.Length), .. body];

    private static byte[] UInt16(int value) => [(byte)(value >> 8), (byte)value];

    private static ReadOnlySequence<byte> Segments(ReadOnlyMemory<byte> bytes, int size)
    {
        var first = new Piece(bytes[..Math.Min(size, bytes.Length)], 0);
        var last = first;
        for (var at = first.Memory.Length; at < bytes.Length; at += size)
        {
            last = last.Append(bytes.Slice(at, Math.Min(size, bytes.Length - at)));
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
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

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(ReadOnlyMemory<byte> memory, long at)
        {
            Memory = memory;
            RunningIndex = at;
        }

        public Piece Append(ReadOnlyMemory<byte> memory)
        {
            var next = new Piece(memory, RunningIndex + Memory.Length);
            Next = next;
            return next;
        }
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
