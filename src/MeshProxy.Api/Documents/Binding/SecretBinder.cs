using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Secret. No error text repeats what the secret holds.</summary>
internal static class SecretBinder
{
    private const string CertificateKey = "tls.crt";
    private const string PrivateKeyKey = "tls.key";

    /// <summary>Kubernetes' limit, in bytes.</summary>
    private const int MaxValueBytes = 1024 * 1024;

    public static SecretDocument? Secret(Fields root, Metadata metadata)
    {
        var type = root.Text("type") ?? "Opaque";
        var data = ImmutableDictionary.CreateBuilder<string, ImmutableArray<byte>>(StringComparer.Ordinal);
        foreach (var (key, text) in root.TextMap("data"))
        {
            var buffer = new byte[(text.Length / 4 * 3) + 3];
            if (Convert.TryFromBase64String(text, buffer, out var count) && count <= MaxValueBytes)
            {
                data[key] = ImmutableArray.Create(buffer, 0, count);
            }
            else
            {
                root.Scope.Fail(root.Node.Find(FieldOf("data", key)), FieldOf("data", key), "must be base64 of at most 1 MiB: write plain text under stringData instead");
            }
        }

        foreach (var (key, text) in root.TextMap("stringData"))
        {
            data[key] = ImmutableArray.Create(Encoding.UTF8.GetBytes(text));
        }

        root.Flag("immutable");
        var document = new SecretDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name, Type = type, Data = data.ToImmutable() };
        return type == SecretDocument.TlsType ? Certificate(root, document) : document;
    }

    private static SecretDocument? Certificate(Fields root, SecretDocument document)
    {
        var chain = Pem(root, document, CertificateKey, "the certificate chain in PEM, the server's own first");
        var key = Pem(root, document, PrivateKeyKey, "the private key in PEM");
        if (chain is null || key is null)
        {
            return null;
        }

        try
        {
            var certificates = new X509Certificate2Collection();
            certificates.ImportFromPem(chain);
            foreach (var certificate in certificates)
            {
                certificate.Dispose();
            }

            if (certificates.Count == 0)
            {
                Fail(root, CertificateKey, "holds no PEM block 'CERTIFICATE'");
                return null;
            }
        }
        catch (CryptographicException)
        {
            Fail(root, CertificateKey, "holds a PEM block that is no X.509 certificate");
            return null;
        }

        if (key.Contains("ENCRYPTED", StringComparison.Ordinal))
        {
            Fail(root, PrivateKeyKey, "is encrypted with a pass phrase: store it without one");
            return null;
        }

        try
        {
            using var pair = X509Certificate2.CreateFromPem(chain, key);
        }
        catch (CryptographicException)
        {
            Fail(root, PrivateKeyKey, "is no private key that fits the first certificate of tls.crt: check that the two belong together and that the server's own certificate comes first");
            return null;
        }
        catch (ArgumentException)
        {
            Fail(root, PrivateKeyKey, "does not fit the first certificate of tls.crt: check that the two belong together and that the server's own certificate comes first");
            return null;
        }

        return document with { CertificateChainPem = chain, PrivateKeyPem = key };
    }

    private static string? Pem(Fields root, SecretDocument document, string key, string what)
    {
        if (document.Data.TryGetValue(key, out var bytes))
        {
            return Encoding.UTF8.GetString(bytes.AsSpan());
        }

        // When base64 was bad it has been said already.
        if (root.Node.Find(FieldOf("data", key)) == root.Node.Find("data"))
        {
            root.Scope.Fail(root.Node.Find("data"), FieldOf("data", key), $"is missing: a {SecretDocument.TlsType} Secret needs {what}");
        }

        return null;
    }

    private static void Fail(Fields root, string key, string message)
    {
        var field = root.Has("stringData") && root.Node.Find(FieldOf("stringData", key)) != root.Node.Find("stringData") ? "stringData" : "data";
        root.Scope.Fail(root.Node.Find(FieldOf(field, key)), FieldOf(field, key), message);
    }

    private static string FieldOf(string map, string key) => Nodes.FieldPath.Key(map, key);
}
