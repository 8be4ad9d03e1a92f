namespace MeshProxy.DataPlane.Failures;

/// <summary>The short word for a failure in logs, metrics and replies. Envoy's letters and meanings; AD is ours.</summary>
public enum ResponseFlag : byte
{
#pragma warning disable CS1591 // FailureMap and the README tell what each means
    None,
    NR,
    NC,
    AD,
    RL,
    UH,
    UO,
    UF,
    UC,
    UR,
    LR,
    UPE,
    UT,
    URX,
    DC,
    DPE,
    FI,
    DI,
    SI,
    DT,
    OM,
    IE,
#pragma warning restore CS1591
}
