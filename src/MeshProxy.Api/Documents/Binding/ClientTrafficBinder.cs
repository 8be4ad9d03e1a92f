using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>ClientTrafficPolicy, meshproxy.io/v1alpha1.</summary>
internal static class ClientTrafficBinder
{
    private const int MaxTargets = 16;

    private static readonly string[] Allowances = ["EncodedSlash", "Backslash", "EncodedNull"];

    public static ClientTrafficPolicyDocument? Policy(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'targetRefs:' below it") is not { } spec)
        {
            return null;
        }

        var targets = PolicyBinder.Targets(spec, metadata, MaxTargets);
        if (!spec.Has("targetRefs"))
        {
            spec.Fail("targetRefs", "is missing: name a Gateway (group gateway.networking.k8s.io) or a Service (group \"\")");
        }

        var document = new ClientTrafficPolicyDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            TargetRefs = targets,
            Path = spec.Map("path") is { } path ? Path(path) : null,
            Headers = spec.Map("headers") is { } headers ? Headers(headers) : null,
            Via = spec.Flag("via"),
            CallerDeadlines = spec.Flag("callerDeadlines"),
            Timeouts = spec.Map("timeouts") is { } timeouts ? Timeouts(timeouts) : null,
            MaxRequestBodyBytes = spec.LargeNumber("maxRequestBodyBytes", 1, ClientTrafficLimits.MaxRequestBodyBytes),
        };
        if (spec.Map("upgrade") is { } upgrade)
        {
            document = document with
            {
                UpgradeProtocols = upgrade.Texts("protocols", ClientTrafficLimits.MaxUpgradeProtocols, ClientTrafficRules.CheckUpgradeProtocol),
            };
            if (!upgrade.Has("protocols"))
            {
                upgrade.Fail("protocols", "is missing: list what may be asked for, such as [websocket]; [] allows nothing");
            }

            upgrade.Close();
        }

        if (spec.Map("http2") is { } http2)
        {
            document = document with { MaxConcurrentStreams = http2.Number("maxConcurrentStreams", 1, ClientTrafficLimits.MaxConcurrentStreams) };
            http2.Close();
        }

        spec.Close();
        return document;
    }

    private static PathTrafficConfig Path(Fields fields)
    {
        var merges = fields.Flag("mergeSlashes") ?? false;
        var allowed = fields.Texts("allow", Allowances.Length, word => Allowances.Contains(word) ? null : $"'{word}' is not known: use {string.Join(", ", Allowances)}");
        fields.Close();
        return new PathTrafficConfig(merges, allowed.Contains("EncodedSlash"), allowed.Contains("Backslash"), allowed.Contains("EncodedNull"));
    }

    private static ClientHeaders Headers(Fields fields)
    {
        var underscores = fields.Choice("underscores", "Allow", "Reject", "Drop") switch
        {
            "Reject" => UnderscorePolicy.Reject,
            "Drop" => UnderscorePolicy.Drop,
            _ => UnderscorePolicy.Allow,
        };
        var forwarded = fields.Map("forwarded") is { } map ? Forwarded(map) : null;
        fields.Close();
        return new ClientHeaders(underscores, forwarded);
    }

    private static ForwardedConfig Forwarded(Fields fields)
    {
        var mode = fields.Choice("mode", "Pass", "Remove", "Replace", "Append") switch
        {
            "Pass" => ForwardedMode.Pass,
            "Remove" => ForwardedMode.Remove,
            "Append" => ForwardedMode.Append,
            _ => ForwardedMode.Replace,
        };
        if (!fields.Has("mode"))
        {
            fields.Fail("mode", "is missing: write Pass, Remove, Replace or Append");
        }

        var format = fields.Choice("format", "XForwarded", "Forwarded", "Both") switch
        {
            "Forwarded" => ForwardedFormat.Forwarded,
            "Both" => ForwardedFormat.Both,
            _ => ForwardedFormat.XForwarded,
        };
        var hops = fields.Number("trustedHops", 0, ClientTrafficLimits.MaxTrustedHops) ?? 0;
        fields.Close();
        return new ForwardedConfig(mode, format, hops);
    }

    private static ClientTimeoutsConfig Timeouts(Fields fields)
    {
        var timeouts = new ClientTimeoutsConfig
        {
            RequestHead = Timeout(fields, "requestHead", ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxHeadTimeout),
            Idle = Timeout(fields, "idle", ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxIdleTimeout),
            StreamIdle = Timeout(fields, "streamIdle", ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxIdleTimeout),
            TlsHandshake = Timeout(fields, "tlsHandshake", ClientTrafficLimits.MinTimeout, ClientTrafficLimits.MaxHeadTimeout),
            MaxConnectionAge = Timeout(fields, "maxConnectionAge", ClientTrafficLimits.MinConnectionAge, ClientTrafficLimits.MaxConnectionAge),
        };
        fields.Close();
        return timeouts;
    }

    private static TimeSpan? Timeout(Fields fields, string name, TimeSpan min, TimeSpan max)
    {
        if (fields.Duration(name) is not { } value)
        {
            return null;
        }

        if (ClientTrafficRules.CheckTimeout(value, min, max) is not { } problem)
        {
            return value;
        }

        fields.Fail(name, problem);
        return null;
    }
}
