using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Forwarding;

// 2 prepare: a backend of the rule, what its filters make of the request, what the exchange may take. Nothing has been sent anywhere yet.
internal sealed partial class Forwarder
{
    /// <param name="match">The rule that takes the request.</param>
    /// <param name="backend">Where it goes.</param>
    /// <param name="answer">Who answers instead.</param>
    private Failure Prepare(RouteMatch match, out RouteBackend? backend, out OwnAnswer answer)
    {
        answer = OwnAnswer.None;
        var request = _downstream.Request;
        var rule = match.Rule!;
        _record.Route = rule.RouteId;
        backend = rule.Backends.Pick();
        if (backend is null)
        {
            return new Failure(FailureCause.InvalidBackend, FailureStage.Routing, RetrySafety.Never, Initiator.Us, $"no_backend: route {rule.RouteId} has no backend with a weight");
        }

        _record.Meters = backend.Meters;
        _cors.Begin(backend.Filters.Cors, request);
        if (backend.Filters.Answers(request))
        {
            answer = OwnAnswer.ByFilters;
            return default;
        }

        if (request.Method is RequestMethod.Options or RequestMethod.Trace)
        {
            switch (MaxForwards.Step(request.Fields))
            {
                case MaxForwardsVerdict.EndsHere:
                    answer = OwnAnswer.AsLastRecipient;
                    return default;
                case MaxForwardsVerdict.Malformed:
                    return new Failure(FailureCause.DownstreamProtocolError, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer,
                        "malformed_max_forwards: Max-Forwards is digits and stands there once");
            }
        }

        if (backend.Cluster is null)
        {
            return new Failure(FailureCause.InvalidBackend, FailureStage.Routing, RetrySafety.Never, Initiator.Us, $"invalid_backend: route {rule.RouteId}: {backend.Invalid}");
        }

        _cluster = backend.Cluster;
        _record.Cluster = _cluster.Name;
        _record.Service = _cluster.ServiceName;
        _cluster.RetryBudget.OnRequest();
        // The data plane where a CONNECT entered the mesh has found a rule for it; the inbound has none of its own.
        if (request.Method == RequestMethod.Connect && !rule.AllowsConnect && _connection is not { Direction: Direction.Inbound, Info.IsMutualTls: true })
        {
            return new Failure(FailureCause.NoRoute, FailureStage.Routing, RetrySafety.Never, Initiator.Us,
                $"connect_not_routed: CONNECT is served only by a rule that matches the method CONNECT; route {rule.RouteId} does not");
        }

        _grpc = _caller;
        if (_grpc == GrpcKind.Grpc && request.Version == HttpProtocolVersion.Http10)
        {
            return new Failure(FailureCause.Unsupported, FailureStage.Routing, RetrySafety.Never, Initiator.Us,
                "grpc_over_http10: HTTP/1.0 has no trailers, so the status of the call would be lost; use HTTP/2, or HTTP/1.1");
        }

        if (_connection.ConvertsGrpcWeb && _caller is GrpcKind.Web or GrpcKind.WebText && _cluster.Config.Protocol.IsHttp2())
        {
            _grpc = GrpcKind.Grpc;
            _web = _webCall ??= new GrpcWebCall();
            _requestBody = _web.Begin(request, _caller, _downstream.RequestBody);
        }

        if (!request.Fields.Contains(KnownField.XRequestId))
        {
            Span<byte> id = stackalloc byte[RequestIdSource.Length];
            _services.RequestIds.Write(id);
            request.Fields.Add(KnownField.XRequestId, id);
        }

        if (!backend.Mirrors.IsEmpty && request.Protocol.IsEmpty)
        {
            (_mirrors ??= new MirrorChoice(_services.Mirrors)).Choose(backend.Mirrors, request, match.MatchedPrefix);
        }

        backend.Filters.Apply(request, match.MatchedPrefix);

        // After the filters: a deadline that the operator's own filter sets is believed.
        var now = _services.Microseconds(_record.StartTimestamp);
        if (!_times.Deadline.TryRead(request.Fields, now))
        {
            return new Failure(FailureCause.DownstreamProtocolError, FailureStage.Downstream, RetrySafety.Never, Initiator.Peer,
                "malformed_deadline: grpc-timeout is 1 to 8 digits and one of H M S m u n, x-request-timeout is milliseconds in digits, and neither stands there twice");
        }

        if (rule.RequestTimeout is { } total && total > TimeSpan.Zero)
        {
            _times.Deadline.Bound(now, total);
        }

        // gRPC streams may be silent for as long as their deadline allows; an explicit timeout replaces the default one, also when it is zero.
        _times.SetBounds(rule.BackendRequestTimeout, rule.RequestTimeout is null && _grpc != GrpcKind.Grpc ? _services.Limits.ResponseHeadTimeout : null);
        return default;
    }
}
