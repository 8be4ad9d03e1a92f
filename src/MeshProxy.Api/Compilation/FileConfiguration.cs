using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Compilation;

/// <summary>Configuration of a data plane that runs alone, from files.</summary>
public static class FileConfiguration
{
    /// <summary>The trust domain that names identities where there is no mesh.</summary>
    private static readonly TrustDomain Alone = TrustDomain.Parse("mesh.local");

    /// <summary>Compiles files: all Gateways become listeners, all Services destinations. Tells also what is served but surely not meant, such as a backend that does not exist (its share of requests gets 500).</summary>
    /// <param name="sources">The files.</param>
    /// <param name="revision">Names this state of the files.</param>
    /// <param name="warnings">What does not keep the configuration from being served.</param>
    /// <returns>The configuration, or null when there is any error: then the last good one stays in force.</returns>
    public static (ProxyConfig? Config, ImmutableArray<DocumentError> Errors) Compile(
        IEnumerable<DocumentSource> sources, string revision, out ImmutableArray<DocumentError> warnings)
    {
        var read = DocumentReader.Read(sources);
        var mesh = MeshCompiler.Compile(new MeshInput(read.Documents, [], Alone));
        var check = DocumentCheck.Of(read, mesh);
        var listeners = mesh.Gateways.OrderBy(pair => pair.Key.ToString(), StringComparer.Ordinal).SelectMany(pair => pair.Value).ToImmutableArray();
        var errors = check.Errors.AddRange(PortConflicts(listeners, read.Documents));
        warnings = check.Warnings;
        if (!errors.IsEmpty)
        {
            return (null, errors);
        }

        var config = new ProxyConfig
        {
            Revision = revision,
            Listeners = listeners,
            Destinations = mesh.Destinations,
            Endpoints = mesh.Endpoints,
            Addresses = mesh.Addresses,
        };
        return (config, []);
    }

    /// <summary>Two Gateways may share a port only when they can be told apart.</summary>
    private static IEnumerable<DocumentError> PortConflicts(ImmutableArray<ListenerConfig> listeners, ImmutableArray<Document> documents)
    {
        foreach (var port in listeners.GroupBy(listener => (listener.Address, listener.Port)))
        {
            var first = port.First();
            foreach (var other in port.Skip(1).Where(other => !other.Protocol.SharesPortWith(first.Protocol) || other.Hostname == first.Hostname))
            {
                var gateway = documents.OfType<GatewayDocument>().FirstOrDefault(document => other.Id.StartsWith(document.Name + "/", StringComparison.Ordinal));
                var message = $"listener {other.Id} and listener {first.Id} both want port {other.Port}: give one another port, or both the same protocol and different hostnames";
                yield return gateway?.Error("spec.listeners", message) ?? new DocumentError("", 0, 0, "", "", message);
            }
        }
    }
}
