using MeshProxy.Fuzz;

namespace MeshProxy.DataPlane.Tests;

/// <summary>Every seed of every fuzz target, by name: where fuzzing starts, and what it found once.</summary>
public sealed class FuzzSeedTests
{
    [TestCaseSource(nameof(Seeds))]
    public void Seed(string target, byte[] input)
    {
        SynchronizationContext.SetSynchronizationContext(null);
        Assert.That(() => FuzzTargets.All.Single(one => one.Name == target).Run(input), Throws.Nothing);
    }

    private static IEnumerable<TestCaseData> Seeds() =>
        from target in FuzzTargets.All
        from seed in Corpus.Of(target)
        select new TestCaseData(target.Name, seed.Input).SetName($"{target.Name}: {seed.Name}");
}
