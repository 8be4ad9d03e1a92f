using System.Text.Json;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>The operator: everything that a test tells the mesh goes through the real <c>meshctl</c>.</summary>
internal sealed class Meshctl(string server, string credential)
{
    public Task<(int ExitCode, string Output, string Errors)> RunAsync(params string[] arguments) => RunWithInputAsync(null, arguments);

    public Task<(int ExitCode, string Output, string Errors)> RunWithInputAsync(string? input, params string[] arguments) =>
        ManagedProcess.RunAsync(Executables.Meshctl, ["--server", server, "--credential", credential, .. arguments], input: input);

    /// <summary>Runs and demands success.</summary>
    public async Task<string> DoAsync(params string[] arguments)
    {
        var (status, output, errors) = await RunAsync(arguments);
        return status == 0 ? output : throw new AssertionException($"meshctl {string.Join(' ', arguments)} ended with {status}: {errors}{output}");
    }

    /// <summary>Applies a text and demands success.</summary>
    public async Task ApplyAsync(string documents)
    {
        var (status, output, errors) = await RunWithInputAsync(documents, "apply", "-f", "-");
        if (status != 0)
        {
            throw new AssertionException($"meshctl apply ended with {status}: {errors}{output}");
        }
    }

    public async Task<string> CreateTokenAsync(string serviceAccount, string @namespace = "shop", string ttl = "1h") =>
        (await DoAsync("token", "create", "--namespace", @namespace, "--service-account", serviceAccount, "--ttl", ttl)).Trim();

    public async Task<JsonElement> StatusAsync()
    {
        using var json = JsonDocument.Parse(await DoAsync("status", "-o", "json"));
        return json.RootElement.Clone();
    }

    /// <summary>Waits until every named sidecar is connected and has accepted the mesh's revision.</summary>
    public Task WaitUntilAcceptedAsync(params string[] workloads) => Eventually.IsTrueAsync(
        async () =>
        {
            var status = await StatusAsync();
            var revision = status.GetProperty("mesh_revision").GetString();
            return workloads.All(workload => status.GetProperty("sidecars").EnumerateArray().Any(sidecar =>
                sidecar.GetProperty("workload").GetString() == workload && sidecar.GetProperty("connected").GetBoolean()
                && sidecar.GetProperty("accepted_revision").GetString() == revision));
        },
        $"{string.Join(", ", workloads)} accept the mesh's revision");
}
