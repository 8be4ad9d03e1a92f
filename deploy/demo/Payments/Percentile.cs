namespace MeshProxy.Demo.Payments;

internal static class Percentile
{
    /// <summary>The nearest-rank percentile of values sorted in ascending order; null when there are none.</summary>
    public static double? Of(IReadOnlyList<double> sorted, double fraction) =>
        sorted.Count == 0 ? null : sorted[Math.Clamp((int)Math.Ceiling(fraction * sorted.Count) - 1, 0, sorted.Count - 1)];
}
