using BenchmarkDotNet.Running;
using MeshProxy.Microbenchmarks;

// `-- --allocations` only compares allocated bytes with the budgets; everything else is BenchmarkDotNet's command line (`-- --filter '*'`).
if (args is ["--allocations"])
{
    return AllocationGate.Run(Console.Out);
}

BenchmarkSwitcher.FromAssembly(typeof(AllocationGate).Assembly).Run(args);
return 0;
