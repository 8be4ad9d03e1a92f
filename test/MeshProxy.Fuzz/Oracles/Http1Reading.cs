using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>
/// HTTP/1.1 messages read straight from the grammar of RFC 9112 and RFC 9110, with what MeshProxy refuses beyond it (its README names each). Regular expressions on
/// whole strings: slow, obvious, and with no line in common with the parsers under test.
/// Readings are text: "more" (no whole head), "refused", or head | state of the body | body | trailers and how much is left.
/// </summary>
internal static partial class Http1Reading
{
    private const int MaxMethod = 32;
    private const int MaxFields = 100;
    private const int MaxChunkExtension = 256;
    private const string Token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

    // RFC 9110 section 6.5.1 leaves it to each field; these frame, route or authenticate, or are the proxy's own.
    private static readonly string[] s_notInTrailers =
    [
        "transfer-encoding", "content-length", "host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect", "authorization",
        "proxy-authorization", "proxy-authenticate", "cookie", "set-cookie", "content-type", "content-encoding", "range", "cache-control", "http2-settings",
        "x-meshproxy-failure", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "grpc-timeout", "x-request-timeout",
    ];

    public static string Request(string input) => Request(input, out _, out _);

    /// <summary>Reads one request.</summary>
    /// <param name="input">The bytes, a character each.</param>
    /// <param name="length">How many of them the request takes, when it is whole.</param>
    /// <param name="persists">Whether another one may follow on the connection.</param>
    public static string Request(string input, out int length, out bool persists)
    {
        (length, persists) = (0, false);
        var start = input.StartsWith("\r\n", StringComparison.Ordinal) ? 2 : 0;
        var end = input.IndexOf("\r\n\r\n", start, StringComparison.Ordinal);
        if (end < 0)
        {
            return "more";
        }

        var lines = input[start..end].Split("\r\n");
        var line = RequestLine().Match(lines[0]);
        if (!line.Success || line.Groups["method"].Length > MaxMethod || Fields(lines[1..]) is not { } fields)
        {
            return "refused";
        }

        var (method, version) = (line.Groups["method"].Value, line.Groups["minor"].Value == "0" ? "Http10" : "Http11");
        var hosts = fields.Where(field => field.Name == "host").Select(field => field.Value).ToArray();
        if (hosts.Length > 1 || (hosts.Length == 0 && version == "Http11") || hosts.Any(host => !IsAuthority(host))
            || Target(method, line.Groups["target"].Value, hosts.FirstOrDefault()) is not { } target
            || Options(fields) is not { } connection || !IsUnderstood(fields, version)
            || RequestFraming(fields, version, method, connection.Contains("upgrade")) is not { } framing)
        {
            return "refused";
        }

        // What asks for another protocol is for this connection alone.
        fields.RemoveAll(field => field.Name is "host" or "upgrade" or "http2-settings");

        // As a proxy of an HTTP/1.0 client: RFC 9112 section 9.3.
        var isProxied = method != "CONNECT" && line.Groups["target"].Value[0] is not ('/' or '*');
        persists = method != "CONNECT" && !connection.Contains("close") && (version == "Http11" || (connection.Contains("keep-alive") && !isProxied));
        return $"{method} http://{target.Authority} {target.Path} {version}{Write(fields)} {Body(framing, input, end + 4, out length)}";
    }

    public static string Response(string input, bool answersHead)
    {
        var end = input.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        if (end < 0)
        {
            return "more";
        }

        var lines = input[..end].Split("\r\n");
        var line = StatusLine().Match(lines[0]);
        if (!line.Success || Fields(lines[1..]) is not { } fields)
        {
            return "refused";
        }

        var (status, version) = (int.Parse(line.Groups["status"].Value, CultureInfo.InvariantCulture), line.Groups["minor"].Value == "0" ? "Http10" : "Http11");
        if (status is < 100 or > 599 || Options(fields) is null || Framing(fields, version) is not { } framing)
        {
            return "refused";
        }

        if (answersHead || status is < 200 or 204 or 304)
        {
            fields.RemoveAll(field => field.Name == "transfer-encoding" || (field.Name == "content-length" && status is < 200 or 204));
            framing = "None:0";
        }

        return $"{status} {version}{Write(fields)} {Body(framing, input, end + 4, out _)}";
    }

    /// <summary>A chunked body from <paramref name="at"/> on (RFC 9112 section 7.1).</summary>
    public static string Chunked(string input, int at, out int length)
    {
        var body = new StringBuilder();
        length = 0;
        while (true)
        {
            var end = input.IndexOf("\r\n", at, StringComparison.Ordinal);
            if (end < 0)
            {
                // A chunk line that is not whole may be wrong already: both are said.
                var line = input.EndsWith('\r') ? input[at..^1] : input[at..];
                return at < input.Length && (!ChunkLine().IsMatch(line) || line.Length > MaxChunkExtension) ? $"| more or refused | {body} |" : $"| body | {body} |";
            }

            var chunk = ChunkLine().Match(input[at..end]);
            if (!chunk.Success || chunk.Groups["extension"].Length > MaxChunkExtension)
            {
                return $"| body refused | {body} |";
            }

            at = end + 2;
            var size = long.Parse(chunk.Groups["size"].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            if (size == 0)
            {
                return Trailers(input, at, body, out length);
            }

            if (input.Length - at < size)
            {
                return $"| body | {body}{input[at..]} |";
            }

            body.Append(input, at, (int)size);
            at += (int)size;
            var terminator = input[at..Math.Min(at + 2, input.Length)];
            if (terminator != "\r\n"[..terminator.Length])
            {
                return $"| body refused | {body} |";
            }

            at += terminator.Length;
            if (terminator.Length < 2)
            {
                return $"| body | {body} |";
            }
        }
    }

    private static string Trailers(string input, int at, StringBuilder body, out int length)
    {
        length = 0;
        var trailers = new List<(string Name, string Value)>();
        while (true)
        {
            var end = input.IndexOf("\r\n", at, StringComparison.Ordinal);
            if (end < 0)
            {
                return $"| more or refused | {body} |";
            }

            if (end == at)
            {
                length = at + 2;
                trailers.RemoveAll(field => s_notInTrailers.Contains(field.Name));
                return $"| done | {body} |{Write(trailers)} rest {input.Length - length}";
            }

            if (Fields([input[at..end]]) is not [var field] || trailers.Count == MaxFields)
            {
                return $"| body refused | {body} |";
            }

            trailers.Add(field);
            at = end + 2;
        }
    }

    private static string Body(string framing, string input, int at, out int length)
    {
        length = 0;
        if (framing == "Chunked:0")
        {
            return $"{framing} {Chunked(input, at, out length)}";
        }

        if (framing is "UntilClose:0" or "Tunnel:0")
        {
            length = framing == "Tunnel:0" ? at : 0;
            return $"{framing} | body | {input[at..]} |";
        }

        var size = long.Parse(framing.Split(':')[1], CultureInfo.InvariantCulture);
        if (input.Length - at < size)
        {
            return $"{framing} | body | {input[at..]} |";
        }

        length = at + (int)size;
        return $"{framing} | done | {input[at..length]} | rest {input.Length - length}";
    }

    // Null: refused. Cookie lines count as one (RFC 9113 section 8.2.3 has them split).
    private static List<(string Name, string Value)>? Fields(string[] lines)
    {
        var fields = new List<(string Name, string Value)>();
        foreach (var line in lines)
        {
            var match = FieldLine().Match(line);
            if (!match.Success)
            {
                return null;
            }

            fields.Add((match.Groups["name"].Value.ToLowerInvariant(), match.Groups["value"].Value.Trim(' ', '\t')));
        }

        var cookies = fields.Count(field => field.Name == "cookie");
        return fields.Count - Math.Max(0, cookies - 1) > MaxFields ? null : fields;
    }

    private static string? RequestFraming(List<(string Name, string Value)> fields, string version, string method, bool upgrades)
    {
        // RFC 9110 section 7.8: an offer counts in a GET of HTTP/1.1 without content; h2c is no more (RFC 9113 section 3.1).
        var protocol = !upgrades || method != "GET" || version != "Http11" ? null : fields.Where(field => field.Name == "upgrade")
            .SelectMany(field => field.Value.Split(',')).Select(offer => offer.Trim(' ', '\t').ToLowerInvariant())
            .FirstOrDefault(offer => Protocol().IsMatch(offer) && offer != "h2c");
        if (protocol == "websocket"
            && (fields.Where(field => field.Name == "sec-websocket-key").Select(field => field.Value).ToArray() is not [var key] || !WebSocketKey().IsMatch(key)))
        {
            return null;
        }

        var framing = Framing(fields, version);
        framing = framing == "UntilClose:0" ? "None:0" : framing;
        if (framing is not (null or "None:0"))
        {
            // Content that has no meaning.
            return method is "CONNECT" or "TRACE" ? null : framing;
        }

        if (framing is null || (protocol is null && method != "CONNECT"))
        {
            return framing;
        }

        fields.RemoveAll(field => field.Name == "content-length");
        return "Tunnel:0";
    }

    // RFC 9110 section 10.1.1: an expectation that nobody here knows is refused; HTTP/1.0 has none.
    private static bool IsUnderstood(List<(string Name, string Value)> fields, string version) => version == "Http10" || fields
        .Where(field => field.Name == "expect").SelectMany(field => field.Value.Split(','))
        .All(expectation => expectation.Trim(' ', '\t').ToLowerInvariant() is "" or "100-continue");

    // RFC 9112 section 6.3; null: refused.
    private static string? Framing(List<(string Name, string Value)> fields, string version)
    {
        var lengths = fields.Where(field => field.Name == "content-length").Select(field => field.Value).ToArray();
        var codings = fields.Where(field => field.Name == "transfer-encoding").Select(field => field.Value).ToArray();
        if (codings.Length > 0)
        {
            return lengths.Length == 0 && version == "Http11" && codings is [var coding] && coding.Equals("chunked", StringComparison.OrdinalIgnoreCase) ? "Chunked:0" : null;
        }

        if (lengths.Length == 0)
        {
            return "UntilClose:0";
        }

        if (lengths.Length > 1 || !Length().IsMatch(lengths[0]))
        {
            return null;
        }

        var length = long.Parse(lengths[0], CultureInfo.InvariantCulture);
        var canonical = length.ToString(CultureInfo.InvariantCulture);
        if (canonical != lengths[0])
        {
            // Rewritten, so that nobody behind us reads it as octal; it moves to the end.
            fields.RemoveAll(field => field.Name == "content-length");
            fields.Add(("content-length", canonical));
        }

        return length == 0 ? "None:0" : $"Length:{canonical}";
    }

    // RFC 9112 section 3.2; null: refused.
    private static (string Authority, string Path)? Target(string method, string target, string? host)
    {
        if (method == "CONNECT")
        {
            return IsAuthority(target) && WithPort().IsMatch(target) && (host is null || IsSame(target, host)) ? (host ?? target, "") : null;
        }

        if (target[0] == '/' || (target == "*" && method == "OPTIONS"))
        {
            return (host ?? "", target);
        }

        var absolute = AbsoluteForm().Match(target);
        if (!absolute.Success || !absolute.Groups["scheme"].Value.Equals("http", StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }

        var (authority, path) = (absolute.Groups["authority"].Value, absolute.Groups["path"].Value);
        if (!IsAuthority(authority) || (host is not null && !IsSame(authority, host)))
        {
            return null;
        }

        path = path.Length == 0 ? method == "OPTIONS" ? "*" : "/" : path[0] == '?' ? "/" + path : path;
        return (host ?? authority, path);
    }

    private static bool IsAuthority(string text)
    {
        var match = Authority().Match(text);
        return match.Success && (text[0] != '[' || IsIpv6(match.Groups["host"].Value[1..^1])) && (match.Groups["port"].Length == 0 || int.Parse(match.Groups["port"].Value, CultureInfo.InvariantCulture) <= 65535);
    }

    // RFC 3986 section 3.2.2: eight groups, or fewer around one "::"; the last two may be an IPv4 address.
    private static bool IsIpv6(string text)
    {
        var halves = text.Split("::");
        var groups = halves.SelectMany(half => half.Length == 0 ? [] : half.Split(':')).ToArray();
        var hasIpv4 = halves[^1].Length > 0 && Ipv4().IsMatch(groups[^1]);
        return halves.Length <= 2 && (hasIpv4 ? groups[..^1] : groups).All(group => Group().IsMatch(group))
            && (groups.Length + (hasIpv4 ? 1 : 0)) is var count && (halves.Length == 1 ? count == 8 : count < 8);
    }

    private static bool IsSame(string left, string right)
    {
        return Normal(left) == Normal(right);

        static string Normal(string authority)
        {
            var match = Authority().Match(authority);
            var port = match.Groups["port"].Value;
            return $"{match.Groups["host"].Value.ToLowerInvariant()}:{(port.Length == 0 ? "80" : port).TrimStart('0')}";
        }
    }

    // Null: more than anybody means.
    private static string[]? Options(List<(string Name, string Value)> fields)
    {
        string[] options = [.. fields.Where(field => field.Name == "connection")
            .SelectMany(field => field.Value.TrimEnd(' ', '\t') is { Length: > 0 } list ? (list[^1] == ',' ? list[..^1] : list).Split(',') : [])
            .Select(option => option.Trim(' ', '\t').ToLowerInvariant())];
        return options.Length > MaxFields ? null : options;
    }

    private static string Write(IEnumerable<(string Name, string Value)> fields) => string.Concat(fields.Select(field => $" [{field.Name}: {field.Value}]"));

    [GeneratedRegex(@"\A(?<method>[!#$%&'*+.^_`|~0-9A-Za-z-]+) (?<target>[!-""$-~]+) HTTP/1\.(?<minor>[0-9])\z")]
    private static partial Regex RequestLine();

    // The space before an empty reason may be missing.
    [GeneratedRegex(@"\AHTTP/1\.(?<minor>[0-9]) (?<status>[0-9]{3})( [\t -~\x80-\xff]*)?\z")]
    private static partial Regex StatusLine();

    [GeneratedRegex(@"\A(?<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):(?<value>[\t -~\x80-\xff]*)\z")]
    private static partial Regex FieldLine();

    [GeneratedRegex(@"\A[0-9]{1,18}\z")]
    private static partial Regex Length();

    [GeneratedRegex(@"\A(?<size>[0-9A-Fa-f]{1,15})(?<extension>([ \t]*;[ \t]*" + Token + @"([ \t]*=[ \t]*(" + Token + @"|""([\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*""))?)*)\z")]
    private static partial Regex ChunkLine();

    [GeneratedRegex(@"\A(?<scheme>[^:/?]+)://(?<authority>[^/?]*)(?<path>.*)\z")]
    private static partial Regex AbsoluteForm();

    [GeneratedRegex(@"\A" + Token + "(/" + Token + @")?\z")]
    private static partial Regex Protocol();

    // 16 bytes in base64: 22 digits, of the last of which two bits count.
    [GeneratedRegex(@"\A[0-9A-Za-z+/]{21}[AQgw]==\z")]
    private static partial Regex WebSocketKey();

    [GeneratedRegex(@"\A[0-9A-Fa-f]{1,4}\z")]
    private static partial Regex Group();

    [GeneratedRegex(@"\A((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(?!\z)|\z)){4}\z")]
    private static partial Regex Ipv4();

    [GeneratedRegex(@":0*[1-9][0-9]*\z")]
    private static partial Regex WithPort();

    // RFC 3986 section 3.2 without user information and "," in a name, and without an encoded control or delimiter.
    [GeneratedRegex(@"\A(?<host>\[(?=[0-9A-Fa-f.]*:)[0-9A-Fa-f:.]{2,}\]|([A-Za-z0-9._~!$&'()*+;=-]|%[3-9A-Fa-f][0-9A-Fa-f])+)(:(?<port>[0-9]{0,5}))?\z")]
    private static partial Regex Authority();
}
