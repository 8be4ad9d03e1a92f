using System.CommandLine;
using MeshProxy.Api.Compilation;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Identity;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl validate`: the same reader and compiler as the server's, with no server.</summary>
internal static class ValidateCommand
{
    public static Command Create()
    {
        var files = DocumentFiles.Option(isRequired: true);
        var ns = new Option<string>("--namespace", "-n") { Description = "For documents that name none.", HelpName = "NS", DefaultValueFactory = _ => "default" };
        var domain = new Option<string>("--trust-domain") { Description = "The mesh's.", HelpName = "NAME", DefaultValueFactory = _ => "mesh.local" };
        var command = new VerbCommand(
            "validate",
            "Check documents here, without a server. What they refer to must be among them: a backend that is missing is a warning, everything else an error.",
            ("meshctl validate -f mesh/", "a whole directory, as one state"),
            ("git diff --name-only | grep yaml$ | xargs -n1 meshctl validate -f", "each changed file by itself")) { files, ns, domain };
        command.Run(async (result, _) =>
        {
            if (!TrustDomain.TryParse(result.GetValue(domain), out var trustDomain))
            {
                throw new CommandException(ExitStatus.Usage, $"--trust-domain '{result.GetValue(domain)}' is no trust domain: use lower-case letters, digits, '.', '-' and '_'.");
            }

            var error = result.InvocationConfiguration.Error;
            var read = DocumentReader.Read(DocumentFiles.Read(result.GetRequiredValue(files)), result.GetValue(ns)!);
            var check = DocumentCheck.Of(read, MeshCompiler.Compile(new MeshInput(read.Documents, [], trustDomain)));
            foreach (var problem in check.Errors)
            {
                await error.WriteLineAsync(problem.ToString());
            }

            foreach (var problem in check.Warnings)
            {
                await error.WriteLineAsync($"warning: {problem}");
            }

            if (!check.Errors.IsEmpty)
            {
                await error.WriteLineAsync($"meshctl: {check.Errors.Length} error{(check.Errors.Length == 1 ? "" : "s")}.");
                return ExitStatus.Refused;
            }

            if (read.Documents.IsEmpty)
            {
                throw new CommandException(ExitStatus.Refused, "there is no document in it.");
            }

            await result.InvocationConfiguration.Output.WriteLineAsync($"{read.Documents.Length} document{(read.Documents.Length == 1 ? "" : "s")} valid");
            return ExitStatus.Done;
        });
        return command;
    }
}
