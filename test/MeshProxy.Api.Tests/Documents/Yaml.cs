using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Identity;

namespace MeshProxy.Api.Tests.Documents;

/// <summary>Short ways to read and compile a text.</summary>
internal static class Yaml
{
    public static readonly TrustDomain Domain = TrustDomain.Parse("mesh.local");

    public static ReadResult Read(string text) => DocumentReader.Read([new DocumentSource("test.yaml", text)]);

    public static Document One(string text)
    {
        var read = Read(text);
        Assert.That(read.Errors, Is.Empty);
        return read.Documents.Single();
    }

    public static CompiledMesh Compile(string text, params LiveWorkload[] workloads)
    {
        var read = Read(text);
        Assert.That(read.Errors, Is.Empty);
        return MeshCompiler.Compile(new MeshInput(read.Documents, [.. workloads], Domain));
    }
}
