using System.Buffers;
using System.Globalization;
using System.IO.Pipelines;
using System.Text;
using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;
using MeshProxy.Http.Http2;
using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Targets;

/// <summary>
/// How inputs become frames. The first byte: even, the rest is sent as it is; odd, the rest describes whole frames (type, flags, stream, length, payload), so that
/// mutation reaches what lies behind the frame header. The first byte's other bits choose where the bytes are cut.
/// </summary>
internal static class Http2Input
{
    private static readonly byte[][] s_blocks =
    [
        Convert.FromHexString("828684010f7777772e6578616d706c652e636f6d"), // GET http://www.example.com/
        Convert.FromHexString("838684010f7777772e6578616d706c652e636f6d"), // POST
        [.. Convert.FromHexString("838684010f7777772e6578616d706c652e636f6d"), 0x5c, 1, (byte)'3'], // POST with content-length: 3
        [0x88],
        [0x88, 0x5c, 1, (byte)'5'],
        [0x08, 3, (byte)'1', (byte)'0', (byte)'3'],
        [0x40, 1, (byte)'k', 1, (byte)'v'],
        [0xbe],
    ];

    /// <summary>The bytes for the wire.</summary>
    /// <param name="input">The input.</param>
    /// <param name="scale">How many bytes a payload has for each that the input gives it.</param>
    public static byte[] Bytes(byte[] input, int scale = 1)
    {
        if ((input[0] & 1) == 0)
        {
            return input[1..];
        }

        var bytes = new List<byte>();
        for (var at = 1; at + 4 <= input.Length;)
        {
            var (type, flags, stream, length) = (input[at] % 11, input[at + 1], input[at + 2], input[at + 3]);
            at += 4;
            var payload = input[at..Math.Min(input.Length, at + length)];
            at += payload.Length;

            // Bit 6 has no meaning in HTTP/2; here it asks for a field block that says something.
            if (type == Frame.Headers && (flags & 0x40) != 0)
            {
                payload = s_blocks[(payload.Length > 0 ? payload[0] : 0) % s_blocks.Length];
                flags &= 0x05;
            }
            else if (scale > 1 && type is Frame.Data or Frame.Headers or Frame.Continuation)
            {
                payload = Enlarge(payload, Math.Min(length * scale, 16_384));
            }

            bytes.AddRange(new Frame(type, flags, stream, payload).Write());
        }

        return [.. bytes];
    }

    // By repeating its end: a field block goes on with the lines that it ends with.
    private static byte[] Enlarge(byte[] payload, int length)
    {
        var larger = new byte[Math.Max(length, payload.Length)];
        payload.CopyTo(larger, 0);
        var unit = Math.Clamp(payload.Length, 1, 8);
        for (var i = Math.Max(payload.Length, unit); i < larger.Length; i++)
        {
            larger[i] = larger[i - unit];
        }

        return larger;
    }

    /// <summary>The same bytes in one to three pieces.</summary>
    public static IEnumerable<byte[]> Pieces(byte first, byte[] bytes)
    {
        var cut = bytes.Length == 0 ? 0 : first * 7 % bytes.Length;
        return (first & 6) switch
        {
            0 => [bytes],
            2 => [bytes[..cut], bytes[cut..]],
            4 => [bytes[..(cut / 2)], bytes[(cut / 2)..cut], bytes[cut..]],
            _ => bytes.Chunk(1 + (first >> 3)),
        };
    }

    public static List<Frame> Receive(PipeReader reader)
    {
        return reader.TryRead(out var result) ? Frame.Split(result.Buffer.ToArray()) : [];
    }
}

/// <summary>
/// A server connection against frames. Whatever comes: it ends when the client has gone, with one reason and at most one GOAWAY that names an error; nothing stays
/// open; only a request that was whole is answered with success, once, with as many bytes as it had; what is kept unread stays within its bound.
/// </summary>
internal sealed class Http2ServerTarget : FuzzTarget
{
    public override string Name => "http2-server";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\x01\\x45\\x01\\x01\\x00", "\\x01\\x44\\x03\\x01\\x01", "\\x01\\x44\\x05\\x01\\x02", "\\x00\\x01\\x03\\x03abc", "\\x00\\x09\\x05\\x05\\x01abc\\x00", "\\x01\\x45\\x03\\x01\\x06", "\\x03\\x00\\x01\\x04\\x00\\x00\\x00\\x08",
        "\\x04\\x00\\x00\\x06\\x00\\x04\\x00\\x00\\x00\\x05", "\\x04\\x00\\x00\\x06\\x00\\x01\\x00\\x00\\x00\\x00", "\\x06\\x00\\x00\\x0812345678", "\\x07\\x00\\x00\\x08\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00",
        "\\x08\\x00\\x00\\x04\\x00\\x00\\x03\\xe8", "\\x08\\x00\\x01\\x04\\x7f\\xff\\xff\\xff", "\\x09\\x04\\x01\\x01\\xbe", "\\x02\\x00\\x01\\x05\\x00\\x00\\x00\\x00\\x01", "\\x01\\x04\\x07\\x14\\x82\\x86\\x84\\x01\\x0fwww.example.com", "\\x05\\x00\\x01\\x04\\x00\\x00\\x00\\x02",
    ];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var errors = new List<string>();
        var pipes = new InMemoryDuplex(1 << 22);
        var options = new Http2Options { OnError = (_, _, detail) => errors.Add(detail) };
        var server = new Http2ServerConnection(pipes.Server.Input, pipes.Server.Output, options);
        var handler = new Counter();
        var run = server.RunAsync(handler);
        var bytes = Http2Input.Bytes(input);
        Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray());
        Send(new Frame(Frame.Settings, 0, 0, []).Write());
        foreach (var piece in Http2Input.Pieces(input[0], bytes))
        {
            Send(piece);
        }

        pipes.Client.Output.Complete();
        Must(run.IsCompletedSuccessfully, "the connection did not end with its client");
        Must(!errors.Contains("internal_error"), "an internal error");
        Must(errors.Count <= 1, "more than one error was reported");
        Must(server.CloseReason != ConnectionCloseReason.None, "it ended without a reason");
        Must((server.ActiveExchanges, server.Engine.OpenStreams) == (0, 0), "something is still open");

        var sent = new Http2Streams(Frame.Split(bytes));
        var answered = new HashSet<int>();
        var answers = new Dictionary<int, string>();
        var frames = Http2Input.Receive(pipes.Client.Input);
        Must(frames.Count(frame => frame.Type == Frame.GoAway && frame.Payload[7] != 0) <= 1, "more than one GOAWAY with an error");
        foreach (var frame in frames)
        {
            if (frame.Type == Frame.Headers && frame.Payload[0] == 0x88)
            {
                Must(sent.HasEnded(frame.Stream), $"stream {frame.Stream} was answered and its request was not whole");
                Must(answered.Add(frame.Stream), $"stream {frame.Stream} was answered twice");
            }
            else if (frame.Type == Frame.Data && answered.Contains(frame.Stream))
            {
                // A small window cuts the answer into pieces.
                answers[frame.Stream] = answers.GetValueOrDefault(frame.Stream) + Text(frame.Payload);
                Must(!frame.EndsStream || answers[frame.Stream] == sent.DataOf(frame.Stream).ToString(CultureInfo.InvariantCulture),
                    $"stream {frame.Stream}: {answers[frame.Stream]} bytes arrived, {sent.DataOf(frame.Stream)} were sent");
            }
        }

        Must(answered.Count <= handler.Whole, "more answers than whole requests");
        return $"{string.Join(' ', errors)} {server.CloseReason} {Math.Min(answered.Count, 5)} {Math.Min(frames.Count(frame => frame.Type == Frame.Reset), 5)} {handler.Whole}";

        void Send(byte[] piece)
        {
            pipes.Client.Output.Write(piece);
            _ = pipes.Client.Output.FlushAsync().AsTask();
        }
    }

    // Answers whole requests with how many bytes their body had.
    private sealed class Counter : IHttpExchangeHandler
    {
        public int Whole { get; private set; }

        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            long length = 0;
            while (true)
            {
                var chunk = await exchange.RequestBody.ReadAsync();
                if (chunk.IsBroken)
                {
                    return;
                }

                length += chunk.Data.Length;
                exchange.RequestBody.Advance(chunk.Data.Length);
                if (chunk.IsEnd)
                {
                    break;
                }
            }

            Whole++;
            exchange.Response.Status = 200;
            exchange.WriteHead(exchange.Response);
            await exchange.WriteBodyAsync(new ReadOnlySequence<byte>(Encoding.ASCII.GetBytes(length.ToString(CultureInfo.InvariantCulture))), true);
            await exchange.FlushAsync();
        }
    }
}

/// <summary>
/// A client connection with three requests on it against frames. Whatever comes: it ends when the server has gone, with one reason; every exchange ends; a response is
/// whole only when its stream was ended, with as many bytes as were sent.
/// </summary>
internal sealed class Http2ClientTarget : FuzzTarget
{
    public override string Name => "http2-client";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\x01\\x44\\x01\\x01\\x03", "\\x01\\x45\\x01\\x01\\x03", "\\x01\\x44\\x03\\x01\\x04", "\\x00\\x01\\x03\\x05hello", "\\x00\\x00\\x01\\x02ab", "\\x00\\x09\\x01\\x05\\x01abc\\x00", "\\x01\\x44\\x05\\x01\\x05", "\\x01\\x45\\x03\\x01\\x06",
        "\\x03\\x00\\x05\\x04\\x00\\x00\\x00\\x07", "\\x04\\x00\\x00\\x06\\x00\\x03\\x00\\x00\\x00\\x01", "\\x04\\x00\\x00\\x06\\x00\\x04\\x00\\x00\\x00\\x05", "\\x06\\x00\\x00\\x0812345678",
        "\\x07\\x00\\x00\\x08\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x00", "\\x08\\x00\\x00\\x04\\x00\\x00\\x03\\xe8", "\\x08\\x00\\x01\\x04\\x7f\\xff\\xff\\xff", "\\x09\\x04\\x01\\x01\\xbe", "\\x05\\x00\\x01\\x04\\x00\\x00\\x00\\x02",
    ];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var errors = new List<string>();
        var observer = new Observer();
        var pipes = new InMemoryDuplex(1 << 22);
        var client = new Http2ClientConnection(pipes.Client.Input, pipes.Client.Output, new Http2Options { OnError = (_, _, detail) => errors.Add(detail) }, observer);
        var run = client.RunAsync();
        Send(new Frame(Frame.Settings, 0, 0, []).Write());
        Response[] responses = [new(client, endsStream: true), new(client, endsStream: false), new(client, endsStream: true)];
        var bytes = Http2Input.Bytes(input);
        foreach (var piece in Http2Input.Pieces(input[0], bytes))
        {
            Send(piece);
        }

        pipes.Server.Output.Complete();
        Must(run.IsCompletedSuccessfully, "the connection did not end with its server");
        Must(!errors.Contains("internal_error"), "an internal error");
        Must(observer.Closed != ConnectionCloseReason.None, "it ended without a reason");
        var sent = new Http2Streams(Frame.Split(bytes));
        for (var i = 0; i < responses.Length; i++)
        {
            var stream = 1 + (2 * i);
            Must(responses[i].Reading.IsCompletedSuccessfully, $"stream {stream} never ended");
            if (responses[i].IsWhole)
            {
                Must(sent.HasEnded(stream), $"stream {stream}: a response that was not whole passes for whole");
                Must(responses[i].Length == sent.DataOf(stream), $"stream {stream}: {responses[i].Length} bytes arrived, {sent.DataOf(stream)} were sent");
            }

            responses[i].Exchange.Complete();
        }

        Must(client.ActiveExchanges == 0, "an exchange is still open");
        return $"{string.Join(' ', errors)} {observer.Closed} {string.Join(' ', responses.Select(response => $"{response.Heads} {response.IsWhole} {response.Exchange.End.Reason}"))}";

        void Send(byte[] piece)
        {
            pipes.Server.Output.Write(piece);
            _ = pipes.Server.Output.FlushAsync().AsTask();
        }
    }

    private sealed class Response
    {
        public Response(HttpClientConnection client, bool endsStream)
        {
            Exchange = client.TryOpenExchange()!;
            var head = new RequestHead { EndsStream = endsStream };
            head.SetMethod("GET"u8);
            head.SetScheme("http"u8);
            head.SetAuthority("a"u8);
            head.SetPath("/"u8);
            Exchange.WriteHead(head);
            _ = Exchange.FlushAsync().AsTask();
            Reading = ReadAsync();
        }

        public HttpClientExchange Exchange { get; }

        public Task Reading { get; }

        public int Heads { get; private set; }

        public bool IsWhole { get; private set; }

        public long Length { get; private set; }

        private async Task ReadAsync()
        {
            while (await Exchange.ReadHeadAsync())
            {
                Heads++;
                if (Exchange.Response.IsInformational)
                {
                    continue;
                }

                while (true)
                {
                    var chunk = await Exchange.ResponseBody.ReadAsync();
                    if (chunk.IsBroken)
                    {
                        return;
                    }

                    Length += chunk.Data.Length;
                    Exchange.ResponseBody.Advance(chunk.Data.Length);
                    if (chunk.IsEnd)
                    {
                        IsWhole = true;
                        return;
                    }
                }
            }
        }
    }

    private sealed class Observer : IClientConnectionObserver
    {
        public ConnectionCloseReason Closed { get; private set; }

        public void OnCapacity(HttpClientConnection connection)
        {
        }

        public void OnRetired(HttpClientConnection connection)
        {
        }

        public void OnClosed(HttpClientConnection connection, ConnectionCloseReason reason)
        {
            Must(Closed == ConnectionCloseReason.None, "it ended twice");
            Closed = reason;
        }
    }
}
