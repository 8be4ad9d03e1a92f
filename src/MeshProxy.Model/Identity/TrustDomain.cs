using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.Model.Identity;

/// <summary>A SPIFFE trust domain name: lower-case letters, digits, dots, dashes and underscores, at most 255 bytes (SPIFFE-ID section 2.1).</summary>
public readonly record struct TrustDomain
{
    private static readonly SearchValues<char> Characters = SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789.-_");

    private TrustDomain(string name) => Name = name;

    /// <summary>The name, such as "mesh.local".</summary>
    public string Name { get; }

    /// <summary>Reads a name.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out TrustDomain domain)
    {
        var valid = text is { Length: > 0 and <= 255 } && !text.AsSpan().ContainsAnyExcept(Characters);
        domain = valid ? new TrustDomain(text!) : default;
        return valid;
    }

    /// <summary>Reads a name that is known to be good.</summary>
    /// <exception cref="FormatException">It is not.</exception>
    public static TrustDomain Parse(string text) =>
        TryParse(text, out var domain) ? domain : throw new FormatException($"'{text}' is no trust domain: use lower-case letters, digits, '.', '-' and '_'.");

    /// <inheritdoc/>
    public override string ToString() => Name;
}
