using System.Globalization;
using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane;

/// <summary>How the codecs of downstream connections are set up.</summary>
internal sealed class ServerCodecs
{
    private readonly ForwardingServices _services;
    private readonly ILogger _log;
    private readonly Http1ServerOptions _http;
    private readonly Http1ServerOptions _https;
    private readonly Http2Options _mesh;
    private readonly Http2Options _edge;

    public ServerCodecs(ForwardingServices services, ILogger log)
    {
        _services = services;
        _log = log;
        _http = new Http1ServerOptions { Date = new DateField(services.Time) };
        _https = _http with { Scheme = "https"u8.ToArray() };
        _mesh = new Http2Options { Limits = Http2Limits.Mesh, TimeProvider = services.Time, AllowExtendedConnect = true, OnError = OnError };
        _edge = _mesh with { Limits = Http2Limits.Edge };
    }

    public HttpServerConnection Create(ConnectionContext connection, HttpProtocolVersion version, DownstreamConnection downstream)
    {
        var pipe = connection.Transport;
        if (version == HttpProtocolVersion.Http2)
        {
            return new Http2ServerConnection(pipe.Input, pipe.Output, downstream.Direction == Direction.Gateway ? _edge : _mesh)
            {
                RejectionObserver = new Rejections(_services, downstream),
            };
        }

        var options = downstream.Info.IsTls ? _https : _http;
        return new Http1ServerConnection(pipe.Input, pipe.Output, options with { RejectionObserver = new Rejections(_services, downstream) });
    }

    private void OnError(ConnectionCloseReason reason, Http2ErrorCode code, string detail) => ProxyLog.BrokenConnection(_log, reason, code, detail);

    /// <summary>A request that the codec refused is counted and logged like any other that the proxy ends itself, and answered where the protocol has an answer
    /// for it: flag DPE and a reason.</summary>
    private sealed class Rejections(ForwardingServices services, DownstreamConnection downstream) : IRejectionObserver
    {
        public ReadOnlyMemory<byte> OnRejected(HttpServerConnection connection, RequestHead? request, ResponseHead? response, string detail)
        {
            var failure = new Failure(FailureCause.DownstreamProtocolError, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer, detail);
            var flag = FailureMap.Of(failure.Cause).Flag;
            var record = new RequestRecord();
            record.Begin(downstream.Direction, request ?? new RequestHead(), downstream.Info, services.Time.GetTimestamp());
            record.Status = response?.Status ?? 0;
            record.Failure = failure;
            record.Flag = flag;
            services.Telemetry.Complete(record);
            if (response is null)
            {
                return default;
            }

            if (downstream.TellsDetail)
            {
                response.Fields.Add(KnownField.MeshFailure, Encoding.ASCII.GetBytes(FailureField.Format(failure)));
            }

            response.Fields.Add(KnownField.ContentType, "text/plain; charset=utf-8"u8);
            return Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{response.Status} {flag}: {detail}\n"));
        }
    }
}
