using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Tests.Fields;

/// <summary>What belongs to one connection is removed, and nothing that a peer may not remove (RFC 9110 section 7.6.1).</summary>
public sealed class HopByHopFieldsTests
{
    private static readonly string s_long = "x-" + new string('l', 200);

    public static IEnumerable<TestCaseData> Rows()
    {
        yield return new TestCaseData("a: 1|connection: A , b|b: 2|c: 3", "c: 3").SetName("named in any case");
        yield return new TestCaseData("connection: a|a: 1|a: 2|connection: c, ,b|b: 1|c: 1|d: 1", "d: 1").SetName("several lines");
        yield return new TestCaseData($"{s_long}: 1|connection: {s_long.ToUpperInvariant()}|d: 1", "d: 1").SetName("a long name");
        yield return new TestCaseData("connection: content-length, authorization, cookie, host, x-forwarded-client-cert, te|content-length: 1|authorization: a|cookie: c",
            "content-length: 1|authorization: a|cookie: c").SetName("never what others need");
        yield return new TestCaseData("connection: te|te: gzip, trailers", "te: trailers").SetName("te: trailers lives on");
        yield return new TestCaseData("te: gzip", "").SetName("te does not");
        yield return new TestCaseData("keep-alive: 5|proxy-connection: close|transfer-encoding: chunked|upgrade: h2c|http2-settings: x|proxy-authorization: a|proxy-authenticate: b|a: 1", "a: 1")
            .SetName("by definition");
        yield return new TestCaseData("connection: connection|connection: close|a: 1", "a: 1").SetName("connection itself");
    }

    [TestCaseSource(nameof(Rows))]
    public void Removes(string before, string after)
    {
        var fields = new FieldMap();
        foreach (var line in before.Split('|'))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            fields.Add(Encoding.ASCII.GetBytes(line[..colon]), Encoding.ASCII.GetBytes(line[(colon + 2)..]));
        }

        HopByHopFields.Remove(fields);
        var left = Enumerable.Range(0, fields.Count).Select(i => $"{Encoding.ASCII.GetString(fields[i].Name)}: {Encoding.ASCII.GetString(fields[i].Value)}");
        Assert.That(string.Join('|', left), Is.EqualTo(after));
    }

    [Test]
    public void What_end_to_end_needs_can_not_be_taken_away()
    {
        string[] needed =
        [
            "content-length", "content-type", "content-encoding", "content-range", "content-security-policy", "authorization", "cookie", "set-cookie", "traceparent", "tracestate", "baggage",
            "x-request-id", "x-request-timeout", "grpc-timeout", "grpc-status", "grpc-tags-bin", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-client-cert",
            "forwarded", "via", "x-meshproxy-failure", "x-meshproxy-later", "idempotency-key", "if-match", "if-none-match", "range", "accept", "accept-ranges", "origin", "vary", "etag",
            "cache-control", "age", "expires", "location", "retry-after", "date", "server", "user-agent", "expect", "access-control-allow-origin", "sec-websocket-key", "sec-fetch-mode", "b3", "x-b3-traceid",
            "x-real-ip", "x-api-key", "x-csrf-token", "x-auth-user", "x-requested-with", "strict-transport-security", "www-authenticate", "max-forwards", "priority", "link", "trailer",
        ];
        var lines = string.Join('|', needed.Select(name => name + ": 1"));
        Removes($"connection: {string.Join(", ", needed)}|{lines}", lines);
    }

    [Test]
    public void A_flood_of_options_costs_little()
    {
        var fields = new FieldMap();
        fields.Add("connection"u8, Encoding.ASCII.GetBytes(string.Join(',', Enumerable.Repeat("zz", 20_000))));
        for (var i = 0; i < 99; i++)
        {
            fields.Add(Encoding.ASCII.GetBytes($"x-{i}"), "1"u8);
        }

        HopByHopFields.Remove(fields);
        Assert.That(fields.Count, Is.EqualTo(99));
    }
}
