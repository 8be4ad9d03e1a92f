using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using MeshProxy.Model.Identity;

namespace MeshProxy.Sidecar.Certificates;

/// <summary>
/// What a join token tells its bearer: whom to trust at the first contact (the hash of the root) and who it will be. The secret in it is the control
/// plane's business; <see cref="Text"/> is sent whole and never logged.
/// </summary>
internal sealed class JoinToken
{
    private const string Prefix = "mp1.";
    private const int MaxLength = 4096;

    private JoinToken(string text, byte[] rootSha256, SpiffeId identity, DateTimeOffset expiresAt)
    {
        Text = text;
        RootSha256 = rootSha256;
        Identity = identity;
        ExpiresAt = expiresAt;
    }

    /// <summary>The token as it is sent.</summary>
    public string Text { get; }

    /// <summary>SHA-256 of the root certificate, DER.</summary>
    public byte[] RootSha256 { get; }

    /// <summary>The identity it is bound to.</summary>
    public SpiffeId Identity { get; }

    /// <summary>Until when it can be used.</summary>
    public DateTimeOffset ExpiresAt { get; }

    /// <summary>Reads a token; white space around it does not matter.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out JoinToken? token)
    {
        token = null;
        text = text?.Trim();
        if (text is null || text.Length > MaxLength || !text.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return false;
        }

        try
        {
            using var json = JsonDocument.Parse(Base64Url.DecodeFromChars(text.AsSpan(Prefix.Length)));
            var root = json.RootElement;
            if (root.ValueKind != JsonValueKind.Object
                || Value(root, "root") is not { Length: 64 } hash
                || !SpiffeId.TryParse(Value(root, "spiffe_id"), out var identity)
                || Value(root, "trust_domain") != identity.TrustDomain.Name
                || !DateTimeOffset.TryParse(Value(root, "expires"), CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var expires))
            {
                return false;
            }

            token = new JoinToken(text, Convert.FromHexString(hash), identity, expires);
            return true;
        }
        catch (Exception exception) when (exception is FormatException or JsonException)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"join token for {Identity}";

    private static string? Value(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
