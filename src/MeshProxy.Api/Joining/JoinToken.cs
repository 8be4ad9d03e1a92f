using System.Buffers;
using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Joining;

/// <summary>
/// The text that lets a new workload ask for its first certificate: "mp1." and base64url of a JSON object with <c>root</c> (SHA-256 of the root
/// certificate's DER, hex), <c>trust_domain</c>, <c>spiffe_id</c>, <c>secret</c> (base64url) and <c>expires</c> (RFC 3339). Only the secret counts at the
/// server; the rest tells the caller whom to trust at the first contact and who it will be.
/// </summary>
/// <param name="RootSha256">SHA-256 of the root certificate's DER, 64 hexadecimal digits.</param>
/// <param name="TrustDomain">The mesh.</param>
/// <param name="SpiffeId">The identity it is bound to; of that trust domain.</param>
/// <param name="Secret">What the control plane knows it by, base64url.</param>
/// <param name="ExpiresAt">Until when it can be used.</param>
public sealed record JoinToken(string RootSha256, TrustDomain TrustDomain, SpiffeId SpiffeId, string Secret, DateTimeOffset ExpiresAt)
{
    private const string Prefix = "mp1.";
    private const int SecretBytes = 32;
    private const int MaxLength = 4096;

    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdefABCDEF");

    /// <summary>Makes a token with a new secret.</summary>
    public static JoinToken Create(string rootSha256, SpiffeId id, DateTimeOffset expiresAt) =>
        new(rootSha256, id.TrustDomain, id, Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(SecretBytes)), expiresAt);

    /// <summary>What the store keeps instead of the secret. The secret has 256 random bits, so that a plain hash is enough.</summary>
    public byte[] SecretHash() => SHA256.HashData(Encoding.ASCII.GetBytes(Secret));

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
                || !TrustDomain.TryParse(Text(root, "trust_domain"), out var domain)
                || !SpiffeId.TryParse(Text(root, "spiffe_id"), out var id)
                || id.TrustDomain != domain
                || Text(root, "root") is not { Length: 64 } hash
                || hash.AsSpan().ContainsAnyExcept(HexDigits)
                || Text(root, "secret") is not { Length: >= SecretBytes } secret
                || !DateTimeOffset.TryParse(Text(root, "expires"), CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var expires))
            {
                return false;
            }

            token = new JoinToken(hash, domain, id, secret, expires);
            return true;
        }
        catch (Exception e) when (e is FormatException or JsonException)
        {
            return false;
        }
    }

    /// <summary>The token's text: a secret, never to be logged. <see cref="ToString"/> does not show it.</summary>
    public string Encode()
    {
        var json = new ArrayBufferWriter<byte>(512);
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            writer.WriteString("root", RootSha256);
            writer.WriteString("trust_domain", TrustDomain.Name);
            writer.WriteString("spiffe_id", SpiffeId.ToString());
            writer.WriteString("secret", Secret);
            writer.WriteString("expires", ExpiresAt.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
            writer.WriteEndObject();
        }

        return Prefix + Base64Url.EncodeToString(json.WrittenSpan);
    }

    /// <inheritdoc/>
    public override string ToString() => $"join token for {SpiffeId}";

    private static string? Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
