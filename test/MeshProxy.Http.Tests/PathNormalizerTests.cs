using System.Globalization;
using System.Text;

namespace MeshProxy.Http.Tests;

/// <summary>RFC 3986 sections 5.2.4 and 6.2.2, the refusals, and a slow oracle that reads like the RFC.</summary>
internal sealed class PathNormalizerTests
{
    private const PathAllowance Everything = PathAllowance.EncodedSlash | PathAllowance.Backslash | PathAllowance.EncodedNull;

    private static readonly string[] Pieces =
    [
        "/", "/", "/", ".", "..", "%2e", "%2E", "a", "b", "A", "~", "%7e", "%41", "%2f", "%2F", "\\", "%5c", "%00", "%25", "%252e", "%c3%a9", ";", "..;", "...", "%", "%4", "%zz", "é", "#", "?", "?", "=", "+",
    ];

    // RFC 3986 section 5.4, as far as it is about paths, then section 6.2.2, then what servers have been fooled with.
    [TestCase("/", "/")]
    [TestCase("/a/b/c/./../../g", "/a/g")]
    [TestCase("/mid/content=5/../6", "/mid/6")]
    [TestCase("/b/c/.", "/b/c/")]
    [TestCase("/b/c/..", "/b/")]
    [TestCase("/b/c/../..", "/")]
    [TestCase("/b/c/../../../../g", "/g")]
    [TestCase("/./g", "/g")]
    [TestCase("/../g", "/g")]
    [TestCase("/..", "/")]
    [TestCase("/.", "/")]
    [TestCase("/g.", "/g.")]
    [TestCase("/.g", "/.g")]
    [TestCase("/g..", "/g..")]
    [TestCase("/..g", "/..g")]
    [TestCase("/...", "/...")]
    [TestCase("/..;/a", "/..;/a")]
    [TestCase("/g;x=1/../y", "/y")]
    [TestCase("/a/%2e%2E/b", "/b")]
    [TestCase("/a/.%2e/%2e/b", "/b")]
    [TestCase("/%7Eshop/%41%2D%2e%5F", "/~shop/A-._")]
    [TestCase("/%c3%a9%3b", "/%C3%A9%3B")]
    [TestCase("/%252e%252e/a", "/%252e%252e/a")]
    [TestCase("/a//b", "/a//b")]
    [TestCase("/a//../b", "/a/b")]
    [TestCase("//..//g", "//g")]
    [TestCase("/a?b=/../%2e&c=%zz%00\\//", "/a?b=/../%2e&c=%zz%00\\//")]
    [TestCase("/a/..?b", "/?b")]
    [TestCase("/?", "/?")]
    [TestCase("/x.json?y.z", "/x.json?y.z")]
    public void A_path_is_brought_into_its_normal_form(string target, string normal) => Assert.That(Normalize(target, default), Is.EqualTo((normal, PathFault.None)));

    [TestCase("/a//b///c//", "/a/b/c/")]
    [TestCase("//", "/")]
    [TestCase("//a", "/a")]
    [TestCase("/a//../b", "/b")]
    [TestCase("/a/.//b", "/a/b")]
    [TestCase("/a/?b=//", "/a/?b=//")]
    [TestCase("/a?//", "/a?//")]
    public void Slashes_are_merged_when_that_is_asked_for(string target, string normal) =>
        Assert.That(Normalize(target, new PathRules(MergesSlashes: true, PathAllowance.None)), Is.EqualTo((normal, PathFault.None)));

    [TestCase("/a%", PathFault.InvalidEncoding)]
    [TestCase("/a%2", PathFault.InvalidEncoding)]
    [TestCase("/a%?2e", PathFault.InvalidEncoding)]
    [TestCase("/a%2?e", PathFault.InvalidEncoding)]
    [TestCase("/%g0", PathFault.InvalidEncoding)]
    [TestCase("/%-1", PathFault.InvalidEncoding)]
    [TestCase("/a%2fb", PathFault.EncodedSlash)]
    [TestCase("/a%2Fb", PathFault.EncodedSlash)]
    [TestCase("/a\\b", PathFault.Backslash)]
    [TestCase("/a%5cb", PathFault.Backslash)]
    [TestCase("/a%5C", PathFault.Backslash)]
    [TestCase("/a%00", PathFault.EncodedNull)]
    [TestCase("/a/../%00", PathFault.EncodedNull)]
    [TestCase("/a#b", PathFault.InvalidCharacter)]
    [TestCase("/a?b#c", PathFault.InvalidCharacter)]
    [TestCase("/%2e?b#c", PathFault.InvalidCharacter)]
    [TestCase("/a\u00e9", PathFault.InvalidCharacter)]
    [TestCase("/a?\u00e9", PathFault.InvalidCharacter)]
    [TestCase("/a b", PathFault.InvalidCharacter)]
    [TestCase("/a\u007f", PathFault.InvalidCharacter)]
    [TestCase("a", PathFault.NotAbsolute)]
    [TestCase("?a", PathFault.NotAbsolute)]
    public void What_servers_read_in_different_ways_is_refused(string target, PathFault fault) => Assert.That(Normalize(target, default).Fault, Is.EqualTo(fault));

    [TestCase("/a%2fb/../c%2Fd", "/c%2Fd", PathAllowance.EncodedSlash)]
    [TestCase("/a\\b%5cc", "/a\\b%5Cc", PathAllowance.Backslash)]
    [TestCase("/a%00", "/a%00", PathAllowance.EncodedNull)]
    public void What_is_allowed_is_passed_on_encoded_as_it_came(string target, string normal, PathAllowance allow)
    {
        Assert.That(Normalize(target, new PathRules(false, allow)), Is.EqualTo((normal, PathFault.None)));
        Assert.That(Normalize(target, new PathRules(false, Everything & ~allow)).Fault, Is.Not.EqualTo(PathFault.None));
    }

    [TestCase("/static/..%2fadmin")]
    [TestCase("/static/%2e%2e%2fadmin")]
    [TestCase("/static%2f..")]
    [TestCase("/static%2f.%2fadmin")]
    [TestCase("/static\\..\\admin")]
    [TestCase("/..%5c")]
    [TestCase("/a%2f../b")]
    public void An_allowed_slash_never_hides_a_dot_segment(string target) =>
        Assert.That(Normalize(target, new PathRules(false, Everything)).Fault, Is.EqualTo(PathFault.HiddenDotSegment));

    [Test]
    public void Asterisk_and_the_empty_path_of_CONNECT_are_left_alone()
    {
        foreach (var target in (string[])["*", ""])
        {
            var head = new RequestHead();
            head.SetPath(Encoding.Latin1.GetBytes(target));
            Assert.That(PathNormalizer.Normalize(head, default), Is.EqualTo(PathFault.None));
            Assert.That(Encoding.Latin1.GetString(head.Path), Is.EqualTo(target));
        }
    }

    [Test]
    public void A_head_is_changed_in_place_and_its_fields_stay()
    {
        var head = new RequestHead();
        head.SetAuthority("shop.example"u8);
        head.SetPath("/a/../b%7e?q=%7e"u8);
        head.Fields.Add("x-after"u8, "1"u8);
        Assert.That(PathNormalizer.Normalize(head, default), Is.EqualTo(PathFault.None));
        Assert.That(Encoding.Latin1.GetString(head.Path), Is.EqualTo("/b~?q=%7e"));
        Assert.That(Encoding.Latin1.GetString(head.Authority), Is.EqualTo("shop.example"));
        Assert.That(head.Fields.TryGet("x-after"u8, out var value) && value.SequenceEqual("1"u8));
    }

    [Test]
    public void Nothing_is_allocated()
    {
        var buffer = new byte[64];
        var targets = new[] { "/v1/payments/42?expand=lines"u8.ToArray(), "/a/./b/../%7e/c.json?x"u8.ToArray() };
        var before = 0L;
        for (var round = 0; round < 200; round++)
        {
            before = round == 100 ? GC.GetAllocatedBytesForCurrentThread() : before;
            foreach (var target in targets)
            {
                target.CopyTo(buffer, 0);
                var length = target.Length;
                PathNormalizer.Normalize(buffer.AsSpan(0, length), default, ref length);
            }
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    [Test]
    public void A_slow_oracle_agrees_and_a_second_time_changes_nothing([Values(false, true)] bool merges, [Values(PathAllowance.None, PathAllowance.EncodedSlash, Everything)] PathAllowance allow)
    {
        var random = new Random(20261124);
        var rules = new PathRules(merges, allow);
        var normal = 0;
        for (var i = 0; i < 200_000; i++)
        {
            var text = new StringBuilder("/");
            for (var left = random.Next(12); left > 0; left--)
            {
                text.Append(Pieces[random.Next(Pieces.Length)]);
            }

            var target = text.ToString();
            var (result, fault) = Normalize(target, rules);
            var expected = Oracle(target, rules);
            Assert.That(fault == PathFault.None ? result : null, Is.EqualTo(expected), () => $"{target} ({fault})");
            if (expected is null)
            {
                continue;
            }

            normal++;
            Assert.That(Normalize(result, rules), Is.EqualTo((result, PathFault.None)), target);
            var path = result.Split('?')[0] + "/";
            Assert.That(path, Does.Not.Contain("/../").And.Not.Contain("/./").And.StartWith("/"), target);
            Assert.That(merges && path[..^1].Contains("//", StringComparison.Ordinal), Is.False, target);
            for (var at = path.IndexOf('%'); at >= 0; at = path.IndexOf('%', at + 1))
            {
                var octet = (char)Convert.ToByte(path.Substring(at + 1, 2), 16);
                Assert.That(IsUnreserved(octet), Is.False, target);
                Assert.That(path.Substring(at + 1, 2), Is.EqualTo(path.Substring(at + 1, 2).ToUpperInvariant()), target);
            }
        }

        Assert.That(normal, Is.GreaterThan(10_000), "most of the targets are refused: the test proves little");
    }

    private static (string Normal, PathFault Fault) Normalize(string target, PathRules rules)
    {
        var bytes = Encoding.Latin1.GetBytes(target);
        var length = bytes.Length;
        var fault = PathNormalizer.Normalize(bytes, rules, ref length);
        return (Encoding.Latin1.GetString(bytes, 0, length), fault);
    }

    /// <summary>Step by step, as the RFC tells it; null: refused.</summary>
    private static string? Oracle(string target, PathRules rules)
    {
        var question = target.IndexOf('?', StringComparison.Ordinal);
        var (path, query) = question < 0 ? (target, "") : (target[..question], target[question..]);
        if (target.Any(c => c is '#' or <= ' ' or >= '\u007f'))
        {
            return null;
        }

        var decoded = new StringBuilder();
        for (var i = 0; i < path.Length; i++)
        {
            if (path[i] != '%')
            {
                decoded.Append(path[i]);
                continue;
            }

            if (i + 2 >= path.Length || !byte.TryParse(path.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var octet))
            {
                return null;
            }

            decoded.Append(IsUnreserved((char)octet) ? ((char)octet).ToString() : $"%{octet:X2}");
            i += 2;
        }

        path = decoded.ToString();
        if ((path.Contains("%2F", StringComparison.Ordinal) && (rules.Allow & PathAllowance.EncodedSlash) == 0)
            || ((path.Contains('\\') || path.Contains("%5C", StringComparison.Ordinal)) && (rules.Allow & PathAllowance.Backslash) == 0)
            || (path.Contains("%00", StringComparison.Ordinal) && (rules.Allow & PathAllowance.EncodedNull) == 0))
        {
            return null;
        }

        foreach (var segment in path.Split('/'))
        {
            var parts = segment.Split(["%2F", "%5C", "\\"], StringSplitOptions.None);
            if (parts.Length > 1 && parts.Any(part => part is "." or ".."))
            {
                return null;
            }
        }

        while (rules.MergesSlashes && path.Contains("//", StringComparison.Ordinal))
        {
            path = path.Replace("//", "/", StringComparison.Ordinal);
        }

        return RemoveDotSegments(path) + query;
    }

    // RFC 3986 section 5.2.4, 2A to 2E.
    private static string RemoveDotSegments(string input)
    {
        var output = "";
        while (input.Length > 0)
        {
            if (input.StartsWith("../", StringComparison.Ordinal))
            {
                input = input[3..];
            }
            else if (input.StartsWith("./", StringComparison.Ordinal))
            {
                input = input[2..];
            }
            else if (input.StartsWith("/./", StringComparison.Ordinal) || input == "/.")
            {
                input = "/" + input[Math.Min(3, input.Length)..];
            }
            else if (input.StartsWith("/../", StringComparison.Ordinal) || input == "/..")
            {
                input = "/" + input[Math.Min(4, input.Length)..];
                output = output[..Math.Max(output.LastIndexOf('/'), 0)];
            }
            else if (input is "." or "..")
            {
                input = "";
            }
            else
            {
                var end = input.IndexOf('/', 1);
                end = end < 0 ? input.Length : end;
                output += input[..end];
                input = input[end..];
            }
        }

        return output;
    }

    private static bool IsUnreserved(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' or '~';
}
