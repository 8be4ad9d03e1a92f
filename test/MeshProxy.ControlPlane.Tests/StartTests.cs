using System.Net;
using System.Net.Sockets;
using MeshProxy.ControlPlane.Telemetry;

namespace MeshProxy.ControlPlane.Tests;

/// <summary>What keeps it from starting is told in one line that says what to check.</summary>
[TestFixture]
internal sealed class StartTests
{
    [Test]
    public async Task A_taken_port_is_named()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        var listen = await FailAsync(options => options with { Listen = new ListenAddress(IPAddress.Loopback, port) });
        Assert.That(listen, Does.Contain($"127.0.0.1:{port}").And.Contain("--listen"));
        var metrics = await FailAsync(options => options with { Metrics = new ListenAddress(IPAddress.Loopback, port) });
        Assert.That(metrics, Does.Contain($"127.0.0.1:{port}").And.Contain("--metrics"));
    }

    [Test]
    public async Task A_data_directory_that_cannot_be_made_is_named()
    {
        var file = Path.GetTempFileName();
        try
        {
            Assert.That(await FailAsync(options => options with { DataDirectory = Path.Combine(file, "data") }), Does.Contain(file).And.Contain("--data-dir"));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Test]
    public async Task A_second_control_plane_on_one_directory_is_refused()
    {
        await using var first = await TestControlPlane.StartAsync();
        Assert.That(await FailAsync(options => options with { DataDirectory = first.DataDirectory }), Does.Contain("mesh.db").And.Contain("no other meshproxy-control"));
    }

    [Test]
    public async Task A_store_that_is_none_is_named()
    {
        using var directory = new TemporaryDirectory();
        await File.WriteAllTextAsync(Path.Combine(directory.Path, "mesh.db"), string.Concat(Enumerable.Repeat("this is no database. ", 500)));
        Assert.That(await FailAsync(options => options with { DataDirectory = directory.Path }), Does.Contain("mesh.db is damaged"));
    }

    [Test]
    public void Addresses_and_durations_read_as_they_are_written()
    {
        Assert.Multiple(() =>
        {
            Assert.That(Listen("0"), Is.EqualTo(new ListenAddress(null, 0)));
            Assert.That(Listen("127.0.0.1"), Is.EqualTo(new ListenAddress(IPAddress.Loopback, 15012)));
            Assert.That(Listen("127.0.0.1:99"), Is.EqualTo(new ListenAddress(IPAddress.Loopback, 99)));
            Assert.That(Listen("[::1]:99"), Is.EqualTo(new ListenAddress(IPAddress.IPv6Loopback, 99)));
            Assert.That(Listen("::1"), Is.EqualTo(new ListenAddress(IPAddress.IPv6Loopback, 15012)));
            Assert.That(ListenAddress.TryParse("host:1", 1, out _), Is.False);
            Assert.That(ListenAddress.TryParse("65536", 1, out _), Is.False);
            Assert.That(Duration("90s"), Is.EqualTo(TimeSpan.FromSeconds(90)));
            Assert.That(Duration("24h"), Is.EqualTo(TimeSpan.FromHours(24)));
            Assert.That(Duration("7d"), Is.EqualTo(TimeSpan.FromDays(7)));
            Assert.That(Duration("1.5h"), Is.Null);
            Assert.That(Duration("10"), Is.Null);
            Assert.That(Duration("h"), Is.Null);
        });
    }

    [Test]
    public void A_log_line_is_one_JSON_object()
    {
        using var text = new MemoryStream();
        new EventLog(text, TimeProvider.System).Warn("sample", "two\nlines \"quoted\"", ("number", 3), ("none", null), ("flag", true));
        var lines = System.Text.Encoding.UTF8.GetString(text.ToArray()).Split('\n');
        Assert.That(lines, Has.Length.EqualTo(2));
        using var json = System.Text.Json.JsonDocument.Parse(lines[0]);
        Assert.That(json.RootElement.GetProperty("event.action").GetString(), Is.EqualTo("sample"));
        Assert.That(json.RootElement.GetProperty("log.level").GetString(), Is.EqualTo("warn"));
        Assert.That(json.RootElement.GetProperty("number").GetInt32(), Is.EqualTo(3));
        Assert.That(json.RootElement.TryGetProperty("none", out _), Is.False);
    }

    private static ListenAddress? Listen(string text) => ListenAddress.TryParse(text, 15012, out var listen) ? listen : null;

    private static TimeSpan? Duration(string text) => ControlPlaneCommand.TryReadDuration(text, out var duration) ? duration : null;

    private static async Task<string> FailAsync(Func<ControlPlaneOptions, ControlPlaneOptions> change)
    {
        using var directory = new TemporaryDirectory();
        try
        {
            await using var mesh = await TestControlPlane.StartAsync(directory.Path, change: change);
        }
        catch (StartException e)
        {
            Assert.That(e.Message, Does.Not.Contain('\n'));
            return e.Message;
        }

        Assert.Fail("it started");
        return "";
    }
}
