using System.CommandLine;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Mapping;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl apply`: the source text goes to the server, which parses it, so that errors are the same everywhere.</summary>
internal static class ApplyCommand
{
    public static Command Create()
    {
        var files = DocumentFiles.Option(isRequired: true);
        var ns = new Option<string>("--namespace", "-n") { Description = "For documents that name none.", HelpName = "NS", DefaultValueFactory = _ => "default" };
        var dryRun = new Option<bool>("--dry-run") { Description = "Let the server check everything and store nothing." };
        var command = new VerbCommand(
            "apply",
            "Create or change documents: all of them, or, with one error, none.",
            ("meshctl apply -f payments.yaml", "one file, any number of documents in it"),
            ("meshctl apply -f mesh/ -f edge.yaml", "a directory and a file, as one change"),
            ("meshctl apply --dry-run -f mesh/", "what would be refused or changed"),
            ("cat route.yaml | meshctl apply -f -", "from a pipe")) { files, ns, dryRun };
        command.Run(async (result, cancellation) =>
        {
            var output = result.InvocationConfiguration.Output;
            var error = result.InvocationConfiguration.Error;
            var request = new ApplyRequest { DryRun = result.GetValue(dryRun), DefaultNamespace = result.GetValue(ns) };
            request.Sources.AddRange(DocumentFiles.Read(result.GetRequiredValue(files)).Select(source => new Source { Name = source.Name, Text = source.Text }));
            using var connection = ServerConnection.Open(result);
            var reply = await connection.Resources.ApplyAsync(request, deadline: ServerConnection.Deadline, cancellationToken: cancellation);
            if (reply.Errors.Count > 0)
            {
                foreach (var problem in reply.Errors)
                {
                    await error.WriteLineAsync(ConfigMapping.ToModel(problem).ToString());
                }

                await error.WriteLineAsync($"meshctl: nothing was applied: {reply.Errors.Count} error{(reply.Errors.Count == 1 ? "" : "s")}.");
                return ExitStatus.Refused;
            }

            var isInForce = true;
            foreach (var resource in reply.Resources)
            {
                var name = resource.Namespace.Length > 0 ? $"{resource.Namespace}/{resource.Name}" : resource.Name;
                await output.WriteLineAsync($"{resource.Kind} {name} {resource.Change.ToString().ToLowerInvariant()}{(request.DryRun ? " (dry run)" : "")}");
                foreach (var condition in resource.Conditions.Where(condition => ConfigMapping.ToModel(condition).IsProblem))
                {
                    var parent = condition.Parent.Length > 0 ? $" for {condition.Parent}" : "";
                    await error.WriteLineAsync($"{resource.Kind} {name}: {condition.Type}={condition.Status}{parent}: {condition.Reason}: {condition.Message}");
                    isInForce &= condition.Type != "Accepted";
                }
            }

            if (!isInForce)
            {
                // A pipeline must not take for applied what is only stored.
                await error.WriteLineAsync(request.DryRun ? "meshctl: not everything would be in force: see above." : "meshctl: stored, but not everything is in force: see above.");
                return ExitStatus.Refused;
            }

            return ExitStatus.Done;
        });
        return command;
    }
}
