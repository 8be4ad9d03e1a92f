using System.Collections.Frozen;
using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Compilation;

/// <summary>What endpoints are made from, besides registered workloads: Services, static Workloads and EndpointSlices. Built once for each state of the documents.</summary>
internal sealed class ServiceIndex
{
    private readonly TrustDomain _trustDomain;
    private readonly ClientTrafficPolicies _clientTraffic;
    private readonly ImmutableArray<ServiceEntry> _services;
    private readonly ImmutableArray<Instance> _staticInstances;
    private readonly ILookup<ResourceName, EndpointSliceDocument> _slices;

    /// <summary>Services by one pair of their selector, so that a workload looks at few of them.</summary>
    private readonly FrozenDictionary<(string Namespace, string Key, string Value), ImmutableArray<ServiceEntry>> _bySelector;

    /// <param name="trustDomain">The mesh's.</param>
    /// <param name="services">Ordered by name.</param>
    /// <param name="workloads">Declared ones.</param>
    /// <param name="slices">Static endpoints.</param>
    /// <param name="closed">Services that no inbound may serve, because a policy on them cannot be enforced there.</param>
    /// <param name="clientTraffic">How inbounds treat their peers.</param>
    public ServiceIndex(
        TrustDomain trustDomain,
        IEnumerable<ServiceDocument> services,
        IEnumerable<WorkloadDocument> workloads,
        IEnumerable<EndpointSliceDocument> slices,
        IReadOnlySet<ResourceName> closed,
        ClientTrafficPolicies clientTraffic)
    {
        _trustDomain = trustDomain;
        _clientTraffic = clientTraffic;
        _services = [.. services.Select(service => new ServiceEntry(service, AllowedServers(trustDomain, service).ToFrozenSet(), closed.Contains(service.Name)))];
        _staticInstances = [.. workloads.Select(workload => Instance.From(workload, trustDomain))];
        _slices = slices.OrderBy(slice => slice.Name.ToString(), StringComparer.Ordinal).ToLookup(slice => slice.Name with { Name = slice.ServiceName });
        _bySelector = _services.Where(entry => !entry.Document.Selector.IsEmpty)
            .GroupBy(entry => First(entry.Document))
            .ToFrozenDictionary(group => group.Key, group => group.ToImmutableArray());
    }

    public TrustDomain TrustDomain => _trustDomain;

    public static IEnumerable<SpiffeId> AllowedServers(TrustDomain trustDomain, ServiceDocument service) =>
        service.ServiceAccounts.Select(account => new SpiffeId(trustDomain, service.Name.Namespace, account));

    /// <summary>Puts endpoints, addresses, inbounds and refusals into a mesh.</summary>
    public CompiledMesh Apply(CompiledMesh mesh, ImmutableArray<LiveWorkload> workloads)
    {
        var endpoints = new Dictionary<ClusterId, ImmutableArray<EndpointConfig>.Builder>();
        var inbounds = ImmutableDictionary.CreateBuilder<ResourceName, InboundConfig>();
        var refusals = ImmutableDictionary.CreateBuilder<ResourceName, ImmutableArray<ServiceRefusal>>();
        foreach (var entry in _services)
        {
            foreach (var port in entry.Document.Ports)
            {
                endpoints[new ClusterId(entry.Document.Name, port.Port)] = ImmutableArray.CreateBuilder<EndpointConfig>();
            }
        }

        var instances = workloads.Select(Instance.From).Concat(_staticInstances).OrderBy(instance => instance.Name.ToString(), StringComparer.Ordinal);
        foreach (var instance in instances)
        {
            // A registered instance stands for a declared one of the same name: it knows better.
            if (inbounds.ContainsKey(instance.Name))
            {
                continue;
            }

            var ports = ImmutableArray.CreateBuilder<InboundPortConfig>();
            var refused = ImmutableArray.CreateBuilder<ServiceRefusal>();
            foreach (var entry in Selecting(instance))
            {
                Serve(entry, instance, endpoints, ports, refused);
            }

            if (instance.Identity is { } identity)
            {
                inbounds[instance.Name] = new InboundConfig { Workload = instance.Name, Identity = identity, Ports = ports.DrainToImmutable() };
            }

            if (refused.Count > 0)
            {
                refusals[instance.Name] = refused.DrainToImmutable();
            }
        }

        AddSlices(endpoints);
        var addresses = ImmutableDictionary.CreateBuilder<string, ClusterId>(StringComparer.Ordinal);
        var sets = ImmutableDictionary.CreateBuilder<ClusterId, EndpointSetConfig>();
        foreach (var entry in _services)
        {
            foreach (var port in entry.Document.Ports)
            {
                var id = new ClusterId(entry.Document.Name, port.Port);
                var set = endpoints[id].DrainToImmutable();
                sets[id] = new EndpointSetConfig(id, set);
                foreach (var endpoint in set)
                {
                    if (System.Net.IPAddress.TryParse(endpoint.Address, out var address))
                    {
                        addresses.TryAdd(new System.Net.IPEndPoint(address, endpoint.Port).ToString(), id);
                    }
                }
            }
        }

        return mesh with
        {
            Endpoints = sets.ToImmutable(),
            Addresses = addresses.ToImmutable(),
            Inbounds = inbounds.ToImmutable(),
            Refusals = refusals.ToImmutable(),
        };
    }

    /// <summary>"ip:port" as System.Net.IPEndPoint writes it.</summary>
    private static string AddressKey(string address, int port) => new System.Net.IPEndPoint(System.Net.IPAddress.Parse(address), port).ToString();

    private static (string Namespace, string Key, string Value) First(ServiceDocument service)
    {
        var (key, value) = service.Selector.MinBy(pair => pair.Key, StringComparer.Ordinal);
        return (service.Name.Namespace, key, value);
    }

    private IEnumerable<ServiceEntry> Selecting(Instance instance)
    {
        var found = new List<ServiceEntry>();
        foreach (var (key, value) in instance.Labels)
        {
            if (_bySelector.TryGetValue((instance.Name.Namespace, key, value), out var entries))
            {
                found.AddRange(entries.Where(entry => entry.Document.Selects(instance.Labels)));
            }
        }

        return found.OrderBy(entry => entry.Document.Name.Name, StringComparer.Ordinal);
    }

    private void Serve(
        ServiceEntry entry,
        Instance instance,
        Dictionary<ClusterId, ImmutableArray<EndpointConfig>.Builder> endpoints,
        ImmutableArray<InboundPortConfig>.Builder ports,
        ImmutableArray<ServiceRefusal>.Builder refused)
    {
        var service = entry.Document;
        if (instance.Identity is { } identity)
        {
            if (identity.TrustDomain != _trustDomain)
            {
                refused.Add(new ServiceRefusal(service.Name, $"{identity} is not of trust domain {_trustDomain}", true));
                return;
            }

            if (!entry.Allowed.Contains(identity))
            {
                var accounts = string.Join(", ", service.ServiceAccounts);
                refused.Add(new ServiceRefusal(
                    service.Name,
                    $"service account '{identity.ServiceAccount}' may not serve Service {service.Name}, only {accounts} may: add it to the annotation {ServiceDocument.ServiceAccountsAnnotation}, or change the labels",
                    true));
                return;
            }

            // In plaintext nobody could tell who answers.
            if (instance.InboundPort is null)
            {
                refused.Add(new ServiceRefusal(service.Name, "the workload has an identity but no inbound port", false));
                return;
            }
        }

        foreach (var port in service.Ports)
        {
            if (instance.PortFor(port.Target) is not { } local)
            {
                var target = port.Target.Name is { } name ? $"a port named '{name}'" : $"port {port.Target.Number}";
                refused.Add(new ServiceRefusal(service.Name, $"the workload does not declare {target}, which port {port.Port} of the Service targets", false));
                continue;
            }

            var id = new ClusterId(service.Name, port.Port);
            if (entry.IsClosed)
            {
                // It stays among the endpoints, so that its address still belongs to the (refused) service and is never taken for something unknown.
                refused.Add(new ServiceRefusal(service.Name, $"a policy on Service {service.Name} cannot be enforced by this version", false));
            }
            else
            {
                ports.Add(new InboundPortConfig(id, local, port.Protocol) { ClientTraffic = _clientTraffic.OfPort(service.Name, port.Name) });
            }

            endpoints[id].Add(new EndpointConfig
            {
                Id = instance.Name.ToString(),
                Address = instance.Address,
                Port = local,
                InboundPort = instance.InboundPort,
                IsReady = instance.IsReady,
                IsDraining = instance.IsDraining,
                Weight = instance.Weight,
                Locality = instance.Locality,
            });
        }
    }

    private void AddSlices(Dictionary<ClusterId, ImmutableArray<EndpointConfig>.Builder> endpoints)
    {
        foreach (var entry in _services)
        {
            foreach (var slice in _slices[entry.Document.Name])
            {
                foreach (var port in entry.Document.Ports)
                {
                    // Ports of a slice are those of the endpoints, by the name of the Service's port.
                    var target = slice.Ports.FirstOrDefault(candidate => candidate.Name == port.Name);
                    if (target.Port == 0 && slice.Ports.Length == 1 && entry.Document.Ports.Length == 1)
                    {
                        target = slice.Ports[0];
                    }

                    if (target.Port == 0)
                    {
                        continue;
                    }

                    var set = endpoints[new ClusterId(entry.Document.Name, port.Port)];
                    foreach (var endpoint in slice.Endpoints)
                    {
                        foreach (var address in endpoint.Addresses)
                        {
                            var key = AddressKey(address, target.Port);
                            if (set.Any(other => other.Id == key))
                            {
                                continue;
                            }

                            set.Add(new EndpointConfig
                            {
                                Id = key,
                                Address = address,
                                Port = target.Port,
                                IsReady = endpoint.Ready,
                                IsDraining = endpoint.Terminating,
                                Locality = endpoint.Zone.Length > 0 ? "/" + endpoint.Zone : "",
                            });
                        }
                    }
                }
            }
        }
    }

    private sealed record ServiceEntry(ServiceDocument Document, FrozenSet<SpiffeId> Allowed, bool IsClosed);

    /// <summary>A workload, wherever it was declared.</summary>
    private sealed record Instance(
        ResourceName Name,
        SpiffeId? Identity,
        string Address,
        int? InboundPort,
        IReadOnlyDictionary<string, string> Labels,
        ImmutableArray<(string Name, int Port)> Ports,
        string Locality,
        int Weight,
        bool IsReady,
        bool IsDraining)
    {
        public static Instance From(LiveWorkload workload) => new(
            workload.Name, workload.Identity, workload.Address, workload.InboundPort, workload.Labels, workload.Ports, workload.Locality,
            Math.Max(workload.Weight, 1), workload.Ready, workload.Draining);

        public static Instance From(WorkloadDocument workload, TrustDomain trustDomain) => new(
            workload.Name,
            workload.Identity ?? (workload.ServiceAccount is { } account ? new SpiffeId(trustDomain, workload.Name.Namespace, account) : null),
            workload.Address,
            workload.InboundPort,
            workload.Labels,
            workload.Ports,
            workload.Locality,
            workload.Weight,
            IsReady: true,
            IsDraining: false);

        /// <summary>The declared port that a Service's targetPort means. Only what the workload declares is ever reachable.</summary>
        public int? PortFor(PortTarget target)
        {
            foreach (var (name, port) in Ports)
            {
                if (target.Name is not null ? name == target.Name : port == target.Number)
                {
                    return port;
                }
            }

            return null;
        }
    }
}
