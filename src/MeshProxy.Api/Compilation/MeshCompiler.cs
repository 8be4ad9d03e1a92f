using System.Collections.Immutable;

namespace MeshProxy.Api.Compilation;

/// <summary>Makes configuration of documents and workloads: pure, deterministic, the same everywhere.</summary>
public static class MeshCompiler
{
    /// <summary>Compiles everything.</summary>
    public static CompiledMesh Compile(MeshInput input) => throw new NotImplementedException();

    /// <summary>The cheap path when only registered workloads changed: new endpoints, addresses, inbounds and refusals, the rest as it was.</summary>
    /// <param name="mesh">What <see cref="Compile"/> made of the same documents.</param>
    /// <param name="workloads">All of them.</param>
    public static CompiledMesh WithWorkloads(CompiledMesh mesh, ImmutableArray<LiveWorkload> workloads) => throw new NotImplementedException();
}
