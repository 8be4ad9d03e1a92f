using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace MeshProxy.Integration.Tests.Apps;

/// <summary>
/// An HTTP/1.1 server that trusts nobody: it writes down every request that arrives, in the strictest reading, and calls the rest rubbish. It answers with what it read, so
/// that an answer for somebody else's request shows. GET /response/{n} is answered with the n-th of the given byte strings.
/// </summary>
internal sealed partial class RecordingServer(IReadOnlyList<string> responses) : RecordingListener
{
    protected override async Task ServeAsync(Socket socket)
    {
        await using var stream = new NetworkStream(socket, ownsSocket: true);
        var input = new StringBuilder();
        var buffer = new byte[16 * 1024];
        try
        {
            while (await ReadOneAsync() is { } request)
            {
                Seen.Enqueue(request);
                var target = request.Split(' ')[1];
                var number = target.StartsWith("/response/", StringComparison.Ordinal) ? int.Parse(target[10..], CultureInfo.InvariantCulture) : -1;
                var answer = number >= 0 ? responses[number] : $"HTTP/1.1 200 OK\r\nContent-Length: {request.Length}\r\n\r\n{request}";
                await stream.WriteAsync(Encoding.Latin1.GetBytes(answer), Stopping);
                if (number >= 0)
                {
                    // Whatever came behind a strange answer is the end of the connection too, so that an answer "until close" has one.
                    socket.Shutdown(SocketShutdown.Send);
                }
            }
        }
        catch (InvalidDataException rubbish)
        {
            Seen.Enqueue($"rubbish {rubbish.Message}");
        }
        catch (Exception failure) when (failure is IOException or OperationCanceledException or ObjectDisposedException or SocketException)
        {
            if (input.Length > 0)
            {
                Seen.Enqueue("broken");
            }
        }

        async Task<string?> ReadOneAsync()
        {
            int end;
            while ((end = input.ToString().IndexOf("\r\n\r\n", StringComparison.Ordinal)) < 0)
            {
                if (!await MoreAsync())
                {
                    return input.Length == 0 ? null : throw new IOException();
                }
            }

            var head = input.ToString(0, end);
            input.Remove(0, end + 4);
            Heads.Enqueue(head);
            var lines = head.Split("\r\n");
            Demand(RequestLine().IsMatch(lines[0]), lines[0]);
            var fields = lines[1..].Select(line => FieldLine().Match(line)).ToArray();
            Demand(fields.All(field => field.Success), head);
            string[] Values(string name) => [.. fields.Where(field => field.Groups[1].Value.Equals(name, StringComparison.OrdinalIgnoreCase)).Select(field => field.Groups[2].Value)];
            var (lengths, codings) = (Values("content-length"), Values("transfer-encoding"));
            Demand(Values("host").Length == 1 && lengths.Length + codings.Length <= 1 && codings.All(coding => coding == "chunked") && lengths.All(length => length.All(char.IsAsciiDigit)), head);
            var body = codings.Length > 0 ? await ReadChunksAsync() : lengths.Length > 0 ? await TakeAsync(int.Parse(lengths[0], CultureInfo.InvariantCulture)) : "";
            return $"{lines[0][..lines[0].LastIndexOf(' ')]}{(body.Length > 0 ? " " + body : "")}";
        }

        async Task<string> ReadChunksAsync()
        {
            var body = "";
            while (true)
            {
                var size = await LineAsync();
                Demand(ChunkSize().IsMatch(size), $"chunk size {size}");
                var length = int.Parse(size, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                if (length == 0)
                {
                    break;
                }

                body += await TakeAsync(length);
                Demand(await TakeAsync(2) == "\r\n", "chunk end");
            }

            for (string line; (line = await LineAsync()).Length > 0;)
            {
                Demand(FieldLine().IsMatch(line), line);
                body += $" [{line.ToLowerInvariant()}]";
            }

            return body;
        }

        async Task<string> LineAsync()
        {
            int end;
            while ((end = input.ToString().IndexOf("\r\n", StringComparison.Ordinal)) < 0)
            {
                if (!await MoreAsync())
                {
                    throw new IOException();
                }
            }

            var line = input.ToString(0, end);
            input.Remove(0, end + 2);
            return line;
        }

        async Task<string> TakeAsync(int count)
        {
            while (input.Length < count)
            {
                if (!await MoreAsync())
                {
                    input.Append('?');
                    throw new IOException();
                }
            }

            var text = input.ToString(0, count);
            input.Remove(0, count);
            return text;
        }

        async Task<bool> MoreAsync()
        {
            var read = await stream.ReadAsync(buffer, Stopping);
            input.Append(Encoding.Latin1.GetString(buffer, 0, read));
            return read > 0;
        }
    }

    private static void Demand(bool isSo, string what)
    {
        if (!isSo)
        {
            throw new InvalidDataException(what);
        }
    }

    [GeneratedRegex(@"\A[A-Za-z-]+ [!-~]+ HTTP/1\.1\z")]
    private static partial Regex RequestLine();

    [GeneratedRegex(@"\A([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)\z")]
    private static partial Regex FieldLine();

    [GeneratedRegex(@"\A[0-9a-fA-F]{1,8}\z")]
    private static partial Regex ChunkSize();
}
