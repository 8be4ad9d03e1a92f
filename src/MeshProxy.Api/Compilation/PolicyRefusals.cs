using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>
/// What may not be served because a policy on it cannot be enforced. A kind that is not implemented refuses what it is about: a service with an
/// AuthorizationPolicy that does nothing would look protected. (What a BackendTLSPolicy forbids, <see cref="BackendTlsPolicies"/> tells.) When a target cannot be told, everything in the policy's namespace is meant.
/// </summary>
internal sealed class PolicyRefusals
{
    private readonly Dictionary<ResourceName, string> _services = [];
    private readonly Dictionary<ResourceName, string> _gateways = [];
    private readonly Dictionary<(string, ResourceName), string> _routes = [];
    private readonly HashSet<ResourceName> _closed = [];

    public PolicyRefusals(DocumentIndex index, ConditionBook conditions)
    {
        foreach (var policy in index.Policies.Where(policy => policy is not (BackendTlsPolicyDocument or ClientTrafficPolicyDocument)))
        {
            var reason = $"{policy.Title} is not implemented by this version";
            foreach (var target in policy.TargetRefs)
            {
                Refuse(index, policy, target, reason);
            }

            if (policy.TargetRefs.IsEmpty)
            {
                RefuseNamespace(index, policy, policy.Name.Namespace, reason);
            }

            conditions.Refuse(policy, "UnsupportedValue", policy.Unsupported is [var first, ..] ? first.Message : reason);
        }
    }

    /// <summary>Services that no inbound may serve.</summary>
    public IReadOnlySet<ResourceName> Closed => _closed;

    /// <summary>Why nothing may be sent to a service; null: nothing forbids it.</summary>
    public string? OfService(ResourceName service) => _services.GetValueOrDefault(service);

    /// <summary>Why nothing may pass a Gateway.</summary>
    public string? OfGateway(ResourceName gateway) => _gateways.GetValueOrDefault(gateway);

    /// <summary>Why a route may not be followed.</summary>
    public string? OfRoute(RouteDocument route) => _routes.GetValueOrDefault((route.Kind, route.Name));

    private void Refuse(DocumentIndex index, PolicyDocument policy, TargetRef target, string reason)
    {
        switch (target.Kind)
        {
            case DocumentKinds.Service:
                RefuseService(policy, target.Name, reason);
                break;
            case DocumentKinds.Gateway:
                _gateways.TryAdd(target.Name, reason);
                break;
            case DocumentKinds.HttpRoute or DocumentKinds.GrpcRoute or DocumentKinds.TcpRoute or DocumentKinds.TlsRoute:
                _routes.TryAdd((target.Kind, target.Name), reason);
                break;
            case "Namespace":
                // A policy reaches no further than its own namespace.
                RefuseNamespace(index, policy, policy.Name.Namespace, reason);
                break;
            default:
                // "Mesh", or what a later version knows.
                RefuseNamespace(index, policy, null, reason);
                break;
        }
    }

    private void RefuseNamespace(DocumentIndex index, PolicyDocument policy, string? ns, string reason)
    {
        foreach (var service in index.Services.Keys.Where(name => ns is null || name.Namespace == ns))
        {
            RefuseService(policy, service, reason);
        }

        foreach (var gateway in index.Gateways.Keys.Where(name => ns is null || name.Namespace == ns))
        {
            _gateways.TryAdd(gateway, reason);
        }
    }

    private void RefuseService(PolicyDocument policy, ResourceName service, string reason)
    {
        _services.TryAdd(service, reason);
        if (policy is AuthorizationPolicyDocument or RateLimitPolicyDocument)
        {
            _closed.Add(service);
        }
    }
}
