using System.Globalization;
using MeshProxy.Demo.Processes;

namespace MeshProxy.Demo.Mesh;

/// <summary>One proxy of the mesh and, unless it is the gateway, the application beside it.</summary>
internal sealed class MeshMember(string name, string application, string version, string serviceAccount, FreePorts ports)
{
    public string Name { get; } = name;

    /// <summary>The application's role, which is also its <c>app</c> label; <c>gateway</c> for the edge.</summary>
    public string Application { get; } = application;

    public string Version { get; } = version;

    public string ServiceAccount { get; } = serviceAccount;

    public int AppPort { get; } = ports.Take();

    public int OutboundPort { get; } = ports.Take();

    public int InboundPort { get; } = ports.Take();

    public int AdminPort { get; } = ports.Take();

    public int MetricsPort { get; } = ports.Take();

    public ChildProcess? App { get; set; }

    public ChildProcess? Proxy { get; set; }

    public bool Killed { get; set; }

    public bool IsGateway => Application == "gateway";

    /// <summary>The line of the table that it counts for.</summary>
    public string Row => Application == "payments" ? $"payments-{Version}" : Application;

    /// <summary>The last scrape that succeeded. A killed member keeps what it last said.</summary>
    public ProxyMetrics Metrics { get; set; } = ProxyMetrics.Empty;

    public IReadOnlyCollection<string> Peers { get; set; } = [];

    public string PortName => Application == "checkout" ? "http" : "grpc";

    public IEnumerable<string> AppArguments(string database)
    {
        string[] common =
        [
            "app", Application, "--name", Name, "--version", Version, "--port", Text(AppPort), "--outbound", Text(OutboundPort),
        ];
        return Application == "ledger" ? [.. common, "--database", database] : common;
    }

    public IEnumerable<string> ProxyArguments(int controlPort, string @namespace, string tokenFile, string stateDirectory, string gatewayName)
    {
        yield return "--control";
        yield return $"127.0.0.1:{controlPort}";
        yield return "--join-token-file";
        yield return tokenFile;
        yield return "--namespace";
        yield return @namespace;
        yield return "--service-account";
        yield return ServiceAccount;
        yield return "--name";
        yield return Name;
        yield return "--state-dir";
        yield return stateDirectory;
        yield return "--admin";
        yield return $"127.0.0.1:{AdminPort}";
        yield return "--metrics";
        yield return $"127.0.0.1:{MetricsPort}";
        yield return "--drain-timeout";
        yield return "5s";
        if (IsGateway)
        {
            foreach (var argument in (string[])["--gateway", gatewayName, "--outbound", "off", "--inbound", "off"])
            {
                yield return argument;
            }

            yield break;
        }

        string[] sidecar =
        [
            "--outbound", $"127.0.0.1:{OutboundPort}", "--inbound", $"127.0.0.1:{InboundPort}", "--app-port", $"{PortName}={AppPort}",
            "--label", $"app={Application}", "--label", $"version={Version}",
        ];
        foreach (var argument in sidecar)
        {
            yield return argument;
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
