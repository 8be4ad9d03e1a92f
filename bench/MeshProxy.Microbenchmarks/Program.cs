using BenchmarkDotNet.Running;
using MeshProxy.Microbenchmarks;

// `-- --allocations` only compares allocated bytes with the budgets, `-- --routes` tells what route tables cost to compile and to keep; everything else is BenchmarkDotNet's command line (`-- --filter '*'`).
if (args is ["--allocations"])
{
    return AllocationGate.Run(Console.Out);
}

if (args is ["--routes"])
{
    RouteTableBenchmarks.Report(Console.Out);
    return 0;
}

BenchmarkSwitcher.FromAssembly(typeof(AllocationGate).Assembly).Run(args);
return 0;
