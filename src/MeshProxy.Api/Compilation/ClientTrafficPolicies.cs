using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>
/// ClientTrafficPolicies by what they are about. Of two for one target the older wins (documents are ordered) and the other is told; one for a listener, or for
/// a port of a Service, goes before one for the whole, for each field of its own.
/// </summary>
internal sealed class ClientTrafficPolicies
{
    private readonly Dictionary<(string Kind, ResourceName Name, string? Section), ClientTrafficPolicyDocument> _byTarget = [];
    private readonly DocumentIndex _index;

    public ClientTrafficPolicies(DocumentIndex index, ConditionBook conditions)
    {
        _index = index;
        foreach (var policy in index.Policies.OfType<ClientTrafficPolicyDocument>())
        {
            foreach (var target in policy.TargetRefs)
            {
                var parent = policy.TargetRefs.Length > 1 ? target.ToString() : "";
                if (Attach(policy, target) is { } refused)
                {
                    conditions.Refuse(policy, refused.Reason, $"{target.Field}: {refused.Message}", parent);
                }
                else
                {
                    conditions.Accept(policy, parent);
                }
            }
        }
    }

    /// <summary>What holds at a listener of a Gateway.</summary>
    public ClientTrafficConfig OfListener(ResourceName gateway, string listener) => Of(DocumentKinds.Gateway, gateway, listener);

    /// <summary>What holds at a port of a Service.</summary>
    public ClientTrafficConfig OfPort(ResourceName service, string port) => Of(DocumentKinds.Service, service, port);

    private ClientTrafficConfig Of(string kind, ResourceName name, string section)
    {
        var whole = _byTarget.GetValueOrDefault((kind, name, null));
        var own = section.Length > 0 ? _byTarget.GetValueOrDefault((kind, name, section)) : null;
        if (whole is null && own is null)
        {
            return ClientTrafficConfig.Default;
        }

        var defaults = ClientTrafficConfig.Default;
        var headers = own?.Headers ?? whole?.Headers;
        return new ClientTrafficConfig
        {
            Path = own?.Path ?? whole?.Path ?? defaults.Path,
            Underscores = headers?.Underscores ?? defaults.Underscores,
            Forwarded = headers?.Forwarded,
            AddsVia = own?.Via ?? whole?.Via ?? defaults.AddsVia,
            UpgradeProtocols = own?.UpgradeProtocols ?? whole?.UpgradeProtocols ?? defaults.UpgradeProtocols,
            BelievesDeadlines = own?.CallerDeadlines ?? whole?.CallerDeadlines,
            Timeouts = own?.Timeouts ?? whole?.Timeouts ?? defaults.Timeouts,
            MaxConcurrentStreams = own?.MaxConcurrentStreams ?? whole?.MaxConcurrentStreams,
            MaxRequestBodyBytes = own?.MaxRequestBodyBytes ?? whole?.MaxRequestBodyBytes,
        };
    }

    private (string Reason, string Message)? Attach(ClientTrafficPolicyDocument policy, TargetRef target)
    {
        var problem = (target.Group, target.Kind) switch
        {
            (DocumentReader.GatewayGroup, DocumentKinds.Gateway) => CheckGateway(policy, target),
            ("", DocumentKinds.Service) => CheckService(policy, target),
            _ => ("Invalid", $"a ClientTrafficPolicy is about a Gateway (group {DocumentReader.GatewayGroup}) or a Service (group \"\"), not {target.Group}/{target.Kind}"),
        };
        if (problem is not null)
        {
            return problem;
        }

        var key = (target.Kind, target.Name, target.SectionName);
        return _byTarget.TryAdd(key, policy) || _byTarget[key] == policy ? null : ("Conflicted", $"{target} is already under {_byTarget[key].Title}, which is older");
    }

    private (string Reason, string Message)? CheckGateway(ClientTrafficPolicyDocument policy, TargetRef target)
    {
        if (!_index.Gateways.TryGetValue(target.Name, out var gateway))
        {
            return ("TargetNotFound", $"there is no Gateway {target.Name}");
        }

        if (target.SectionName is null)
        {
            return gateway.Listeners.Any(listener => CarriesHttp(listener)) ? null : ("Invalid", $"{gateway.Title} carries no HTTP: there is nothing that a ClientTrafficPolicy could say");
        }

        if (gateway.Listeners.FirstOrDefault(listener => listener.Name == target.SectionName) is not { } named)
        {
            return ("TargetNotFound", $"{gateway.Title} has no listener named '{target.SectionName}'");
        }

        if (!CarriesHttp(named))
        {
            return ("Invalid", $"listener '{named.Name}' carries no HTTP: there is nothing that a ClientTrafficPolicy could say");
        }

        // What a connection goes by must be known before its first request, or before its server name.
        var last = gateway.Listeners.Where(listener => listener.Port == named.Port).MaxBy(listener => Vagueness(listener.Hostname))!;
        if (last == named)
        {
            return null;
        }

        var early = policy.Timeouts?.TlsHandshake is not null ? "timeouts.tlsHandshake"
            : named.Protocol == ListenerProtocol.Https ? null
            : policy.MaxConcurrentStreams is not null ? "http2"
            : policy.Timeouts is { RequestHead: null, Idle: null, MaxConnectionAge: null } or null ? null
            : "timeouts of connections";
        return early is null ? null : ("UnsupportedValue",
            $"{early} can not be told apart by hostname on port {named.Port}: write it for listener '{last.Name}', which has the least specific hostname there, or for the whole Gateway");
    }

    private static bool CarriesHttp(GatewayListener listener) => listener.Protocol is ListenerProtocol.Http or ListenerProtocol.Https;

    private (string Reason, string Message)? CheckService(ClientTrafficPolicyDocument policy, TargetRef target)
    {
        if (!_index.Services.TryGetValue(target.Name, out var service))
        {
            return ("TargetNotFound", $"there is no Service {target.Name}");
        }

        if (target.SectionName is not null && service.Ports.All(port => port.Name != target.SectionName))
        {
            return ("TargetNotFound", $"{service.Title} has no port named '{target.SectionName}'");
        }

        if (service.Ports.Where(port => target.SectionName is null || port.Name == target.SectionName).All(port => port.Protocol.IsOpaque()))
        {
            return ("Invalid", $"{target} carries no HTTP: there is nothing that a ClientTrafficPolicy could say");
        }

        return policy.Timeouts?.TlsHandshake is null ? null
            : ("UnsupportedValue", "timeouts.tlsHandshake can not be set for a Service: the handshake at its inbound comes before it is known which service is meant");
    }

    /// <summary>As the data plane orders the listeners of a port: exact names, long wildcards, short ones, any.</summary>
    private static int Vagueness(string? hostname) =>
        hostname is null ? int.MaxValue : hostname.StartsWith("*.", StringComparison.Ordinal) ? 10_000 - hostname.Length : 0;
}
