using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using MeshProxy.Testing;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>A TLS server in a test's hands that greets each client with its own name, then echoes.</summary>
internal sealed class TlsServer : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;

    public TlsServer(string greeting, X509Certificate2 certificate, X509Certificate2Collection? chain = null)
    {
        _listener.Start();
        EndPoint = (IPEndPoint)_listener.LocalEndpoint;
        _accepting = AcceptAsync(greeting, SslStreamCertificateContext.Create(certificate, chain, offline: true));
    }

    public IPEndPoint EndPoint { get; }

    public int Accepted { get; private set; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        _stop.Dispose();
    }

    private async Task AcceptAsync(string greeting, SslStreamCertificateContext context)
    {
        var serving = new List<Task>();
        try
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync(_stop.Token);
                Accepted++;
                serving.Add(ServeAsync(client, greeting, context));
            }
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(serving);
        }
    }

    private async Task ServeAsync(TcpClient client, string greeting, SslStreamCertificateContext context)
    {
        using (client)
        {
            try
            {
                await using var tls = new SslStream(client.GetStream());
                await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificateContext = context }, _stop.Token);
                await tls.WriteAsync(Encoding.ASCII.GetBytes($"{greeting} {tls.TargetHostName}\n"), _stop.Token);
                await tls.CopyToAsync(tls, _stop.Token);
                await tls.ShutdownAsync();
            }
            catch (Exception error) when (error is IOException or AuthenticationException or OperationCanceledException)
            {
                // The client left; the test sees that.
            }
        }
    }
}

/// <summary>A TLS client that says why it failed.</summary>
internal static class TlsClient
{
    /// <summary>The server's first line, and what came back of <paramref name="text"/>.</summary>
    public static async Task<(string Greeting, string Echo)> AskAsync(IPEndPoint endPoint, string? serverName, TestCa ca, string text = "ping")
    {
        await using var tls = await ConnectAsync(endPoint, serverName, ca);
        using var reader = new StreamReader(tls);
        var greeting = await reader.ReadLineAsync().WaitAsync(Wire.Patience) ?? "";
        await tls.WriteAsync(Encoding.ASCII.GetBytes(text + "\n"));
        return (greeting, await reader.ReadLineAsync().WaitAsync(Wire.Patience) ?? "");
    }

    public static async Task<SslStream> ConnectAsync(IPEndPoint endPoint, string? serverName, TestCa ca)
    {
        var client = new TcpClient();
        await client.ConnectAsync(endPoint).WaitAsync(Wire.Patience);
        var tls = new SslStream(client.GetStream());
        try
        {
            await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = serverName ?? "",
                RemoteCertificateValidationCallback = (_, certificate, chain, _) => certificate is X509Certificate2 leaf && ca.Intermediates.Concat([ca.Root]).Any(issuer => issuer.Subject == leaf.Issuer),
            }).WaitAsync(Wire.Patience);
            return tls;
        }
        catch
        {
            await tls.DisposeAsync();
            throw;
        }
    }
}
