namespace MeshProxy.DataPlane.Telemetry;

/// <summary>Which way an exchange or a connection goes, seen from the workload.</summary>
public enum Direction : byte
{
    /// <summary>From the mesh to the own application.</summary>
    Inbound,

    /// <summary>From the own application to the mesh.</summary>
    Outbound,

    /// <summary>From outside through a listener of a Gateway.</summary>
    Gateway,
}

/// <summary>Facts about <see cref="Direction"/>.</summary>
internal static class Directions
{
    /// <summary>How many there are.</summary>
    public const int Count = 3;

    /// <summary>The word used in labels and logs.</summary>
    public static string Label(Direction direction) => direction switch
    {
        Direction.Inbound => "inbound",
        Direction.Outbound => "outbound",
        _ => "gateway",
    };
}
