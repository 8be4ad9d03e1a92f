using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Google.Protobuf.WellKnownTypes;
using MeshProxy.Api.Control.V1;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl token create`: what a sidecar shows at its first contact.</summary>
internal static class TokenCommand
{
    public static Command Create() => new VerbCommand("token", "Join tokens: what a sidecar shows at its first contact.") { CreateVerb() };

    private static VerbCommand CreateVerb()
    {
        var ns = new Option<string>("--namespace", "-n") { Description = "Namespace of the identity.", HelpName = "NS", Required = true };
        var account = new Option<string>("--service-account") { Description = "Service account of the identity.", HelpName = "SA", Required = true };
        var ttl = new Option<TimeSpan>("--ttl")
        {
            Description = "How long it can be used, such as 90s, 30m or 2h.",
            HelpName = "TIME",
            DefaultValueFactory = _ => TimeSpan.FromHours(1),
            CustomParser = parsed =>
            {
                if (TryDuration(parsed.Tokens[0].Value, out var time))
                {
                    return time;
                }

                parsed.AddError($"--ttl '{parsed.Tokens[0].Value}' is no time: write it like 90s, 30m or 2h.");
                return default;
            },
        };
        var format = new Option<string>("--output", "-o") { Description = "text (the token alone) or json.", HelpName = "FORMAT", DefaultValueFactory = _ => "text" };
        format.AcceptOnlyFromAmong("text", "json");
        var command = new VerbCommand(
            "create",
            "Make a token: good for one join as one identity, until it expires. It goes to standard output; keep it secret.",
            ("meshctl token create --namespace shop --service-account payments > payments.token", "then start meshproxy with --join-token-file payments.token"),
            ("meshctl token create -n shop --service-account payments --ttl 10m -o json", "with identity and expiry")) { ns, account, ttl, format };
        command.Run(async (result, cancellation) =>
        {
            using var connection = ServerConnection.Open(result);
            var request = new CreateTokenRequest
            {
                Namespace = result.GetRequiredValue(ns),
                ServiceAccount = result.GetRequiredValue(account),
                Ttl = Duration.FromTimeSpan(result.GetValue(ttl)),
            };
            var reply = await connection.Operations.CreateTokenAsync(request, deadline: ServerConnection.Deadline, cancellationToken: cancellation);
            await result.InvocationConfiguration.Output.WriteLineAsync(result.GetValue(format) == "json" ? Json(reply) : reply.Token);
            return ExitStatus.Done;
        });
        return command;
    }

    private static bool TryDuration(string text, out TimeSpan time)
    {
        time = default;
        if (text.Length < 2 || !int.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var value) || value is 0 or > 1_000_000)
        {
            return false;
        }

        time = text[^1] switch
        {
            's' => TimeSpan.FromSeconds(value),
            'm' => TimeSpan.FromMinutes(value),
            'h' => TimeSpan.FromHours(value),
            _ => default,
        };
        return time > TimeSpan.Zero;
    }

    private static string Json(CreateTokenReply reply)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteString("token", reply.Token);
            json.WriteString("spiffe_id", reply.SpiffeId);
            json.WriteString("expires_at", reply.ExpiresAt?.ToDateTime().ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture) ?? "");
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
