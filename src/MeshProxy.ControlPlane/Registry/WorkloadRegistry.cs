using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Registry;

/// <summary>Why a registry call is refused.</summary>
internal enum RegistryRefusal
{
    /// <summary>The request makes no sense.</summary>
    Invalid,

    /// <summary>It is not the caller's to do.</summary>
    Forbidden,

    /// <summary>There is no such lease (any more).</summary>
    NoLease,
}

/// <summary>A refused registry call.</summary>
internal sealed class RegistryException(RegistryRefusal refusal, string message) : Exception(message)
{
    /// <summary>Why.</summary>
    public RegistryRefusal Refusal { get; } = refusal;
}

/// <summary>
/// Who serves what, kept alive by leases. Leases are in memory and run on monotonic time; the instances themselves are in the store, so that after a
/// restart everything is still there and has one fresh lease to show that it lives.
/// </summary>
/// <remarks><c>_gate</c> owns the leases. Lock order: registry, then mesh.</remarks>
internal sealed class WorkloadRegistry : IDisposable
{
    /// <summary>Leases are looked at this often, so that an expiry is seen at most so much late.</summary>
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly Dictionary<string, Lease> _leases = [];
    private readonly MeshState _mesh;
    private readonly ControlPlaneLimits _limits;
    private readonly TimeProvider _time;
    private readonly ControlMeters _meters;
    private readonly EventLog _log;
    private ITimer? _timer;
    private long _lastTick;

    public WorkloadRegistry(MeshState mesh, ControlPlaneLimits limits, TimeProvider time, ControlMeters meters, EventLog log)
    {
        _mesh = mesh;
        _limits = limits;
        _time = time;
        _meters = meters;
        _log = log;
        _lastTick = time.GetTimestamp();
        foreach (var workload in mesh.Inputs.Workloads.Values)
        {
            _leases[workload.LeaseId] = new Lease(workload.Name, workload.Identity, _lastTick);
        }

        _meters.Leases.Set(_leases.Count);
    }

    /// <summary>Starts to watch the leases.</summary>
    public void Start()
    {
        lock (_gate)
        {
            // Time since the leases were loaded was the start's, not the sidecars'.
            _lastTick = _time.GetTimestamp();
            foreach (var lease in _leases.Values)
            {
                lease.RenewedAt = _lastTick;
            }

            _timer = _time.CreateTimer(static registry => ((WorkloadRegistry)registry!).ExpireLeases(), this, Tick, Tick);
        }
    }

    /// <summary>Registers an instance, or takes its new description.</summary>
    /// <returns>The lease.</returns>
    /// <exception cref="RegistryException">Refused.</exception>
    public string Register(SpiffeId caller, RegisterRequest request)
    {
        var name = Check(request);
        CheckNamespace(caller, name);
        lock (_gate)
        {
            var inputs = _mesh.Inputs;
            if (inputs.Workloads.TryGetValue(name, out var present) && present.Identity != caller)
            {
                throw new RegistryException(RegistryRefusal.Forbidden, $"Workload {name} is registered by {present.Identity}; {caller} may not take its name.");
            }

            CheckServices(caller, name, request, inputs);
            var leaseId = NewLeaseId();
            _mesh.PutWorkload(new RegisteredWorkload(name, caller, leaseId, request.Clone(), request.Ready, Draining: false));
            if (present is not null)
            {
                _leases.Remove(present.LeaseId);
            }

            _leases[leaseId] = new Lease(name, caller, _time.GetTimestamp());
            _meters.Leases.Set(_leases.Count);
            _log.Info("workload_registered", $"{name} registered", ("meshproxy.workload", name), ("meshproxy.identity", caller),
                ("meshproxy.address", request.Address), ("meshproxy.ready", request.Ready));
            return leaseId;
        }
    }

    /// <summary>Renews a lease and takes the instance's word on its readiness.</summary>
    /// <exception cref="RegistryException">Refused.</exception>
    public void Heartbeat(SpiffeId caller, string leaseId, bool ready, bool draining)
    {
        ResourceName name;
        lock (_gate)
        {
            var lease = Find(caller, leaseId);
            lease.RenewedAt = _time.GetTimestamp();
            name = lease.Name;
        }

        if (!_mesh.UpdateWorkload(name, leaseId, workload => workload with { Ready = ready, Draining = draining }))
        {
            throw NoLease();
        }
    }

    /// <summary>Ends a lease and takes the instance out.</summary>
    /// <exception cref="RegistryException">Refused.</exception>
    public void Deregister(SpiffeId caller, string leaseId)
    {
        ResourceName name;
        lock (_gate)
        {
            name = Find(caller, leaseId).Name;
            _leases.Remove(leaseId);
            _meters.Leases.Set(_leases.Count);
        }

        _mesh.UpdateWorkload(name, leaseId, static _ => null);
        _log.Info("workload_deregistered", $"{name} deregistered", ("meshproxy.workload", name), ("meshproxy.identity", caller));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            _timer?.Dispose();
        }
    }

    private static RegistryException Invalid(string message) => new(RegistryRefusal.Invalid, message);

    private static RegistryException NoLease() => new(RegistryRefusal.NoLease, "The lease has ended or was never given; register again.");

    private static string NewLeaseId() => Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));

    private static void CheckNamespace(SpiffeId caller, ResourceName name)
    {
        if (caller.Namespace != name.Namespace)
        {
            throw new RegistryException(RegistryRefusal.Forbidden, $"{caller} may register workloads of namespace '{caller.Namespace}' only, not {name}.");
        }
    }

    private static void CheckServices(SpiffeId caller, ResourceName name, RegisterRequest request, MeshInputs inputs)
    {
        foreach (var service in inputs.ServicesOf(name.Namespace))
        {
            if (service.Selects(request.Labels) && !service.ServiceAccounts.Contains(caller.ServiceAccount))
            {
                throw new RegistryException(RegistryRefusal.Forbidden,
                    $"Service {service.Name} selects workload {name}, but service account '{caller.ServiceAccount}' may not serve it "
                    + $"(it allows: {string.Join(", ", service.ServiceAccounts)}): change the workload's labels, or the Service's annotation meshproxy.io/service-accounts.");
            }
        }
    }

    private ResourceName Check(RegisterRequest request)
    {
        if (request.Workload is not { } reference || !IsName(reference.Namespace) || !IsName(reference.Name))
        {
            throw Invalid("workload: a namespace and a name of lower-case letters, digits, '-' and '.' are required.");
        }

        if (!IPAddress.TryParse(request.Address, out var address) || address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any))
        {
            throw Invalid($"address: '{request.Address}' is not an IP address that others can dial.");
        }

        if (request.InboundPort is 0 or > 65535)
        {
            throw Invalid($"inbound_port: {request.InboundPort} is no port; name the one that the sidecar's inbound listens on.");
        }

        if (request.Labels.Count > _limits.MaxLabels || request.Labels.Any(label => label.Key.Length == 0 || label.Key.Length > _limits.MaxLabelLength || label.Value.Length > _limits.MaxLabelLength))
        {
            throw Invalid($"labels: at most {_limits.MaxLabels}, each key and value of at most {_limits.MaxLabelLength} characters.");
        }

        if (request.Ports.Count > _limits.MaxPorts || request.Ports.Any(port => port.Port is 0 or > 65535 || port.Name.Length > _limits.MaxLabelLength))
        {
            throw Invalid($"ports: at most {_limits.MaxPorts}, each from 1 to 65535.");
        }

        if (request.Ports.Where(port => port.Name.Length > 0).GroupBy(port => port.Name).FirstOrDefault(group => group.Count() > 1) is { } twice)
        {
            throw Invalid($"ports: '{twice.Key}' is there twice; names of ports are unique.");
        }

        if (request.Locality.Length > _limits.MaxLabelLength || request.Locality.Count(character => character == '/') > 2)
        {
            throw Invalid("locality: expected region/zone/sub-zone.");
        }

        if (request.Weight > 1_000_000)
        {
            throw Invalid($"weight: {request.Weight} is above 1000000.");
        }

        return new ResourceName(reference.Namespace, reference.Name);
    }

    /// <summary>RFC 1123 names, as Kubernetes uses them.</summary>
    private static bool IsName(string text) => text.Length is > 0 and <= 253 && char.IsAsciiLetterOrDigit(text[0]) && char.IsAsciiLetterOrDigit(text[^1])
        && text.All(character => char.IsAsciiLetterLower(character) || char.IsAsciiDigit(character) || character is '-' or '.');

    /// <summary>Under <c>_gate</c>.</summary>
    private Lease Find(SpiffeId caller, string leaseId)
    {
        if (!_leases.TryGetValue(leaseId, out var lease))
        {
            throw NoLease();
        }

        return lease.Identity == caller
            ? lease
            : throw new RegistryException(RegistryRefusal.Forbidden, $"The lease is not of {caller}.");
    }

    private void ExpireLeases()
    {
        List<(string Id, ResourceName Name)> expired = [];
        lock (_gate)
        {
            var now = _time.GetTimestamp();

            // When this process itself stood still (a suspended machine), nobody could beat: the pause is given to every lease.
            var pause = _time.GetElapsedTime(_lastTick, now) - Tick;
            var grace = pause > _limits.HeartbeatInterval ? (long)(pause.TotalSeconds * _time.TimestampFrequency) : 0;
            _lastTick = now;
            foreach (var (id, lease) in _leases)
            {
                lease.RenewedAt += grace;
                if (_time.GetElapsedTime(lease.RenewedAt, now) >= _limits.Lease)
                {
                    expired.Add((id, lease.Name));
                }
            }

            foreach (var (id, _) in expired)
            {
                _leases.Remove(id);
            }

            _meters.Leases.Set(_leases.Count);
        }

        foreach (var (id, name) in expired)
        {
            _mesh.UpdateWorkload(name, id, static _ => null);
            _meters.LeaseExpiries.Inc();
            _log.Warn("lease_expired", string.Create(CultureInfo.InvariantCulture, $"{name} has not been heard of for {_limits.Lease.TotalSeconds:0} s and is taken out"), ("meshproxy.workload", name));
        }

        _mesh.WriteMissed();
    }

    private sealed class Lease(ResourceName name, SpiffeId identity, long renewedAt)
    {
        public ResourceName Name { get; } = name;

        public SpiffeId Identity { get; } = identity;

        public long RenewedAt { get; set; } = renewedAt;
    }
}
