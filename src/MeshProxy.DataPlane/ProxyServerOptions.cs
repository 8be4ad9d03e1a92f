using System.Net;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane;

/// <summary>How a data plane runs. Read once at start.</summary>
public sealed record ProxyServerOptions
{
    /// <summary>Where applications' outgoing traffic arrives, redirected or explicit; null: not at all. Loopback only.</summary>
    public IPEndPoint? Outbound { get; init; }

    /// <summary>Where other sidecars' traffic arrives; null: not at all.</summary>
    public IPEndPoint? Inbound { get; init; }

    /// <summary>Local listeners for TCP services.</summary>
    public IReadOnlyList<UpstreamListenerOptions> Upstreams { get; init; } = [];

    /// <summary>Whether the inbound takes plaintext.</summary>
    public MutualTlsMode MutualTls { get; init; }

    /// <summary>Whether redirected traffic to unknown destinations is passed through (and counted) instead of refused.</summary>
    public bool AllowEgress { get; init; }

    /// <summary>The mesh's trust domain; null: no mesh.</summary>
    public TrustDomain? TrustDomain { get; init; }

    /// <summary>The own namespace: where short service names are looked up.</summary>
    public string Namespace { get; init; } = "default";

    /// <summary>Where the own application listens.</summary>
    public string ApplicationAddress { get; init; } = "127.0.0.1";

    /// <summary>How long an undeclared connection may be silent before it is taken for opaque bytes.</summary>
    public TimeSpan DetectionTimeout { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>How long a connection that is declared to speak HTTP may be silent before it is handed to the codec, whose own limits go on from there.</summary>
    public TimeSpan FirstByteTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The age at which a downstream HTTP connection is asked to come again: GOAWAY in two steps, Connection: close. Up to a tenth earlier, so that
    /// they do not come all at once. What is open on it finishes.</summary>
    public TimeSpan MaxConnectionAge { get; init; } = TimeSpan.FromHours(1);

    /// <summary>What the process may hold of peers' data, in bytes.</summary>
    public long MemoryBudgetBytes { get; init; } = MemoryBudget.DefaultBytes;

    /// <summary>Bounds a TLS handshake, from the first byte to the last.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(5);
}

/// <summary>A local listener for a TCP service, "ledger-db=5432".</summary>
/// <param name="Service">The service's name, short or with namespace; optionally ":port" when the service has several.</param>
/// <param name="LocalPort">Where to listen on loopback.</param>
public sealed record UpstreamListenerOptions(string Service, int LocalPort);

/// <summary>Asks for destinations that traffic needs: the discovery client in the mesh.</summary>
public interface IDestinationDemand
{
    /// <summary>Asks for a service and waits, a bounded time, for the first answer.</summary>
    /// <returns>True when there was an answer that changed the configuration: worth looking again.</returns>
    ValueTask<bool> RequestAsync(ResourceName service);

    /// <summary>The same for the service that an original destination address ("ip:port") belongs to.</summary>
    ValueTask<bool> RequestAddressAsync(string address);

    /// <summary>Tells that a service is in use: subscriptions made by traffic expire without it.</summary>
    void Touch(ResourceName service);
}
