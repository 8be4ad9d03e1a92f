using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar;

/// <summary>The names in <c>event.action</c>: stable, for alerts and tests.</summary>
internal static class LogEvents
{
#pragma warning disable CS1591 // the names are the documentation
    public static readonly EventId Listening = new(1, "listening");
    public static readonly EventId StartFailed = new(2, "start_failed");
    public static readonly EventId Stopped = new(3, "stopped");
    public static readonly EventId Draining = new(4, "draining");
    public static readonly EventId ConfigApplied = new(10, "config_applied");
    public static readonly EventId ConfigRejected = new(11, "config_rejected");
    public static readonly EventId ConfigUnreadable = new(12, "config_unreadable");
    public static readonly EventId ConfigKept = new(13, "config_loaded_from_state");
    public static readonly EventId ConfigIncomplete = new(14, "config_incomplete");
    public static readonly EventId StateFailed = new(20, "state_write_failed");
    public static readonly EventId CertificateIssued = new(30, "certificate_issued");
    public static readonly EventId CertificateFailed = new(31, "certificate_renewal_failed");
    public static readonly EventId CertificateKept = new(32, "certificate_loaded_from_state");
    public static readonly EventId ControlConnected = new(40, "control_connected");
    public static readonly EventId ControlLost = new(41, "control_lost");
    public static readonly EventId Registered = new(50, "registered");
    public static readonly EventId RegistrationFailed = new(51, "registration_failed");
    public static readonly EventId LogLevelChanged = new(60, "log_level_changed");
    public static readonly EventId AccessLogFailed = new(61, "access_log_failed");
#pragma warning restore CS1591
}
