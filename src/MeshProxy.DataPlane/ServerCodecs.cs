using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane;

/// <summary>How the codecs of downstream connections are set up: made once, shared by all connections.</summary>
internal sealed class ServerCodecs : IHttp1RejectionObserver
{
    private readonly ILogger _log;
    private readonly Http1ServerOptions _http;
    private readonly Http1ServerOptions _https;
    private readonly Http2Options _mesh;
    private readonly Http2Options _edge;

    public ServerCodecs(TimeProvider time, ILogger log)
    {
        _log = log;
        var date = new DateField(time);
        _http = new Http1ServerOptions { Date = date, RejectionObserver = this };
        _https = _http with { Scheme = "https"u8.ToArray() };
        _mesh = new Http2Options { Limits = Http2Limits.Mesh, TimeProvider = time, OnError = OnError };
        _edge = _mesh with { Limits = Http2Limits.Edge };
    }

    public HttpServerConnection Create(ConnectionContext connection, HttpProtocolVersion version, DownstreamConnection downstream)
    {
        var pipe = connection.Transport;
        return version == HttpProtocolVersion.Http2
            ? new Http2ServerConnection(pipe.Input, pipe.Output, downstream.Direction == Direction.Gateway ? _edge : _mesh)
            : new Http1ServerConnection(pipe.Input, pipe.Output, downstream.Info.IsTls ? _https : _http);
    }

    void IHttp1RejectionObserver.OnRejected(Http1ServerConnection connection, int status, string detail) => ProxyLog.MalformedRequest(_log, status, detail);

    private void OnError(ConnectionCloseReason reason, Http2ErrorCode code, string detail) => ProxyLog.BrokenConnection(_log, reason, code, detail);
}
