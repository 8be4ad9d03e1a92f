using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MeshProxy.Api.Control.V1;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl status`: what every sidecar holds.</summary>
internal static class StatusCommand
{
    public static Command Create()
    {
        var format = new Option<string>("--output", "-o") { Description = "table or json.", HelpName = "FORMAT", DefaultValueFactory = _ => "table" };
        format.AcceptOnlyFromAmong("table", "json");
        var command = new VerbCommand(
            "status",
            "Show each sidecar: connected or not, its identity, the revision it has accepted, what it rejected last and why.",
            ("meshctl status", "a table; a sidecar is up to date when ACCEPTED is the mesh's revision"),
            ("meshctl status -o json", "for scripts: wait until every accepted_revision is mesh_revision")) { format };
        command.Run(async (result, cancellation) =>
        {
            using var connection = ServerConnection.Open(result);
            var reply = await connection.Operations.StatusAsync(new StatusRequest(), deadline: ServerConnection.Deadline, cancellationToken: cancellation);
            var output = result.InvocationConfiguration.Output;
            if (result.GetValue(format) == "json")
            {
                await output.WriteLineAsync(Json(reply));
                return ExitStatus.Done;
            }

            await output.WriteLineAsync($"Mesh revision {reply.MeshRevision}, {reply.Sidecars.Count(sidecar => sidecar.Connected)} of {reply.Sidecars.Count} sidecars connected");
            if (reply.Sidecars.Count > 0)
            {
                TableWriter.Write(
                    output,
                    ["WORKLOAD", "CONNECTED", "SINCE", "ACCEPTED", "SENT", "VERSION", "IDENTITY", "LAST REJECTION"],
                    [.. reply.Sidecars.Select(sidecar => new[]
                    {
                        Name(sidecar),
                        sidecar.Connected ? "yes" : "no",
                        Time(sidecar.Since, "yyyy-MM-dd HH:mm:ss"),
                        sidecar.AcceptedRevision,
                        sidecar.SentRevision,
                        sidecar.Version,
                        sidecar.Identity,
                        sidecar.LastRejection,
                    })]);
            }

            return ExitStatus.Done;
        });
        return command;
    }

    private static string Name(SidecarStatus sidecar) => sidecar.Workload is { } workload ? $"{workload.Namespace}/{workload.Name}" : "";

    private static string Time(Google.Protobuf.WellKnownTypes.Timestamp? time, string format) =>
        time is null ? "" : time.ToDateTime().ToString(format, CultureInfo.InvariantCulture);

    private static string Json(StatusReply reply)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("mesh_revision", reply.MeshRevision);
            json.WriteStartArray("sidecars");
            foreach (var sidecar in reply.Sidecars)
            {
                json.WriteStartObject();
                json.WriteString("workload", Name(sidecar));
                json.WriteString("identity", sidecar.Identity);
                json.WriteBoolean("connected", sidecar.Connected);
                json.WriteString("since", Time(sidecar.Since, "yyyy-MM-dd'T'HH:mm:ss.FFFFFFF'Z'"));
                json.WriteString("version", sidecar.Version);
                json.WriteString("accepted_revision", sidecar.AcceptedRevision);
                json.WriteString("sent_revision", sidecar.SentRevision);
                json.WriteString("last_rejection", sidecar.LastRejection);
                json.WriteString("last_rejection_at", Time(sidecar.LastRejectionAt, "yyyy-MM-dd'T'HH:mm:ss.FFFFFFF'Z'"));
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
