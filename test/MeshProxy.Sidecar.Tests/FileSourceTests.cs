using System.Text;
using MeshProxy.DataPlane.Snapshots;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Files;
using MeshProxy.Sidecar.Logging;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.Sidecar.Tests;

internal sealed class FileSourceTests
{
    private readonly List<ProxyConfig> _applied = [];
    private string _directory = "";

    [SetUp]
    public void MakeDirectory()
    {
        _applied.Clear();
        _directory = Directory.CreateDirectory(Path.Combine(TestContext.CurrentContext.WorkDirectory, $"config-{Guid.NewGuid():N}")).FullName;
    }

    [Test]
    public void AChangeIsTakenOnceItHasSettled()
    {
        Write("a.yaml", Service("one"));
        var source = Source(_directory);
        source.Load();
        Write("b.yml", Service("two"));
        source.Look();
        Assert.That(_applied, Has.Count.EqualTo(1), "it may still be being written");
        source.Look();
        Assert.That(_applied[^1].Destinations.Keys.Select(name => name.Name), Is.EquivalentTo(new[] { "one", "two" }));
        source.Look();
        Assert.That(_applied, Has.Count.EqualTo(2), "nothing changed since");
    }

    [Test]
    public void ABadStateChangesNothingAndAGoodOneAfterItIsTaken()
    {
        Write("a.yaml", Service("one"));
        var source = Source(_directory);
        source.Load();
        Write("a.yaml", Service("one") + "\n  unheard-of: true\n");
        source.Look();
        source.Look();
        Assert.That(_applied, Has.Count.EqualTo(1));
        Write("a.yaml", Service("three"));
        source.Look();
        source.Look();
        Assert.That(_applied[^1].Destinations.Keys.Single().Name, Is.EqualTo("three"));
    }

    [Test]
    public void ASymbolicLinkThatIsSwappedIsSeen()
    {
        Directory.CreateDirectory(Path.Combine(_directory, "v1"));
        Directory.CreateDirectory(Path.Combine(_directory, "v2"));
        Write("v1/a.yaml", Service("one"));
        Write("v2/a.yaml", Service("two"));
        var link = Path.Combine(_directory, "current");
        Directory.CreateSymbolicLink(link, "v1");
        var source = Source(link);
        source.Load();
        Directory.CreateSymbolicLink(link + ".new", "v2");
        Directory.Delete(link);
        source.Look();
        Assert.That(_applied, Has.Count.EqualTo(1), "for a moment there is nothing: the last good state stays");
        Directory.Move(link + ".new", link);
        source.Look();
        source.Look();
        Assert.That(_applied[^1].Destinations.Keys.Single().Name, Is.EqualTo("two"));
    }

    [Test]
    public void WithNoGoodStateItDoesNotStart()
    {
        Assert.That(() => Source(Path.Combine(_directory, "missing.yaml")).Load(), Throws.TypeOf<StartException>().With.Message.Contains("missing.yaml"));
        Write("a.yaml", "kind: [");
        Assert.That(() => Source(_directory).Load(), Throws.TypeOf<StartException>());
        Assert.That(_applied, Is.Empty);
    }

    [Test]
    public void AListenerThatCanNotBeServedEndsTheStartButNotARunningProxy()
    {
        Write("a.yaml", Service("one"));
        IReadOnlyList<UnitRejection> refused = [new UnitRejection("gateway", "spec.listeners[port=80]", "port 80 is taken")];
        var source = new FileSource([_directory], _ => refused, new Meters(TimeProvider.System), NullLogger.Instance, TimeProvider.System);
        Assert.That(source.Load, Throws.TypeOf<StartException>().With.Message.Contains("port 80 is taken"));

        refused = [];
        source.Load();
        refused = [new UnitRejection("gateway", "spec.listeners[port=81]", "port 81 is taken")];
        Write("a.yaml", Service("two"));
        source.Look();
        Assert.That(source.Look, Throws.Nothing);
    }

    [Test]
    public void ABackendThatDoesNotExistIsServedAndTold()
    {
        Write("a.yaml", Service("one"));
        Write("b.yaml",
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r}
            spec: {parentRefs: [{group: "", kind: Service, name: one}], rules: [{backendRefs: [{name: gone, port: 80}]}]}
            """);
        var told = new MemoryStream();
        using (var log = new JsonLog(told, LogLevel.Information, TimeProvider.System))
        {
            new FileSource([_directory], _ => [], new Meters(TimeProvider.System), log.CreateLogger("test"), TimeProvider.System).Load();
        }

        Assert.That(Encoding.UTF8.GetString(told.ToArray()), Does.Contain("config_incomplete").And.Contain("b.yaml:4").And.Contain("there is no Service default/gone").And.Contain("config_applied"));
        var errors = new StringWriter();
        Assert.That(Validation.Run([_directory], new StringWriter(), errors), Is.Zero);
        Assert.That(errors.ToString(), Does.StartWith("warning: ").And.Contain("there is no Service default/gone"));
    }

    [Test]
    public void ValidateNamesFileLineAndField()
    {
        Write("a.yaml", Service("one") + "\n  unheard-of: true\n");
        var output = new StringWriter();
        var errors = new StringWriter();
        Assert.That(Validation.Run([_directory], output, errors), Is.EqualTo(1));
        Assert.That(errors.ToString(), Does.Contain("a.yaml:").And.Contain("unheard-of"));
        Write("a.yaml", Service("one"));
        Assert.That(Validation.Run([_directory], output, errors), Is.Zero);
        Assert.That(output.ToString(), Does.Contain("services: 1"));
    }

    private static string Service(string name) =>
        $"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - name: http\n    port: 80\n    appProtocol: http";

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_directory, name), text);

    private FileSource Source(string path) => new(
        [path],
        config =>
        {
            _applied.Add(config);
            return Array.Empty<UnitRejection>();
        },
        new Meters(TimeProvider.System),
        NullLogger.Instance,
        TimeProvider.System);
}
