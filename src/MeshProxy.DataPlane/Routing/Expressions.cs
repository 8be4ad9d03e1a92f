using System.Buffers;
using System.Text;
using System.Text.RegularExpressions;

namespace MeshProxy.DataPlane.Routing;

/// <summary>Regular expressions of routes: full match, linear time, no allocation for a match.</summary>
internal static class Expressions
{
    private const string Meta = @"\*+?|{[()^$.#";

    /// <summary>An expression that must match the whole text, in linear time.</summary>
    public static Regex FullMatch(string pattern) => new($@"\A(?:{pattern})\z", RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);

    /// <summary>Matches bytes, each taken as one character: what a request carries is ASCII, and what is not stays distinguishable.</summary>
    public static bool IsMatch(Regex expression, ReadOnlySpan<byte> bytes)
    {
        const int OnStack = 256;
        char[]? borrowed = null;
        var text = bytes.Length <= OnStack ? stackalloc char[OnStack] : (borrowed = ArrayPool<char>.Shared.Rent(bytes.Length));
        var isMatch = expression.IsMatch(text[..Encoding.Latin1.GetChars(bytes, text)]);
        if (borrowed is not null)
        {
            ArrayPool<char>.Shared.Return(borrowed);
        }

        return isMatch;
    }

    /// <summary>
    /// The whole path elements that every path which an expression matches begins with ("/users" of "/users/[0-9]+"), without a trailing slash; empty when
    /// none can be told. Errs on the short side: it only narrows down which expressions are tried.
    /// </summary>
    public static string LiteralElements(string pattern)
    {
        if (HasAlternatives(pattern))
        {
            return "";
        }

        var literal = new StringBuilder();
        for (var i = pattern.StartsWith('^') ? 1 : 0; i < pattern.Length; i++)
        {
            var isEscaped = pattern[i] == '\\' && i + 1 < pattern.Length && char.IsAscii(pattern[i + 1]) && !char.IsAsciiLetterOrDigit(pattern[i + 1]);
            i += isEscaped ? 1 : 0;
            if (!isEscaped && Meta.Contains(pattern[i]))
            {
                break;
            }

            if (!char.IsAscii(pattern[i]) || (i + 1 < pattern.Length && pattern[i + 1] is '*' or '?' or '{' or '+'))
            {
                break;
            }

            literal.Append(pattern[i]);
        }

        var text = literal.ToString();
        return text.StartsWith('/') ? text[..text.LastIndexOf('/')] : "";
    }

    private static bool HasAlternatives(string pattern)
    {
        var depth = 0;
        var inClass = false;
        for (var i = 0; i < pattern.Length; i++)
        {
            switch (pattern[i])
            {
                case '\\':
                    i++;
                    break;
                case '[':
                    inClass = true;
                    break;
                case ']':
                    inClass = false;
                    break;
                case '(' when !inClass:
                    depth++;
                    break;
                case ')' when !inClass:
                    depth--;
                    break;
                case '|' when !inClass && depth == 0:
                    return true;
            }
        }

        return false;
    }
}
