using System.Globalization;

namespace MeshProxy.Demo.Mesh;

/// <summary>One sample of a scrape: <c>name{labels} value</c>.</summary>
internal sealed record MetricSample(string Name, IReadOnlyDictionary<string, string> Labels, double Value)
{
    public string Label(string name) => Labels.GetValueOrDefault(name, "");
}

/// <summary>Reads the Prometheus text format: samples only, comments and timestamps are skipped.</summary>
internal static class PrometheusText
{
    public static List<MetricSample> Parse(string text)
    {
        var samples = new List<MetricSample>();
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            if (!line.IsWhiteSpace() && line[0] != '#')
            {
                samples.Add(ParseSample(line));
            }
        }

        return samples;
    }

    private static MetricSample ParseSample(ReadOnlySpan<char> line)
    {
        var labels = new Dictionary<string, string>(StringComparer.Ordinal);
        var nameEnd = line.IndexOfAny('{', ' ');
        var name = line[..nameEnd].ToString();
        var rest = line[nameEnd..];
        if (rest[0] == '{')
        {
            rest = rest[1..];
            while (rest[0] != '}')
            {
                var equals = rest.IndexOf('=');
                var label = rest[..equals].Trim().ToString();
                rest = rest[(equals + 2)..];
                labels[label] = TakeQuoted(ref rest);
                if (rest[0] == ',')
                {
                    rest = rest[1..];
                }
            }

            rest = rest[1..];
        }

        rest = rest.Trim();
        var valueEnd = rest.IndexOf(' ');
        return new MetricSample(name, labels, ParseValue(valueEnd < 0 ? rest : rest[..valueEnd]));
    }

    /// <summary>Takes a label's value up to its closing quote, with \\, \" and \n resolved.</summary>
    private static string TakeQuoted(ref ReadOnlySpan<char> rest)
    {
        var value = new System.Text.StringBuilder();
        var i = 0;
        for (; rest[i] != '"'; i++)
        {
            if (rest[i] == '\\')
            {
                i++;
                value.Append(rest[i] == 'n' ? '\n' : rest[i]);
            }
            else
            {
                value.Append(rest[i]);
            }
        }

        rest = rest[(i + 1)..];
        return value.ToString();
    }

    private static double ParseValue(ReadOnlySpan<char> value) => value switch
    {
        "+Inf" => double.PositiveInfinity,
        "-Inf" => double.NegativeInfinity,
        "NaN" => double.NaN,
        _ => double.Parse(value, CultureInfo.InvariantCulture),
    };
}
