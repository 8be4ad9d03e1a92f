namespace MeshProxy.DataPlane.Failures;

/// <summary>What one cause means outside.</summary>
/// <param name="Flag">The response flag.</param>
/// <param name="HttpStatus">The status of the local reply; 0 when there is nobody to reply to.</param>
/// <param name="GrpcStatus">The grpc-status of the local reply to a gRPC caller.</param>
/// <param name="BlamesEndpoint">Whether it counts against the endpoint's health.</param>
/// <param name="Text">For an operator: what it means and what to check.</param>
public readonly record struct FailureMeaning(ResponseFlag Flag, int HttpStatus, int GrpcStatus, bool BlamesEndpoint, string Text);

/// <summary>The only translation of failures: to flag, HTTP status, gRPC status and blame. The README's table is checked against it by a test.</summary>
public static class FailureMap
{
    /// <summary>Every cause that can occur.</summary>
    public static IEnumerable<FailureCause> Causes => Enum.GetValues<FailureCause>().Where(cause => cause != FailureCause.None);

    /// <summary>The meaning of a cause.</summary>
    public static FailureMeaning Of(FailureCause cause) => cause switch
    {
        FailureCause.None => new(ResponseFlag.None, 0, 0, false, "no failure"),
        FailureCause.NoRoute => new(ResponseFlag.NR, 404, 12, false, "no service or route takes this request: check the authority, the path and the routes attached to it"),
        FailureCause.InvalidBackend => new(ResponseFlag.NC, 500, 14, false, "the route names a backend that does not resolve: see the route's conditions"),
        FailureCause.RefusedConfiguration => new(ResponseFlag.NC, 500, 13, false, "the destination's configuration was refused: see meshctl status"),
        FailureCause.Unsupported => new(ResponseFlag.NC, 501, 12, false, "this proxy does not serve that feature"),
        FailureCause.AuthorizationDenied => new(ResponseFlag.AD, 403, 7, false, "an authorization policy denied it"),
        FailureCause.RateLimited => new(ResponseFlag.RL, 429, 8, false, "a rate limit is used up"),
        FailureCause.NoHealthyEndpoint => new(ResponseFlag.UH, 503, 14, false, "the service has no ready endpoint: check that its workloads are registered and ready"),
        FailureCause.CircuitBreakerOpen => new(ResponseFlag.UO, 503, 14, false, "a concurrency limit of the destination is reached"),
        FailureCause.ConnectFailed => new(ResponseFlag.UF, 503, 14, true, "no connection to the endpoint: connect, TLS or identity failed, nothing was sent"),
        FailureCause.UpstreamConnectionEnded => new(ResponseFlag.UC, 503, 14, true, "the endpoint's connection ended before the response"),
        FailureCause.UpstreamReset => new(ResponseFlag.UR, 503, 14, true, "the endpoint reset the stream"),
        FailureCause.UpstreamRefused => new(ResponseFlag.UR, 503, 14, true, "the endpoint refused the stream without processing it"),
        FailureCause.LocalReset => new(ResponseFlag.LR, 503, 14, false, "the proxy reset the stream"),
        FailureCause.UpstreamProtocolError => new(ResponseFlag.UPE, 502, 14, true, "the endpoint broke the protocol"),
        FailureCause.UpstreamTimeout => new(ResponseFlag.UT, 504, 4, false, "the response did not come in time"),
        FailureCause.RetryExhausted => new(ResponseFlag.URX, 503, 14, false, "retries or their budget are used up"),
        FailureCause.DownstreamLeft => new(ResponseFlag.DC, 0, 0, false, "the caller left before the response was complete"),
        FailureCause.DownstreamProtocolError => new(ResponseFlag.DPE, 400, 13, false, "the caller broke the protocol"),
        FailureCause.PathRefused => new(ResponseFlag.DPE, 400, 13, false, "the request's path is malformed, or servers would read it in different ways"),
        FailureCause.Misdirected => new(ResponseFlag.NR, 421, 12, false, "the connection was made to another listener than the one that the request's host names: make a new one"),
        FailureCause.FieldRefused => new(ResponseFlag.DPE, 400, 13, false, "the name of a field is not taken here"),
        FailureCause.UpgradeRefused => new(ResponseFlag.DPE, 501, 12, false, "the protocol that the request asks for is not allowed here"),
        FailureCause.BodyTooLarge => new(ResponseFlag.DPE, 413, 8, false, "the request's body is longer than is taken here"),
        FailureCause.RequestFieldsTooLarge => new(ResponseFlag.DPE, 431, 8, false, "the request's fields are larger than the endpoint takes (SETTINGS_MAX_HEADER_LIST_SIZE)"),
        FailureCause.ResponseFieldsTooLarge => new(ResponseFlag.UPE, 502, 8, false, "the response's fields are larger than the caller takes (SETTINGS_MAX_HEADER_LIST_SIZE)"),
        FailureCause.TrailersTooLarge => new(ResponseFlag.DPE, 431, 8, false, "the request's trailer section is larger than is taken here"),
        FailureCause.FaultInjected => new(ResponseFlag.FI, 503, 14, false, "a policy injected this fault"),
        FailureCause.DelayInjected => new(ResponseFlag.DI, 0, 0, false, "a policy delayed the request"),
        FailureCause.StreamIdle => new(ResponseFlag.SI, 408, 4, false, "nothing moved on the stream for longer than its idle limit"),
        FailureCause.MaxDuration => new(ResponseFlag.DT, 504, 4, false, "the exchange took longer than its timeout allows"),
        FailureCause.Overloaded => new(ResponseFlag.OM, 503, 14, false, "the proxy sheds load: its memory budget is used up"),
        FailureCause.Internal => new(ResponseFlag.IE, 500, 13, false, "the proxy failed: its log tells more"),
        _ => throw new ArgumentOutOfRangeException(nameof(cause), cause, "a failure cause without a row"),
    };
}
