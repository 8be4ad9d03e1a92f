using System.Buffers;

namespace MeshProxy.Model.Validation;

/// <summary>Rules of names. Every check returns null when the text is good, otherwise what is wrong with it, to be put behind the field's name.</summary>
public static class NameRules
{
    /// <summary>The longest DNS label, in bytes (RFC 1035 section 2.3.4).</summary>
    public const int MaxLabelLength = 63;

    /// <summary>The longest DNS name, in bytes, as Kubernetes limits it.</summary>
    public const int MaxNameLength = 253;

    private static readonly SearchValues<char> LabelCharacters = SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789-");
    private static readonly SearchValues<char> TagCharacters = SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

    /// <summary>One DNS label (RFC 1123 section 2.1): namespaces, services, sections, ports.</summary>
    public static string? CheckLabel(string text) => text.Length == 0 ? "is empty"
        : text.Length > MaxLabelLength ? $"is {text.Length} characters long, at most {MaxLabelLength} are allowed"
        : IsLabel(text) ? null
        : $"'{Short(text)}' is no name: use lower-case letters, digits and '-', starting and ending with a letter or digit";

    /// <summary>Labels with dots between them (RFC 1123): names of most documents, service accounts.</summary>
    public static string? CheckName(string text)
    {
        if (text.Length == 0)
        {
            return "is empty";
        }

        if (text.Length > MaxNameLength)
        {
            return $"is {text.Length} characters long, at most {MaxNameLength} are allowed";
        }

        foreach (var part in text.AsSpan().Split('.'))
        {
            if (!IsLabel(text.AsSpan()[part]))
            {
                return $"'{Short(text)}' is no name: use lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit";
            }
        }

        return null;
    }

    /// <summary>A hostname as Gateway API has it: lower case, no address, no port, optionally with the one label "*" in front.</summary>
    public static string? CheckHostname(string text)
    {
        var name = text.StartsWith("*.", StringComparison.Ordinal) ? text[2..] : text;
        if (System.Net.IPAddress.TryParse(text, out _))
        {
            return $"'{text}' is an IP address: a hostname is needed";
        }

        if (text.Contains(':'))
        {
            return $"'{Short(text)}' has a port: write the hostname alone";
        }

        return CheckName(name) is null ? null : $"'{Short(text)}' is no hostname: use lower-case labels such as 'shop.example.com' or '*.example.com'";
    }

    /// <summary>The key of a label or annotation: "name" or "prefix.example.com/name".</summary>
    public static string? CheckTagKey(string key)
    {
        var slash = key.IndexOf('/');
        if (slash >= 0 && CheckName(key[..slash]) is { } problem)
        {
            return $"has a prefix that {problem}";
        }

        var name = key.AsSpan(slash + 1);
        return name.Length is > 0 and <= MaxLabelLength && IsTag(name) ? null
            : $"'{Short(key)}' is no label key: use at most {MaxLabelLength} letters, digits, '-', '_' and '.', optionally after 'prefix/'";
    }

    /// <summary>The value of a label; may be empty.</summary>
    public static string? CheckTagValue(string value) => value.Length == 0 || (value.Length <= MaxLabelLength && IsTag(value)) ? null
        : $"'{Short(value)}' is no label value: use at most {MaxLabelLength} letters, digits, '-', '_' and '.', starting and ending with a letter or digit";

    private static bool IsLabel(ReadOnlySpan<char> text) =>
        text.Length is > 0 and <= MaxLabelLength && !text.ContainsAnyExcept(LabelCharacters) && text[0] != '-' && text[^1] != '-';

    private static bool IsTag(ReadOnlySpan<char> text) =>
        !text.ContainsAnyExcept(TagCharacters) && char.IsAsciiLetterOrDigit(text[0]) && char.IsAsciiLetterOrDigit(text[^1]);

    private static string Short(string text) => text.Length > 80 ? text[..80] + "..." : text;
}
