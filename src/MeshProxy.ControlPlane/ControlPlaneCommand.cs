using System.CommandLine;
using System.Globalization;
using MeshProxy.ControlPlane.Telemetry;
using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane;

/// <summary>The command line: a flag beats MESHPROXY_CONTROL_* beats the default.</summary>
internal static class ControlPlaneCommand
{
    private const string EnvironmentPrefix = "MESHPROXY_CONTROL_";

    /// <summary>Makes the command.</summary>
    public static RootCommand Create()
    {
        var listen = Text("--listen", "15012", "ADDR|PORT: where gRPC over TLS listens. Port 0: any free port, told by the log line 'listening'.");
        var metrics = Text("--metrics", "15014", "ADDR|PORT: where /metrics, /livez and /readyz listen, in plaintext.");
        var dataDirectory = Text("--data-dir", "meshproxy-control-data", "DIR: keys of the certificate authority, store, operator.pem, trust-bundle.pem. Made at the first start, for its owner alone.");
        var trustDomain = Text("--trust-domain", "mesh.local", "The mesh's trust domain. Fixed by the first start on a data directory.");
        var lifetime = Text("--workload-certificate-lifetime", "24h", "How long a workload's certificate lives: 90s, 30m, 24h, 7d.");
        var logLevel = Text("--log-level", "info", "debug, info, warn or error.");
        var hostNames = new Option<string[]>("--hostname")
        {
            Description = "NAME|ADDRESS: one more name for the server's own certificate; may be given several times.",
            DefaultValueFactory = _ => Environment.GetEnvironmentVariable(EnvironmentPrefix + "HOSTNAME")?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) ?? [],
        };
        var command = new RootCommand("MeshProxy's control plane: configuration, registry and certificate authority of a mesh, over gRPC. Every flag can also be given as MESHPROXY_CONTROL_<FLAG>.")
        {
            listen, metrics, dataDirectory, trustDomain, lifetime, hostNames, logLevel,
        };
        command.SetAction(async (parsed, _) =>
        {
            var errors = new List<string>();
            var listenAt = Read(parsed.GetValue(listen)!, "--listen", 15012, errors);
            var metricsAt = Read(parsed.GetValue(metrics)!, "--metrics", 15014, errors);
            if (!TrustDomain.TryParse(parsed.GetValue(trustDomain), out var domain))
            {
                errors.Add("--trust-domain: use lower-case letters, digits, '.', '-' and '_'.");
            }

            if (!TryReadDuration(parsed.GetValue(lifetime)!, out var life) || life < TimeSpan.FromSeconds(2) || life > TimeSpan.FromDays(365))
            {
                errors.Add("--workload-certificate-lifetime: a number with s, m, h or d, from 2s to 365d, such as 24h.");
            }

            if (ReadLevel(parsed.GetValue(logLevel)!) is not { } level)
            {
                errors.Add("--log-level: debug, info, warn or error.");
                level = LogLevel.Information;
            }

            foreach (var name in parsed.GetValue(hostNames)!.Where(name => Uri.CheckHostName(name) == UriHostNameType.Unknown))
            {
                errors.Add($"--hostname: '{name}' is neither a host name nor an address.");
            }

            if (errors.Count > 0)
            {
                errors.ForEach(Console.Error.WriteLine);
                return 2;
            }

            return await RunAsync(
                new ControlPlaneOptions
                {
                    Listen = listenAt,
                    Metrics = metricsAt,
                    DataDirectory = parsed.GetValue(dataDirectory)!,
                    TrustDomain = domain,
                    WorkloadCertificateLifetime = life,
                    HostNames = parsed.GetValue(hostNames)!,
                },
                level);
        });
        return command;
    }

    /// <summary>Reads "90s", "30m", "24h" or "7d".</summary>
    public static bool TryReadDuration(string text, out TimeSpan duration)
    {
        duration = default;
        if (text.Length < 2 || !int.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            return false;
        }

        TimeSpan? read = text[^1] switch
        {
            's' => TimeSpan.FromSeconds(number),
            'm' => TimeSpan.FromMinutes(number),
            'h' => TimeSpan.FromHours(number),
            'd' when number < 100_000 => TimeSpan.FromDays(number),
            _ => null,
        };
        duration = read ?? default;
        return read is not null;
    }

    private static async Task<int> RunAsync(ControlPlaneOptions options, LogLevel level)
    {
        var log = new EventLog(Console.OpenStandardError(), TimeProvider.System, level);
        try
        {
            await using var server = await ControlPlaneServer.StartAsync(options, new ControlPlaneLimits(), TimeProvider.System, log);
            await server.WaitForStopAsync();
            return 0;
        }
        catch (StartException e)
        {
            log.Error("start_failed", e.Message);
            return 1;
        }
    }

    private static Option<string> Text(string name, string defaultValue, string description) => new(name)
    {
        Description = description,
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable(EnvironmentPrefix + name[2..].Replace('-', '_').ToUpperInvariant()) is { Length: > 0 } value ? value : defaultValue,
    };

    private static ListenAddress Read(string text, string flag, int defaultPort, List<string> errors)
    {
        if (!ListenAddress.TryParse(text, defaultPort, out var address))
        {
            errors.Add($"{flag}: '{text}' is neither a port, an address nor ADDRESS:PORT.");
        }

        return address;
    }

    private static LogLevel? ReadLevel(string text) => text switch
    {
        "debug" => LogLevel.Debug,
        "info" => LogLevel.Information,
        "warn" => LogLevel.Warning,
        "error" => LogLevel.Error,
        _ => null,
    };
}
