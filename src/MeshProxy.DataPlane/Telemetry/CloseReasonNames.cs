using MeshProxy.Http;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>Why connections end, as labels say it.</summary>
internal static class CloseReasonNames
{
    /// <summary>One more than the last reason's number.</summary>
    public const int Count = (int)ConnectionCloseReason.Overload + 1;

    public static string Of(ConnectionCloseReason reason) => reason switch
    {
        ConnectionCloseReason.PeerClosed => "peer_closed",
        ConnectionCloseReason.TransportError => "transport_error",
        ConnectionCloseReason.ProtocolError => "protocol_error",
        ConnectionCloseReason.Abuse => "abuse",
        ConnectionCloseReason.HeadTimeout => "head_timeout",
        ConnectionCloseReason.IdleTimeout => "idle_timeout",
        ConnectionCloseReason.KeepAliveTimeout => "keep_alive_timeout",
        ConnectionCloseReason.MaxAge => "max_age",
        ConnectionCloseReason.Drain => "drain",
        ConnectionCloseReason.Revoked => "revoked",
        ConnectionCloseReason.NotReusable => "not_reusable",
        ConnectionCloseReason.Overload => "overload",
        _ => "none",
    };
}
