using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;
using MeshProxy.Testing;

namespace MeshProxy.Integration.Tests;

/// <summary>Who gets in and who does not: the inbound, the registry, the join.</summary>
[TestFixture]
internal sealed class SecurityTests
{
    private const string Sni = "p80.payments.shop.mesh.mesh.local";
    private TestApp _app = null!;
    private Mesh _mesh = null!;
    private Proxy _payments = null!;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _app = await TestApp.StartAsync("payments-app");
        _mesh = await Mesh.StartAsync();
        await _mesh.Meshctl.ApplyAsync(Documents.Service("payments", "payments", "http 80 http"));
        _payments = await _mesh.JoinAsync("payments-1", "payments", "--app-port", $"http={_app.Http1Port}");
        await Mesh.WaitUntilRegisteredAsync(_payments);
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        if (_mesh is not null)
        {
            await _mesh.DisposeAsync();
        }

        await _app.DisposeAsync();
    }

    [TearDown]
    public void ShowLogs()
    {
        if (TestContext.CurrentContext.Result.FailCount > 0)
        {
            TestContext.Out.WriteLine(_mesh.Report());
        }
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Plaintext_to_the_inbound_is_refused_and_logged()
    {
        await using var stream = await Via.TcpAsync(_payments.Inbound);
        await stream.WriteAsync("GET /hello HTTP/1.1\r\nHost: payments\r\n\r\n"u8.ToArray());
        Assert.That(Encoding.ASCII.GetString(await ReadAllAsync(stream)), Does.Not.Contain("hello").And.Not.StartWith("HTTP/"));
        await RefusedAsync("plaintext");
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task A_member_of_the_mesh_gets_in()
    {
        // The control for the tests below: the same handshake with a good certificate is served.
        using var member = Member("payments-1");
        await using var tls = await HandshakeAsync(member, Sni, "h2");
        Assert.That(await ReadFirstByteAsync(tls), Is.True);
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Tls_without_a_client_certificate_is_refused()
    {
        await NobodyServesAsync(null, Sni);
        await RefusedAsync("certificate");
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task A_certificate_of_a_stranger_is_refused_also_with_the_right_name()
    {
        using var stranger = new TestCa("mesh.local");
        using var certificate = stranger.IssueSvid("shop", "checkout");
        await NobodyServesAsync(certificate, Sni);
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task A_certificate_of_another_trust_domain_is_refused()
    {
        using var stranger = new TestCa("other.example");
        using var certificate = stranger.IssueSvid("shop", "checkout");
        await NobodyServesAsync(certificate, Sni);
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task An_expired_certificate_is_refused()
    {
        using var stranger = new TestCa("mesh.local");
        using var certificate = stranger.IssueExpiredSvid("spiffe://mesh.local/ns/shop/sa/checkout");
        await NobodyServesAsync(certificate, Sni);
    }

    [TestCase("p81.payments.shop.mesh.mesh.local")]
    [TestCase("p80.ledger.shop.mesh.mesh.local")]
    [TestCase("p80.payments.other.mesh.mesh.local")]
    [TestCase("payments.shop")]
    [CancelAfter(30_000)]
    public async Task A_member_does_not_reach_what_the_workload_does_not_declare(string sni)
    {
        using var member = Member("payments-1");
        await NobodyServesAsync(member, sni);
        await RefusedAsync(sni);
    }

    [Test]
    [CancelAfter(30_000)]
    public async Task Tls_older_than_1_3_is_refused()
    {
        using var member = Member("payments-1");
        await using var stream = await Via.TcpAsync(_payments.Inbound);
        await using var tls = new SslStream(stream, false, (_, certificate, _, _) => certificate is not null);
#pragma warning disable CA5398 // the older version is what is tried
        await Assert.ThatAsync(async () => await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = Sni, ClientCertificates = [member], EnabledSslProtocols = SslProtocols.Tls12 }),
            Throws.InstanceOf<AuthenticationException>().Or.InstanceOf<IOException>());
#pragma warning restore CA5398
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task The_registry_refuses_an_account_that_may_not_serve_the_service()
    {
        // Its labels make it look like payments; its identity does not.
        var token = await _mesh.TokenFileAsync("impostor");
        var impostor = _mesh.Launch("impostor-1", _mesh.Arguments("impostor-1", "impostor", token, "--label", "app=payments", "--app-port", $"http={_app.Http1Port}"));
        var line = await impostor.Process.LoggedAsync("registration_failed");
        Assert.That(line.GetProperty("message").GetString(), Does.Contain("shop/impostor-1").And.Contain("payments"));
        var names = (await _mesh.Meshctl.DoAsync("get", "Workload", "-n", "shop", "-o", "json"));
        Assert.That(names, Does.Contain("payments-1").And.Not.Contain("impostor-1"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_join_token_works_once()
    {
        var token = await _mesh.TokenFileAsync("once");
        var first = _mesh.Launch("once-1", _mesh.Arguments("once-1", "once", token));
        await first.WaitUntilListeningAsync();
        var second = _mesh.Launch("once-2", _mesh.Arguments("once-2", "once", token));
        Assert.That(await second.Process.WaitForExitAsync(), Is.EqualTo(1), second.Process.Report());
        Assert.That((await second.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain("token").And.Contain("used"));
        Assert.That(string.Join('\n', first.Process.Errors.Concat(second.Process.Errors).Concat(_mesh.Control.Process.Errors)), Does.Not.Contain((await File.ReadAllTextAsync(token)).Trim()));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_join_token_that_is_late_is_refused()
    {
        var token = await _mesh.TokenFileAsync("late", "1s");
        await Task.Delay(1_500);
        var late = _mesh.Launch("late-1", _mesh.Arguments("late-1", "late", token));
        Assert.That(await late.Process.WaitForExitAsync(), Is.EqualTo(1), late.Process.Report());
        Assert.That((await late.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain("expired"));
    }

    [TestCase("")]
    [TestCase("garbage")]
    [TestCase("mp1.")]
    [TestCase("mp1.e30")]
    [CancelAfter(60_000)]
    public async Task A_join_token_that_is_none_is_refused(string text)
    {
        var file = _mesh.File($"garbage-{text.Length}");
        await File.WriteAllTextAsync(file, text);
        var proxy = _mesh.Launch("garbage-1", _mesh.Arguments($"garbage-{text.Length}", "garbage", file));
        Assert.That(await proxy.Process.WaitForExitAsync(), Is.EqualTo(1), proxy.Process.Report());
        Assert.That((await proxy.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain("token"));
    }

    [Test]
    [CancelAfter(60_000)]
    public async Task A_join_token_of_another_account_or_another_mesh_is_refused()
    {
        var other = await _mesh.TokenFileAsync("other");
        var proxy = _mesh.Launch("wrong-1", _mesh.Arguments("wrong-1", "wrong", other));
        Assert.That(await proxy.Process.WaitForExitAsync(), Is.EqualTo(1), proxy.Process.Report());
        Assert.That((await proxy.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain("spiffe://mesh.local/ns/shop/sa/other"));

        await using var stranger = await ControlPlane.StartAsync(_mesh.File("stranger"));
        var file = _mesh.File("stranger-token");
        await File.WriteAllTextAsync(file, await stranger.Meshctl.CreateTokenAsync("wrong"));
        proxy = _mesh.Launch("wrong-2", _mesh.Arguments("wrong-2", "wrong", file));
        Assert.That(await proxy.Process.WaitForExitAsync(), Is.EqualTo(1), proxy.Process.Report());
        Assert.That((await proxy.Process.LoggedAsync("start_failed")).GetProperty("message").GetString(), Does.Contain("root"));
    }

    private X509Certificate2 Member(string workload)
    {
        // Whatever its files are called: the leaf is the first certificate, the key the only key.
        var pem = string.Concat(Directory.GetFiles(_mesh.StateDirectory(workload)).Select(File.ReadAllText).Where(text => text.Contains("-----BEGIN ", StringComparison.Ordinal)));
        using var certificate = X509Certificate2.CreateFromPem(pem, pem);
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
    }

    private async Task<SslStream> HandshakeAsync(X509Certificate2? own, string sni, string alpn)
    {
        var tls = new SslStream(await Via.TcpAsync(_payments.Inbound), false, (_, certificate, _, _) => certificate is not null);
        await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = sni,
            ClientCertificateContext = own is null ? null : SslStreamCertificateContext.Create(own, Intermediates(), offline: true),
            ApplicationProtocols = [new SslApplicationProtocol(alpn)],
            EnabledSslProtocols = SslProtocols.Tls13,
        });
        return tls;
    }

    private X509Certificate2Collection Intermediates()
    {
        var all = new X509Certificate2Collection();
        foreach (var text in Directory.GetFiles(_mesh.StateDirectory("payments-1")).Select(File.ReadAllText).Where(text => text.Contains("BEGIN CERTIFICATE", StringComparison.Ordinal)))
        {
            all.ImportFromPem(text);
        }

        return all;
    }

    /// <summary>In TLS 1.3 the client learns only after its handshake: either that fails, or the connection ends before any byte.</summary>
    private async Task NobodyServesAsync(X509Certificate2? certificate, string sni)
    {
        foreach (var alpn in (string[])["h2", "meshproxy-tcp/1"])
        {
            try
            {
                await using var tls = await HandshakeAsync(certificate, sni, alpn);
                Assert.That(await ReadFirstByteAsync(tls), Is.False, $"{alpn} was served");
            }
            catch (Exception refused) when (refused is AuthenticationException or IOException)
            {
                // The handshake itself was refused.
            }
        }
    }

    private async Task RefusedAsync(string reason)
    {
        var line = await _payments.Process.LoggedAsync(line => (ManagedProcess.Text(line, "message") ?? "").StartsWith("refused a connection: direction Inbound", StringComparison.Ordinal)
            && ManagedProcess.Text(line, "message")!.Contains(reason, StringComparison.OrdinalIgnoreCase), $"a refusal that says '{reason}'", TimeSpan.FromSeconds(10));
        Assert.That(ManagedProcess.Text(line, "log.level"), Is.EqualTo("warn"));
    }

    private static async Task<bool> ReadFirstByteAsync(Stream stream)
    {
        using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            return await stream.ReadAsync(new byte[1], bound.Token) == 1;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static async Task<byte[]> ReadAllAsync(Stream stream)
    {
        using var all = new MemoryStream();
        using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            await stream.CopyToAsync(all, bound.Token);
        }
        catch (IOException)
        {
            // A reset ends it too.
        }

        return all.ToArray();
    }
}
