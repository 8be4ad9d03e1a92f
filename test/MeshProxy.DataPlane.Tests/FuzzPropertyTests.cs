using MeshProxy.Fuzz;

namespace MeshProxy.DataPlane.Tests;

/// <summary>Thousands of valid HTTP/1.1 messages of every shape, and what becomes of them when they are damaged: parsers and grammar agree on all.</summary>
public sealed class FuzzPropertyTests
{
    [Test]
    public void Generated_messages_mean_what_was_written()
    {
        SynchronizationContext.SetSynchronizationContext(null);
        var target = FuzzTargets.All.Single(one => one.Name == "http1-generated");
        var outcomes = new HashSet<string>();
        for (var seed = 0; seed < 3000; seed++)
        {
            var choices = new byte[300];
            new Random(seed).NextBytes(choices);
            Assert.That(() => outcomes.Add(target.Run(choices)), Throws.Nothing, $"seed {seed}");
        }

        Assert.That(outcomes, Has.Count.GreaterThan(1000), "messages of many shapes");
    }
}
