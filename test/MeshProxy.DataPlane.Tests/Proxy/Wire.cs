using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>A message as it stood on the wire.</summary>
internal sealed record Message(string StartLine, Dictionary<string, string> Fields, byte[] Body, Dictionary<string, string> Trailers)
{
    public int Status => int.Parse(StartLine.Split(' ')[1], CultureInfo.InvariantCulture);

    public string Text => Encoding.Latin1.GetString(Body);

    /// <summary>The flag that a reply of the proxy begins with.</summary>
    public string Flag => Text.Split(' ', ':')[1];
}

/// <summary>The end of a connection in a test's hands: bytes, none of our own code in between.</summary>
internal sealed class Wire(Socket socket) : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private byte[] _buffer = new byte[64 * 1024];
    private int _start;
    private int _end;

    public Socket Socket => socket;

    public static async Task<Wire> DialAsync(IPEndPoint endPoint, int? receiveBuffer = null)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        if (receiveBuffer is { } size)
        {
            socket.ReceiveBufferSize = size;
        }

        await socket.ConnectAsync(endPoint).WaitAsync(Patience);
        return new Wire(socket);
    }

    public Task SendAsync(string text) => SendAsync(Encoding.Latin1.GetBytes(text));

    public async Task SendAsync(byte[] bytes)
    {
        for (var sent = 0; sent < bytes.Length;)
        {
            sent += await socket.SendAsync(bytes.AsMemory(sent)).AsTask().WaitAsync(Patience);
        }
    }

    /// <summary>FIN.</summary>
    public void Finish() => socket.Shutdown(SocketShutdown.Send);

    /// <summary>RST.</summary>
    public void Reset()
    {
        socket.LingerState = new LingerOption(true, 0);
        socket.Dispose();
    }

    public ValueTask DisposeAsync()
    {
        socket.Dispose();
        return default;
    }

    public async Task<byte[]> ReadExactlyAsync(int count)
    {
        while (_end - _start < count)
        {
            if (!await FillAsync())
            {
                throw new EndOfStreamException($"ended after {_end - _start} of {count} bytes");
            }
        }

        return Take(count);
    }

    public async Task<byte[]> ReadToEndAsync()
    {
        while (await FillAsync())
        {
        }

        return Take(_end - _start);
    }

    /// <summary>What is at hand, or the next bytes; 0 at the end.</summary>
    public async Task<int> ReadSomeAsync(byte[] buffer)
    {
        if (_end > _start)
        {
            var taken = Take(Math.Min(buffer.Length, _end - _start));
            taken.CopyTo(buffer, 0);
            return taken.Length;
        }

        return await socket.ReceiveAsync(buffer).WaitAsync(Patience);
    }

    /// <summary>How the connection ends, whatever still comes: true for a reset, false for an orderly end.</summary>
    public async Task<bool> EndsWithResetAsync()
    {
        try
        {
            await ReadToEndAsync();
            return false;
        }
        catch (SocketException)
        {
            return true;
        }
    }

    /// <summary>A request, or null at the end of the connection.</summary>
    public async Task<Message?> ReadRequestAsync()
    {
        var head = await ReadHeadAsync();
        return head is null ? null : await ReadBodyAsync(head, untilClose: false);
    }

    /// <summary>The head of a request whose body is left where it is.</summary>
    public async Task<Message?> ReadHeadAsync()
    {
        while (true)
        {
            var at = _buffer.AsSpan(_start, _end - _start).IndexOf("\r\n\r\n"u8);
            if (at >= 0)
            {
                var lines = Encoding.Latin1.GetString(Take(at + 4)).Split("\r\n", StringSplitOptions.RemoveEmptyEntries);
                return new Message(lines[0], Fields(lines.Skip(1)), [], []);
            }

            if (!await FillAsync())
            {
                return _end == _start ? null : throw new EndOfStreamException("ended in a head");
            }
        }
    }

    public async Task<Message> ReadResponseAsync(bool toHead = false)
    {
        var head = await ReadHeadAsync() ?? throw new EndOfStreamException("ended before a response");
        return toHead || head.Status is < 200 or 204 or 304 ? head : await ReadBodyAsync(head, untilClose: true);
    }

    public Task SendFrameAsync(int type, int flags, int stream, params byte[] payload) => SendAsync(new Frame(type, flags, stream, payload).Write());

    public async Task<Frame> ReadFrameAsync()
    {
        var header = await ReadExactlyAsync(Frame.HeaderSize);
        var payload = await ReadExactlyAsync(Frame.PayloadSize(header));
        return Frame.Read(header, payload);
    }

    /// <summary>The next frame that is of one of these types; SETTINGS and PING are acknowledged, others are passed over.</summary>
    public async Task<Frame> ReadFrameAsync(params int[] types)
    {
        while (true)
        {
            var frame = await ReadFrameAsync();
            if (frame is { Type: Frame.Settings or Frame.Ping, Flags: 0 })
            {
                await SendFrameAsync(frame.Type, 1, 0, frame.Type == Frame.Ping ? frame.Payload : []);
            }

            if (types.Contains(frame.Type))
            {
                return frame;
            }
        }
    }

    /// <summary>The server's side of a connection's beginning.</summary>
    public async Task AcceptHttp2Async(params byte[] settings)
    {
        await ReadExactlyAsync(24);
        await SendFrameAsync(Frame.Settings, 0, 0, settings);
    }

    /// <summary>The client's side of a connection's beginning.</summary>
    public async Task BeginHttp2Async()
    {
        await SendAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        await SendFrameAsync(Frame.Settings, 0, 0);
    }

    /// <summary>A field block of literals, none of them indexed or compressed.</summary>
    public static byte[] Block(params (string Name, string Value)[] fields)
    {
        var block = new List<byte>();
        foreach (var (name, value) in fields)
        {
            block.Add(0);
            block.Add((byte)name.Length);
            block.AddRange(Encoding.ASCII.GetBytes(name));
            block.Add((byte)value.Length);
            block.AddRange(Encoding.ASCII.GetBytes(value));
        }

        return [.. block];
    }

    private static Dictionary<string, string> Fields(IEnumerable<string> lines)
    {
        var fields = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var line in lines)
        {
            var colon = line.IndexOf(':');
            var name = line[..colon];
            var value = line[(colon + 1)..].Trim();
            fields[name] = fields.TryGetValue(name, out var before) ? $"{before}, {value}" : value;
        }

        return fields;
    }

    private async Task<Message> ReadBodyAsync(Message head, bool untilClose)
    {
        if (head.Fields.TryGetValue("content-length", out var length))
        {
            return head with { Body = await ReadExactlyAsync(int.Parse(length, CultureInfo.InvariantCulture)) };
        }

        if (!head.Fields.ContainsKey("transfer-encoding"))
        {
            return untilClose ? head with { Body = await ReadToEndAsync() } : head;
        }

        var body = new List<byte>();
        while (true)
        {
            var size = int.Parse(await ReadLineAsync(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            if (size == 0)
            {
                var trailers = new List<string>();
                while (await ReadLineAsync() is { Length: > 0 } line)
                {
                    trailers.Add(line);
                }

                return head with { Body = [.. body], Trailers = Fields(trailers) };
            }

            body.AddRange(await ReadExactlyAsync(size));
            await ReadExactlyAsync(2);
        }
    }

    private async Task<string> ReadLineAsync()
    {
        while (true)
        {
            var at = _buffer.AsSpan(_start, _end - _start).IndexOf("\r\n"u8);
            if (at >= 0)
            {
                return Encoding.Latin1.GetString(Take(at + 2))[..^2];
            }

            if (!await FillAsync())
            {
                throw new EndOfStreamException("ended in a line");
            }
        }
    }

    private async Task<bool> FillAsync()
    {
        if (_end == _buffer.Length)
        {
            if (_start > 0)
            {
                Buffer.BlockCopy(_buffer, _start, _buffer, 0, _end - _start);
                (_start, _end) = (0, _end - _start);
            }
            else
            {
                Array.Resize(ref _buffer, _buffer.Length * 2);
            }
        }

        var received = await socket.ReceiveAsync(_buffer.AsMemory(_end)).AsTask().WaitAsync(Patience);
        _end += received;
        return received > 0;
    }

    private byte[] Take(int count)
    {
        var taken = _buffer.AsSpan(_start, count).ToArray();
        _start += count;
        if (_start == _end)
        {
            _start = _end = 0;
        }

        return taken;
    }
}

/// <summary>A server made of a script for each connection.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly List<Wire> _wires = [];
    private int _accepted;

    public ScriptedServer(Func<Wire, int, Task> serve)
    {
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(512);
        _ = AcceptAsync(serve);
    }

    public IPEndPoint EndPoint => (IPEndPoint)_listener.LocalEndPoint!;

    public int Accepted => Volatile.Read(ref _accepted);

    /// <summary>An HTTP/1.1 server: each request is answered by what <paramref name="respond"/> makes of it, byte by byte.</summary>
    public static ScriptedServer Http1(Func<Message, string> respond) => new(async (wire, _) =>
    {
        while (await wire.ReadRequestAsync() is { } request)
        {
            await wire.SendAsync(respond(request));
        }

        wire.Finish();
    });

    public static string Ok(string body, string fields = "") => $"HTTP/1.1 200 OK\r\nContent-Length: {body.Length}\r\n{fields}\r\n{body}";

    /// <summary>An address where nothing listens.</summary>
    public static IPEndPoint Closed()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return (IPEndPoint)socket.LocalEndPoint!;
    }

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        lock (_wires)
        {
            foreach (var wire in _wires)
            {
                wire.Socket.Dispose();
            }
        }

        return default;
    }

    private async Task AcceptAsync(Func<Wire, int, Task> serve)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await _listener.AcceptAsync();
            }
            catch (Exception error) when (error is SocketException or ObjectDisposedException)
            {
                return;
            }

            socket.NoDelay = true;
            var wire = new Wire(socket);
            lock (_wires)
            {
                _wires.Add(wire);
            }

            _ = ServeAsync(serve, wire, Interlocked.Increment(ref _accepted));
        }
    }

    private static async Task ServeAsync(Func<Wire, int, Task> serve, Wire wire, int number)
    {
        try
        {
            await serve(wire, number);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException or EndOfStreamException or TimeoutException)
        {
            // The proxy ended it, or the test is over.
        }
    }
}
