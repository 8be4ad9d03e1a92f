using MeshProxy.DataPlane.Failures;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>What is known about one opaque connection. Made for each connection; completed exactly once.</summary>
internal sealed class TcpRecord
{
    /// <summary>Opens the record.</summary>
    public TcpRecord(Direction direction, ConnectionInfo connection, long startTimestamp)
    {
        Direction = direction;
        Connection = connection;
        StartTimestamp = startTimestamp;
    }

    /// <summary>Which way it goes.</summary>
    public Direction Direction { get; }

    /// <summary>The downstream connection.</summary>
    public ConnectionInfo Connection { get; }

    /// <summary>When it was accepted, as the clock's timestamp.</summary>
    public long StartTimestamp { get; }

    /// <summary>"namespace/name" of the service, or empty.</summary>
    public string Service { get; set; } = "";

    /// <summary>"namespace/name:port" of the cluster, or empty.</summary>
    public string Cluster { get; set; } = "";

    /// <summary>"address:port" of the endpoint it went to.</summary>
    public string? Endpoint { get; set; }

    /// <summary>How many endpoints were tried.</summary>
    public int Attempts { get; set; }

    /// <summary>Bytes from the downstream.</summary>
    public long BytesReceived { get; set; }

    /// <summary>Bytes to the downstream.</summary>
    public long BytesSent { get; set; }

    /// <summary>What went wrong, if anything did.</summary>
    public Failure Failure { get; set; }

    /// <summary>The flag for the log and the meters.</summary>
    public ResponseFlag Flag { get; set; }

    /// <summary>Set by completion.</summary>
    internal bool IsClosed { get; set; }
}
