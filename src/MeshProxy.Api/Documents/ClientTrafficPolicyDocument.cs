using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>ClientTrafficPolicy, meshproxy.io/v1alpha1: how a Gateway, one of its listeners, or the inbound of a Service treats its clients. Of several that
/// apply the most specific wins for each of these fields; null: not set here.</summary>
public sealed record ClientTrafficPolicyDocument : PolicyDocument
{
    /// <inheritdoc/>
    public override string Kind => DocumentKinds.ClientTrafficPolicy;

    /// <summary>spec.path.</summary>
    public PathTrafficConfig? Path { get; init; }

    /// <summary>spec.headers.</summary>
    public ClientHeaders? Headers { get; init; }

    /// <summary>spec.via.</summary>
    public bool? Via { get; init; }

    /// <summary>spec.upgrade.protocols.</summary>
    public ImmutableArray<string>? UpgradeProtocols { get; init; }

    /// <summary>spec.callerDeadlines.</summary>
    public bool? CallerDeadlines { get; init; }

    /// <summary>spec.timeouts.</summary>
    public ClientTimeoutsConfig? Timeouts { get; init; }

    /// <summary>spec.http2.maxConcurrentStreams.</summary>
    public int? MaxConcurrentStreams { get; init; }

    /// <summary>spec.maxRequestBodyBytes.</summary>
    public long? MaxRequestBodyBytes { get; init; }
}

/// <summary>spec.headers of a ClientTrafficPolicy.</summary>
public sealed record ClientHeaders(UnderscorePolicy Underscores, ForwardedConfig? Forwarded);
