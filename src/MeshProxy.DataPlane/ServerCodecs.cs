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

namespace MeshProxy.DataPlane;

/// <summary>Makes the codecs of downstream connections, as their listener's policy has it.</summary>
internal static class ServerCodecs
{
    public static HttpServerConnection Create(ConnectionContext connection, HttpProtocolVersion version, DownstreamConnection downstream)
    {
        var pipe = connection.Transport;
        var codecs = downstream.Traffic.Codecs;
        if (version == HttpProtocolVersion.Http2)
        {
            return new Http2ServerConnection(pipe.Input, pipe.Output, codecs.Http2)
            {
                RejectionObserver = new Rejections(downstream),
            };
        }

        var options = downstream.Info.IsTls ? codecs.Https : codecs.Http;
        return new Http1ServerConnection(pipe.Input, pipe.Output, options with { RejectionObserver = new Rejections(downstream) });
    }

    /// <summary>A request that the codec refused is counted and logged like any other that the proxy ends itself, and answered where the protocol has an answer
    /// for it: flag DPE and a reason.</summary>
    private sealed class Rejections(DownstreamConnection downstream) : IRejectionObserver
    {
        public ReadOnlyMemory<byte> OnRejected(HttpServerConnection connection, RequestHead? request, ResponseHead? response, string detail)
        {
            var failure = new Failure(FailureCause.DownstreamProtocolError, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer, detail);
            var flag = FailureMap.Of(failure.Cause).Flag;
            var record = new RequestRecord();
            record.Begin(downstream.Direction, request ?? new RequestHead(), downstream.Info, downstream.Services.Time.GetTimestamp());
            record.Status = response?.Status ?? 0;
            record.Failure = failure;
            record.Flag = flag;
            downstream.Services.Telemetry.Complete(record);
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
