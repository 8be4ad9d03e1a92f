using System.CommandLine;
using MeshProxy.ControlPlane;

return await ControlPlaneCommand.Create().Parse(args).InvokeAsync(new InvocationConfiguration
{
    // The server handles SIGTERM and SIGINT itself.
    ProcessTerminationTimeout = null,
});
