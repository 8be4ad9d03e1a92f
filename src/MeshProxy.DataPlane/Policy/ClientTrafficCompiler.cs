using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Policy;

/// <summary>Compiles how clients are treated: with the snapshot, so that neither a connection nor a request makes options of its own.</summary>
internal sealed class ClientTrafficCompiler
{
    private readonly Http1ServerOptions _http;
    private readonly Http2Options _mesh;
    private readonly ClientTraffic[] _defaults;

    /// <param name="time">The clock.</param>
    /// <param name="onError">Told why HTTP/2 connections end by an error.</param>
    /// <param name="onAbuse">Told what the guards of HTTP/2 connections act on.</param>
    /// <param name="isMemoryShort">Whether HTTP/2 windows may not grow.</param>
    public ClientTrafficCompiler(TimeProvider time, Http2ErrorReporter? onError = null, Action<string>? onAbuse = null, Func<bool>? isMemoryShort = null)
    {
        _http = new Http1ServerOptions { Date = new DateField(time) };
        _mesh = new Http2Options
        {
            Limits = Http2Limits.Mesh,
            TimeProvider = time,
            Date = _http.Date,
            OnError = onError,
            OnAbuse = onAbuse,
            IsMemoryShort = isMemoryShort,
        };
        _defaults = [.. Enum.GetValues<Direction>().Select(direction => Make(ClientTrafficConfig.Default, direction))];
    }

    /// <summary>What holds where no policy does.</summary>
    public ClientTraffic Default(Direction direction) => _defaults[(int)direction];

    /// <summary>Compiles one policy.</summary>
    public ClientTraffic Compile(ClientTrafficConfig config, Direction direction) => config == ClientTrafficConfig.Default ? Default(direction) : Make(config, direction);

    /// <summary>What of a service's policy concerns whoever sends to it: what would otherwise be refused before the service's own inbound sees it.</summary>
    public ClientTraffic CompileOutbound(ClientTrafficConfig config) =>
        Compile(new ClientTrafficConfig { Path = config.Path, UpgradeProtocols = config.UpgradeProtocols }, Direction.Outbound);

    private ClientTraffic Make(ClientTrafficConfig config, Direction direction)
    {
        var timeouts = config.Timeouts;
        var limits = _http.Limits;
        var http = _http with
        {
            Limits = limits with
            {
                HeadTimeout = timeouts.RequestHead ?? limits.HeadTimeout,
                IdleTimeout = timeouts.Idle ?? limits.IdleTimeout,
                StallTimeout = timeouts.StreamIdle ?? limits.StallTimeout,
            },
        };
        var multiplexed = direction == Direction.Gateway ? Http2Limits.Edge : Http2Limits.Mesh;
        var http2 = _mesh with
        {
            AllowExtendedConnect = !config.UpgradeProtocols.IsEmpty,
            Limits = multiplexed with
            {
                MaxConcurrentStreams = config.MaxConcurrentStreams ?? multiplexed.MaxConcurrentStreams,
                HeadTimeout = timeouts.RequestHead ?? multiplexed.HeadTimeout,
                IdleTimeout = timeouts.Idle ?? multiplexed.IdleTimeout,
                StallTimeout = timeouts.StreamIdle ?? multiplexed.StallTimeout,
            },
        };
        return new ClientTraffic(config, direction, new ServerCodecOptions(http, http with { Scheme = "https"u8.ToArray() }, http2));
    }
}
