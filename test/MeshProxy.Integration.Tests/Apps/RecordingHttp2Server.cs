using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.Testing;

namespace MeshProxy.Integration.Tests.Apps;

/// <summary>
/// The HTTP/2 twin of <see cref="RecordingServer"/>, from the bytes up: frames and field blocks are taken apart here, in the strictest reading, every request that arrives
/// whole is written down and answered with what was read, and the rest is called rubbish.
/// </summary>
internal sealed partial class RecordingHttp2Server : RecordingListener
{
    private const int Data = 0, Headers = 1, Reset = 3, Settings = 4, Ping = 6, Continuation = 9;

    protected override async Task ServeAsync(Socket socket)
    {
        await using var stream = new NetworkStream(socket, ownsSocket: true);
        var (reader, open, header) = (new HpackReader(), new Dictionary<int, Request>(), new byte[9]);
        var block = new List<byte>();
        try
        {
            var preface = new byte[24];
            await stream.ReadExactlyAsync(preface, Stopping);
            Demand(Encoding.ASCII.GetString(preface) == "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "preface");
            await SendAsync(Settings, 0, 0, []);
            while (true)
            {
                await stream.ReadExactlyAsync(header, Stopping);
                var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
                await stream.ReadExactlyAsync(payload, Stopping);
                var (type, flags, id) = (header[3], header[4], (header[5] << 24) | (header[6] << 16) | (header[7] << 8) | header[8]);
                Demand(block.Count == 0 || type == Continuation, "a field block that is not continued");
                switch (type)
                {
                    case Headers or Continuation:
                        Demand((flags & ~5) == 0 && (id & 1) == 1 && (type == Headers || block.Count > 0), $"HEADERS with flags {flags} on stream {id}");
                        block.AddRange(payload);
                        if (type == Headers)
                        {
                            open.TryAdd(id, new Request());
                            open[id].EndsWithBlock = (flags & 1) != 0;
                        }

                        if ((flags & 4) != 0)
                        {
                            open[id].Take(reader.Read(block.ToArray()));
                            block.Clear();
                            if (open[id].EndsWithBlock)
                            {
                                await AnswerAsync(id);
                            }
                        }

                        break;
                    case Data:
                        Demand((flags & ~1) == 0 && open.ContainsKey(id), $"DATA with flags {flags} on stream {id}");
                        open[id].Body.Append(Encoding.Latin1.GetString(payload));
                        if ((flags & 1) != 0)
                        {
                            await AnswerAsync(id);
                        }

                        break;
                    case Reset when open.Remove(id):
                        Seen.Enqueue("broken");
                        break;
                    case Settings or Ping when flags == 0:
                        await SendAsync(type, 1, 0, type == Ping ? payload : []);
                        break;
                }
            }
        }
        catch (InvalidDataException rubbish)
        {
            Seen.Enqueue($"rubbish {rubbish.Message}");
        }
        catch (Exception failure) when (failure is IOException or OperationCanceledException or ObjectDisposedException or SocketException)
        {
            if (open.Count > 0)
            {
                Seen.Enqueue("broken");
            }
        }

        async Task AnswerAsync(int id)
        {
            open.Remove(id, out var request);
            Heads.Enqueue(request!.Head);
            var seen = request.Judge();
            Seen.Enqueue(seen);
            await SendAsync(Headers, 4, id, [0x88]);
            await SendAsync(Data, 1, id, Encoding.Latin1.GetBytes(seen));
        }

        async Task SendAsync(int type, int flags, int id, byte[] payload) => await stream.WriteAsync(
            (byte[])[0, (byte)(payload.Length >> 8), (byte)payload.Length, (byte)type, (byte)flags, (byte)(id >> 24), (byte)(id >> 16), (byte)(id >> 8), (byte)id, .. payload], Stopping);
    }

    private static void Demand(bool isSo, string what)
    {
        if (!isSo)
        {
            throw new InvalidDataException(what);
        }
    }

    [GeneratedRegex(@"\A:?[!#$%&'*+.^_`|~0-9a-z-]+\z")]
    private static partial Regex Name();

    [GeneratedRegex(@"\A([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?\z")]
    private static partial Regex Value();

    private sealed class Request
    {
        private readonly List<(string Name, string Value)> _fields = [];
        private readonly List<(string Name, string Value)> _trailers = [];
        private bool _hasHead;

        public bool EndsWithBlock { get; set; }

        public StringBuilder Body { get; } = new();

        public string Head => string.Join('\n', _fields.Select(line => $"{line.Name}: {line.Value}"));

        public void Take(List<(string Name, string Value)> fields)
        {
            (_hasHead ? _trailers : _fields).AddRange(fields);
            _hasHead = true;
        }

        /// <summary>RFC 9113 section 8, whatever a lenient server would make of it.</summary>
        public string Judge()
        {
            Demand(_fields.Concat(_trailers).All(field => Name().IsMatch(field.Name) && Value().IsMatch(field.Value)), Head);
            var pseudo = _fields.TakeWhile(field => field.Name[0] == ':').Select(field => field.Name).Order(StringComparer.Ordinal);
            Demand(pseudo.SequenceEqual([":authority", ":method", ":path", ":scheme"]) && _fields.Skip(4).Concat(_trailers).All(field => field.Name[0] != ':'), Head);
            Demand(!_fields.Any(field => field.Name is "connection" or "transfer-encoding" or "upgrade" or "keep-alive" or "proxy-connection" or "host" || (field.Name == "te" && field.Value != "trailers")), Head);
            Demand(Values("content-length") is [] || (Values("content-length") is [var length] && length == Body.Length.ToString(CultureInfo.InvariantCulture)), $"{Head}\n\n{Body}");
            var (method, path) = (Values(":method")[0], Values(":path")[0]);
            Demand(method.All(char.IsAsciiLetterUpper) && path[0] == '/' && !path.Contains(' ', StringComparison.Ordinal) && Values(":scheme")[0] is "http" or "https", Head);
            return $"{method} {path}{(Body.Length > 0 ? $" {Body}" : "")}{string.Concat(_trailers.Select(trailer => $" [{trailer.Name}: {trailer.Value}]"))}";
        }

        private string[] Values(string name) => [.. _fields.Where(field => field.Name == name).Select(field => field.Value)];
    }
}
