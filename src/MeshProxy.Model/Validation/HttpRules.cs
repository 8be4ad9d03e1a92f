using System.Buffers;
using System.Collections.Frozen;
using System.Text.RegularExpressions;

namespace MeshProxy.Model.Validation;

/// <summary>Rules of what routes say about requests. Every check returns null when the text is good, otherwise what is wrong with it.</summary>
public static class HttpRules
{
    /// <summary>The longest path, value or expression, in characters (Gateway API).</summary>
    public const int MaxValueLength = 1024;

    /// <summary>The longest value of a field that a filter writes, in characters (Gateway API).</summary>
    public const int MaxFieldValueLength = 4096;

    /// <summary>RFC 9110 section 5.6.2.</summary>
    private static readonly SearchValues<char> Token = SearchValues.Create("!#$%&'*+-.^_`|~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");

    /// <summary>RFC 3986 section 3.3, with '%' and '/'.</summary>
    private static readonly SearchValues<char> Path = SearchValues.Create("/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@%");

    /// <summary>Fields whose change would break framing or the connection, or pretend to come from a sidecar.</summary>
    private static readonly FrozenSet<string> Untouchable = FrozenSet.ToFrozenSet(
        ["connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
        StringComparer.OrdinalIgnoreCase);

    private static readonly FrozenSet<string> Methods = FrozenSet.ToFrozenSet(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]);

    /// <summary>A path to match exactly or as a prefix, as Gateway API has it.</summary>
    public static string? CheckPath(string path)
    {
        if (!path.StartsWith('/'))
        {
            return $"'{path}' must start with '/'";
        }

        if (path.Length > MaxValueLength)
        {
            return $"is {path.Length} characters long, at most {MaxValueLength} are allowed";
        }

        foreach (var part in (ReadOnlySpan<string>)["//", "/./", "/../", "%2f", "%2F", "#"])
        {
            if (path.Contains(part, StringComparison.Ordinal))
            {
                return $"'{path}' must not contain '{part}': paths are normalised before they are matched";
            }
        }

        if (path.EndsWith("/..", StringComparison.Ordinal) || path.EndsWith("/.", StringComparison.Ordinal))
        {
            return $"'{path}' must not end in '/.' or '/..': paths are normalised before they are matched";
        }

        var bad = path.AsSpan().IndexOfAnyExcept(Path);
        return bad < 0 ? null : $"'{path}' contains '{path[bad]}', which is no path character (a query is matched with queryParams)";
    }

    /// <summary>A regular expression: it must compile without backtracking, so that no request can make it slow.</summary>
    public static string? CheckExpression(string pattern) => CheckExpression(pattern, MaxValueLength);

    /// <summary>The same for what may be longer or shorter.</summary>
    public static string? CheckExpression(string pattern, int longest)
    {
        if (pattern.Length == 0 || pattern.Length > longest)
        {
            return $"is {pattern.Length} characters long, 1 to {longest} are allowed";
        }

        try
        {
            _ = new Regex(pattern, RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
            return null;
        }
        catch (ArgumentException e)
        {
            return $"is no regular expression: {e.Message}";
        }
        catch (NotSupportedException)
        {
            return "uses look-around, back-references or atomic groups, which need backtracking: write it without";
        }
    }

    /// <summary>The name of a gRPC service or method.</summary>
    public static string? CheckGrpcName(string name) =>
        name.Length is > 0 and <= MaxValueLength && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '.') ? null
        : $"'{name}' is no gRPC name: use letters, digits, '_' and '.', such as shop.v1.Payments";

    /// <summary>A field's name (RFC 9110 section 5.1).</summary>
    public static string? CheckFieldName(string name) => name.Length is > 0 and <= 256 && !name.AsSpan().ContainsAnyExcept(Token) ? null
        : $"'{name}' is no header name";

    /// <summary>The name of a field that a filter may change.</summary>
    public static string? CheckChangeableFieldName(string name) => CheckFieldName(name) is { } problem ? problem
        : Untouchable.Contains(name) ? $"'{name}' belongs to the connection and cannot be changed (for Host use a URLRewrite filter)"
        : name.StartsWith("x-meshproxy-", StringComparison.OrdinalIgnoreCase) ? $"'{name}' is the mesh's own and cannot be changed"
        : null;

    /// <summary>A field's value (RFC 9110 section 5.5): no control characters but HTAB, no white space around it.</summary>
    public static string? CheckFieldValue(string value)
    {
        if (value.Length > MaxFieldValueLength)
        {
            return $"is {value.Length} characters long, at most {MaxFieldValueLength} are allowed";
        }

        foreach (var c in value)
        {
            if (c is (< ' ' and not '\t') or '\u007f' or > '\u00ff')
            {
                return $"contains the character U+{(int)c:X4}, which no header value may have";
            }
        }

        return value.Length > 0 && (value[0] is ' ' or '\t' || value[^1] is ' ' or '\t') ? "has white space at its start or end" : null;
    }

    /// <summary>An origin of a CORS filter: "*", or scheme, host (with "*" at its beginning for any number of characters) and port.</summary>
    public static string? CheckOrigin(string origin)
    {
        if (origin == "*")
        {
            return null;
        }

        var rest = origin.StartsWith("https://", StringComparison.Ordinal) ? origin[8..] : origin.StartsWith("http://", StringComparison.Ordinal) ? origin[7..] : null;
        if (rest is null)
        {
            return $"'{origin}' must begin with http:// or https://, or be '*'";
        }

        var colon = rest.IndexOf(':');
        var host = colon < 0 ? rest : rest[..colon];
        if (colon >= 0 && (!int.TryParse(rest.AsSpan(colon + 1), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var port) || CheckPort(port) is not null))
        {
            return $"'{origin}' has no valid port after ':': use 1 to 65535";
        }

        var name = host.TrimStart('*').TrimStart('.');
        return host.Length - host.TrimStart('*').Length > 1 || (name.Length == 0 && host != "*") || (name.Length > 0 && NameRules.CheckHostname(name) is not null)
            ? $"'{origin}' has no valid host: write a hostname, which may begin with '*', and nothing behind it but a port"
            : null;
    }

    /// <summary>A method that Gateway API knows.</summary>
    public static string? CheckMethod(string method) => Methods.Contains(method) ? null
        : $"'{method}' is no method: use one of {string.Join(", ", Methods.Order(StringComparer.Ordinal))}";

    /// <summary>A port.</summary>
    public static string? CheckPort(long port) => port is >= 1 and <= 65535 ? null : $"{port} is no port: use 1 to 65535";
}
