using System.Reflection;
using BenchmarkDotNet.Attributes;

namespace MeshProxy.Microbenchmarks;

/// <summary>
/// Runs every benchmark a few thousand times in this process and compares what it allocates with its budget: seconds instead of BenchmarkDotNet's minutes,
/// and bytes do not depend on how busy the machine is.
/// </summary>
internal static class AllocationGate
{
    private const int WarmUpCalls = 2_000;
    private const int MeasuredCalls = 1_000;
    private const int Windows = 5;

    /// <summary>Writes a line for each benchmark; the exit status is 1 when any is over its budget or has none.</summary>
    internal static int Run(TextWriter output)
    {
        var failed = 0;
        var types = typeof(AllocationGate).Assembly.GetTypes().Where(type => type.GetMethods().Any(IsBenchmark));
        foreach (var type in types.OrderBy(type => type.Name, StringComparer.Ordinal))
        {
            foreach (var method in type.GetMethods().Where(IsBenchmark))
            {
                var budget = method.GetCustomAttribute<AllocationBudgetAttribute>()?.Bytes;
                var bytes = BytesForCall(type, method);
                var good = budget is not null && bytes <= budget;
                failed += good ? 0 : 1;
                output.WriteLine($"{(good ? "ok    " : "FAILED")} {type.Name}.{method.Name}: {bytes} bytes, budget {(budget is null ? "missing" : budget.ToString())}");
            }
        }

        return failed == 0 ? 0 : 1;

        static bool IsBenchmark(MethodInfo method) => method.IsDefined(typeof(BenchmarkAttribute));
    }

    private static long BytesForCall(Type type, MethodInfo method)
    {
        var instance = Activator.CreateInstance(type);
        foreach (var setup in type.GetMethods().Where(m => m.IsDefined(typeof(GlobalSetupAttribute))))
        {
            setup.Invoke(instance, null);
        }

        // Every benchmark returns an int, which keeps its work alive and lets it be called without boxing.
        var call = method.CreateDelegate<Func<int>>(instance);
        for (var i = 0; i < WarmUpCalls; i++)
        {
            call();
        }

        // What else the runtime does on this thread (pools that the collector trims) can only add to a window. Rounded up: 0 means not one byte in all calls.
        var least = long.MaxValue;
        for (var window = 0; window < Windows; window++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < MeasuredCalls; i++)
            {
                call();
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return (least + MeasuredCalls - 1) / MeasuredCalls;
    }
}
