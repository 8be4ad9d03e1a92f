using System.Text;
using System.Text.Json;
using MeshProxy.Sidecar.Logging;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Tests;

internal sealed class JsonLogTests
{
    [Test]
    public void ALineHasTheFieldsOfTheSchemaAndTheEventsFacts()
    {
        var sink = new MemoryStream();
        using (var log = new JsonLog(sink, LogLevel.Information, TimeProvider.System))
        {
            log.CreateLogger("part").LogWarning(LogEvents.ConfigRejected, "{UnitName} is refused {Count} times", "a\"\nb", 3);
        }

        using var json = JsonDocument.Parse(sink.ToArray());
        Assert.Multiple(() =>
        {
            Assert.That(json.RootElement.GetProperty("log.level").GetString(), Is.EqualTo("warn"));
            Assert.That(json.RootElement.GetProperty("event.action").GetString(), Is.EqualTo("config_rejected"));
            Assert.That(json.RootElement.GetProperty("meshproxy.unit_name").GetString(), Is.EqualTo("a\"\nb"));
            Assert.That(json.RootElement.GetProperty("meshproxy.count").GetInt32(), Is.EqualTo(3));
            Assert.That(json.RootElement.GetProperty("message").GetString(), Is.EqualTo("a\"\nb is refused 3 times"));
        });
    }

    [Test]
    public void TheLevelCanBeChangedWhileItRuns()
    {
        var sink = new MemoryStream();
        using (var log = new JsonLog(sink, LogLevel.Warning, TimeProvider.System))
        {
            var logger = log.CreateLogger("part");
            logger.LogInformation("unseen");
            log.Level = LogLevel.Debug;
            logger.LogDebug("seen");
        }

        Assert.That(Encoding.UTF8.GetString(sink.ToArray()), Does.Contain("seen").And.Not.Contain("unseen"));
    }

    [Test]
    public void ASinkThatStallsCostsLinesAndNeverTime()
    {
        using var release = new ManualResetEventSlim();
        var log = new JsonLog(new Stalled(release), LogLevel.Information, TimeProvider.System);
        var logger = log.CreateLogger("part");
        for (var i = 0; i < 10_000; i++)
        {
            logger.LogInformation("line");
        }

        Assert.That(log.Dropped, Is.InRange(5_000, 6_000));
        release.Set();
        log.Dispose();
    }

    private sealed class Stalled(ManualResetEventSlim release) : MemoryStream
    {
        public override void Write(ReadOnlySpan<byte> buffer) => release.Wait();
    }
}
