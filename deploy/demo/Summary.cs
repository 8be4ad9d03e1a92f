using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MeshProxy.Demo.Mesh;
using MeshProxy.Demo.Payments;

namespace MeshProxy.Demo;

/// <summary>What the run came to, from the client's own notes, the ledger's table and the inbounds' counters.</summary>
internal sealed record Summary
{
    private const double LeastShareSent = 0.95;
    private const double LeastShareAcknowledged = 0.99;
    private const double LeastV2Share = 0.15;
    private const double MostV2Share = 0.25;

    public required int Expected { get; init; }

    public required int Sent { get; init; }

    public required int Acknowledged { get; init; }

    /// <summary>Rows in the ledger.</summary>
    public required int Booked { get; init; }

    /// <summary>Payment ids with more than one row.</summary>
    public required int BookedTwice { get; init; }

    public required int AcknowledgedButNotBooked { get; init; }

    public required double? P50 { get; init; }

    public required double? P99 { get; init; }

    public required bool MutualTls { get; init; }

    public required IReadOnlyDictionary<string, long> InboundConnections { get; init; }

    /// <summary>Null when nothing was acknowledged after every sidecar had accepted the route.</summary>
    public required double? V2Share { get; init; }

    public required int Sidecars { get; init; }

    public required TimeSpan ControlPlaneAway { get; init; }

    public required int FailedWhileControlPlaneAway { get; init; }

    /// <summary>Whether every sidecar was connected again after the control plane came back.</summary>
    public required bool Reconnected { get; init; }

    public required IReadOnlyList<(string Reason, int Count)> Failures { get; init; }

    public int Failed => Sent - Acknowledged;

    /// <summary>Every way in which the run falls short; empty when it is as it should be.</summary>
    public IReadOnlyList<string> Shortcomings => [.. Judge()];

    public static Summary From(
        PaymentClient client,
        IReadOnlyDictionary<string, int> bookings,
        IReadOnlyList<MeshMember> members,
        Script script)
    {
        var ended = client.Ended;
        var acknowledged = ended.Where(payment => payment.Acknowledged).ToArray();
        var latencies = acknowledged.Select(payment => payment.LatencyMilliseconds).Order().ToArray();
        var afterRoute = acknowledged.Where(payment => script.RouteAccepted is { } accepted && payment.Sent >= accepted).ToArray();
        var sidecars = members.Where(member => !member.IsGateway).ToArray();
        var connections = ProxyMetrics.Sum(sidecars.Select(member => member.Metrics)).ConnectionsByTls;
        return new Summary
        {
            Expected = client.Expected,
            Sent = client.Sent,
            Acknowledged = acknowledged.Length,
            Booked = bookings.Values.Sum(),
            BookedTwice = bookings.Count(booking => booking.Value > 1),
            AcknowledgedButNotBooked = acknowledged.Count(payment => !bookings.ContainsKey(payment.Id)),
            P50 = Percentile.Of(latencies, 0.50),
            P99 = Percentile.Of(latencies, 0.99),
            MutualTls = sidecars.All(member => member.Metrics.OnlyMutualTls),
            InboundConnections = connections,
            V2Share = afterRoute.Length == 0 ? null : (double)afterRoute.Count(payment => payment.Version == "v2") / afterRoute.Length,
            Sidecars = sidecars.Length,
            ControlPlaneAway = script.ControlPlaneBack - script.ControlPlaneGone ?? TimeSpan.Zero,
            FailedWhileControlPlaneAway = ended.Count(payment =>
                !payment.Acknowledged && script.ControlPlaneGone is { } gone && payment.UnderWayBetween(gone, script.SidecarsBack ?? TimeSpan.MaxValue)),
            Reconnected = script.SidecarsBack is not null,
            Failures =
            [
                .. ended.Where(payment => !payment.Acknowledged).GroupBy(payment => payment.Failure!)
                    .OrderByDescending(group => group.Count()).Take(5).Select(group => (group.Key, group.Count())),
            ],
        };
    }

    public string ToText()
    {
        var text = new StringBuilder();
        var culture = CultureInfo.InvariantCulture;
        text.AppendLine();
        text.AppendLine(culture, $"payments   sent {Sent} of {Expected}, acknowledged {Acknowledged}, failed {Failed}");
        text.AppendLine(culture, $"ledger     booked {Booked}, booked twice {BookedTwice}, acknowledged but not booked {AcknowledgedButNotBooked}");
        text.AppendLine(culture, $"latency    p50 {P50:0.0} ms, p99 {P99:0.0} ms, end to end, from when each payment was due");
        text.AppendLine(culture, $"route      {V2Share:P1} went to v2 after every sidecar had accepted it");
        text.AppendLine(culture, $"identity   mutual TLS {(MutualTls ? "on every inbound connection" : "NOT on every inbound connection")} of {Sidecars} sidecars ({
            string.Join(", ", InboundConnections.Select(kind => $"{kind.Key}: {kind.Value}"))})");
        text.AppendLine(culture, $"control    away for {ControlPlaneAway.TotalSeconds:0.0} s, {FailedWhileControlPlaneAway} payments failed meanwhile");
        foreach (var (reason, count) in Failures)
        {
            text.AppendLine(culture, $"failed     {count} x {reason}");
        }

        text.AppendLine();
        text.Append(Shortcomings.Count == 0 ? "Nothing lost, nothing booked twice." : string.Join('\n', Shortcomings.Select(line => $"NOT MET: {line}")));
        return text.ToString();
    }

    /// <summary>The object that stands for a run which never came to its end.</summary>
    public static string FailureToJson(string reason) => Json(json =>
    {
        json.WriteBoolean("passed", false);
        json.WriteString("error", reason);
    });

    public string ToJson() => Json(json =>
    {
        json.WriteBoolean("passed", Shortcomings.Count == 0);
        json.WriteNumber("expected", Expected);
        json.WriteNumber("sent", Sent);
        json.WriteNumber("acknowledged", Acknowledged);
        json.WriteNumber("booked", Booked);
        json.WriteNumber("booked_twice", BookedTwice);
        json.WriteNumber("acknowledged_but_not_booked", AcknowledgedButNotBooked);
        json.WriteNumber("failed", Failed);
        WriteRounded(json, "p50_ms", P50);
        WriteRounded(json, "p99_ms", P99);
        json.WriteBoolean("mutual_tls", MutualTls);
        WriteRounded(json, "v2_share", V2Share, digits: 4);
        json.WriteNumber("sidecars", Sidecars);
        WriteRounded(json, "control_plane_away_s", ControlPlaneAway.TotalSeconds);
        json.WriteNumber("failed_while_control_plane_away", FailedWhileControlPlaneAway);
        json.WriteBoolean("reconnected", Reconnected);
        json.WriteStartObject("inbound_connections");
        foreach (var (kind, count) in InboundConnections)
        {
            json.WriteNumber(kind, count);
        }

        json.WriteEndObject();
        json.WriteStartArray("failures");
        foreach (var (reason, count) in Failures)
        {
            json.WriteStartObject();
            json.WriteString("reason", reason);
            json.WriteNumber("count", count);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("not_met");
        foreach (var shortcoming in Shortcomings)
        {
            json.WriteStringValue(shortcoming);
        }

        json.WriteEndArray();
    });

    private IEnumerable<string> Judge()
    {
        if (Sent < LeastShareSent * Expected)
        {
            yield return $"at least 95 % of {Expected} payments sent: {Sent}";
        }

        if (Acknowledged < LeastShareAcknowledged * Sent || Sent == 0)
        {
            yield return $"at least 99 % of {Sent} sent payments acknowledged: {Acknowledged}";
        }

        if (AcknowledgedButNotBooked > 0)
        {
            yield return $"every acknowledged payment booked: {AcknowledgedButNotBooked} missing";
        }

        if (BookedTwice > 0)
        {
            yield return $"nothing booked twice: {BookedTwice} were";
        }

        if (V2Share is not (>= LeastV2Share and <= MostV2Share))
        {
            yield return V2Share is { } share
                ? string.Create(CultureInfo.InvariantCulture, $"between 15 % and 25 % for v2: {share:P1}")
                : "between 15 % and 25 % for v2: no payment was acknowledged after every sidecar had accepted the route";
        }

        if (FailedWhileControlPlaneAway > 0)
        {
            yield return $"nothing fails because the control plane is away: {FailedWhileControlPlaneAway} did";
        }

        if (!MutualTls)
        {
            yield return "mutual TLS on every connection that an inbound accepted";
        }

        if (!Reconnected)
        {
            yield return "every sidecar connected again after the control plane came back";
        }
    }

    private static string Json(Action<Utf8JsonWriter> writeMembers)
    {
        using var bytes = new MemoryStream();
        // Relaxed: the text goes to a terminal or a parser, never into a web page, and the quotes in it shall stay readable.
        var options = new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(bytes, options))
        {
            json.WriteStartObject();
            writeMembers(json);
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }

    private static void WriteRounded(Utf8JsonWriter json, string name, double? value, int digits = 2)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, Math.Round(number, digits));
        }
        else
        {
            json.WriteNull(name);
        }
    }
}
