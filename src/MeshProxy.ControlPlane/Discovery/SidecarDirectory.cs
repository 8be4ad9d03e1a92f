using MeshProxy.Api.Control.V1;
using MeshProxy.ControlPlane.Mesh;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Config;
using Grpc.Core;

namespace MeshProxy.ControlPlane.Discovery;

/// <summary>Every sidecar that is connected, and those that were.</summary>
internal sealed class SidecarDirectory(MeshState mesh, ControlPlaneLimits limits, TimeProvider time, ControlMeters meters)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ResourceName, SidecarStream> _streams = [];
    private readonly Dictionary<ResourceName, SidecarRecord> _left = [];
    private readonly DateTimeOffset _startedAt = time.GetUtcNow();

    /// <summary>A stream has said hello. An older one of the same workload ends: a sidecar that reconnects must not wait for its dead connection's end.</summary>
    public void Attach(SidecarStream stream)
    {
        SidecarStream? older;
        lock (_gate)
        {
            _streams.TryGetValue(stream.Workload, out older);
            _streams[stream.Workload] = stream;
            _left.Remove(stream.Workload);
            meters.Sidecars.Set(_streams.Count);
        }

        older?.Replace();
    }

    /// <summary>A stream has ended.</summary>
    public void Detach(SidecarStream stream)
    {
        stream.Close();
        lock (_gate)
        {
            if (!_streams.TryGetValue(stream.Workload, out var current) || current != stream)
            {
                return;
            }

            _streams.Remove(stream.Workload);
            _left[stream.Workload] = stream.Record with { Connected = false, Since = time.GetUtcNow() };
            if (_left.Count > limits.MaxDisconnectedSidecars)
            {
                _left.Remove(_left.MinBy(record => record.Value.Since).Key);
            }

            meters.Sidecars.Set(_streams.Count);
        }
    }

    /// <summary>The connected sidecar of a workload.</summary>
    /// <exception cref="RpcException">It is not connected.</exception>
    public Task<SidecarReply> AskAsync(ResourceName workload, SidecarRequest request, CancellationToken cancellation)
    {
        SidecarStream? stream;
        lock (_gate)
        {
            _streams.TryGetValue(workload, out stream);
        }

        return stream?.AskAsync(request, cancellation) ?? throw new RpcException(new Status(StatusCode.Unavailable, $"{workload} is not connected."));
    }

    /// <summary>Every sidecar that is known, by name: connected, gone, or registered and not heard of since this process started.</summary>
    public IReadOnlyList<SidecarRecord> List()
    {
        var records = new SortedDictionary<string, SidecarRecord>(StringComparer.Ordinal);
        foreach (var workload in mesh.Inputs.Workloads.Values)
        {
            records[workload.Name.ToString()] = new SidecarRecord(workload.Name, workload.Identity) { Since = _startedAt };
        }

        List<SidecarStream> streams;
        lock (_gate)
        {
            foreach (var record in _left.Values)
            {
                records[record.Workload.ToString()] = record;
            }

            streams = [.. _streams.Values];
        }

        foreach (var stream in streams)
        {
            records[stream.Workload.ToString()] = stream.Record;
        }

        return [.. records.Values];
    }
}
