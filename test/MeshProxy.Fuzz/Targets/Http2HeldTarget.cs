using System.Buffers;
using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;
using MeshProxy.Http.Http2;
using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Targets;

/// <summary>
/// A server connection with small limits against large frames, while its handlers read nothing and its client reads nothing: what it keeps, and what it has put into
/// its output, stay within the bounds that the Buffers table of MeshProxy.Http names.
/// </summary>
internal sealed class Http2HeldTarget : FuzzTarget
{
    private const int Scale = 64;
    private const int Rounds = 24;
    private const int TransportBytes = 1024;

    private static readonly Http2Limits s_limits = new()
    {
        MaxConcurrentStreams = 4,
        MaxFieldListBytes = 1000,
        MaxFieldCount = 20,
        InitialStreamWindowBytes = 4096,
        MaxStreamWindowBytes = 8192,
        ConnectionWindowBytes = 65_535,
        MaxUnreadBytes = 2048,
        MaxUnsentBytes = 1024,
        MaxUnsentReplies = 30,
    };

    private readonly Http2ServerTarget _tokens = new();

    public override string Name => "http2-held";

    public override IReadOnlyList<string> Tokens => _tokens.Tokens;

    // The windows of streams that were open when the bound was passed.
    private static long BodiesBound => s_limits.MaxUnreadBytes + (s_limits.MaxConcurrentStreams * (long)s_limits.InitialStreamWindowBytes);

    // Rows of the table. Twice where an array doubles as it grows.
    private static long HeldBound
    {
        get
        {
            // Handlers may outlive their streams, up to twice as many; as many exchanges again wait for reuse.
            var exchanges = 3L * s_limits.MaxConcurrentStreams;
            var map = (2L * s_limits.MaxFieldListBytes) + (32 * 48);
            var block = 2L * MessageFields.HardLimitFactor * s_limits.MaxFieldListBytes;
            var strings = 2L * MessageFields.HardLimitFactor * s_limits.MaxFieldListBytes * 8 / 5;
            var cookies = 2L * s_limits.MaxFieldListBytes;
            var tables = 2L * ((2 * s_limits.MaxHpackTableBytes) + (s_limits.MaxHpackTableBytes / 32 * 48));

            // The last segment of each stream may be as good as empty.
            var unread = BodiesBound + (s_limits.MaxConcurrentStreams * 4096L);
            const int Fixed = 16 * 1024; // the encoder's hints, past streams, what copies a frame that lies in several blocks
            return (exchanges * 3 * map) + block + strings + cookies + tables + unread + s_limits.MaxUnsentBytes + Fixed;
        }
    }

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var errors = new List<string>();
        var abuse = new HashSet<string>();
        var pipes = new InMemoryDuplex(TransportBytes);
        var options = new Http2Options { Limits = s_limits, OnError = (_, _, detail) => errors.Add(detail), OnAbuse = kind => abuse.Add(kind) };
        var server = new Http2ServerConnection(pipes.Server.Input, pipes.Server.Output, options);
        var handler = new Deaf();
        long held = 0;
        var run = server.RunAsync(handler);
        Send([.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. new Frame(Frame.Settings, 0, 0, []).Write()]);
        var bytes = Http2Input.Bytes(input, Scale);

        // The same frames again and again, on other streams, as one who wants to fill the memory would send them.
        for (var round = 0; round < Rounds && errors.Count == 0; round++)
        {
            foreach (var piece in Http2Input.Pieces((byte)(input[0] & 4), Shift(bytes, round)))
            {
                Send(piece);
            }

            if (round is 0 or 3)
            {
                Measure();
            }
        }

        Measure();
        long sent = 0;
        while (pipes.Client.Input.TryRead(out var output))
        {
            sent += output.Buffer.Length;
            pipes.Client.Input.AdvanceTo(output.Buffer.End);
            if (output.IsCompleted)
            {
                break;
            }
        }

        // The transport takes some. One piece may add to it before it is looked at, an acknowledgement, a reset or a window for each of its frames. The last GOAWAY
        // comes behind.
        Must(sent <= TransportBytes + s_limits.MaxUnsentBytes + (s_limits.MaxUnsentReplies * 17) + (Frame.Split(bytes).Count * 40) + 256, $"{sent} bytes were kept for a client that reads nothing");
        handler.Release();
        pipes.Client.Output.Complete();
        server.Abort(ConnectionCloseReason.Drain);
        Must(run.IsCompletedSuccessfully, "the connection did not end with its client");
        Must(!errors.Contains("internal_error"), "an internal error");
        return $"{string.Join(' ', errors)} {string.Join(' ', abuse.Order())} {(int)Math.Log2(held)} {(int)Math.Log2(sent + 1)}";

        void Measure()
        {
            var (all, bodies) = HeldBytes.Of(server, handler.Exchanges);
            held = Math.Max(held, all);
            Must(all <= HeldBound, $"{all} bytes are kept, more than {HeldBound}");
            Must(bodies <= BodiesBound, $"{bodies} bytes of bodies are kept, more than {BodiesBound}");
        }

        void Send(byte[] piece)
        {
            pipes.Client.Output.Write(piece);
            _ = pipes.Client.Output.FlushAsync().AsTask();
        }
    }

    private static byte[] Shift(byte[] bytes, int round)
    {
        var frames = Frame.Split(bytes);
        return [.. frames.SelectMany(frame => (frame.Stream is 0 or > 32 ? frame : frame with { Stream = frame.Stream + (32 * round) }).Write())];
    }

    // Takes requests and reads nothing of them, until it is released.
    private sealed class Deaf : IHttpExchangeHandler
    {
        private readonly List<TaskCompletionSource> _waiting = [];

        public HashSet<HttpServerExchange> Exchanges { get; } = [];

        public async ValueTask HandleAsync(HttpServerExchange exchange)
        {
            // One for each: a task with several continuations runs them elsewhere.
            var released = new TaskCompletionSource();
            _waiting.Add(released);
            Exchanges.Add(exchange);
            await released.Task;
            exchange.Response.Status = 200;
            exchange.Response.EndsStream = true;
            exchange.WriteHead(exchange.Response);
        }

        public void Release() => _waiting.ForEach(one => one.SetResult());
    }
}
