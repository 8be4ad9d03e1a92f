using System.Globalization;
using System.Text;

namespace MeshProxy.Load;

internal enum LoadProtocol
{
    Http1,
    Http2,
}

/// <summary>What one run sends. Every run ends: by <see cref="Duration"/>, or for idle connections when standard input closes or after it.</summary>
internal sealed record LoadOptions
{
    internal const string Usage = """
        meshproxy-load --target IP:PORT [--protocol h1|h2c] [--tls] [--path /] [--authority NAME]
                       [--connections 32] [--streams 1]      streams: requests in flight on one HTTP/2 connection
                       [--rate N]                            open loop, N requests a second; without it closed loop (the next request follows the response)
                       [--warmup 1] [--duration 5]           seconds; requests that were due in the warm-up are sent but not counted
                       [--counts N,N...]                     closed loop, exactly so many requests, over the same connections: writes a line after each count and
                                                             waits for one on standard input before the next; --duration bounds each of them
                       [--body N] [--chunked]                POST with N bytes, at most 16,000; --chunked does not tell their number beforehand
                       [--churn]                             a new connection (and TLS handshake, never resumed) for each request
                       [--idle]                              open the connections, one request on each, print "idle", hold them until standard input ends
        Writes one JSON object to standard output. Latency is counted from the time a request was due, not from when it could be sent
        (no coordinated omission). Exit status: 0 when any request succeeded, 1 when none did, 2 for bad usage.
        """;

    internal required byte[] Address { get; init; }

    internal required ushort Port { get; init; }

    internal LoadProtocol Protocol { get; init; }

    internal bool Tls { get; init; }

    internal string Path { get; init; } = "/";

    internal string Authority { get; init; } = "bench.local";

    internal int Connections { get; init; } = 32;

    internal int Streams { get; init; } = 1;

    internal double Rate { get; init; }

    internal TimeSpan WarmUp { get; init; } = TimeSpan.FromSeconds(1);

    internal TimeSpan Duration { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How many requests each step sends; empty when time decides.</summary>
    internal IReadOnlyList<long> Counts { get; init; } = [];

    internal int BodyBytes { get; init; }

    internal bool Chunked { get; init; }

    internal bool Churn { get; init; }

    internal bool Idle { get; init; }

    internal static LoadOptions? Parse(string[] arguments, out string error)
    {
        var values = new Dictionary<string, string>(StringComparer.Ordinal);
        error = "";
        for (var i = 0; i < arguments.Length; i++)
        {
            switch (arguments[i])
            {
                case "--tls" or "--churn" or "--idle" or "--chunked":
                    values[arguments[i]] = "true";
                    break;
                case "--target" or "--protocol" or "--path" or "--authority" or "--connections" or "--streams" or "--rate" or "--warmup" or "--duration" or "--counts"
                    or "--body"
                    when i + 1 < arguments.Length:
                    values[arguments[i]] = arguments[++i];
                    break;
                default:
                    error = $"unknown option or missing value: {arguments[i]}";
                    return null;
            }
        }

        if (!System.Net.IPEndPoint.TryParse(values.GetValueOrDefault("--target", ""), out var target)
            || target.AddressFamily != System.Net.Sockets.AddressFamily.InterNetwork || target.Port == 0)
        {
            error = "--target needs an IPv4 address and a port";
            return null;
        }

        if (!System.Net.IPAddress.IsLoopback(target.Address))
        {
            error = "--target must be on loopback: this generator is for measuring one's own machine";
            return null;
        }

        var connections = Number(values, "--connections", 32, 1, 20_000, ref error);
        var streams = Number(values, "--streams", 1, 1, 100, ref error);
        var rate = Number(values, "--rate", 0, 0, 5_000_000, ref error);
        var warmUp = Number(values, "--warmup", 1, 0, 600, ref error);
        var duration = Number(values, "--duration", 5, 0.01, 3_600, ref error);
        var body = Number(values, "--body", 0, 0, 16_000, ref error);
        var counts = new List<long>();
        foreach (var text in values.GetValueOrDefault("--counts", "").Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) || count == 0)
            {
                error = "--counts are numbers, joined with commas";
            }

            counts.Add(count);
        }

        var protocol = values.GetValueOrDefault("--protocol", "h1");
        if (protocol is not ("h1" or "h2c"))
        {
            error = "--protocol is h1 or h2c";
        }

        if (protocol == "h2c" && values.ContainsKey("--churn"))
        {
            error = "--churn is for h1";
        }

        if (counts.Count > 0 && (rate > 0 || values.ContainsKey("--churn") || values.ContainsKey("--idle")))
        {
            error = "--counts goes with a closed loop";
        }

        if (error.Length > 0)
        {
            return null;
        }

        return new LoadOptions
        {
            Address = target.Address.GetAddressBytes(),
            Port = (ushort)target.Port,
            Protocol = protocol == "h2c" ? LoadProtocol.Http2 : LoadProtocol.Http1,
            Tls = values.ContainsKey("--tls"),
            Path = values.GetValueOrDefault("--path", "/"),
            Authority = values.GetValueOrDefault("--authority", "bench.local"),
            Connections = (int)connections,
            Streams = protocol == "h2c" ? (int)streams : 1,
            Rate = rate,
            WarmUp = TimeSpan.FromSeconds(warmUp),
            Duration = TimeSpan.FromSeconds(duration),
            Counts = counts,
            BodyBytes = (int)body,
            Chunked = values.ContainsKey("--chunked"),
            Churn = values.ContainsKey("--churn"),
            Idle = values.ContainsKey("--idle"),
        };
    }

    /// <summary>The request as it stands on the wire in HTTP/1.1.</summary>
    internal byte[] Http1Request()
    {
        var content = new string('x', BodyBytes);
        var framing = BodyBytes == 0 ? "" : Chunked ? "Transfer-Encoding: chunked\r\n" : $"Content-Length: {BodyBytes}\r\n";
        var body = BodyBytes > 0 && Chunked ? $"{BodyBytes:x}\r\n{content}\r\n0\r\n\r\n" : content;
        return Encoding.ASCII.GetBytes($"{(BodyBytes > 0 ? "POST" : "GET")} {Path} HTTP/1.1\r\nHost: {Authority}\r\nUser-Agent: meshproxy-load\r\nAccept: */*\r\n"
            + $"{framing}{(Churn ? "Connection: close\r\n" : "")}\r\n{body}");
    }

    /// <summary>The header block of every request in HTTP/2: nothing is put into the dynamic table, so that it is the same bytes each time.</summary>
    internal byte[] Http2HeaderBlock()
    {
        using var block = new MemoryStream();
        block.WriteByte((byte)(BodyBytes > 0 ? 0x83 : 0x82)); // :method POST, GET
        block.WriteByte((byte)(Tls ? 0x87 : 0x86)); // :scheme
        Literal(block, 4, Path);
        Literal(block, 1, Authority);
        WriteIndex(block, 58); // user-agent
        WriteText(block, "meshproxy-load");
        WriteIndex(block, 19); // accept
        WriteText(block, "*/*");
        if (BodyBytes > 0 && !Chunked)
        {
            WriteIndex(block, 28); // content-length
            WriteText(block, BodyBytes.ToString(CultureInfo.InvariantCulture));
        }

        return block.ToArray();

        static void Literal(MemoryStream block, int nameIndex, string value)
        {
            WriteIndex(block, nameIndex);
            WriteText(block, value);
        }

        // Literal field without indexing, name from the static table: RFC 7541 section 6.2.2, a 4-bit prefix.
        static void WriteIndex(MemoryStream block, int nameIndex)
        {
            if (nameIndex < 15)
            {
                block.WriteByte((byte)nameIndex);
            }
            else
            {
                block.WriteByte(0x0f);
                block.WriteByte((byte)(nameIndex - 15));
            }
        }

        static void WriteText(MemoryStream block, string value)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value.Length, 126);
            block.WriteByte((byte)value.Length);
            block.Write(Encoding.ASCII.GetBytes(value));
        }
    }

    private static double Number(Dictionary<string, string> values, string name, double fallback, double least, double most, ref string error)
    {
        if (!values.TryGetValue(name, out var text))
        {
            return fallback;
        }

        if (!double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) || number < least || number > most)
        {
            error = $"{name} must be a number from {least} to {most}";
        }

        return number;
    }
}
