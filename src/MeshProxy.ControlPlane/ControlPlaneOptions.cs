using System.Net;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane;

/// <summary>Read once at start.</summary>
internal sealed record ControlPlaneOptions
{
    /// <summary>Where gRPC over TLS listens; a null address: every one.</summary>
    public ListenAddress Listen { get; init; } = new(null, 15012);

    /// <summary>Where metrics and health listen, in plaintext.</summary>
    public ListenAddress Metrics { get; init; } = new(null, 15014);

    /// <summary>Keys, store, operator credential.</summary>
    public string DataDirectory { get; init; } = "meshproxy-control-data";

    /// <summary>The mesh's trust domain; kept by the data directory from the first start on.</summary>
    public TrustDomain TrustDomain { get; init; } = TrustDomain.Parse("mesh.local");

    /// <summary>Life of a workload's certificate; seconds are allowed.</summary>
    public TimeSpan WorkloadCertificateLifetime { get; init; } = TimeSpan.FromHours(24);

    /// <summary>Life of the control plane's own certificate; it renews itself at half of it.</summary>
    public TimeSpan ServerCertificateLifetime { get; init; } = TimeSpan.FromDays(30);

    /// <summary>Further names and addresses in the own certificate.</summary>
    public IReadOnlyList<string> HostNames { get; init; } = [];
}

/// <summary>Where to listen; port 0 is any free one.</summary>
internal sealed record ListenAddress(IPAddress? Address, int Port)
{
    /// <summary>Reads "PORT", "ADDRESS" or "ADDRESS:PORT" (an IPv6 address in brackets).</summary>
    public static bool TryParse(string text, int defaultPort, out ListenAddress listen)
    {
        listen = new ListenAddress(null, defaultPort);
        if (ushort.TryParse(text, System.Globalization.NumberStyles.None, null, out var port))
        {
            listen = new ListenAddress(null, port);
            return true;
        }

        // "::1" is an address alone; only in brackets may a port follow. A bare number such as 65536 is no address.
        var isAddress = text.Contains('.') || text.Contains(':');
        if (isAddress && !text.StartsWith('[') && IPAddress.TryParse(text, out var address))
        {
            listen = new ListenAddress(address, defaultPort);
            return true;
        }

        if (isAddress && IPEndPoint.TryParse(text, out var endPoint))
        {
            listen = new ListenAddress(endPoint.Address, text.EndsWith(']') ? defaultPort : endPoint.Port);
            return true;
        }

        return false;
    }

    /// <inheritdoc/>
    public override string ToString() => Address is null ? $"*:{Port}" : new IPEndPoint(Address, Port).ToString();
}
