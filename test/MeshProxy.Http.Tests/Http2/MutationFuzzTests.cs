using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>
/// Valid scripts, damaged by a seeded hand. Whatever comes: no internal error, every handler returns once the peer has gone, nothing stays open.
/// </summary>
public sealed class MutationFuzzTests
{
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3)]
    public void Server_survives(int seed)
    {
        var random = new Random(seed);
        for (var i = 0; i < 1500; i++)
        {
            var server = new ServerUnderTest(ServerUnderTest.Count, greet: false);
            SendInParts(server.Peer, Mutate(random, Script(random)), random);
            server.Peer.Receive();
            server.Peer.Finish();
            Assert.That(server.Run.IsCompletedSuccessfully, Is.True, $"seed {seed} round {i}");
            Assert.That(server.Errors.Any(error => error.Detail == "internal_error"), Is.False, $"seed {seed} round {i}");
            Assert.That((server.Connection.ActiveExchanges, server.Connection.Engine.OpenStreams), Is.EqualTo((0, 0)), $"seed {seed} round {i}");
        }
    }

    [TestCase(4)]
    [TestCase(5)]
    public void Client_survives(int seed)
    {
        var random = new Random(seed);
        for (var i = 0; i < 1500; i++)
        {
            var errors = new List<string>();
            var client = new ClientUnderTest(new Http2Options { OnError = (_, _, detail) => errors.Add(detail) });
            var exchanges = new[] { client.Open(), client.Open(endStream: false), client.Open() };
            var readers = exchanges.Select(Read).ToArray();
            byte[] script =
            [
                .. Frame(Headers, 4, 1, Line(":status", "103")), .. Frame(Headers, 4, 1, [0x88, .. Line("content-length", "5")]),
                .. Frame(Headers, 4, 3, [0x88, 0x40, 1, (byte)'k', 1, (byte)'v']), .. Frame(Data, 0, 1, 1, 2, 3), .. Frame(WindowUpdate, 0, 3, UInt32(100)),
                .. Frame(Settings, 0, 0, [.. Setting(4, 1000), .. Setting(1, 0)]), .. Frame(Data, 1, 1, 4, 5), .. Frame(Data, 8, 3, 2, 1, 2, 0, 0),
                .. Frame(Headers, 5, 3, 0xbe), .. Frame(GoAway, 0, 0, [.. UInt32(3), .. UInt32(0)]), .. Frame(Reset, 0, 5, UInt32(7)),
            ];
            SendInParts(client.Peer, Mutate(random, script), random);
            client.Peer.Receive();
            client.Peer.Finish();
            Assert.That(client.Run.IsCompletedSuccessfully, Is.True, $"seed {seed} round {i}");
            Assert.That(errors, Does.Not.Contain("internal_error"), $"seed {seed} round {i}");
            Assert.That(readers.All(reader => reader.IsCompletedSuccessfully), Is.True, $"seed {seed} round {i}");
            foreach (var exchange in exchanges)
            {
                exchange.Complete();
            }

            Assert.That(client.Connection.ActiveExchanges, Is.Zero, $"seed {seed} round {i}");
        }
    }

    private static async Task Read(HttpClientExchange exchange)
    {
        while (await exchange.ReadHeadAsync())
        {
            if (exchange.Response.IsInformational)
            {
                continue;
            }

            while (true)
            {
                var chunk = await exchange.ResponseBody.ReadAsync();
                if (chunk.IsBroken)
                {
                    return;
                }

                exchange.ResponseBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    return;
                }
            }
        }
    }

    private static byte[] Script(Random random)
    {
        List<byte> script = [.. Preface, .. Frame(Settings, 0, 0, Setting(4, random.Next(100_000))), .. Frame(Settings, 1, 0)];
        for (var id = 1; id < 12; id += 2)
        {
            script.AddRange(random.Next(8) switch
            {
                0 => Frame(Headers, 5, id, Get),
                1 => [.. Frame(Headers, 4, id, [.. Post, .. Line("content-length", "3")]), .. Frame(Data, 1, id, 1, 2, 3)],
                2 => [.. Frame(Headers, 0, id, Post[..5]), .. Frame(Continuation, 4, id, Post[5..]), .. Frame(Data, 9, id, 1, 7, 0)],
                3 => [.. Frame(Headers, 4, id, [.. Post, 0x40, 1, (byte)'k', 1, (byte)'v']), .. Frame(Headers, 5, id, 0xbe)],
                4 => [.. Frame(Headers, 4, id, Post), .. Frame(Reset, 0, id, UInt32(8))],
                5 => [.. Frame(Headers, 4, id, Hex("8386844188f1e3c2e5f23a6ba0ab90f4ff")), .. Frame(WindowUpdate, 0, id, UInt32(9)), .. Frame(Data, 1, id)],
                6 => [.. Frame(Ping, 0, 0, new byte[8]), .. Frame(WindowUpdate, 0, 0, UInt32(1000)), .. Frame(Priority, 0, id, 0, 0, 0, 0, 1)],
                _ => [.. Frame(Headers, 5 | 8 | 0x20, id, [2, 0, 0, 0, 0, 1, .. Get, 0, 0]), .. Frame(GoAway, 0, 0, new byte[12])],
            });
        }

        return [.. script];
    }

    private static byte[] Mutate(Random random, byte[] script)
    {
        var bytes = script.ToList();
        for (var n = random.Next(4); n > 0 && bytes.Count > 1; n--)
        {
            var at = random.Next(bytes.Count);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 2:
                    bytes.RemoveAt(at);
                    break;
                default:
                    bytes.Insert(at, (byte)random.Next(256));
                    break;
            }
        }

        return [.. bytes];
    }

    private static void SendInParts(RawPeer peer, byte[] bytes, Random random)
    {
        for (var at = 0; at < bytes.Length;)
        {
            var count = Math.Min(bytes.Length - at, random.Next(3) == 0 ? random.Next(1, 12) : bytes.Length);
            peer.Send(bytes[at..(at + count)]);
            at += count;
        }
    }
}
