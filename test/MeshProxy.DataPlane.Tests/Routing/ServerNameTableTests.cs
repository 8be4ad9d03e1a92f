using MeshProxy.DataPlane.Routing;

namespace MeshProxy.DataPlane.Tests.Routing;

/// <summary>Which TLSRoute takes a server name.</summary>
internal sealed class ServerNameTableTests
{
    private static readonly WeightedBackends Exact = new([]), Near = new([]), Far = new([]), Any = new([]);

    [TestCase("a.b.example.com", "exact")]
    [TestCase("A.b.Example.COM", "exact")]
    [TestCase("x.b.example.com", "near")]
    [TestCase("y.x.b.example.com", "near")]
    [TestCase("b.example.com", "far")]
    [TestCase("x.example.com", "far")]
    [TestCase("example.com", "any")]
    [TestCase("xexample.com", "any")]
    [TestCase(".example.com", "any")]
    [TestCase("", "any")]
    [TestCase(null, "any")]
    public void The_most_specific_name_wins(string? serverName, string expected)
    {
        var table = new ServerNameTable([([], Any), (["*.example.com", "a.b.example.com"], Far), (["a.b.example.com"], Exact), (["*.b.example.com"], Near)]);
        // Of two routes with one name the first has it: the compiler gives each name to the older one.
        Assert.That(table.Match(serverName), Is.SameAs(expected switch { "exact" => Far, "near" => Near, "far" => Far, _ => Any }));
        Assert.That(table.IsEmpty, Is.False);
    }

    [Test]
    public void Without_a_route_for_any_name_what_is_not_named_is_refused()
    {
        var table = new ServerNameTable([(["*.example.com"], Far)]);
        Assert.That(table.Match(null), Is.Null);
        Assert.That(table.Match("example.com"), Is.Null);
        Assert.That(table.Match("a.example.org"), Is.Null);
        Assert.That(new ServerNameTable([]).IsEmpty, Is.True);
        Assert.That(new ServerNameTable([]).Match("a"), Is.Null);
    }
}
