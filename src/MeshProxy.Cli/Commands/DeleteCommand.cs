using System.CommandLine;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl delete`.</summary>
internal static class DeleteCommand
{
    public static Command Create()
    {
        var kind = GetCommand.KindArgument(ArgumentArity.ZeroOrOne);
        var name = new Argument<string?>("NAME") { Description = "Which one.", Arity = ArgumentArity.ZeroOrOne };
        var ns = new Option<string>("--namespace", "-n") { Description = "Its namespace.", HelpName = "NS", DefaultValueFactory = _ => "default" };
        var files = DocumentFiles.Option(isRequired: false);
        var command = new VerbCommand(
            "delete",
            "Delete documents: all that are named, or, with one error, none.",
            ("meshctl delete httproute payments -n shop", "one document"),
            ("meshctl delete -f payments.yaml", "every document that the file has")) { kind, name, ns, files };
        command.Validators.Add(result =>
        {
            var hasFiles = result.GetResult(files) is { Implicit: false };
            var hasKind = result.GetResult(kind)?.Tokens.Count > 0;
            var hasName = result.GetResult(name)?.Tokens.Count > 0;
            if (hasFiles ? hasKind || hasName : !hasKind || !hasName)
            {
                result.AddError("Give either KIND and NAME, or -f FILE.");
            }
        });
        command.Run(async (result, cancellation) =>
        {
            var output = result.InvocationConfiguration.Output;
            var request = new DeleteRequest();
            if (result.GetValue(files) is { Length: > 0 } names)
            {
                var read = DocumentReader.Read(DocumentFiles.Read(names), result.GetValue(ns)!);
                if (!read.Errors.IsEmpty)
                {
                    foreach (var problem in read.Errors)
                    {
                        await result.InvocationConfiguration.Error.WriteLineAsync(problem.ToString());
                    }

                    return ExitStatus.Refused;
                }

                request.Keys.AddRange(read.Documents.Select(document => new ResourceKey { Kind = document.Kind, Namespace = document.Name.Namespace, Name = document.Name.Name }));
            }
            else
            {
                var wanted = result.GetRequiredValue(kind);
                request.Keys.Add(new ResourceKey { Kind = wanted, Namespace = DocumentKinds.IsNamespaced(wanted) ? result.GetValue(ns) : "", Name = result.GetValue(name) });
            }

            using var connection = ServerConnection.Open(result);
            await connection.Resources.DeleteAsync(request, deadline: ServerConnection.Deadline, cancellationToken: cancellation);
            foreach (var key in request.Keys)
            {
                await output.WriteLineAsync($"{key.Kind} {(key.Namespace.Length > 0 ? key.Namespace + "/" : "")}{key.Name} deleted");
            }

            return ExitStatus.Done;
        });
        return command;
    }
}
