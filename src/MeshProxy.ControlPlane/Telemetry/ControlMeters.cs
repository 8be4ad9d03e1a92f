using Prometheus;

namespace MeshProxy.ControlPlane.Telemetry;

/// <summary>What the control plane counts. Label values come from closed sets; no label names a workload.</summary>
internal sealed class ControlMeters
{
    private readonly Counter _certificates;
    private readonly Counter _pushed;
    private readonly Counter _calls;

    public ControlMeters()
    {
        var factory = Metrics.WithCustomRegistry(Registry);
        DotNetStats.Register(Registry);
        Sidecars = factory.CreateGauge("meshproxy_control_sidecars_connected", "Sidecars with an open discovery stream.");
        _pushed = factory.CreateCounter("meshproxy_control_pushes_total", "Groups of messages sent to sidecars: commits of units, and endpoint updates.", "kind");
        PushSeconds = factory.CreateHistogram("meshproxy_control_push_seconds", "From a change of the mesh until it is written to a sidecar's stream.",
            new HistogramConfiguration { Buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] });
        CompileSeconds = factory.CreateHistogram("meshproxy_control_compile_seconds", "Compiling the mesh after a change.",
            new HistogramConfiguration { Buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1] });
        Rejections = factory.CreateCounter("meshproxy_control_rejections_total", "Units that sidecars rejected.");
        _certificates = factory.CreateCounter("meshproxy_control_certificates_issued_total", "Certificates signed.", "cause");
        TokenRefusals = factory.CreateCounter("meshproxy_control_join_token_refusals_total", "Join tokens that were used, expired or unknown.");
        Leases = factory.CreateGauge("meshproxy_control_leases", "Registered workloads with a running lease.");
        LeaseExpiries = factory.CreateCounter("meshproxy_control_lease_expiries_total", "Leases that ended without a heartbeat.");
        Revision = factory.CreateGauge("meshproxy_control_mesh_revision", "The mesh revision that sidecars are being told.");
        Documents = factory.CreateGauge("meshproxy_control_documents", "Documents in force.");
        _calls = factory.CreateCounter("meshproxy_control_calls_refused_total", "Calls refused before they did anything.", "reason");
    }

    /// <summary>What /metrics shows.</summary>
    public CollectorRegistry Registry { get; } = Metrics.NewCustomRegistry();

    public Gauge Sidecars { get; }

    public Histogram PushSeconds { get; }

    public Histogram CompileSeconds { get; }

    public Counter Rejections { get; }

    public Counter TokenRefusals { get; }

    public Gauge Leases { get; }

    public Counter LeaseExpiries { get; }

    public Gauge Revision { get; }

    public Gauge Documents { get; }

    public Counter.Child JoinCertificates => _certificates.WithLabels("join");

    public Counter.Child RenewedCertificates => _certificates.WithLabels("renewal");

    public Counter.Child UnitPushes => _pushed.WithLabels("units");

    public Counter.Child EndpointPushes => _pushed.WithLabels("endpoints");

    public Counter.Child UnauthenticatedCalls => _calls.WithLabels("unauthenticated");

    public Counter.Child ForbiddenCalls => _calls.WithLabels("forbidden");
}
