using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>Service, v1.</summary>
public sealed record ServiceDocument : Document
{
    /// <summary>The annotation that lists the service accounts that may serve it.</summary>
    public const string ServiceAccountsAnnotation = "meshproxy.io/service-accounts";

    /// <inheritdoc/>
    public override string Kind => DocumentKinds.Service;

    /// <summary>Labels that a workload must carry; empty: no workload is picked.</summary>
    public ImmutableDictionary<string, string> Selector { get; init; } = ImmutableDictionary<string, string>.Empty;

    /// <summary>Its ports.</summary>
    public ImmutableArray<ServicePort> Ports { get; init; } = [];

    /// <summary>Names of the accounts, in the service's namespace, that may serve it. Default: the one with the service's own name.</summary>
    public ImmutableArray<string> ServiceAccounts { get; init; } = [];

    /// <summary>True when a workload with these labels serves it, its identity apart.</summary>
    public bool Selects(IReadOnlyDictionary<string, string> labels)
    {
        if (Selector.IsEmpty)
        {
            return false;
        }

        foreach (var (key, value) in Selector)
        {
            if (!labels.TryGetValue(key, out var found) || found != value)
            {
                return false;
            }
        }

        return true;
    }
}

/// <summary>One port of a Service.</summary>
/// <param name="Name">Empty when the service has only one.</param>
/// <param name="Port">What callers dial.</param>
/// <param name="Target">The workload's port.</param>
/// <param name="Protocol">The declared appProtocol.</param>
public sealed record ServicePort(string Name, int Port, PortTarget Target, AppProtocol Protocol);

/// <summary>A port by number or by the name that the workload gives it.</summary>
/// <param name="Number">The number; 0 when <paramref name="Name"/> is set.</param>
/// <param name="Name">The name; null when it is a number.</param>
public readonly record struct PortTarget(int Number, string? Name);
