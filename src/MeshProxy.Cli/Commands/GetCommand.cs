using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Documents;
using MeshProxy.Api.Mapping;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl get`.</summary>
internal static class GetCommand
{
    public static Command Create()
    {
        var kind = KindArgument(ArgumentArity.ExactlyOne);
        var name = new Argument<string?>("NAME") { Description = "One of them; without it all.", Arity = ArgumentArity.ZeroOrOne };
        var ns = new Option<string?>("--namespace", "-n") { Description = "Without NAME the default is every namespace, with it 'default'.", HelpName = "NS" };
        var format = new Option<string>("--output", "-o") { Description = "table, yaml or json.", HelpName = "FORMAT", DefaultValueFactory = _ => "table" };
        format.AcceptOnlyFromAmong("table", "yaml", "json");
        var command = new VerbCommand(
            "get",
            "Show documents and what became of them. The data of Secrets is never shown.",
            ("meshctl get services", "every Service"),
            ("meshctl get httproute payments -n shop -o yaml", "one route with its status: is it accepted, do its references resolve, why not"),
            ("meshctl get workloads -n shop", "instances that are declared or registered")) { kind, name, ns, format };
        command.Run(async (result, cancellation) =>
        {
            var output = result.InvocationConfiguration.Output;
            var wanted = result.GetRequiredValue(kind);
            var one = result.GetValue(name);
            using var connection = ServerConnection.Open(result);
            List<Resource> resources;
            if (one is not null)
            {
                var space = DocumentKinds.IsNamespaced(wanted) ? result.GetValue(ns) ?? "default" : "";
                var request = new GetRequest { Key = new ResourceKey { Kind = wanted, Namespace = space, Name = one } };
                resources = [(await connection.Resources.GetAsync(request, deadline: ServerConnection.Deadline, cancellationToken: cancellation)).Resource];
            }
            else
            {
                var request = new ListRequest { Kind = wanted, Namespace = result.GetValue(ns) ?? "" };
                resources = [.. (await connection.Resources.ListAsync(request, deadline: ServerConnection.Deadline, cancellationToken: cancellation)).Resources];
            }

            switch (result.GetValue(format))
            {
                case "yaml":
                    await output.WriteAsync(string.Join("---\n", resources.Select(resource => resource.Yaml)));
                    break;
                case "json":
                    await output.WriteLineAsync(one is not null ? resources[0].Json : ListOf(resources));
                    break;
                default:
                    if (resources.Count == 0)
                    {
                        await result.InvocationConfiguration.Error.WriteLineAsync($"No {wanted} found.");
                    }
                    else
                    {
                        TableWriter.Write(output, ["NAMESPACE", "NAME", "ACCEPTED", "RESOLVED", "CREATED", "NOTE"], [.. resources.Select(Row)]);
                    }

                    break;
            }

            return ExitStatus.Done;
        });
        return command;
    }

    /// <summary>A kind by any of its names; completes to the plain ones.</summary>
    public static Argument<string> KindArgument(ArgumentArity arity)
    {
        var argument = new Argument<string>("KIND")
        {
            Description = $"{string.Join(", ", DocumentKinds.All)}; case does not matter, plurals and short names (svc, gtw, ...) are taken.",
            HelpName = "KIND",
            Arity = arity,
            CustomParser = parsed =>
            {
                if (DocumentKinds.TryParse(parsed.Tokens[0].Value, out var kind))
                {
                    return kind;
                }

                parsed.AddError($"'{parsed.Tokens[0].Value}' is no kind: use one of {string.Join(", ", DocumentKinds.All)}.");
                return "";
            },
        };
        argument.CompletionSources.Add([.. DocumentKinds.All.Select(kind => kind.ToLowerInvariant())]);
        return argument;
    }

    private static string[] Row(Resource resource)
    {
        var problem = resource.Conditions.FirstOrDefault(condition => ConfigMapping.ToModel(condition).IsProblem);
        return
        [
            resource.Namespace,
            resource.Name,
            Summary(resource, "Accepted"),
            Summary(resource, "ResolvedRefs"),
            resource.CreatedAt is { } created ? created.ToDateTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture) : "",
            problem?.Message ?? "",
        ];
    }

    private static string Summary(Resource resource, string type)
    {
        var conditions = resource.Conditions.Where(condition => condition.Type == type).ToArray();
        return conditions.Length == 0 ? "" : conditions.FirstOrDefault(condition => !condition.Status) is { } bad ? $"False ({bad.Reason})" : "True";
    }

    private static string ListOf(List<Resource> resources)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteStartArray("items");
            foreach (var resource in resources)
            {
                using var document = JsonDocument.Parse(resource.Json);
                document.RootElement.WriteTo(json);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
