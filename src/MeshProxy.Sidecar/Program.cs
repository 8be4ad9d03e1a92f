using System.CommandLine;
using MeshProxy.Sidecar;

// The data plane has event loops of its own (Transport/EventLoop). The runtime's socket engine serves only gRPC and probes here, so that its inline
// completions stay off: nothing that this project awaits can stall a loop.
var command = new SidecarCommand(Environment.GetEnvironmentVariable, options => Sidecar.RunAsync(options, TimeProvider.System));
var parsed = command.Root.Parse(args);

// The sidecar handles SIGTERM and SIGINT itself.
var status = await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
return parsed.Errors.Count > 0 ? SidecarCommand.BadUsage : status;
