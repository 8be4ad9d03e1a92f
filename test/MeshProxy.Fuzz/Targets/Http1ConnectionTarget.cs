using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Targets;

/// <summary>
/// A whole HTTP/1.1 server connection and a stream of pipelined requests. The handler must see exactly the whole requests that the grammar finds, in order; each is
/// answered once, what was not whole is never answered with success, and the connection ends with one reason.
/// </summary>
internal sealed class Http1ConnectionTarget : FuzzTarget
{
    private static readonly Http1ServerOptions s_options = new() { Date = new DateField(TimeProvider.System) };
    private readonly Http1RequestTarget _requests = new();

    public override string Name => "http1-connection";

    public override IReadOnlyList<string> Tokens => _requests.Tokens;

    public override string Run(byte[] input)
    {
        var whole = Serve([input], out var answers, out var reason);
        var cut = input.Length == 0 ? 0 : input[^1] % input.Length;
        Same(string.Join('\n', Serve([input[..cut], input[cut..]], out _, out _)), string.Join('\n', whole), $"cut at {cut} the handler sees other requests");
        var expected = Read(Text(input));
        Must(whole.SequenceEqual(expected), $"the handler saw\n  {Escaped.Write(string.Join('\n', whole))}\n  the grammar says\n  {Escaped.Write(string.Join('\n', expected))}");
        Must(answers == whole.Count, $"{whole.Count} whole requests, {answers} answers");
        Must(reason != ConnectionCloseReason.None, "the connection ended without a reason");
        return $"{Math.Min(whole.Count, 6)} {reason} {string.Join(' ', whole.Take(3).Select(Http1Judgement.Outcome))}";
    }

    // The whole requests of a stream, without those that ask for a tunnel, which nobody here gets.
    private static List<string> Read(string stream)
    {
        var requests = new List<string>();
        while (true)
        {
            var reading = Http1Reading.Request(stream, out var length, out var persists);
            if (length == 0)
            {
                return requests;
            }

            if (!reading.Contains(" Tunnel:0 | body | ", StringComparison.Ordinal))
            {
                requests.Add(Summary(reading));
            }

            if (!persists)
            {
                return requests;
            }

            stream = stream[length..];
        }
    }

    // "GET http://a /path Http11 [..] Kind:n | done | body | trailers": method, authority, path, and the body.
    private static string Summary(string reading)
    {
        var parts = reading.Split(' ', 4);
        var body = reading[reading.IndexOf(" | done | ", StringComparison.Ordinal)..];
        return $"{parts[0]} {parts[1]} {parts[2]}{body[..body.LastIndexOf(" rest ", StringComparison.Ordinal)]}";
    }

    private static List<string> Serve(byte[][] pieces, out int answers, out ConnectionCloseReason reason)
    {
        var pipes = new InMemoryDuplex(1 << 20);
        var server = new Http1ServerConnection(pipes.Server.Input, pipes.Server.Output, s_options);
        var handler = new Recorder();
        var run = server.RunAsync(handler);
        foreach (var piece in pieces)
        {
            pipes.Client.Output.Write(piece);
            _ = pipes.Client.Output.FlushAsync().AsTask();
        }

        pipes.Client.Output.Complete();
        Must(run.IsCompletedSuccessfully, "the connection did not end with its client");
        Must(server.ActiveExchanges == 0, "an exchange is still open");
        reason = server.CloseReason;
        pipes.Server.Output.Complete();
        answers = Count(pipes.Client.Input, "HTTP/1.1 200 OK\r\n");
        return handler.Seen;
    }

    private static int Count(PipeReader reader, string what)
    {
        reader.TryRead(out var result);
        return Text(result.Buffer.ToArray()).Split(what).Length - 1;
    }

    private sealed class Recorder : IHttpExchangeHandler
    {
        public List<string> Seen { get; } = [];

        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            var request = exchange.Request;
            if (request.AsksForTunnel)
            {
                exchange.Response.Status = 403;
                exchange.Response.EndsStream = true;
                exchange.WriteHead(exchange.Response);
                return;
            }

            var text = new StringBuilder($"{Text(request.MethodToken)} {Text(request.Scheme)}://{Text(request.Authority)} {Text(request.Path)} | done | ");
            while (true)
            {
                var chunk = await exchange.RequestBody.ReadAsync();
                if (chunk.IsBroken)
                {
                    return;
                }

                text.Append(Text(chunk.Data.ToArray()));
                exchange.RequestBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    break;
                }
            }

            text.Append(" |");
            var trailers = exchange.RequestBody.Trailers;
            for (var i = 0; i < trailers.Count; i++)
            {
                text.Append($" [{Text(trailers[i].Name)}: {Text(trailers[i].Value)}]");
            }

            Seen.Add(text.ToString());
            exchange.Response.Status = 200;
            exchange.Response.EndsStream = true;
            exchange.WriteHead(exchange.Response);
            await exchange.FlushAsync();
        }
    }
}
