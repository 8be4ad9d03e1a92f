using System.Collections.Concurrent;
using System.Globalization;
using MeshProxy.Fuzz;

// meshproxy-fuzz [--seconds N] [--count N] [--seed N] [--target NAME]...
// Exit status 0: nothing found; 1: a finding, which is printed as a line for its corpus; 2: usage.
var (seconds, count, seed) = (60d, long.MaxValue, Environment.TickCount);
var names = new List<string>();
for (var i = 0; i < args.Length; i += 2)
{
    var value = i + 1 < args.Length ? args[i + 1] : "";
    var isGood = args[i] switch
    {
        "--seconds" => double.TryParse(value, CultureInfo.InvariantCulture, out seconds) && seconds > 0,
        "--count" => long.TryParse(value, CultureInfo.InvariantCulture, out count) && count > 0,
        "--seed" => int.TryParse(value, CultureInfo.InvariantCulture, out seed),
        "--target" => FuzzTargets.All.Any(target => target.Name == value),
        _ => false,
    };
    if (!isGood)
    {
        Console.Error.WriteLine($"usage: --seconds N (all targets together, default 60)  --count N (each target)  --seed N  --target {string.Join('|', FuzzTargets.All.Select(target => target.Name))}");
        return 2;
    }

    if (args[i] == "--target")
    {
        names.Add(value);
    }
}

FuzzTarget[] targets = [.. FuzzTargets.All.Where(target => names.Count == 0 || names.Contains(target.Name))];
var workers = Math.Min(Environment.ProcessorCount, targets.Length);
var each = TimeSpan.FromSeconds(seconds * workers / targets.Length);
Console.WriteLine($"seed {seed}, {each.TotalSeconds:0.0} s for each of {targets.Length} targets, {workers} at a time");
var waiting = new ConcurrentQueue<FuzzTarget>(targets);
var found = 0;
var threads = Enumerable.Range(0, workers).Select(_ => new Thread(() =>
{
    while (waiting.TryDequeue(out var target))
    {
        Report(Fuzzer.Run(target, seed, each, count));
    }
})).ToArray();
Array.ForEach(threads, thread => thread.Start());
Array.ForEach(threads, thread => thread.Join());
return found == 0 ? 0 : 1;

void Report(FuzzResult result)
{
    Console.WriteLine($"{result.Target,-20} {result.Executions,10} executions  {result.Executions / result.Took.TotalSeconds,9:0}/s  pool {result.Pool}");
    if (result.Finding is not null)
    {
        Interlocked.Increment(ref found);
        Console.WriteLine($"FINDING in {result.Target}: {result.Message}\nadd to Corpora/{result.Target}.txt:\n{result.Finding.Name}: {Escaped.Write(result.Finding.Input)}");
    }
}
