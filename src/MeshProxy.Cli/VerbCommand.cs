using System.CommandLine;

namespace MeshProxy.Cli;

/// <summary>A command whose help ends with examples.</summary>
internal sealed class VerbCommand(string name, string description, params (string Line, string Meaning)[] examples) : Command(name, description)
{
    public IReadOnlyList<(string Line, string Meaning)> Examples { get; } = examples;

    /// <summary>Sets what it does. Failures that are told to the operator end here, with their exit status.</summary>
    public void Run(Func<ParseResult, CancellationToken, Task<int>> action) => SetAction(async (result, cancellation) =>
    {
        var error = result.InvocationConfiguration.Error;
        try
        {
            return await action(result, cancellation);
        }
        catch (CommandException e)
        {
            await error.WriteLineAsync($"meshctl: {e.Message}");
            return e.Status;
        }
        catch (Grpc.Core.RpcException e)
        {
            var failure = ServerConnection.Explain(e, result.GetValue(ServerOptions.Server)!);
            await error.WriteLineAsync($"meshctl: {failure.Message}");
            return failure.Status;
        }
        catch (OperationCanceledException)
        {
            return ExitStatus.Interrupted;
        }
    });
}
