using System.Collections.Immutable;
using MeshProxy.Model.Config;

namespace MeshProxy.Model.Validation;

/// <summary>Rules of what a ClientTrafficPolicy says. Every check returns null when the value is good, otherwise what is wrong with it.</summary>
public static class ClientTrafficRules
{
    /// <summary>Checks one timeout.</summary>
    public static string? CheckTimeout(TimeSpan value, TimeSpan min, TimeSpan max) =>
        value < min || value > max ? $"{Text(value)} is out of range: use {Text(min)} to {Text(max)}" : null;

    /// <summary>Checks a protocol (RFC 9110 section 16.7: a token, and perhaps a version).</summary>
    public static string? CheckUpgradeProtocol(string protocol)
    {
        var slash = protocol.IndexOf('/', StringComparison.Ordinal);
        var name = slash < 0 ? protocol : protocol[..slash];
        if (HttpRules.CheckFieldName(name) is not null || (slash >= 0 && HttpRules.CheckFieldName(protocol[(slash + 1)..]) is not null)
            || protocol.Any(char.IsAsciiLetterUpper) || protocol.Length > NameRules.MaxLabelLength)
        {
            return $"'{protocol}' is no protocol: write a token in lower case, such as websocket";
        }

        return name is "h2c" or "h2" or "http" or "tls"
            ? $"'{protocol}' can not be asked for by Upgrade: HTTP/2 is spoken with prior knowledge or chosen by ALPN, TLS by the listener"
            : null;
    }

    /// <summary>Checks the whole of it, field by field; <paramref name="field"/> is what is wrong.</summary>
    public static string? Check(ClientTrafficConfig config, out string field)
    {
        var timeouts = config.Timeouts;
        (string Field, string? Problem)[] checks =
        [
            ("request_head_timeout", Check(timeouts.RequestHead, ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxHeadTimeout)),
            ("idle_timeout", Check(timeouts.Idle, ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxIdleTimeout)),
            ("stream_idle_timeout", Check(timeouts.StreamIdle, ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxIdleTimeout)),
            ("tls_handshake_timeout", Check(timeouts.TlsHandshake, ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxHeadTimeout)),
            ("max_connection_age", Check(timeouts.MaxConnectionAge, ClientTrafficLimits.MinConnectionAge, ClientTrafficLimits.MaxConnectionAge)),
            ("forwarded.trusted_hops", Check(config.Forwarded?.TrustedHops, 0, ClientTrafficLimits.MaxTrustedHops)),
            ("max_concurrent_streams", Check(config.MaxConcurrentStreams, 1, ClientTrafficLimits.MaxConcurrentStreams)),
            ("max_request_body_bytes", Check(config.MaxRequestBodyBytes, 1, ClientTrafficLimits.MaxRequestBodyBytes)),
            ("upgrade_protocols", CheckAll(config.UpgradeProtocols)),
        ];
        foreach (var (name, problem) in checks)
        {
            if (problem is not null)
            {
                field = name;
                return problem;
            }
        }

        field = "";
        return null;
    }

    private static string? Check(TimeSpan? value, TimeSpan min, TimeSpan max) => value is { } set ? CheckTimeout(set, min, max) : null;

    private static string? Check(long? value, long min, long max) => value is { } set && (set < min || set > max) ? $"is {set}, {min} to {max} is allowed" : null;

    private static string? CheckAll(ImmutableArray<string> protocols) =>
        protocols.Length > ClientTrafficLimits.MaxUpgradeProtocols ? $"has {protocols.Length} elements, at most {ClientTrafficLimits.MaxUpgradeProtocols} are allowed" : protocols.Select(CheckUpgradeProtocol).FirstOrDefault(problem => problem is not null);

    private static string Text(TimeSpan value) =>
        value.TotalHours >= 1 && value.Ticks % TimeSpan.TicksPerHour == 0 ? $"{value.Ticks / TimeSpan.TicksPerHour}h"
        : value.TotalMinutes >= 1 && value.Ticks % TimeSpan.TicksPerMinute == 0 ? $"{value.Ticks / TimeSpan.TicksPerMinute}m"
        : value.TotalSeconds >= 1 && value.Ticks % TimeSpan.TicksPerSecond == 0 ? $"{value.Ticks / TimeSpan.TicksPerSecond}s"
        : $"{value.Ticks / TimeSpan.TicksPerMillisecond}ms";
}
