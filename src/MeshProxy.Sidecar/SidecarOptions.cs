using System.Net;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar;

/// <summary>The command line, read and checked.</summary>
internal sealed record SidecarOptions
{
    /// <summary>File mode: the documents' files and directories.</summary>
    public IReadOnlyList<string> ConfigPaths { get; init; } = [];

    /// <summary>Mesh mode; null in file mode.</summary>
    public MeshOptions? Mesh { get; init; }

    /// <summary>Where applications' outgoing traffic arrives; null: off.</summary>
    public IPEndPoint? Outbound { get; init; }

    /// <summary>Where the mesh's traffic arrives; null: off.</summary>
    public IPEndPoint? Inbound { get; init; }

    /// <summary>The admin endpoint; null: off.</summary>
    public IPEndPoint? Admin { get; init; }

    /// <summary>Metrics, health and the application's probes; null: off.</summary>
    public IPEndPoint? Metrics { get; init; }

    /// <summary>Where key, certificate and last good configuration are kept; null: nowhere.</summary>
    public string? StateDirectory { get; init; }

    /// <summary>Whether the inbound takes plaintext.</summary>
    public MutualTlsMode MutualTls { get; init; }

    /// <summary>Whether unknown destinations are passed through.</summary>
    public bool AllowEgress { get; init; }

    /// <summary>"stdout", "none" or a file.</summary>
    public string AccessLog { get; init; } = "stdout";

    /// <summary>From which level on the own log is written.</summary>
    public LogLevel LogLevel { get; init; } = LogLevel.Information;

    /// <summary>How long open work may take to finish after SIGTERM.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(25);

    /// <summary>What may be held of peers' data, in bytes.</summary>
    public long MemoryBudgetBytes { get; init; } = MemoryBudget.DefaultBytes;

    /// <summary>The application's probes.</summary>
    public IReadOnlyList<AppProbe> AppProbes { get; init; } = [];

    /// <summary>Local listeners for TCP services.</summary>
    public IReadOnlyList<UpstreamListenerOptions> Upstreams { get; init; } = [];
}

/// <summary>What a member of a mesh says of itself.</summary>
internal sealed record MeshOptions
{
    /// <summary>The control plane, "host:port".</summary>
    public required string Control { get; init; }

    /// <summary>Holds the join token for the first contact.</summary>
    public string? JoinTokenFile { get; init; }

    /// <summary>The own namespace.</summary>
    public required string Namespace { get; init; }

    /// <summary>The own service account.</summary>
    public required string ServiceAccount { get; init; }

    /// <summary>The workload's name.</summary>
    public required string Name { get; init; }

    /// <summary>The workload's labels.</summary>
    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();

    /// <summary>The application's ports by name.</summary>
    public IReadOnlyList<(string Name, int Port)> AppPorts { get; init; } = [];

    /// <summary>"region/zone/sub".</summary>
    public string Locality { get; init; } = "";

    /// <summary>Relative share.</summary>
    public int Weight { get; init; } = 1;

    /// <summary>The address that others dial.</summary>
    public string Address { get; init; } = "127.0.0.1";

    /// <summary>The Gateway that is served too; null: none.</summary>
    public string? Gateway { get; init; }

    /// <summary>The workload's full name.</summary>
    public ResourceName Workload => new(Namespace, Name);
}
