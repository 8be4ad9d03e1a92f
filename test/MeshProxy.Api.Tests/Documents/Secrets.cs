using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Tests.Documents;

/// <summary>Secrets are checked, and never shown.</summary>
public class Secrets
{
    private readonly string _certificate;
    private readonly string _key;
    private readonly string _foreignKey;

    public Secrets()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var foreign = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=edge", key, HashAlgorithmName.SHA256);
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddYears(200));
        _certificate = certificate.ExportCertificatePem() + "\n";
        _key = key.ExportPkcs8PrivateKeyPem() + "\n";
        _foreignKey = foreign.ExportPkcs8PrivateKeyPem() + "\n";
    }

    [Test]
    public void A_pair_that_fits_is_taken_from_data_and_from_stringData()
    {
        var secret = (SecretDocument)Yaml.One(Text(Encode(_certificate), Encode(_key)));
        Assert.That(secret.CertificateChainPem, Is.EqualTo(_certificate));
        Assert.That(secret.PrivateKeyPem, Is.EqualTo(_key));
        var plain = (SecretDocument)Yaml.One($"apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: s}}\nstringData:\n  tls.crt: |\n{Indent(_certificate)}  tls.key: |\n{Indent(_key)}");
        Assert.That(plain.PrivateKeyPem, Is.EqualTo(_key));
    }

    [Test]
    public void A_key_of_another_certificate_is_refused_and_not_repeated()
    {
        var error = Yaml.Read(Text(Encode(_certificate), Encode(_foreignKey))).Errors.Single();
        Assert.That(error.Line, Is.EqualTo(7));
        Assert.That(error.Field, Is.EqualTo("data[\"tls.key\"]"));
        Assert.That(error.Message, Does.Contain("belong together").And.Not.Contain(Encode(_foreignKey)[40..80]));
    }

    [Test]
    public void What_is_no_certificate_no_key_no_base64_or_not_there_is_refused()
    {
        Assert.Multiple(() =>
        {
            Assert.That(Yaml.Read(Text(Encode("hello"), Encode(_key))).Errors.Single(), Has.Property("Line").EqualTo(6).And.Property("Message").Contains("CERTIFICATE"));
            Assert.That(Yaml.Read(Text(Encode(_certificate), Encode("hello"))).Errors.Single(), Has.Property("Line").EqualTo(7));
            Assert.That(Yaml.Read(Text("\"%%%\"", Encode(_key))).Errors.Single(), Has.Property("Line").EqualTo(6).And.Property("Message").Contains("base64"));
            Assert.That(Yaml.Read(Text("", Encode(_key))).Errors.Single(), Has.Property("Message").Contains("CERTIFICATE"));
            Assert.That(Yaml.Read("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: s}\n").Errors.Length, Is.EqualTo(2));
        });
    }

    [Test]
    public void Nothing_of_it_is_written_or_printed_unless_the_store_asks()
    {
        var secret = (SecretDocument)Yaml.One(Text(Encode(_certificate), Encode(_key)));
        var secretText = Encode(_key)[40..80];
        Assert.Multiple(() =>
        {
            Assert.That(DocumentWriter.ToYaml(secret), Does.Not.Contain(secretText).And.Contain($"({_key.Length} bytes, not shown)"));
            Assert.That(DocumentWriter.ToJson(secret), Does.Not.Contain(secretText));
            Assert.That(secret.ToString(), Is.EqualTo("Secret default/s"));
            var kept = (SecretDocument)Yaml.One(DocumentWriter.ToJson(secret, showSecrets: true));
            Assert.That(kept.PrivateKeyPem, Is.EqualTo(_key));
            Assert.That(kept.Fingerprint, Is.EqualTo(secret.Fingerprint));
        });
    }

    private static string Text(string certificate, string key) =>
        $"apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: s}}\ndata:\n  tls.crt: {certificate}\n  tls.key: {key}\n";

    private static string Encode(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    private static string Indent(string text) => string.Concat(text.TrimEnd('\n').Split('\n').Select(line => $"    {line}\n"));
}
