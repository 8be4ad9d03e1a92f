using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Net;
using System.Text.Json;
using System.Threading.Channels;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using MeshProxy.Testing;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>A whole proxy on loopback, its logs in the test's hands. When it goes it proves that nothing leaked: no permit, no pending place, no active
/// endpoint, no connection.</summary>
internal sealed class TestProxy : IAsyncDisposable
{
    private readonly AccessLog _accessLog;
    private readonly LineSink _lines;

    private TestProxy(ProxyServer server, AccessLog accessLog, LineSink lines, LogBook log, ProxyTelemetry telemetry)
    {
        Server = server;
        _accessLog = accessLog;
        _lines = lines;
        Log = log;
        Telemetry = telemetry;
    }

    public ProxyServer Server { get; }

    public LogBook Log { get; }

    public ProxyTelemetry Telemetry { get; }

    /// <summary>Set by tests that end with exchanges still open.</summary>
    public bool MayBeBusy { get; set; }

    public static async Task<TestProxy> StartAsync(ProxyConfig config, ProxyServerOptions? options = null, SvidStore? identity = null, TimeProvider? time = null, bool logs = true)
    {
        time ??= TimeProvider.System;
        var transport = new SocketTransport();
        var lines = new LineSink();
        var accessLog = AccessLog.ToStream(() => lines);
        var telemetry = new ProxyTelemetry(time, logs ? accessLog : null);
        var log = new LogBook();
        var server = new ProxyServer(options ?? new ProxyServerOptions(), identity, telemetry, null, log, time, transport, transport);
        var proxy = new TestProxy(server, accessLog, lines, log, telemetry);
        // Without the test's synchronization context, which would bring every continuation from the event loops to the thread pool.
        var rejections = await Task.Run(async () =>
        {
            await server.StartAsync(CancellationToken.None);
            return server.Apply(config);
        });
        Assert.That(rejections, Is.Empty);
        return proxy;
    }

    public static async Task<SvidStore> IdentityAsync(TestCa ca, string account, TestCa? trusting = null)
    {
        await Task.CompletedTask;
        var store = new SvidStore();
        store.Update(TrustBundle.FromPem(TrustDomain.Parse("mesh.local"), (trusting ?? ca).RootPem));
        store.Update(new Svid(SpiffeId.Parse($"spiffe://mesh.local/ns/shop/sa/{account}"), ca.IssueSvid("shop", account), ca.Intermediates));
        return store;
    }

    public IPEndPoint EndPoint(string listener = "gateway/0") => new(IPAddress.Loopback, Server.Listeners.First(bound => bound.Name == listener).EndPoint.Port);

    public Task<Wire> DialAsync(string listener = "gateway/0", int? receiveBuffer = null) => Wire.DialAsync(EndPoint(listener), receiveBuffer);

    /// <summary>One request on a connection of its own.</summary>
    public async Task<Message> SendAsync(string request, string listener = "gateway/0")
    {
        await using var wire = await DialAsync(listener);
        await wire.SendAsync(request);
        return await wire.ReadResponseAsync(request.StartsWith("HEAD", StringComparison.Ordinal));
    }

    public Task<Message> GetAsync(string path = "/", string host = "shop.example", string fields = "", string listener = "gateway/0") =>
        SendAsync($"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n", listener);

    public Task<Message> PostAsync(string body, string path = "/", string host = "shop.example", string fields = "", string listener = "gateway/0") =>
        SendAsync($"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body.Length}\r\n{fields}\r\n{body}", listener);

    /// <summary>The next line of the access log.</summary>
    public async Task<JsonElement> AccessAsync() => JsonDocument.Parse(await _lines.Lines.Reader.ReadAsync().AsTask().WaitAsync(Wire.Patience)).RootElement;

    public static async Task EventuallyAsync(Func<bool> holds, string what)
    {
        var deadline = TimeProvider.System.GetTimestamp() + (20 * TimeProvider.System.TimestampFrequency);
        while (!holds())
        {
            Assert.That(TimeProvider.System.GetTimestamp(), Is.LessThan(deadline), what);
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    /// <summary>Waits until nothing is under way and proves that every permit came back.</summary>
    public async Task QuietAsync()
    {
        await EventuallyAsync(
            () => Server.DescribeClusters().All(cluster => cluster is { Requests: 0, PendingRequests: 0 } && cluster.Endpoints.All(endpoint => endpoint.Active == 0)),
            "permits, pending places and active counts return to zero: " + Describe());
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (!MayBeBusy)
            {
                await QuietAsync();
            }

            Server.ApplyEndpoints(Server.DescribeClusters().Select(cluster => new EndpointSetConfig(ClusterId.TryParse(cluster.Name, out var id) ? id : default, [])));
            var remote = Server.Current.Destinations.Values.SelectMany(destination => destination.Ports).Select(port => port.Cluster.Id.ToString())
                .Concat(Server.Current.Listeners.SelectMany(listener => listener.BackendClusters).Select(cluster => cluster.Id.ToString())).ToHashSet();
            if (!MayBeBusy)
            {
                await EventuallyAsync(
                    () => Server.DescribeClusters().Where(cluster => remote.Contains(cluster.Name)).All(cluster => cluster.Connections == 0), "connections of removed endpoints close: " + Describe());
            }

            Assert.That(Log.Bugs, Is.Empty);
        }
        finally
        {
            await Server.DisposeAsync();
            _accessLog.Dispose();
            while (_lines.Lines.Reader.TryRead(out var line))
            {
                if (line.Contains("meshproxy.flags", StringComparison.Ordinal))
                {
                    TestContext.Out.WriteLine(line);
                }
            }

            foreach (var told in Log.Lines)
            {
                TestContext.Out.WriteLine(told);
            }
        }
    }

    private string Describe() => string.Join("; ", Server.DescribeClusters().Select(c =>
        $"{c.Name} requests {c.Requests} pending {c.PendingRequests} connections {c.Connections} active {string.Join(',', c.Endpoints.Select(e => e.Active))}"));

    private sealed class LineSink : Stream
    {
        private readonly List<byte> _rest = [];

        public Channel<string> Lines { get; } = Channel.CreateUnbounded<string>();

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => 0;

        public override long Position { get; set; }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            foreach (var b in buffer)
            {
                if (b != '\n')
                {
                    _rest.Add(b);
                    continue;
                }

                Lines.Writer.TryWrite(System.Text.Encoding.UTF8.GetString([.. _rest]));
                _rest.Clear();
            }
        }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => 0;

        public override long Seek(long offset, SeekOrigin origin) => 0;

        public override void SetLength(long value)
        {
        }
    }
}

/// <summary>The proxy's own log, kept.</summary>
internal sealed class LogBook : ILoggerFactory, ILogger
{
    public ConcurrentQueue<string> Lines { get; } = new();

    public ConcurrentQueue<string> Bugs { get; } = new();

    public Task<string> WaitForAsync(string text) => WaitAsync(text);

    public void AddProvider(ILoggerProvider provider)
    {
    }

    public ILogger CreateLogger(string categoryName) => this;

    public void Dispose()
    {
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        var line = $"{formatter(state, exception)} {exception}";
        Lines.Enqueue(line);
        if (logLevel >= LogLevel.Error)
        {
            Bugs.Enqueue(line);
        }
    }

    private async Task<string> WaitAsync(string text)
    {
        await TestProxy.EventuallyAsync(() => Lines.Any(line => line.Contains(text, StringComparison.Ordinal)), $"the log tells '{text}'; it tells: {string.Join(" | ", Lines)}");
        return Lines.First(line => line.Contains(text, StringComparison.Ordinal));
    }
}

/// <summary>Configurations in a line.</summary>
internal static class Configs
{
    public static ClusterId Id(string service, int port = 80) => new(new ResourceName("shop", service), port);

    public static ClusterConfig Cluster(string service = "payments", AppProtocol protocol = AppProtocol.Http, int port = 80) =>
        new() { Id = Id(service, port), Protocol = protocol, ConnectTimeout = TimeSpan.FromSeconds(10) };

    public static EndpointSetConfig Set(ClusterId id, params IPEndPoint[] endPoints) => new(id,
        [.. endPoints.Select(endPoint => new EndpointConfig { Id = endPoint.ToString(), Address = endPoint.Address.ToString(), Port = endPoint.Port })]);

    public static HttpRouteConfig Route(params HttpRouteRuleConfig[] rules) => new() { Id = "shop/route", Rules = [.. rules] };

    public static HttpRouteRuleConfig Rule(ClusterId to) => new() { Name = "0", Backends = [new BackendConfig(to, 1)] };

    public static HttpMatchConfig Prefix(string path) => new() { Path = new PathMatchConfig(PathMatchKind.Prefix, path) };

    /// <summary>A gateway on a free port with these routes.</summary>
    public static ProxyConfig Gateway(IEnumerable<HttpRouteConfig> routes, IEnumerable<ClusterConfig> clusters, params EndpointSetConfig[] sets) => new()
    {
        Revision = "1",
        Listeners =
        [
            new ListenerConfig
            {
                Id = "shop/edge/http",
                Address = "127.0.0.1",
                Port = 0,
                Protocol = ListenerProtocol.Http,
                HttpRoutes = [.. routes],
                BackendClusters = [.. clusters],
            },
        ],
        Endpoints = sets.ToImmutableDictionary(set => set.Cluster),
    };

    /// <summary>A gateway that sends everything to one service.</summary>
    public static ProxyConfig Gateway(ClusterConfig cluster, params IPEndPoint[] endPoints) => Gateway([Route(Rule(cluster.Id))], [cluster], Set(cluster.Id, endPoints));

    public static ProxyConfig Destination(ClusterConfig cluster, IEnumerable<EndpointConfig> endpoints, params HttpRouteConfig[] routes) => new()
    {
        Revision = "1",
        Destinations = ImmutableDictionary<ResourceName, DestinationConfig>.Empty.Add(cluster.Id.Service, new DestinationConfig
        {
            Service = cluster.Id.Service,
            Ports = [new DestinationPortConfig { Cluster = cluster, HttpRoutes = [.. routes] }],
        }),
        Endpoints = ImmutableDictionary<ClusterId, EndpointSetConfig>.Empty.Add(cluster.Id, new EndpointSetConfig(cluster.Id, [.. endpoints])),
    };
}
