using System.Net;
using System.Text;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Tests.Policy;

/// <summary>X-Forwarded-* and Forwarded (RFC 7239): who is believed, what is written.</summary>
internal sealed class ForwardedFieldsTests
{
    private const string Peer = "10.0.0.9";

    [TestCase(ForwardedMode.Replace, 0, "1.1.1.1, 2.2.2.2", Peer, "")]
    [TestCase(ForwardedMode.Replace, 1, "1.1.1.1, 2.2.2.2", "2.2.2.2, 10.0.0.9", "2.2.2.2")]
    [TestCase(ForwardedMode.Replace, 2, "1.1.1.1,2.2.2.2", "1.1.1.1, 2.2.2.2, 10.0.0.9", "1.1.1.1")]
    [TestCase(ForwardedMode.Replace, 3, "1.1.1.1, 2.2.2.2", Peer, "")]
    [TestCase(ForwardedMode.Replace, 1, null, Peer, "")]
    [TestCase(ForwardedMode.Replace, 1, ", ,", Peer, "")]
    [TestCase(ForwardedMode.Replace, 1, "1.1.1.1:8080", "1.1.1.1:8080, 10.0.0.9", "1.1.1.1")]
    [TestCase(ForwardedMode.Replace, 1, "2001:db8::1", "2001:db8::1, 10.0.0.9", "2001:db8::1")]
    [TestCase(ForwardedMode.Replace, 1, "[2001:db8::1]:80", "[2001:db8::1]:80, 10.0.0.9", "2001:db8::1")]
    [TestCase(ForwardedMode.Replace, 1, "unknown", "unknown, 10.0.0.9", "")]
    [TestCase(ForwardedMode.Append, 0, "1.1.1.1, 2.2.2.2", "1.1.1.1, 2.2.2.2, 10.0.0.9", "")]
    [TestCase(ForwardedMode.Append, 1, "1.1.1.1, 2.2.2.2", "1.1.1.1, 2.2.2.2, 10.0.0.9", "2.2.2.2")]
    [TestCase(ForwardedMode.Append, 0, null, Peer, "")]
    [TestCase(ForwardedMode.Remove, 1, "1.1.1.1, 2.2.2.2", null, "2.2.2.2")]
    [TestCase(ForwardedMode.Pass, 1, "1.1.1.1, 2.2.2.2", "1.1.1.1, 2.2.2.2", "2.2.2.2")]
    public void X_Forwarded_For(ForwardedMode mode, int hops, string? came, string? goes, string client)
    {
        var (head, record) = Apply(new ForwardedConfig(mode, ForwardedFormat.XForwarded, hops), Peer, came is null ? [] : [("x-forwarded-for", came)]);
        Assert.That(Values(head, KnownField.XForwardedFor), Is.EqualTo(goes is null ? [] : new[] { goes }));
        Assert.That(Encoding.ASCII.GetString(record.Client), Is.EqualTo(client));
    }

    [Test]
    public void Lines_of_one_list_are_counted_and_written_as_one()
    {
        var (head, record) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.XForwarded, 2), Peer, ("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3"));
        Assert.That(Values(head, KnownField.XForwardedFor), Is.EqualTo(new[] { "2.2.2.2, 3.3.3.3, 10.0.0.9" }));
        Assert.That(Encoding.ASCII.GetString(record.Client), Is.EqualTo("2.2.2.2"));
    }

    [TestCase(0, "http", "shop.example")]
    [TestCase(1, "https", "front.example")]
    [TestCase(2, "http", "shop.example")]
    public void Proto_and_Host_are_what_we_see_unless_a_proxy_of_ours_said_otherwise(int hops, string proto, string host)
    {
        foreach (var mode in (ForwardedMode[])[ForwardedMode.Replace, ForwardedMode.Append])
        {
            var (head, _) = Apply(
                new ForwardedConfig(mode, ForwardedFormat.XForwarded, hops), Peer,
                ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "front.example"), ("forwarded", "for=6.6.6.6"));
            Assert.That(Values(head, KnownField.XForwardedProto), Is.EqualTo(new[] { proto }));
            Assert.That(Values(head, KnownField.XForwardedHost), Is.EqualTo(new[] { host }));
            Assert.That(Values(head, KnownField.Forwarded), Is.Empty, "nobody keeps it up here, so nobody may believe it");
        }
    }

    [Test]
    public void A_proto_that_stands_there_twice_is_believed_from_nobody()
    {
        var (head, _) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.XForwarded, 1), Peer, ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-proto", "http"));
        Assert.That(Values(head, KnownField.XForwardedProto), Is.EqualTo(new[] { "http" }));
    }

    [TestCase(ForwardedFormat.XForwarded, 1, "https", "https")]
    [TestCase(ForwardedFormat.XForwarded, 1, "HTTP", "http")]
    [TestCase(ForwardedFormat.XForwarded, 1, "wss", "")]
    [TestCase(ForwardedFormat.XForwarded, 1, "https, http", "")]
    [TestCase(ForwardedFormat.XForwarded, 1, "", "")]
    [TestCase(ForwardedFormat.XForwarded, 0, "https", "")]
    [TestCase(ForwardedFormat.XForwarded, 2, "https", "")]
    [TestCase(ForwardedFormat.Both, 1, "https", "https")]
    [TestCase(ForwardedFormat.Forwarded, 1, "for=1.1.1.1;proto=https", "https")]
    [TestCase(ForwardedFormat.Forwarded, 1, "for=1.1.1.1;Proto=\"https\", for=2.2.2.2;proto=http", "http")]
    [TestCase(ForwardedFormat.Forwarded, 2, "for=1.1.1.1;Proto=\"https\", for=2.2.2.2;proto=http", "https")]
    [TestCase(ForwardedFormat.Forwarded, 1, "for=1.1.1.1", "")]
    [TestCase(ForwardedFormat.Forwarded, 0, "for=1.1.1.1;proto=https", "")]
    public void The_client_s_scheme_is_what_trusted_proxies_tell(ForwardedFormat format, int hops, string told, string scheme)
    {
        foreach (var mode in Enum.GetValues<ForwardedMode>())
        {
            var (_, record) = Apply(
                new ForwardedConfig(mode, format, hops), Peer,
                format == ForwardedFormat.Forwarded ? [("forwarded", told), ("x-forwarded-proto", "https")] : [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", told), ("forwarded", "for=1.1.1.1;proto=https")]);
            Assert.That(Encoding.ASCII.GetString(record.ClientScheme), Is.EqualTo(scheme), mode.ToString());
        }
    }

    [TestCase(0, "for=1.1.1.1", "for=10.0.0.9;host=\"shop.example\";proto=http", "")]
    [TestCase(1, "for=1.1.1.1", "for=1.1.1.1, for=10.0.0.9;host=\"shop.example\";proto=http", "1.1.1.1")]
    [TestCase(1, "for=1.1.1.1, For=\"[2001:db8::1]:443\";by=x", "For=\"[2001:db8::1]:443\";by=x, for=10.0.0.9;host=\"shop.example\";proto=http", "2001:db8::1")]
    [TestCase(1, "for=1.1.1.1;host=\"a,b;for=9.9.9.9\"", "for=1.1.1.1;host=\"a,b;for=9.9.9.9\", for=10.0.0.9;host=\"shop.example\";proto=http", "1.1.1.1")]
    [TestCase(1, "for=_hidden", "for=_hidden, for=10.0.0.9;host=\"shop.example\";proto=http", "")]
    [TestCase(1, "proto=https", "proto=https, for=10.0.0.9;host=\"shop.example\";proto=http", "")]
    [TestCase(2, "for=1.1.1.1", "for=10.0.0.9;host=\"shop.example\";proto=http", "")]
    public void Forwarded(int hops, string came, string goes, string client)
    {
        var (head, record) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.Forwarded, hops), Peer, ("forwarded", came), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"));
        Assert.That(Values(head, KnownField.Forwarded), Is.EqualTo(new[] { goes }));
        Assert.That(Encoding.ASCII.GetString(record.Client), Is.EqualTo(client));
        Assert.That(head.Fields.Contains(KnownField.XForwardedFor) || head.Fields.Contains(KnownField.XForwardedProto), Is.False);
    }

    [Test]
    public void Both_are_written_and_an_IPv6_peer_is_written_as_each_wants_it()
    {
        var (head, _) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.Both), "2001:db8::7");
        Assert.That(Values(head, KnownField.XForwardedFor), Is.EqualTo(new[] { "2001:db8::7" }));
        Assert.That(Values(head, KnownField.Forwarded), Is.EqualTo(new[] { "for=\"[2001:db8::7]\";host=\"shop.example\";proto=http" }));
        (head, _) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.Both), "::ffff:10.1.2.3");
        Assert.That(Values(head, KnownField.XForwardedFor), Is.EqualTo(new[] { "10.1.2.3" }));
    }

    [Test]
    public void What_else_tells_an_address_goes_with_the_rest_unless_a_proxy_of_ours_may_have_said_it()
    {
        (string, string)[] others = [("x-real-ip", "6.6.6.6"), ("x_real_ip", "6.6.6.6"), ("x-forwarded-port", "1"), ("x_forwarded_for", "6.6.6.6"), ("true-client-ip", "6.6.6.6"), ("x-client-ip", "6.6.6.6")];
        var (head, _) = Apply(new ForwardedConfig(ForwardedMode.Replace), Peer, others);
        Assert.That(head.Fields.Count, Is.EqualTo(3));
        (head, _) = Apply(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.XForwarded, 1), Peer, [.. others, ("x-forwarded-for", "1.1.1.1")]);
        Assert.That(head.Fields.Count, Is.EqualTo(others.Length + 3));
        (head, _) = Apply(new ForwardedConfig(ForwardedMode.Remove), Peer, others);
        Assert.That(head.Fields.Count, Is.Zero);
    }

    [Test]
    public void A_list_as_long_as_a_head_may_be_is_written_whole()
    {
        var list = string.Join(", ", Enumerable.Range(0, 3000).Select(i => $"10.0.{i / 250}.{i % 250}"));
        var (head, _) = Apply(new ForwardedConfig(ForwardedMode.Append), Peer, ("x-forwarded-for", list));
        Assert.That(Values(head, KnownField.XForwardedFor), Is.EqualTo(new[] { $"{list}, {Peer}" }));
    }

    [Test]
    public void Nothing_is_allocated()
    {
        var forwarded = new ForwardedFields(new ForwardedConfig(ForwardedMode.Replace, ForwardedFormat.Both, 1));
        var record = new RequestRecord();
        var head = new RequestHead();
        var info = new ConnectionInfo { Source = IPEndPoint.Parse("10.0.0.9:1") };
        var before = 0L;
        for (var round = 0; round < 200; round++)
        {
            before = round == 100 ? GC.GetAllocatedBytesForCurrentThread() : before;
            head.Clear();
            head.SetScheme("http"u8);
            head.SetAuthority("shop.example"u8);
            head.Fields.Add(KnownField.XForwardedFor, "1.1.1.1, 2.2.2.2"u8);
            record.Begin(Direction.Gateway, head, info, 0);
            forwarded.Apply(head, record);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    private static (RequestHead Head, RequestRecord Record) Apply(ForwardedConfig config, string peer, params (string Name, string Value)[] fields)
    {
        var head = new RequestHead();
        head.SetScheme("http"u8);
        head.SetAuthority("shop.example"u8);
        foreach (var (name, value) in fields)
        {
            head.Fields.Add(Encoding.ASCII.GetBytes(name), Encoding.ASCII.GetBytes(value));
        }

        var record = new RequestRecord();
        record.Begin(Direction.Gateway, head, new ConnectionInfo { Source = new IPEndPoint(IPAddress.Parse(peer), 4711) }, 0);
        new ForwardedFields(config).Apply(head, record);
        return (head, record);
    }

    private static string[] Values(RequestHead head, KnownField name)
    {
        var values = new List<string>();
        for (var i = 0; i < head.Fields.Count; i++)
        {
            if (head.Fields[i].Known == name)
            {
                values.Add(Encoding.ASCII.GetString(head.Fields[i].Value));
            }
        }

        return [.. values];
    }
}
