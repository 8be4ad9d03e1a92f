using System.Buffers.Text;
using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

// 4 relay: informational heads, the final head, body and trailers, or both directions of a tunnel.
internal sealed partial class Forwarder
{
    private async ValueTask RelayInformationalAsync(HttpClientExchange upstream)
    {
        // Taken from the tick, so that only one of the two writes; a 100 that the tick has said before goes no further than the codec.
        var waits = _continue.IsOpen && await _continue.EndAsync();
        var response = upstream.Response;
        HopByHopFields.Remove(response.Fields);
        EdgeFields.Remove(response.Fields);
        _downstream.WriteInformational(response);
        await _downstream.FlushAsync();
        if (waits && response.Status == 100)
        {
            StartBody(upstream);
        }
        else if (waits)
        {
            _continue.Resume();
        }
    }

    /// <summary>Relays the response. A failure is returned only while the downstream's response has not started.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<Failure> RelayAsync(HttpClientExchange upstream, RouteBackend backend)
    {
        Volatile.Write(ref _isRelaying, true);
        ReleaseHeldBody();
        var response = upstream.Response;
        _record.Status = response.Status;
        ReadGrpcStatus(response.Fields);
        HopByHopFields.Remove(response.Fields);
        EdgeFields.Remove(response.Fields);
        if (_traffic.AddsVia)
        {
            ViaField.Add(response.Fields, response.Version);
        }

        backend.Filters.Apply(response);
        if (response.IsTunnel)
        {
            return _downstream.Takes(response) ? await TunnelAsync(upstream, backend) : TooLarge("response_head_too_large");
        }

        _cors.Apply(response.Fields);
        if (!_downstream.Takes(response))
        {
            return TooLarge("response_head_too_large");
        }

        var grpc = _grpc == GrpcKind.Grpc && GrpcKinds.Of(response.Fields) == GrpcKind.Grpc ? backend.Meters : null;
        var web = _web is { } call && call.BeginResponse(response) ? call : null;
        if (!_downstream.WriteHead(response))
        {
            return DownstreamLeft();
        }

        if (response.EndsStream)
        {
            await _downstream.FlushAsync();
            return default;
        }

        var body = upstream.ResponseBody;
        var messages = default(GrpcMessageCounter);
        while (true)
        {
            if (!body.TryRead(out var chunk))
            {
                if (!await _downstream.FlushAsync())
                {
                    return DownstreamLeft();
                }

                if (web is null && grpc is null && body.CanMoveTo(_downstream))
                {
                    await body.WaitAsync();
                    if (await body.MoveAsync(_downstream, long.MaxValue) is var moved and >= 0)
                    {
                        _times.OnActivity(_services.NowMilliseconds);
                        _record.BytesSent += moved;
                        continue;
                    }
                }

                chunk = await body.ReadAsync();
            }

            if (chunk.IsBroken)
            {
                var stop = Stopped();
                var failure = stop.IsFailure ? stop : Attempt.FailureOf(chunk.End, wasSent: true, _endpoint!, FailureStage.Relaying);
                _downstream.Reset(stop.IsFailure ? StoppedBy(stop) : new StreamEnd(StreamResetReason.Cancelled, chunk.End.Initiator, 0x2, "upstream_broke_off"));
                return failure;
            }

            _times.OnActivity(_services.NowMilliseconds);
            if (chunk.IsEnd)
            {
                TrailerFields.Remove(body.Trailers);
            }

            var ends = chunk.IsEnd && body.Trailers.Count == 0;
            if ((!chunk.Data.IsEmpty || ends) && !await (web?.WriteAsync(_downstream, chunk.Data, ends) ?? _downstream.WriteBodyAsync(chunk.Data, ends)))
            {
                return DownstreamLeft();
            }

            _record.BytesSent = web?.Sent ?? _record.BytesSent + chunk.Data.Length;
            if (grpc is not null && messages.Take(chunk.Data) is var sent and > 0)
            {
                _record.GrpcMessagesSent += sent;
                grpc.OnGrpcMessages(0, sent);
            }

            body.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                if (!ends)
                {
                    ReadGrpcStatus(body.Trailers);
                    if (!(web is null ? _downstream.WriteTrailers(body.Trailers) : await web.WriteTrailersAsync(_downstream, body.Trailers)))
                    {
                        return DownstreamLeft();
                    }

                    _record.BytesSent = web?.Sent ?? _record.BytesSent;
                }

                await _downstream.FlushAsync();
                return default;
            }
        }
    }

    /// <summary>The endpoint has accepted a tunnel: from here on nothing ends it but its two ends, the idle limit, a timeout that the route or the caller set, or
    /// the deadline of a drain.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<Failure> TunnelAsync(HttpClientExchange upstream, RouteBackend backend)
    {
        // What the downstream is sent in its own version (RFC 8441 section 5).
        var request = _downstream.Request;
        _record.Status = request.Protocol.IsEmpty ? upstream.Response.Status : request.Version == HttpProtocolVersion.Http2 ? 200 : 101;
        if (!_downstream.WriteHead(upstream.Response))
        {
            return DownstreamLeft();
        }

        _tunnel ??= new Tunnel();
        var end = await _tunnel.RunAsync(_downstream, upstream, backend.Meters);
        _record.BytesReceived = _tunnel.Received;
        _record.BytesSent = _tunnel.Sent;
        if (Stopped() is { IsFailure: true } stop)
        {
            return stop;
        }

        return !end.IsBroken ? default
            : end.IsDownstream ? new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"tunnel: {end.End.Detail ?? "broken_off"}")
            : Attempt.FailureOf(end.End, wasSent: true, _endpoint!, FailureStage.Relaying);
    }

    private void ReadGrpcStatus(FieldMap fields)
    {
        if (fields.TryGet(KnownField.GrpcStatus, out var text) && Utf8Parser.TryParse(text, out int status, out _))
        {
            _record.GrpcStatus = status;
        }
    }

    private Failure DownstreamLeft()
    {
        if (Stopped() is { IsFailure: true } stop)
        {
            return stop;
        }

        var end = _downstream.End;
        if (end.Reason == StreamResetReason.PeerLimit)
        {
            return TooLarge(end.Detail!);
        }

        // The codec refuses to send what would be no message: that is the endpoint's doing.
        return end is { Reason: StreamResetReason.ProtocolError, Initiator: Initiator.Us }
            ? new Failure(FailureCause.UpstreamProtocolError, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, $"{end.Detail}: {_endpoint!.Address} ({_endpoint.Config.Id})")
            : new Failure(FailureCause.DownstreamLeft, FailureStage.Relaying, RetrySafety.Never, Initiator.Peer, end.Detail ?? "downstream_left");
    }
}
