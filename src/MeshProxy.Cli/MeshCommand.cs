using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using MeshProxy.Cli.Commands;

namespace MeshProxy.Cli;

/// <summary>The whole command line: one file for each verb in Commands/.</summary>
internal static class MeshCommand
{
    public static RootCommand Create()
    {
        var root = new RootCommand(
            """
            meshctl steers a MeshProxy mesh: it hands documents (Service, HTTPRoute, ...) to the control plane and shows what every sidecar makes of them.

            It needs the operator credential that the control plane wrote at its first start (operator.pem, beside it trust-bundle.pem):
              export MESHCTL_SERVER=127.0.0.1:15012
              export MESHCTL_CREDENTIAL=/path/to/operator.pem

            Exit status: 0 done, 1 refused by the server or an invalid document, 2 wrong usage, 3 server unreachable.
            """)
        {
            ServerOptions.Server,
            ServerOptions.Credential,
            ServerOptions.TrustBundle,
            ApplyCommand.Create(),
            GetCommand.Create(),
            DeleteCommand.Create(),
            StatusCommand.Create(),
            TokenCommand.Create(),
            ValidateCommand.Create(),
            CompletionCommand.Create(),
        };
        foreach (var help in root.Options.OfType<HelpOption>())
        {
            help.Action = new HelpWithExamples((HelpAction)help.Action!);
        }

        return root;
    }

    /// <summary>Parses and runs; returns the exit status.</summary>
    public static async Task<int> RunAsync(string[] args, TextWriter output, TextWriter error)
    {
        var result = Create().Parse(args);
        if (result.Action is ParseErrorAction)
        {
            foreach (var problem in result.Errors)
            {
                await error.WriteLineAsync($"meshctl: {problem.Message}");
            }

            await error.WriteLineAsync($"Try 'meshctl {string.Join(' ', Path(result.CommandResult.Command, result))}--help'.");
            return ExitStatus.Usage;
        }

        return await result.InvokeAsync(new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false });
    }

    private static IEnumerable<string> Path(Command command, ParseResult result) =>
        command == result.RootCommandResult.Command ? [] : [.. command.Parents.OfType<Command>().Take(1).SelectMany(parent => Path(parent, result)).Select(name => name.TrimEnd()), command.Name + " "];

    /// <summary>The usual help, then the examples of the command.</summary>
    private sealed class HelpWithExamples(HelpAction inner) : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            var status = inner.Invoke(parseResult);
            if (parseResult.CommandResult.Command is VerbCommand { Examples.Count: > 0 } verb)
            {
                var output = parseResult.InvocationConfiguration.Output;
                output.WriteLine("Examples:");
                foreach (var (line, meaning) in verb.Examples)
                {
                    output.WriteLine($"  {line}");
                    output.WriteLine($"      {meaning}");
                }

                output.WriteLine();
            }

            return status;
        }
    }
}
