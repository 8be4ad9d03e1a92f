namespace MeshProxy.DataPlane.Telemetry;

/// <summary>What became of a request that a mirror was to get a copy of; the label <c>result</c> in lower case.</summary>
internal enum MirrorResult
{
    /// <summary>The mirror answered, whatever it said.</summary>
    Answered,

    /// <summary>It could not be reached, broke off, or took too long.</summary>
    Failed,

    /// <summary>Not sent: too many copies, or too many requests to that cluster, in flight.</summary>
    Dropped,

    /// <summary>Not sent: the body was larger than a copy may be, or the request did not go out whole.</summary>
    Skipped,
}
