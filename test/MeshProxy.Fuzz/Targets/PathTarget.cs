using MeshProxy.Fuzz.Oracles;
using MeshProxy.Http;

namespace MeshProxy.Fuzz.Targets;

/// <summary>The path normaliser. The first byte chooses the rules. Besides the oracle's verdict: what is normal stays as it is, and nothing grows.</summary>
internal sealed class PathTarget : FuzzTarget
{
    public override string Name => "path";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "/", "//", ".", "..", "/.", "/..", "/./", "/../", "%2e", "%2E%2e", "%2f", "%5c", "\\\\", "%00", "%25", "%252e", "%41", "%7e", "%c3%a9", "%", "%2", "%zz", "?", "?a=/../b", "#", ";a=b", "..;", "\\x00", "\\x80", " ", "a",
    ];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var rules = new PathRules((input[0] & 1) != 0, (PathAllowance)((input[0] >> 1) & 7));
        var ours = Normalize(Text(input.AsSpan(1)), rules);
        var oracle = PathReading.Normalize(Text(input.AsSpan(1)), rules.MergesSlashes, rules.Allow.HasFlag(PathAllowance.EncodedSlash), rules.Allow.HasFlag(PathAllowance.Backslash), rules.Allow.HasFlag(PathAllowance.EncodedNull));
        Same(ours ?? "refused", oracle ?? "refused", $"{rules}");
        if (ours is not null)
        {
            Must(ours.Length <= input.Length - 1, "it grew");
            Same(Normalize(ours, rules) ?? "refused", ours, "once more it is another one");
        }

        return Http1Judgement.Outcome(ours ?? "refused");
    }

    private static string? Normalize(string target, PathRules rules)
    {
        var bytes = System.Text.Encoding.Latin1.GetBytes(target);
        var length = bytes.Length;
        return PathNormalizer.Normalize(bytes, rules, ref length) == PathFault.None ? Text(bytes.AsSpan(0, length)) : null;
    }
}
