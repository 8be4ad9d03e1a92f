using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MeshProxy.ControlPlane.Issuance;

/// <summary>What may be signed: a PKCS #10 request whose signature proves that the caller holds the key, and a P-256 key. Everything else in it is ignored.</summary>
internal static class SigningRequest
{
    /// <summary>Bytes; a P-256 request is about 250.</summary>
    public const int MaxBytes = 8192;

    private const string EllipticCurveKey = "1.2.840.10045.2.1";
    private const string P256 = "1.2.840.10045.3.1.7";

    /// <summary>Reads a request.</summary>
    /// <param name="der">The request.</param>
    /// <param name="key">The key to sign.</param>
    /// <param name="refused">Why not.</param>
    public static bool TryRead(ReadOnlySpan<byte> der, out PublicKey? key, out string refused)
    {
        key = null;
        if (der.IsEmpty || der.Length > MaxBytes)
        {
            refused = $"the certificate request has {der.Length} bytes; send a PKCS #10 request in DER of at most {MaxBytes}";
            return false;
        }

        CertificateRequest request;
        try
        {
            // Checks the request's own signature.
            request = CertificateRequest.LoadSigningRequest(der.ToArray(), HashAlgorithmName.SHA256);
        }
        catch (Exception e) when (e is CryptographicException or NotSupportedException)
        {
            refused = $"the certificate request does not parse or is not signed by its own key ({e.Message.TrimEnd('.')})";
            return false;
        }

        if (request.PublicKey.Oid.Value != EllipticCurveKey || CurveOf(request.PublicKey) != P256)
        {
            refused = "the certificate request's key must be ECDSA on the named curve P-256";
            return false;
        }

        try
        {
            using var check = request.PublicKey.GetECDsaPublicKey() ?? throw new CryptographicException("no ECDSA key"); // the point is on the curve
            key = new PublicKey(check);
        }
        catch (CryptographicException e)
        {
            refused = $"the certificate request's key is not a point of P-256 ({e.Message.TrimEnd('.')})";
            return false;
        }

        refused = "";
        return true;
    }

    private static string? CurveOf(PublicKey key)
    {
        try
        {
            return new AsnReader(key.EncodedParameters?.RawData ?? [], AsnEncodingRules.DER).ReadObjectIdentifier();
        }
        catch (AsnContentException)
        {
            return null; // explicit curve parameters
        }
    }
}
