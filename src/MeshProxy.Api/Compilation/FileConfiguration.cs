using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>Configuration of a data plane that runs alone, from files.</summary>
public static class FileConfiguration
{
    /// <summary>Compiles files: all Gateways become listeners, all Services destinations.</summary>
    /// <param name="sources">The files.</param>
    /// <param name="revision">Names this state of the files.</param>
    /// <returns>The configuration, or null when there is any error: then the last good one stays in force.</returns>
    public static (ProxyConfig? Config, ImmutableArray<DocumentError> Errors) Compile(IEnumerable<DocumentSource> sources, string revision) => throw new NotImplementedException();
}
