namespace MeshProxy.Demo.Processes;

/// <summary>Every process that the demonstration started, in the order in which it started them.</summary>
internal sealed class Fleet(string logDirectory, TimeProvider time) : IDisposable
{
    private static readonly TimeSpan TerminateBound = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan KillBound = TimeSpan.FromSeconds(3);
    // The script starts the control plane again while the observer looks through the list.
    private readonly Lock _listing = new();
    private readonly List<ChildProcess> _children = [];

    public ChildProcess Start(string name, string program, IEnumerable<string> arguments)
    {
        var child = ChildProcess.Start(name, logDirectory, program, arguments);
        lock (_listing)
        {
            _children.Add(child);
        }

        return child;
    }

    /// <exception cref="DemoFailure">A process ended that nobody told to.</exception>
    public void ThrowIfOneDied()
    {
        if (Array.Find(Children(), child => child.EndedByItself) is { } dead)
        {
            throw new DemoFailure($"{dead.Name} ended by itself with status {dead.ExitCode}", dead);
        }
    }

    /// <summary>
    /// Ends everything: first what <paramref name="first"/> names, together, then the rest. SIGTERM, then SIGKILL after a bound.
    /// Returns the names of those that had to be killed.
    /// </summary>
    public async Task<IReadOnlyList<string>> StopAsync(Func<ChildProcess, bool> first)
    {
        var killed = new List<string>();
        foreach (var wave in Children().Where(child => !child.HasExited).GroupBy(first).OrderByDescending(group => group.Key))
        {
            var members = wave.ToArray();
            foreach (var child in members)
            {
                child.Terminate();
            }

            await Task.WhenAll(members.Select(child => WaitAsync(child, TerminateBound)));
            foreach (var child in members.Where(child => !child.HasExited))
            {
                killed.Add(child.Name);
                child.Kill();
            }

            await Task.WhenAll(members.Select(child => WaitAsync(child, KillBound)));
        }

        return killed;
    }

    public void Dispose()
    {
        foreach (var child in Children())
        {
            child.Kill();
            child.Dispose();
        }
    }

    private ChildProcess[] Children()
    {
        lock (_listing)
        {
            return [.. _children];
        }
    }

    private async Task WaitAsync(ChildProcess child, TimeSpan bound)
    {
        using var timer = new CancellationTokenSource(bound, time);
        try
        {
            await child.WaitForExitAsync(timer.Token);
        }
        catch (OperationCanceledException)
        {
            // The caller sees that it has not exited.
        }
    }
}
