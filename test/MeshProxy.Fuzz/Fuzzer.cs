using System.Diagnostics;

namespace MeshProxy.Fuzz;

/// <summary>What fuzzing one target gave.</summary>
internal sealed record FuzzResult(string Target, long Executions, int Pool, TimeSpan Took, Seed? Finding, string? Message);

/// <summary>
/// Mutates a pool of inputs until time or count is used up, or a finding is there. The pool begins with the corpus and grows by every input whose outcome
/// was not seen before. The same seed, count and build give the same run.
/// </summary>
internal static class Fuzzer
{
    private const int LargestPool = 4_000;

    public static FuzzResult Run(FuzzTarget target, int seed, TimeSpan time, long count)
    {
        var clock = Stopwatch.StartNew();
        var random = new Random(seed);
        var mutator = new Mutator(random, [.. target.Tokens.Select(Escaped.Read)]);
        var pool = new List<byte[]>();
        var outcomes = new HashSet<string>(StringComparer.Ordinal);
        long executions = 0;
        foreach (var start in Corpus.Of(target))
        {
            if (Judge(start.Input) is { } message)
            {
                return new FuzzResult(target.Name, executions, pool.Count, clock.Elapsed, start, message);
            }

            pool.Add(start.Input);
        }

        while (executions < count && ((executions & 0xFF) != 0 || clock.Elapsed < time))
        {
            // Half of the time from what came last: what is new is worth most.
            var from = random.Next(2) == 0 ? random.Next(pool.Count) : pool.Count - 1 - random.Next(Math.Min(pool.Count, 32));
            var input = mutator.Mutate(pool[from], pool[random.Next(pool.Count)]);
            var known = outcomes.Count;
            if (Judge(input) is { } message)
            {
                var (small, smallMessage) = Shrink(target, input, message);
                return new FuzzResult(target.Name, executions, pool.Count, clock.Elapsed, new Seed("finding", small), smallMessage);
            }

            if (outcomes.Count > known && pool.Count < LargestPool)
            {
                pool.Add(input);
            }
        }

        return new FuzzResult(target.Name, executions, pool.Count, clock.Elapsed, null, null);

        string? Judge(byte[] input)
        {
            executions++;
            var (outcome, message) = Try(target, input);
            outcomes.Add(outcome);
            return message;
        }
    }

    // Smaller while it is still a finding: pieces of halving length are taken out.
    private static (byte[] Input, string Message) Shrink(FuzzTarget target, byte[] input, string message)
    {
        for (var length = input.Length / 2; length > 0; length /= 2)
        {
            for (var at = 0; at + length <= input.Length;)
            {
                byte[] less = [.. input[..at], .. input[(at + length)..]];
                if (Try(target, less).Message is { } stillWrong)
                {
                    (input, message) = (less, stillWrong);
                }
                else
                {
                    at += length;
                }
            }
        }

        return (input, message);
    }

    private static (string Outcome, string? Message) Try(FuzzTarget target, byte[] input)
    {
        try
        {
            return (target.Run(input), null);
        }
        catch (FindingException finding)
        {
            return ("", finding.Message);
        }
#pragma warning disable CA1031 // whatever is thrown is a finding
        catch (Exception failure)
#pragma warning restore CA1031
        {
            return ("", failure.ToString());
        }
    }
}
