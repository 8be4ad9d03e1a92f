using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Turns how one attempt ended into a failure: the only reader of <see cref="StreamEnd"/> on the path of a request.</summary>
internal static class Attempt
{
    // What an HTTP/2 client connection says when its peer has announced no SETTINGS_ENABLE_CONNECT_PROTOCOL (Http2ClientConnection.WriteHead).
    private const string NoExtendedConnect = "no_extended_connect";

    /// <summary>The failure of an attempt whose stream ended before its response was complete.</summary>
    public static Failure FailureOf(StreamEnd end, bool wasSent, ClusterEndpoint endpoint, FailureStage stage)
    {
        var detail = $"{(end.Detail ?? Word(end.Reason))}: {endpoint.Address} ({endpoint.Config.Id})";
        if (end.Detail == NoExtendedConnect)
        {
            return new Failure(FailureCause.Unsupported, stage, RetrySafety.Never, end.Initiator,
                $"{detail} speaks HTTP/2 without extended CONNECT (RFC 8441); declare the port as appProtocol kubernetes.io/ws or http if it takes Upgrade over HTTP/1.1");
        }

        if (end.Reason == StreamResetReason.PeerLimit)
        {
            return new Failure(FailureCause.RequestFieldsTooLarge, stage, RetrySafety.Never, end.Initiator, detail);
        }

        if (!wasSent && end.Reason != StreamResetReason.Cancelled)
        {
            return new Failure(FailureCause.ConnectFailed, stage, RetrySafety.Always, end.Initiator, detail);
        }

        var (cause, safety) = end.Reason switch
        {
            StreamResetReason.PeerRefused => (FailureCause.UpstreamRefused, RetrySafety.Always),
            StreamResetReason.PeerGoAway => (FailureCause.UpstreamConnectionEnded, RetrySafety.Always),
            StreamResetReason.PeerReset => (FailureCause.UpstreamReset, RetrySafety.IfIdempotent),
            StreamResetReason.ProtocolError or StreamResetReason.LimitExceeded or StreamResetReason.BodyTooLarge or StreamResetReason.TrailersTooLarge =>
                (FailureCause.UpstreamProtocolError, RetrySafety.IfIdempotent),
            StreamResetReason.Cancelled => (FailureCause.LocalReset, RetrySafety.Never),
            _ => (FailureCause.UpstreamConnectionEnded, RetrySafety.IfIdempotent),
        };
        return new Failure(cause, stage, safety, end.Initiator, detail);
    }

    /// <summary>The failure of an exchange whose request, or whose caller, came to that end. A request that breaks the rules can be answered where its codec lets it;
    /// a caller that is gone can not.</summary>
    public static Failure FailureOfDownstream(StreamEnd end, FailureStage stage, string where)
    {
        var cause = end.Reason switch
        {
            StreamResetReason.BodyTooLarge => FailureCause.BodyTooLarge,
            StreamResetReason.TrailersTooLarge => FailureCause.TrailersTooLarge,
            StreamResetReason.ProtocolError or StreamResetReason.LimitExceeded => FailureCause.DownstreamProtocolError,
            _ => FailureCause.DownstreamLeft,
        };
        return new Failure(cause, stage, RetrySafety.Never, Initiator.Peer, end.Detail is null ? where : $"{where}: {end.Detail}");
    }

    private static string Word(StreamResetReason reason) => reason switch
    {
        StreamResetReason.PeerReset => "stream_reset",
        StreamResetReason.PeerRefused => "stream_refused",
        StreamResetReason.PeerGoAway => "going_away",
        StreamResetReason.PeerClosed => "connection_closed",
        StreamResetReason.ConnectionReset => "connection_reset",
        StreamResetReason.ProtocolError => "protocol_error",
        StreamResetReason.LimitExceeded => "limit_exceeded",
        StreamResetReason.PeerLimit => "peer_limit",
        StreamResetReason.BodyTooLarge => "body_too_large",
        StreamResetReason.TrailersTooLarge => "trailers_too_large",
        StreamResetReason.TimedOut => "connection_timed_out",
        StreamResetReason.Cancelled => "cancelled",
        _ => "ended",
    };
}
