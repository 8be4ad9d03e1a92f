using MeshProxy.Http.Http2;

namespace MeshProxy.Http.Tests;

internal sealed class ReadmeTests
{
    [Test]
    public void EveryBufferStandsInTheReadmeWithItsBound() => ReadmeBuffers.Check("MeshProxy.Http", "UpgradeOffer.cs", "DateField.cs");

    [Test]
    public void EveryLimitStandsInTheReadme() => ReadmeLimits.Check("MeshProxy.Http", ReadmeLimits.In(typeof(Http2Limits).Assembly));

    [Test]
    public void TheEdgeDiffersFromTheMeshInOneNumber()
    {
        var differences = typeof(Http2Limits).GetProperties()
            .Where(property => !property.GetMethod!.IsStatic && !Equals(property.GetValue(Http2Limits.Edge), property.GetValue(Http2Limits.Mesh)))
            .Select(property => property.Name);
        Assert.That(differences, Is.EqualTo(new[] { nameof(Http2Limits.MaxConcurrentStreams) }));
        Assert.That(ReadmeTable.Read("MeshProxy.Http", "Limits").Cell("Http2Limits.MaxConcurrentStreams", "beyond it"),
            Does.Contain($"{Http2Limits.Edge.MaxConcurrentStreams} at a gateway"));
    }
}
