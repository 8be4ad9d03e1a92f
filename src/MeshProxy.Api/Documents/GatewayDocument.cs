using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>GatewayClass, gateway.networking.k8s.io/v1.</summary>
public sealed record GatewayClassDocument : Document
{
    /// <summary>The controllerName that makes a class ours.</summary>
    public const string OurController = "meshproxy.io/gateway-controller";

    /// <summary>The class that exists without a document.</summary>
    public const string BuiltIn = "meshproxy";

    /// <inheritdoc/>
    public override string Kind => DocumentKinds.GatewayClass;

    /// <summary>spec.controllerName.</summary>
    public string ControllerName { get; init; } = "";
}

/// <summary>Gateway, gateway.networking.k8s.io/v1.</summary>
public sealed record GatewayDocument : Document
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.Gateway;

    /// <summary>spec.gatewayClassName.</summary>
    public string ClassName { get; init; } = "";

    /// <summary>IP addresses to bind; empty: every one.</summary>
    public ImmutableArray<string> Addresses { get; init; } = [];

    /// <summary>spec.listeners.</summary>
    public ImmutableArray<GatewayListener> Listeners { get; init; } = [];
}

/// <summary>One listener of a Gateway.</summary>
public sealed record GatewayListener
{
    /// <summary>The section's name.</summary>
    public required string Name { get; init; }

    /// <summary>Its port.</summary>
    public required int Port { get; init; }

    /// <summary>Its protocol.</summary>
    public required ListenerProtocol Protocol { get; init; }

    /// <summary>Lower case; null: any.</summary>
    public string? Hostname { get; init; }

    /// <summary>Secrets for TLS that ends here.</summary>
    public ImmutableArray<SecretRef> CertificateRefs { get; init; } = [];

    /// <summary>Which namespaces' routes may attach.</summary>
    public RouteNamespaces From { get; init; }

    /// <summary>Labels of namespaces for <see cref="RouteNamespaces.Selector"/>; namespaces carry kubernetes.io/metadata.name alone.</summary>
    public ImmutableDictionary<string, string> NamespaceSelector { get; init; } = ImmutableDictionary<string, string>.Empty;

    /// <summary>Kinds of routes that may attach; empty: those that fit the protocol.</summary>
    public ImmutableArray<string> AllowedKinds { get; init; } = [];

    /// <summary>Where in the document: "spec.listeners[0]".</summary>
    public string Field { get; init; } = "";
}

/// <summary>A reference to a Secret.</summary>
public readonly record struct SecretRef(ResourceName Name, string Field);

/// <summary>Gateway API allowedRoutes.namespaces.from.</summary>
public enum RouteNamespaces
{
    /// <summary>The Gateway's own.</summary>
    Same,

    /// <summary>Any.</summary>
    All,

    /// <summary>Those that the selector picks.</summary>
    Selector,

    /// <summary>None.</summary>
    None,
}
