using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MeshProxy.Demo.Processes;

/// <summary>One process of the demonstration, ended by its own id and never by name.</summary>
internal sealed partial class ChildProcess : IDisposable
{
    private const int TerminateSignal = 15;
    private readonly Process _process;
    private volatile bool _endExpected;

    private ChildProcess(string name, string outputLog, string errorLog, Process process)
    {
        Name = name;
        OutputLog = outputLog;
        ErrorLog = errorLog;
        _process = process;
    }

    public string Name { get; }

    public string OutputLog { get; }

    public string ErrorLog { get; }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public bool EndedByItself => _process.HasExited && !_endExpected;

    public int ExitCode => _process.ExitCode;

    /// <summary>
    /// Starts it with standard output and error in files. A shell opens the files and then becomes the program, so the process id stays and no
    /// pipe of ours can hold up what the child writes.
    /// </summary>
    public static ChildProcess Start(string name, string logDirectory, string program, IEnumerable<string> arguments)
    {
        var outputLog = Path.Combine(logDirectory, $"{name}.out");
        var errorLog = Path.Combine(logDirectory, $"{name}.log");
        var start = new ProcessStartInfo("/bin/sh") { UseShellExecute = false };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add("out=$1; err=$2; shift 2; exec \"$@\" >>\"$out\" 2>>\"$err\" </dev/null");
        start.ArgumentList.Add("sh");
        start.ArgumentList.Add(outputLog);
        start.ArgumentList.Add(errorLog);
        start.ArgumentList.Add(program);
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return new ChildProcess(name, outputLog, errorLog, Process.Start(start)!);
    }

    /// <summary>SIGTERM.</summary>
    public void Terminate()
    {
        _endExpected = true;
        if (!_process.HasExited)
        {
            _ = SendSignal(_process.Id, TerminateSignal);
        }
    }

    /// <summary>SIGKILL.</summary>
    public void Kill()
    {
        _endExpected = true;
        if (!_process.HasExited)
        {
            _process.Kill();
        }
    }

    public Task WaitForExitAsync(CancellationToken token) => _process.WaitForExitAsync(token);

    /// <summary>The last lines that it wrote (its own log, or its standard output when there is none), for a failure report.</summary>
    public string Tail(int lines = 20)
    {
        var log = new FileInfo(ErrorLog) is { Exists: true, Length: > 0 } ? ErrorLog : OutputLog;
        var last = File.Exists(log) ? string.Join('\n', File.ReadLines(log).TakeLast(lines)) : "";
        return last.Length > 0 ? last : "(it wrote nothing)";
    }

    public void Dispose() => _process.Dispose();

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int SendSignal(int processId, int signal);
}
