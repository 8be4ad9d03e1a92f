using System.CommandLine;
using System.Globalization;
using System.Net;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Files;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar;

/// <summary>
/// The command line. Every flag has an environment variable, MESHPROXY_ and its name in upper snake case; a flag beats it, and it beats the default.
/// A variable of a flag that may be given several times holds its values separated by commas.
/// </summary>
internal sealed class SidecarCommand
{
    /// <summary>The exit status of a command line that is not understood.</summary>
    public const int BadUsage = 2;

    private const string EnvironmentPrefix = "MESHPROXY_";

    private readonly Func<string, string?> _environment;
    private readonly Option<string[]> _config;
    private readonly Option<string?> _control;
    private readonly Option<string?> _joinTokenFile;
    private readonly Option<string?> _namespace;
    private readonly Option<string?> _serviceAccount;
    private readonly Option<string?> _name;
    private readonly Option<string[]> _labels;
    private readonly Option<string[]> _appPorts;
    private readonly Option<string?> _locality;
    private readonly Option<string?> _weight;
    private readonly Option<string?> _address;
    private readonly Option<string[]> _upstreams;
    private readonly Option<string?> _gateway;
    private readonly Option<string?> _outbound;
    private readonly Option<string?> _inbound;
    private readonly Option<string?> _admin;
    private readonly Option<string?> _metrics;
    private readonly Option<string?> _stateDirectory;
    private readonly Option<string?> _mutualTls;
    private readonly Option<string?> _egress;
    private readonly Option<string?> _accessLog;
    private readonly Option<string?> _logLevel;
    private readonly Option<string?> _drainTimeout;
    private readonly Option<string?> _memoryBudget;
    private readonly Option<string[]> _appProbes;

    /// <summary>Defines the flags.</summary>
    /// <param name="environment">Reads an environment variable.</param>
    /// <param name="run">Runs the proxy; gives the exit status.</param>
    public SidecarCommand(Func<string, string?> environment, Func<SidecarOptions, Task<int>> run)
    {
        _environment = environment;
        _config = Many("--config", "FILE|DIR: resource documents to serve without a control plane; may be given several times. A directory gives its *.yaml, *.yml and *.json.");
        _control = Text("--control", null, "HOST:PORT of the control plane: run as a member of a mesh.");
        _joinTokenFile = Text("--join-token-file", null, "FILE with the join token (meshctl token create); used once, at the first contact.");
        _namespace = Text("--namespace", null, "The workload's namespace.");
        _serviceAccount = Text("--service-account", null, "The workload's service account: with the namespace it is its identity.");
        _name = Text("--name", null, "The workload's name, unique in its namespace.");
        _labels = Many("--label", "KEY=VALUE: a label, which Services select workloads by; may be given several times.");
        _appPorts = Many("--app-port", "NAME=PORT: a port of the application; may be given several times.");
        _locality = Text("--locality", "", "region/zone/sub-zone.");
        _weight = Text("--weight", "1", "Relative share of the load.");
        _address = Text("--address", "127.0.0.1", "The IP address that other sidecars dial.");
        _upstreams = Many("--upstream", "SERVICE=PORT: listen on 127.0.0.1:PORT for a TCP service (name, name.ns, or with :port); may be given several times.");
        _gateway = Text("--gateway", null, "NAME of a Gateway in the own namespace to serve as well: the mesh's edge.");
        _outbound = Text("--outbound", "15001", "ADDR|PORT|off: where the application's outgoing traffic arrives.");
        _inbound = Text("--inbound", "15006", "ADDR|PORT|off: where other sidecars' traffic arrives (mesh only).");
        _admin = Text("--admin", "15000", "ADDR|PORT|off: the admin endpoint, loopback by default.");
        _metrics = Text("--metrics", "15020", "ADDR|PORT|off: /metrics, /livez, /readyz, /app-health/NAME.");
        _stateDirectory = Text("--state-dir", null, "DIR for key, certificate and last good configuration, so that a restart needs no control plane.");
        _mutualTls = Text("--mtls", "strict", "strict or permissive (the inbound takes plaintext too).");
        _egress = Text("--egress", "deny", "deny or allow: what happens to traffic for unknown destinations.");
        _accessLog = Text("--access-log", "stdout", "stdout, none, or FILE (opened again at SIGHUP).");
        _logLevel = Text("--log-level", "info", "debug, info, warn or error, on standard error.");
        _drainTimeout = Text("--drain-timeout", "25s", "How long open work may take to finish after SIGTERM: 500ms, 25s, 2m.");
        _memoryBudget = Text("--memory-budget", null, "SIZE such as 64Mi or 1Gi: what may be held of peers' data; above it new requests and opaque connections are refused (OM). Default: a quarter of the cgroup's memory limit, at most 1Gi.");
        _appProbes = Many("--app-probe", "NAME=PORT/path, NAME=grpc:PORT or NAME=tcp:PORT: what /app-health/NAME asks the application; may be given several times.");

        var files = new Argument<string[]>("FILE") { Description = "Files or directories of documents.", Arity = ArgumentArity.OneOrMore };
        var validate = new Command("validate", "Checks documents without starting. Exit status 1 when one is invalid.") { files };
        validate.SetAction(parsed => Validation.Run(parsed.GetValue(files)!, Console.Out, Console.Error));
        Root = new RootCommand("MeshProxy's data plane: a sidecar of a mesh (--control) or a gateway that runs alone (--config). Every flag can also be given as MESHPROXY_<FLAG>.")
        {
            _config, _control, _joinTokenFile, _namespace, _serviceAccount, _name, _labels, _appPorts, _locality, _weight, _address, _upstreams, _gateway,
            _outbound, _inbound, _admin, _metrics, _stateDirectory, _mutualTls, _egress, _accessLog, _logLevel, _drainTimeout, _memoryBudget, _appProbes, validate,
        };
        Root.SetAction(async (parsed, _) =>
        {
            var (options, errors) = Read(parsed);
            foreach (var error in errors)
            {
                await Console.Error.WriteLineAsync(error);
            }

            return options is null ? BadUsage : await run(options);
        });
    }

    /// <summary>The command.</summary>
    public RootCommand Root { get; }

    /// <summary>Checks what was given.</summary>
    /// <returns>The options, or null and every error that was found.</returns>
    public (SidecarOptions? Options, IReadOnlyList<string> Errors) Read(ParseResult parsed)
    {
        var errors = new List<string>();
        var config = Values(parsed, _config);
        var control = Value(parsed, _control);
        if (config.Count == 0 == (control is null))
        {
            errors.Add(control is null
                ? "Give --config FILE to run alone, or --control HOST:PORT to join a mesh."
                : "--config and --control exclude each other: the mesh's configuration comes from the control plane.");
        }

        var mesh = control is null ? null : ReadMesh(parsed, control, errors);
        var options = new SidecarOptions
        {
            ConfigPaths = config,
            Mesh = mesh,
            Outbound = ReadEndPoint(parsed, _outbound, new IPEndPoint(IPAddress.Loopback, 15001), errors, mustBeLoopback: true),
            Inbound = control is null ? null : ReadEndPoint(parsed, _inbound, new IPEndPoint(IPAddress.IPv6Any, 15006), errors),
            Admin = ReadEndPoint(parsed, _admin, new IPEndPoint(IPAddress.Loopback, 15000), errors),
            Metrics = ReadEndPoint(parsed, _metrics, new IPEndPoint(IPAddress.IPv6Any, 15020), errors),
            StateDirectory = Value(parsed, _stateDirectory),
            MutualTls = OneOf(parsed, _mutualTls, errors, ("strict", MutualTlsMode.Strict), ("permissive", MutualTlsMode.Permissive)),
            AllowEgress = OneOf(parsed, _egress, errors, ("deny", false), ("allow", true)),
            AccessLog = Value(parsed, _accessLog)!,
            LogLevel = OneOf(parsed, _logLevel, errors,
                ("info", LogLevel.Information), ("debug", LogLevel.Debug), ("warn", LogLevel.Warning), ("error", LogLevel.Error)),
            DrainTimeout = ReadDuration(parsed, _drainTimeout, errors),
            MemoryBudgetBytes = ReadMemoryBudget(parsed, errors),
            AppProbes = ReadAll(parsed, _appProbes, errors, "NAME=PORT/path, NAME=grpc:PORT or NAME=tcp:PORT", text => AppProbe.TryParse(text, out var probe) ? probe : null),
            Upstreams = ReadAll(parsed, _upstreams, errors, "SERVICE=PORT",
                text => TryPair(text, out var name, out var port) && TryPort(port, zero: true, out var number) ? new UpstreamListenerOptions(name, number) : null),
        };
        return errors.Count == 0 ? (options, errors) : (null, errors);
    }

    /// <summary>Reads "500ms", "25s", "2m" or "1h".</summary>
    internal static bool TryDuration(string text, out TimeSpan duration)
    {
        duration = default;
        var digits = text.AsSpan().IndexOfAnyExceptInRange('0', '9');
        if (digits <= 0 || !int.TryParse(text.AsSpan(0, digits), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            return false;
        }

        TimeSpan? read = text[digits..] switch
        {
            "ms" => TimeSpan.FromMilliseconds(number),
            "s" => TimeSpan.FromSeconds(number),
            "m" => TimeSpan.FromMinutes(number),
            "h" => TimeSpan.FromHours(number),
            _ => null,
        };
        duration = read ?? default;
        return read is not null;
    }

    /// <summary>Reads "65536", "512Ki", "64Mi" or "1Gi", in bytes: Kubernetes' quantities with binary suffixes.</summary>
    internal static bool TrySize(string text, out long bytes)
    {
        bytes = 0;
        var digits = text.AsSpan().IndexOfAnyExceptInRange('0', '9');
        digits = digits < 0 ? text.Length : digits;
        int? shift = text[digits..] switch
        {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            _ => null,
        };
        if (shift is null || !long.TryParse(text.AsSpan(0, digits), NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number > long.MaxValue >> shift)
        {
            return false;
        }

        bytes = number << shift.Value;
        return true;
    }

    private static Option<string?> Text(string name, string? defaultValue, string description) => new(name)
    {
        Description = defaultValue is null or "" ? description : $"{description} Default: {defaultValue}.",
        DefaultValueFactory = null,
        HelpName = name[2..].ToUpperInvariant(),
    };

    private static Option<string[]> Many(string name, string description) => new(name)
    {
        Description = description,
        Arity = ArgumentArity.OneOrMore,
        HelpName = name[2..].ToUpperInvariant(),
    };

    private static string Variable(string option) => EnvironmentPrefix + option[2..].Replace('-', '_').ToUpperInvariant();

    private static bool TryPair(string text, out string key, out string value)
    {
        var equals = text.IndexOf('=');
        key = equals > 0 ? text[..equals] : "";
        value = equals > 0 ? text[(equals + 1)..] : "";
        return equals > 0;
    }

    private static bool TryPort(string text, bool zero, out int port)
    {
        var isPort = ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && (zero || number > 0);
        port = number;
        return isPort;
    }

    private string? Value(ParseResult parsed, Option<string?> option)
    {
        if (parsed.GetResult(option) is { Implicit: false })
        {
            return parsed.GetValue(option);
        }

        return _environment(Variable(option.Name)) is { Length: > 0 } value ? value : Default(option.Name);
    }

    private static string? Default(string name) => name switch
    {
        "--locality" => "",
        "--weight" => "1",
        "--address" => "127.0.0.1",
        "--outbound" => "15001",
        "--inbound" => "15006",
        "--admin" => "15000",
        "--metrics" => "15020",
        "--mtls" => "strict",
        "--egress" => "deny",
        "--access-log" => "stdout",
        "--log-level" => "info",
        "--drain-timeout" => "25s",
        _ => null,
    };

    private IReadOnlyList<string> Values(ParseResult parsed, Option<string[]> option) =>
        parsed.GetResult(option) is { Implicit: false }
            ? parsed.GetValue(option) ?? []
            : _environment(Variable(option.Name))?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) ?? [];

    private MeshOptions? ReadMesh(ParseResult parsed, string control, List<string> errors)
    {
        var colon = control.LastIndexOf(':');
        if (colon <= 0 || !TryPort(control[(colon + 1)..], zero: false, out _))
        {
            errors.Add($"--control: '{control}' is not HOST:PORT.");
        }

        var labels = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var text in Values(parsed, _labels))
        {
            if (TryPair(text, out var key, out var value))
            {
                labels[key] = value;
            }
            else
            {
                errors.Add($"--label: '{text}' is not KEY=VALUE.");
            }
        }

        if (!int.TryParse(Value(parsed, _weight), NumberStyles.None, CultureInfo.InvariantCulture, out var weight) || weight is < 1 or > 65535)
        {
            errors.Add("--weight: a number from 1 to 65535.");
        }

        var address = Value(parsed, _address)!;
        if (!IPAddress.TryParse(address, out _))
        {
            errors.Add($"--address: '{address}' is no IP address.");
        }

        return new MeshOptions
        {
            Control = control,
            JoinTokenFile = Value(parsed, _joinTokenFile),
            Namespace = Required(parsed, _namespace, errors),
            ServiceAccount = Required(parsed, _serviceAccount, errors),
            Name = Required(parsed, _name, errors),
            Labels = labels,
            AppPorts = ReadAll(parsed, _appPorts, errors, "NAME=PORT", text => TryPair(text, out var name, out var port) && TryPort(port, zero: false, out var number)
                ? new NamedPort(name, number)
                : null).Select(port => (port.Name, port.Port)).ToArray(),
            Locality = Value(parsed, _locality) ?? "",
            Weight = weight,
            Address = address,
            Gateway = Value(parsed, _gateway),
        };
    }

    private string Required(ParseResult parsed, Option<string?> option, List<string> errors)
    {
        if (Value(parsed, option) is { Length: > 0 } value)
        {
            return value;
        }

        errors.Add($"{option.Name} is required with --control.");
        return "";
    }

    private IPEndPoint? ReadEndPoint(ParseResult parsed, Option<string?> option, IPEndPoint defaults, List<string> errors, bool mustBeLoopback = false)
    {
        var text = Value(parsed, option)!;
        if (!ListenAddress.TryParse(text, defaults, out var endPoint))
        {
            errors.Add($"{option.Name}: '{text}' is neither a port, an address, ADDRESS:PORT nor off.");
        }
        else if (mustBeLoopback && endPoint is not null && !IPAddress.IsLoopback(endPoint.Address))
        {
            errors.Add($"{option.Name}: '{text}' is not on loopback; whoever reaches it speaks with the application's identity.");
        }

        return endPoint;
    }

    private TimeSpan ReadDuration(ParseResult parsed, Option<string?> option, List<string> errors)
    {
        var text = Value(parsed, option)!;
        if (!TryDuration(text, out var duration))
        {
            errors.Add($"{option.Name}: '{text}' is no duration such as 500ms, 25s or 2m.");
        }

        return duration;
    }

    private long ReadMemoryBudget(ParseResult parsed, List<string> errors)
    {
        if (Value(parsed, _memoryBudget) is not { } text)
        {
            return MemoryBudget.DefaultBytes;
        }

        if (!TrySize(text, out var bytes) || bytes < MemoryBudget.LeastBytes)
        {
            errors.Add($"{_memoryBudget.Name}: '{text}' is no size of at least 1Mi, such as 64Mi or 1Gi.");
        }
        else if (bytes > MemoryBudget.AvailableBytes)
        {
            errors.Add($"{_memoryBudget.Name}: '{text}' is more than this process may use: {MemoryBudget.AvailableBytes >> 20}Mi, of a cgroup's limit three quarters.");
        }

        return bytes;
    }

    private T OneOf<T>(ParseResult parsed, Option<string?> option, List<string> errors, params (string Word, T Value)[] choices)
    {
        var text = Value(parsed, option)!;
        foreach (var (word, value) in choices)
        {
            if (word == text)
            {
                return value;
            }
        }

        errors.Add($"{option.Name}: '{text}' is none of {string.Join(", ", choices.Select(choice => choice.Word))}.");
        return choices[0].Value;
    }

    private List<T> ReadAll<T>(ParseResult parsed, Option<string[]> option, List<string> errors, string expected, Func<string, T?> read)
        where T : class
    {
        var all = new List<T>();
        foreach (var text in Values(parsed, option))
        {
            if (read(text) is { } value)
            {
                all.Add(value);
            }
            else
            {
                errors.Add($"{option.Name}: '{text}' is not {expected}.");
            }
        }

        return all;
    }

    private sealed record NamedPort(string Name, int Port);
}
