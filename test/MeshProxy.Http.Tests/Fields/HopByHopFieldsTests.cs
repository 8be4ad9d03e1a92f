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
}
