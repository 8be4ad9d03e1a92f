using System.Diagnostics;
using MeshProxy.Demo.Processes;

namespace MeshProxy.Demo.Mesh;

/// <summary>The operator of the demonstration: everything it tells the mesh goes through the real <c>meshctl</c>.</summary>
internal sealed class MeshCtl(string program, int controlPort, string credential, TimeProvider time)
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(20);

    /// <summary>Applies a file or directory and returns what meshctl said.</summary>
    public Task<string> ApplyAsync(string path, CancellationToken token) => RunAsync(["apply", "-f", path], token);

    /// <summary>A single-use join token for one workload.</summary>
    public async Task<string> CreateTokenAsync(string @namespace, string serviceAccount, CancellationToken token) =>
        (await RunAsync(["token", "create", "--namespace", @namespace, "--service-account", serviceAccount], token)).Trim();

    public async Task<MeshStatus> StatusAsync(CancellationToken token) => MeshStatus.Parse(await RunAsync(["status", "-o", "json"], token));

    /// <summary>Why the last <see cref="TryStatusAsync"/> without an answer had none.</summary>
    public string LastRefusal { get; private set; } = "";

    /// <summary>The same, but null instead of a failure: for asking a control plane that may not be there.</summary>
    public async Task<MeshStatus?> TryStatusAsync(CancellationToken token)
    {
        try
        {
            return await StatusAsync(token);
        }
        catch (DemoFailure failure)
        {
            LastRefusal = failure.Message;
            return null;
        }
    }

    private async Task<string> RunAsync(string[] arguments, CancellationToken token)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        string[] all = ["--server", $"127.0.0.1:{controlPort}", "--credential", credential, .. arguments];
        foreach (var argument in all)
        {
            start.ArgumentList.Add(argument);
        }

        using var bound = new CancellationTokenSource(Bound, time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(token, bound.Token);
        using var process = Process.Start(start)!;
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(both.Token);
            var errors = process.StandardError.ReadToEndAsync(both.Token);
            await process.WaitForExitAsync(both.Token);
            return process.ExitCode == 0
                ? await output
                : throw new DemoFailure($"meshctl {string.Join(' ', arguments)} ended with status {process.ExitCode}: {(await errors).Trim()}");
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            token.ThrowIfCancellationRequested();
            throw new DemoFailure($"meshctl {string.Join(' ', arguments)} did not end within {Bound.TotalSeconds:0} s");
        }
    }
}
