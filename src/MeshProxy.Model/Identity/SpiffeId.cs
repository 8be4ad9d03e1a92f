using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.Model.Identity;

/// <summary>A workload's identity: "spiffe://&lt;trust domain&gt;/ns/&lt;namespace&gt;/sa/&lt;service account&gt;" (SPIFFE-ID section 2). Other shapes of path
/// are not identities of this mesh and do not parse.</summary>
public readonly record struct SpiffeId
{
    private const string Scheme = "spiffe://";

    private static readonly SearchValues<char> SegmentCharacters =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    /// <summary>Makes an ID from its parts.</summary>
    /// <exception cref="FormatException">A part is empty or has a character that is not allowed.</exception>
    public SpiffeId(TrustDomain trustDomain, string @namespace, string serviceAccount)
    {
        if (!IsSegment(@namespace) || !IsSegment(serviceAccount) || trustDomain.Name is null)
        {
            throw new FormatException($"'{@namespace}' and '{serviceAccount}' do not make a SPIFFE ID: use letters, digits, '.', '-' and '_'.");
        }

        TrustDomain = trustDomain;
        Namespace = @namespace;
        ServiceAccount = serviceAccount;
    }

    /// <summary>The trust domain.</summary>
    public TrustDomain TrustDomain { get; }

    /// <summary>The namespace.</summary>
    public string Namespace { get; }

    /// <summary>The service account.</summary>
    public string ServiceAccount { get; }

    /// <summary>Reads a SPIFFE ID.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out SpiffeId id)
    {
        id = default;
        if (text is null || text.Length > 2048 || !text.StartsWith(Scheme, StringComparison.Ordinal))
        {
            return false;
        }

        var parts = text[Scheme.Length..].Split('/');
        if (parts is not [var domain, "ns", var @namespace, "sa", var account] || !TrustDomain.TryParse(domain, out var trustDomain)
            || !IsSegment(@namespace) || !IsSegment(account))
        {
            return false;
        }

        id = new SpiffeId(trustDomain, @namespace, account);
        return true;
    }

    /// <summary>Reads a SPIFFE ID that is known to be good.</summary>
    /// <exception cref="FormatException">It is not.</exception>
    public static SpiffeId Parse(string text) => TryParse(text, out var id) ? id : throw new FormatException(
        $"'{text}' is no SPIFFE ID of a mesh: expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>.");

    /// <summary>The URI.</summary>
    public override string ToString() => TrustDomain.Name is null ? "" : $"{Scheme}{TrustDomain}/ns/{Namespace}/sa/{ServiceAccount}";

    private static bool IsSegment(string? text) => text is { Length: > 0 } and not "." and not ".."
        && !text.AsSpan().ContainsAnyExcept(SegmentCharacters);
}
