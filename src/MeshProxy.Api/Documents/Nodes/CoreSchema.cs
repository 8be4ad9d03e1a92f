using System.Buffers;

namespace MeshProxy.Api.Documents.Nodes;

/// <summary>What a plain scalar means: YAML 1.2 core schema. "yes", "no", "on" and "off" are text here, as they are not in YAML 1.1: no field takes both.</summary>
internal static class CoreSchema
{
    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdefABCDEF");
    private static readonly SearchValues<char> OctalDigits = SearchValues.Create("01234567");

    public static ScalarKind Classify(string value) => value switch
    {
        "" or "~" or "null" or "Null" or "NULL" => ScalarKind.Null,
        "true" or "True" or "TRUE" or "false" or "False" or "FALSE" => ScalarKind.Boolean,
        ".inf" or ".Inf" or ".INF" or "-.inf" or "-.Inf" or "-.INF" or "+.inf" or "+.Inf" or "+.INF" or ".nan" or ".NaN" or ".NAN" => ScalarKind.Float,
        _ => ClassifyNumber(value),
    };

    private static ScalarKind ClassifyNumber(string value)
    {
        var digits = value.AsSpan();
        if (digits.StartsWith("0x") && digits.Length > 2)
        {
            return digits[2..].ContainsAnyExcept(HexDigits) ? ScalarKind.Text : ScalarKind.Integer;
        }

        if (digits.StartsWith("0o") && digits.Length > 2)
        {
            return digits[2..].ContainsAnyExcept(OctalDigits) ? ScalarKind.Text : ScalarKind.Integer;
        }

        if (digits[0] is '+' or '-')
        {
            digits = digits[1..];
        }

        var whole = TakeDigits(ref digits);
        if (digits.IsEmpty)
        {
            return whole > 0 ? ScalarKind.Integer : ScalarKind.Text;
        }

        var fraction = 0;
        if (digits[0] == '.')
        {
            digits = digits[1..];
            fraction = TakeDigits(ref digits);
        }

        if (whole + fraction == 0)
        {
            return ScalarKind.Text;
        }

        if (!digits.IsEmpty && digits[0] is 'e' or 'E')
        {
            digits = digits[1..];
            if (!digits.IsEmpty && digits[0] is '+' or '-')
            {
                digits = digits[1..];
            }

            return TakeDigits(ref digits) > 0 && digits.IsEmpty ? ScalarKind.Float : ScalarKind.Text;
        }

        return digits.IsEmpty ? ScalarKind.Float : ScalarKind.Text;
    }

    private static int TakeDigits(ref ReadOnlySpan<char> text)
    {
        var count = text.IndexOfAnyExceptInRange('0', '9');
        count = count < 0 ? text.Length : count;
        text = text[count..];
        return count;
    }
}
