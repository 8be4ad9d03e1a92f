using System.Globalization;

namespace MeshProxy.Demo.Mesh;

/// <summary>What one scrape of a proxy says about the traffic that came in to it.</summary>
internal sealed record ProxyMetrics(
    long Requests,
    long Good,
    IReadOnlyDictionary<double, long> DurationBuckets,
    IReadOnlyDictionary<string, long> ConnectionsByTls)
{
    private const string MutualTls = "mutual";

    public static readonly ProxyMetrics Empty = new(0, 0, new Dictionary<double, long>(), new Dictionary<string, long>());

    /// <summary>Whether at least one connection came in and each was mutual TLS. A refused one was never served and is not among them.</summary>
    public bool OnlyMutualTls => ConnectionsByTls.GetValueOrDefault(MutualTls) > 0 && ConnectionsByTls.All(kind => kind.Key == MutualTls || kind.Value == 0);

    /// <summary>Reads the side of a scrape that <paramref name="direction"/> names: <c>inbound</c> for a sidecar, <c>gateway</c> for the edge.</summary>
    public static ProxyMetrics From(IEnumerable<MetricSample> samples, string direction)
    {
        long requests = 0, good = 0;
        var buckets = new Dictionary<double, long>();
        var connections = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var sample in samples.Where(sample => sample.Label("direction") == direction))
        {
            switch (sample.Name)
            {
                case "meshproxy_requests_total":
                    requests += (long)sample.Value;
                    // A proxy's own reply to a gRPC caller is a 200 too; its flag tells.
                    good += sample.Label("code") is ['2' or '3', ..] && sample.Label("flag") is ("" or "-") ? (long)sample.Value : 0;
                    break;
                case "meshproxy_request_duration_seconds_bucket":
                    var bound = sample.Label("le") == "+Inf"
                        ? double.PositiveInfinity
                        : double.Parse(sample.Label("le"), CultureInfo.InvariantCulture);
                    buckets[bound] = buckets.GetValueOrDefault(bound) + (long)sample.Value;
                    break;
                case "meshproxy_connections_total":
                    connections[sample.Label("tls")] = connections.GetValueOrDefault(sample.Label("tls")) + (long)sample.Value;
                    break;
            }
        }

        return new ProxyMetrics(requests, good, buckets, connections);
    }

    public static ProxyMetrics Sum(IEnumerable<ProxyMetrics> all) => all.Aggregate(Empty, (sum, next) => new ProxyMetrics(
        sum.Requests + next.Requests, sum.Good + next.Good, Merge(sum.DurationBuckets, next.DurationBuckets), Merge(sum.ConnectionsByTls, next.ConnectionsByTls)));

    /// <summary>The quantile by linear interpolation inside its bucket, in milliseconds; null when nothing was measured.</summary>
    public double? QuantileMilliseconds(double quantile)
    {
        var bounds = DurationBuckets.Keys.Order().ToArray();
        if (bounds.Length == 0 || DurationBuckets[bounds[^1]] is 0)
        {
            return null;
        }

        var rank = quantile * DurationBuckets[bounds[^1]];
        var (lower, below) = (0d, 0L);
        foreach (var bound in bounds)
        {
            var upTo = DurationBuckets[bound];
            if (upTo >= rank)
            {
                return 1_000 * (double.IsInfinity(bound) ? lower : lower + ((bound - lower) * (rank - below) / Math.Max(1, upTo - below)));
            }

            (lower, below) = (bound, upTo);
        }

        return 1_000 * lower;
    }

    private static Dictionary<TKey, long> Merge<TKey>(IReadOnlyDictionary<TKey, long> a, IReadOnlyDictionary<TKey, long> b)
        where TKey : notnull
    {
        var sum = new Dictionary<TKey, long>(a);
        foreach (var (key, value) in b)
        {
            sum[key] = sum.GetValueOrDefault(key) + value;
        }

        return sum;
    }
}
