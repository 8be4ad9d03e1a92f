using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using MeshProxy.Demo;
using MeshProxy.Demo.Apps;
using MeshProxy.Demo.Processes;
using MeshProxy.Demo.Screen;

[assembly: SupportedOSPlatform("linux")]

const int Failed = 1;
const int BadUsage = 2;
const int Interrupted = 130;

if (args is ["app", ..])
{
    // One of the applications: the demonstration starts itself once more for each.
    await AppHost.RunAsync(AppOptions.Parse(args.AsSpan(1)));
    return 0;
}

if (args.AsSpan().ContainsAny("--help", "-h"))
{
    Console.WriteLine(DemoOptions.Help);
    return 0;
}

DemoOptions options;
try
{
    options = DemoOptions.Parse(args);
}
catch (FormatException wrong)
{
    Console.Error.WriteLine($"{wrong.Message}\n\n{DemoOptions.Help}");
    return BadUsage;
}

using var interrupted = new CancellationTokenSource();
using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, OnSignal);
using IScreen screen = options.Json || Console.IsOutputRedirected
    ? new PlainScreen(options.Json ? Console.Error : Console.Out)
    : new LiveScreen();
try
{
    return await new Demonstration(options, screen, TimeProvider.System).RunAsync(interrupted.Token) ? 0 : Failed;
}
catch (Exception stopped) when (stopped is OperationCanceledException or DemoFailure && interrupted.IsCancellationRequested)
{
    return Interrupted;
}
catch (DemoFailure failure)
{
    screen.Dispose();
    Console.Error.WriteLine($"\nThe demonstration failed: {failure.Message}");
    if (options.Json)
    {
        Console.Out.WriteLine(Summary.FailureToJson(failure.Message));
    }

    return Failed;
}

void OnSignal(PosixSignalContext signal)
{
    // The orderly way down ends every process that was started; a default exit would leave them behind.
    signal.Cancel = true;
    interrupted.Cancel();
}
