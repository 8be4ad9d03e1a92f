namespace MeshProxy.Microbenchmarks;

/// <summary>How many bytes one call of a benchmark may allocate in steady state. Times are charted; this fails the build.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class AllocationBudgetAttribute(long bytes) : Attribute
{
    public long Bytes => bytes;
}
