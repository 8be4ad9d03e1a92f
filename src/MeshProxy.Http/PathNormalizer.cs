using System.Buffers;

namespace MeshProxy.Http;

/// <summary>What a path may hold although one server reads it differently from the next. What is allowed is passed on as it came, never decoded.</summary>
[Flags]
public enum PathAllowance : byte
{
    /// <summary>Nothing of it.</summary>
    None = 0,

    /// <summary>"%2F": a slash to some, part of a segment to others.</summary>
    EncodedSlash = 1,

    /// <summary>"\" and "%5C": a slash to some.</summary>
    Backslash = 2,

    /// <summary>"%00": the end of the path to some.</summary>
    EncodedNull = 4,
}

/// <summary>How paths are normalised.</summary>
/// <param name="MergesSlashes">Whether "//" becomes "/".</param>
/// <param name="Allow">What is not refused.</param>
public readonly record struct PathRules(bool MergesSlashes, PathAllowance Allow);

/// <summary>What is wrong with a target.</summary>
public enum PathFault : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>It neither begins with "/" nor is "*".</summary>
    NotAbsolute,

    /// <summary>"%" without two hexadecimal digits behind it (RFC 3986 section 2.1).</summary>
    InvalidEncoding,

    /// <summary>"%2F" where it is not allowed.</summary>
    EncodedSlash,

    /// <summary>"\" or "%5C" where it is not allowed.</summary>
    Backslash,

    /// <summary>"%00" where it is not allowed.</summary>
    EncodedNull,

    /// <summary>"." or ".." beside an encoded slash or a backslash: a dot segment to whoever takes those for slashes.</summary>
    HiddenDotSegment,

    /// <summary>A fragment, a control character, a space, or a byte beyond ASCII: in no path and in no query (RFC 3986 sections 3.3 and 3.4).</summary>
    InvalidCharacter,
}

/// <summary>
/// Brings a request target into its one normal form, so that what is matched, judged and forwarded is the same for everybody behind:
/// <code>
/// RFC 3986 section 6.2.2.1   percent-encodings in upper case
///          section 6.2.2.2   encoded unreserved octets (section 2.3) decoded
///          section 6.2.2.3   dot segments removed as section 5.2.4 says, never above the root; those that were encoded too
/// </code>
/// The query stays as it came. In place, one pass, without allocating; the usual target is looked at by one vectorised search and left alone.
/// Applying it again changes nothing: "%25" stays encoded, so no decoding ever makes a new encoding.
/// </summary>
public static class PathNormalizer
{
    // What a path may need work for, or may not hold. A dot matters only behind a slash.
    private static readonly SearchValues<byte> s_suspicious = SearchValues.Create([.. "%\\.?#"u8, .. Enumerable.Range(0, 256).Where(IsNeverLegal).Select(b => (byte)b)]);

    private static readonly SearchValues<byte> s_illegal = SearchValues.Create([(byte)'#', .. Enumerable.Range(0, 256).Where(IsNeverLegal).Select(b => (byte)b)]);

    /// <summary>Normalises a head's path. "*" and the empty path of CONNECT are left alone. On a fault the path is no longer whole.</summary>
    public static PathFault Normalize(RequestHead head, PathRules rules)
    {
        var target = head.PathBytes;
        if (target.IsEmpty || (target.Length == 1 && target[0] == (byte)'*'))
        {
            return PathFault.None;
        }

        var length = target.Length;
        var fault = Normalize(target, rules, ref length);
        if (length != target.Length)
        {
            head.ShortenPath(length);
        }

        return fault;
    }

    /// <summary>Normalises "/path?query" in place.</summary>
    /// <param name="target">The target; what is behind <paramref name="length"/> afterwards has no meaning.</param>
    /// <param name="rules">How.</param>
    /// <param name="length">The new length, never more than the old one.</param>
    public static PathFault Normalize(Span<byte> target, PathRules rules, ref int length)
    {
        if (target.IsEmpty || target[0] != (byte)'/')
        {
            return PathFault.NotAbsolute;
        }

        var at = FindWork(target, rules, out var queryStart);
        if (at < 0)
        {
            return queryStart >= 0 && target[queryStart..].ContainsAny(s_illegal) ? PathFault.InvalidCharacter : PathFault.None;
        }

        return Rewrite(target, rules, ref length);
    }

    /// <summary>The first place that may have to be changed or refused, or -1.</summary>
    private static int FindWork(ReadOnlySpan<byte> target, PathRules rules, out int queryStart)
    {
        queryStart = -1;
        var at = 0;
        while (true)
        {
            var found = target[at..].IndexOfAny(s_suspicious);
            if (found < 0)
            {
                break;
            }

            at += found;
            if (target[at] == (byte)'?')
            {
                queryStart = at;
                break;
            }

            // The first byte is a slash, so there is always one before.
            if (target[at] != (byte)'.' || target[at - 1] == (byte)'/')
            {
                return at;
            }

            at++;
        }

        return rules.MergesSlashes ? (queryStart < 0 ? target : target[..queryStart]).IndexOf("//"u8) : -1;
    }

    private static PathFault Rewrite(Span<byte> target, PathRules rules, ref int length)
    {
        var read = 1;
        var written = 1;
        var segment = 1;

        // Where the last part of the segment begins: parts are told apart by what somebody may take for a slash.
        var part = 1;
        var hasParts = false;
        while (true)
        {
            var isEnd = read == target.Length || target[read] == (byte)'?';
            if (isEnd || target[read] == (byte)'/')
            {
                if (hasParts && IsDots(target[part..written]))
                {
                    return PathFault.HiddenDotSegment;
                }

                EndSegment(target, rules, isEnd, segment, ref written);
                if (isEnd)
                {
                    break;
                }

                segment = part = written;
                hasParts = false;
                read++;
                continue;
            }

            var b = target[read];
            if (b == (byte)'%')
            {
                if (read + 2 >= target.Length || !TryHex(target[read + 1], out var high) || !TryHex(target[read + 2], out var low))
                {
                    return PathFault.InvalidEncoding;
                }

                read += 3;
                var octet = (byte)((high << 4) | low);
                if (IsUnreserved(octet))
                {
                    target[written++] = octet;
                    continue;
                }

                if (FaultOf(octet, rules.Allow) is var fault and not PathFault.None)
                {
                    return fault;
                }

                var isSeparator = octet is (byte)'/' or (byte)'\\';
                if (isSeparator && IsDots(target[part..written]))
                {
                    return PathFault.HiddenDotSegment;
                }

                target[written++] = (byte)'%';
                target[written++] = Digit(high);
                target[written++] = Digit(low);
                if (isSeparator)
                {
                    part = written;
                    hasParts = true;
                }

                continue;
            }

            if (b == (byte)'\\')
            {
                if ((rules.Allow & PathAllowance.Backslash) == 0)
                {
                    return PathFault.Backslash;
                }

                if (IsDots(target[part..written]))
                {
                    return PathFault.HiddenDotSegment;
                }

                part = written + 1;
                hasParts = true;
            }
            else if (b == (byte)'#' || IsNeverLegal(b))
            {
                return PathFault.InvalidCharacter;
            }

            target[written++] = b;
            read++;
        }

        var query = target[read..];
        if (query.ContainsAny(s_illegal))
        {
            return PathFault.InvalidCharacter;
        }

        query.CopyTo(target[written..]);
        length = written + query.Length;
        return PathFault.None;
    }

    /// <summary>RFC 3986 section 5.2.4 for one segment that is written whole: it stays, or it goes, or it takes the one before with it.</summary>
    private static void EndSegment(Span<byte> target, PathRules rules, bool isLast, int segment, ref int written)
    {
        var text = target[segment..written];
        if (text.Length == 1 && text[0] == (byte)'.')
        {
            written = segment;
        }
        else if (text.Length == 2 && text[0] == (byte)'.' && text[1] == (byte)'.')
        {
            // The slash before the segment stays; the segment before that slash goes. At the root there is none.
            written = segment == 1 ? 1 : target[..(segment - 1)].LastIndexOf((byte)'/') + 1;
        }
        else if (!isLast && !(text.IsEmpty && rules.MergesSlashes))
        {
            target[written++] = (byte)'/';
        }
    }

    private static bool IsDots(ReadOnlySpan<byte> part) => part.Length is 1 or 2 && part[0] == (byte)'.' && part[^1] == (byte)'.';

    private static PathFault FaultOf(byte octet, PathAllowance allowed) => octet switch
    {
        (byte)'/' when (allowed & PathAllowance.EncodedSlash) == 0 => PathFault.EncodedSlash,
        (byte)'\\' when (allowed & PathAllowance.Backslash) == 0 => PathFault.Backslash,
        0 when (allowed & PathAllowance.EncodedNull) == 0 => PathFault.EncodedNull,
        _ => PathFault.None,
    };

    // RFC 3986 section 2.3.
    private static bool IsUnreserved(byte b) => char.IsAsciiLetterOrDigit((char)b) || b is (byte)'-' or (byte)'.' or (byte)'_' or (byte)'~';

    private static bool IsNeverLegal(byte b) => b is <= 0x20 or >= 0x7F;

    private static bool IsNeverLegal(int b) => IsNeverLegal((byte)b);

    private static bool TryHex(byte digit, out int value)
    {
        value = digit switch
        {
            >= (byte)'0' and <= (byte)'9' => digit - '0',
            >= (byte)'A' and <= (byte)'F' => digit - 'A' + 10,
            >= (byte)'a' and <= (byte)'f' => digit - 'a' + 10,
            _ => -1,
        };
        return value >= 0;
    }

    private static byte Digit(int value) => (byte)(value < 10 ? '0' + value : 'A' + value - 10);
}
