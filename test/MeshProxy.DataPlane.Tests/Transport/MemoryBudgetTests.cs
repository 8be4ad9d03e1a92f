using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Tests.Transport;

internal sealed class MemoryBudgetTests
{
    [Test]
    public void Shedding_begins_above_the_budget_and_ends_below_nine_tenths_of_it()
    {
        var held = 0L;
        var budget = new MemoryBudget(1000, () => held);
        Assert.Multiple(() =>
        {
            // Held, whether that changes anything, and whether load is shed then.
            foreach (var (bytes, changes, sheds) in new[]
            {
                (0L, false, false), (1000, false, false), (1001, true, true), (1000, false, true), (900, false, true), (899, true, false), (1000, false, false), (2000, true, true), (0, true, false),
            })
            {
                held = bytes;
                Assert.That((budget.Judge(out var seen), budget.IsExhausted, seen), Is.EqualTo((changes, sheds, bytes)));
            }
        });
    }

    [Test]
    public void The_default_is_a_third_of_what_the_runtime_may_use_and_at_most_1_GiB() =>
        Assert.That(MemoryBudget.DefaultBytes, Is.EqualTo(Math.Min(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 3, 1L << 30)).And.GreaterThan(MemoryBudget.LeastBytes));
}
