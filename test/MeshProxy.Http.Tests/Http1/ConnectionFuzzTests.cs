using System.Buffers;
using System.Text;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Damaged streams of pipelined requests against a whole server connection: however they are cut, the same requests are seen, the same
/// bytes come back, nothing throws and the connection ends when the client does.</summary>
public sealed class ConnectionFuzzTests
{
    private static readonly string[] Messages =
    [
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nt: 1\r\n\r\n",
        "HEAD /4 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET /5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "\r\nGET http://a/6 HTTP/1.1\r\nHost: A:80\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    ];

    [Test]
    public void DamagedStreamsBehaveTheSameHoweverTheyAreCut()
    {
        EventLoop.Imitate();
        var requestsSeen = 0;
        for (var seed = 0; seed < 1500; seed++)
        {
            var random = new Random(seed);
            var stream = string.Concat(Enumerable.Range(0, random.Next(1, 6)).Select(_ => Messages[random.Next(Messages.Length)]));
            var bytes = Encoding.Latin1.GetBytes(stream).ToList();
            for (var i = random.Next(0, 3); i > 0; i--)
            {
                var at = random.Next(bytes.Count);
                switch (random.Next(3))
                {
                    case 0:
                        bytes[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        bytes.Insert(at, "\r\n :0;a"u8[random.Next(7)]);
                        break;
                    default:
                        bytes.RemoveAt(at);
                        break;
                }
            }

            var whole = Serve([bytes.ToArray()]);
            var byByte = Serve(bytes.Select(b => new[] { b }));
            var cut = random.Next(bytes.Count);
            var halves = Serve([bytes.Take(cut).ToArray(), bytes.Skip(cut).ToArray()]);
            Assert.That(byByte, Is.EqualTo(whole), $"seed {seed}");
            Assert.That(halves, Is.EqualTo(whole), $"seed {seed}");
            requestsSeen += whole.Count(c => c == '|');
        }

        Assert.That(requestsSeen, Is.GreaterThan(1500));
    }

    private static string Serve(IEnumerable<byte[]> pieces)
    {
        var pipes = new InMemoryDuplex();
        var client = new Peer(pipes.Client);
        var server = new Http1ServerConnection(
            pipes.Server.Input, pipes.Server.Output, new Http1ServerOptions { Date = new DateField(new FixedTime()) });
        var seen = new StringBuilder();
        var run = server.RunAsync(new Handler(async exchange =>
        {
            seen.Append(Encoding.Latin1.GetString(exchange.Request.MethodToken)).Append(' ')
                .Append(Encoding.Latin1.GetString(exchange.Request.Path)).Append(' ');
            while (true)
            {
                var chunk = await exchange.RequestBody.ReadAsync();
                if (chunk.IsBroken)
                {
                    seen.Append("broken ").Append(chunk.End.Reason).Append('|');
                    return;
                }

                seen.Append(Encoding.Latin1.GetString(chunk.Data.ToArray()));
                exchange.RequestBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    break;
                }
            }

            seen.Append('|');
            await ServerConnectionTests.Answer(exchange, "ok");
        }));
        foreach (var piece in pieces)
        {
            client.Send(piece);
        }

        client.Close();
        Assert.That(run.IsCompletedSuccessfully);

        // A body that waits asks the client to go on, one that is there does not: the only difference a cut may make.
        return seen + "\n" + client.Take().Replace("HTTP/1.1 100 Continue\r\n\r\n", "", StringComparison.Ordinal) + server.CloseReason;
    }
}
