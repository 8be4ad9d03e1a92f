using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>A process of ours: its lines are kept for judging and for failure messages, and it is ended by its own id.</summary>
internal sealed partial class ManagedProcess : IAsyncDisposable
{
    public static readonly TimeSpan StartBound = TimeSpan.FromSeconds(40);
    private const int LinesShown = 20;
    private const int Interrupt = 2;
    private const int Termination = 15;
    private readonly Process _process;
    private readonly Lock _reading = new();
    private readonly List<string> _output = [];
    private readonly List<string> _errors = [];
    private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ManagedProcess(string name, ProcessStartInfo start)
    {
        Name = name;
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Keep(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(_errors, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Name { get; }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public int ExitCode => _process.ExitCode;

    public string[] Output => Copy(_output);

    public string[] Errors => Copy(_errors);

    /// <summary>Standard error, each line that is JSON.</summary>
    public IEnumerable<JsonElement> Log => Errors.Select(TryParse).OfType<JsonElement>();

    /// <summary>Standard output, each line as JSON; a line that is none fails the test.</summary>
    public JsonElement[] AccessLog => [.. Output.Select(line => TryParse(line) ?? throw new AssertionException($"{Name} wrote a line to its access log that is no JSON: {line}"))];

    public static ManagedProcess Start(string name, string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        // What the machine's owner has set must not change what is tested.
        foreach (var variable in start.Environment.Keys.Where(key => key is not "MESHPROXY_BIN" && (key.StartsWith("MESHPROXY_", StringComparison.Ordinal) || key.StartsWith("MESHCTL_", StringComparison.Ordinal) || key.EndsWith("_proxy", StringComparison.OrdinalIgnoreCase))).ToArray())
        {
            start.Environment.Remove(variable);
        }

        foreach (var (key, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[key] = value;
        }

        var process = new ManagedProcess(name, start);
        process._process.StandardInput.Close();
        return process;
    }

    /// <summary>Runs a program to its end.</summary>
    public static async Task<(int ExitCode, string Output, string Errors)> RunAsync(string program, IEnumerable<string> arguments, TimeSpan? bound = null, string? input = null)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using var deadline = new CancellationTokenSource(bound ?? TimeSpan.FromSeconds(40));
        using var process = Process.Start(start)!;
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(deadline.Token);
            var errors = process.StandardError.ReadToEndAsync(deadline.Token);
            await process.StandardInput.WriteAsync(input);
            process.StandardInput.Close();
            await process.WaitForExitAsync(deadline.Token);
            return (process.ExitCode, await output, await errors);
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw new AssertionException($"{Path.GetFileName(program)} {string.Join(' ', arguments)} did not end in time");
        }
    }

    /// <summary>The first log line with this <c>event.action</c> after <paramref name="skip"/> of them.</summary>
    public Task<JsonElement> LoggedAsync(string action, TimeSpan? bound = null, int skip = 0) =>
        LoggedAsync(line => Text(line, "event.action") == action, $"event.action {action}", bound, skip);

    /// <summary>The first log line that is as wanted after <paramref name="skip"/> of them.</summary>
    public async Task<JsonElement> LoggedAsync(Func<JsonElement, bool> wanted, string description, TimeSpan? bound = null, int skip = 0)
    {
        using var deadline = new CancellationTokenSource(bound ?? StartBound);
        while (true)
        {
            Task grown;
            lock (_reading)
            {
                grown = _grown.Task;
            }

            var hasExited = _process.HasExited;
            if (Log.Where(wanted).Skip(skip).Take(1).ToArray() is [var found])
            {
                return found;
            }

            if (hasExited)
            {
                throw new AssertionException($"{Name} ended with status {_process.ExitCode} without a log line with {description}\n{Report()}");
            }

            try
            {
                // An exit brings no line of its own: look again now and then.
                await Task.WhenAny(grown, Task.Delay(200, deadline.Token));
                deadline.Token.ThrowIfCancellationRequested();
            }
            catch (OperationCanceledException)
            {
                throw new AssertionException($"{Name} wrote no log line with {description} in time\n{Report()}");
            }
        }
    }

    /// <summary>SIGTERM.</summary>
    public void Terminate() => Signal(Termination);

    /// <summary>SIGINT.</summary>
    public void InterruptOnce() => Signal(Interrupt);

    public void Kill()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }
    }

    public async Task<int> WaitForExitAsync(TimeSpan? bound = null)
    {
        using var deadline = new CancellationTokenSource(bound ?? TimeSpan.FromSeconds(40));
        try
        {
            await _process.WaitForExitAsync(deadline.Token);
            return _process.ExitCode;
        }
        catch (OperationCanceledException)
        {
            throw new AssertionException($"{Name} did not end in time\n{Report()}");
        }
    }

    /// <summary>Resident bytes now (VmRSS).</summary>
    public long ResidentBytes() => StatusBytes("VmRSS:");

    /// <summary>The most that it ever had resident (VmHWM).</summary>
    public long PeakResidentBytes() => StatusBytes("VmHWM:");

    /// <summary>What it wrote last, for a failure message.</summary>
    public string Report(int lines = 12)
    {
        var text = new StringBuilder($"--- {Name} (process {Id}{(HasExited ? $", ended with {ExitCode}" : "")})\n");
        foreach (var line in Errors.TakeLast(lines).Concat(Output.TakeLast(lines / 3)))
        {
            text.AppendLine(line);
        }

        return text.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();

        // Shown only when the test fails.
        foreach (var line in Output.TakeLast(LinesShown).Concat(Errors.TakeLast(LinesShown)))
        {
            TestContext.Out.WriteLine($"{Name}: {line}");
        }
    }

    public static string? Text(JsonElement line, string field) =>
        line.ValueKind == JsonValueKind.Object && line.TryGetProperty(field, out var value) ? value.ToString() : null;

    private void Signal(int signal)
    {
        if (!_process.HasExited && SendSignal(_process.Id, signal) != 0)
        {
            throw new AssertionException($"{Name} could not be sent signal {signal}");
        }
    }

    private static JsonElement? TryParse(string line)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            return json.RootElement.Clone();
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private void Keep(List<string> lines, string? line)
    {
        TaskCompletionSource grown;
        lock (_reading)
        {
            if (line is not null)
            {
                lines.Add(line);
            }

            grown = _grown;
            _grown = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        grown.TrySetResult();
    }

    private string[] Copy(List<string> lines)
    {
        lock (_reading)
        {
            return [.. lines];
        }
    }

    private long StatusBytes(string field)
    {
        var line = File.ReadLines($"/proc/{Id}/status").First(line => line.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line[field.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), System.Globalization.CultureInfo.InvariantCulture) * 1024;
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
