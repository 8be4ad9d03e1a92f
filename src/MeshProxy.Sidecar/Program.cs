using System.CommandLine;
using MeshProxy.Sidecar;

// The data plane has event loops of its own (Transport/EventLoop). The runtime's socket engine serves only gRPC and probes here, so that its inline
// completions stay off: nothing that this project awaits can stall a loop.
var command = new SidecarCommand(Environment.GetEnvironmentVariable);
command.Root.SetAction(async (parsed, _) =>
{
    var (options, errors) = command.Read(parsed);
    if (options is null)
    {
        foreach (var error in errors)
        {
            Console.Error.WriteLine(error);
        }

        return 2;
    }

    return await Sidecar.RunAsync(options, TimeProvider.System);
});

// The sidecar handles signals itself; a bad flag is exit status 2, a document or a start that fails is 1.
var result = command.Root.Parse(args);
var status = await result.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
return result.Errors.Count > 0 ? 2 : status;
