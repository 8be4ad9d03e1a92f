using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>The field in which one proxy of the mesh tells another why it answered itself. Believed only from an authenticated mesh peer.</summary>
internal static class FailureField
{
    private const int MaxDetail = 512;

    /// <summary>"FLAG; retry=always; detail".</summary>
    public static string Format(Failure failure)
    {
        var retry = failure.Safety switch
        {
            RetrySafety.Always => "always",
            RetrySafety.IfIdempotent => "if-idempotent",
            _ => "never",
        };
        var text = $"{FailureMap.Of(failure.Cause).Flag}; retry={retry}; {failure.Detail}";
        var safe = new StringBuilder(text.Length);
        foreach (var c in text.AsSpan(0, Math.Min(text.Length, MaxDetail)))
        {
            safe.Append(c is >= ' ' and < (char)0x7f ? c : '?');
        }

        return safe.ToString();
    }

    /// <summary>Reads what a peer's proxy told. Anything that is not understood is a refusal to retry.</summary>
    /// <param name="value">The field's value.</param>
    /// <param name="status">The status of the reply that it came with: tells causes of one flag apart, but to gRPC callers, whose replies are all 200.</param>
    /// <param name="endpoint">Who told it.</param>
    public static Failure Parse(ReadOnlySpan<byte> value, int status, string endpoint)
    {
        var text = Encoding.ASCII.GetString(value[..Math.Min(value.Length, MaxDetail)]);
        var parts = text.Split(';', 3, StringSplitOptions.TrimEntries);
        var safety = parts.Length > 1 ? parts[1] switch
        {
            "retry=always" => RetrySafety.Always,
            "retry=if-idempotent" => RetrySafety.IfIdempotent,
            _ => RetrySafety.Never,
        }
        : RetrySafety.Never;
        var cause = Enum.TryParse<ResponseFlag>(parts[0], out var flag) ? CauseOf(flag, status) : FailureCause.UpstreamReset;
        return new Failure(cause, FailureStage.Waiting, safety, Initiator.Peer, $"inbound of {endpoint}: {(parts.Length > 2 ? parts[2] : text)}");
    }

    private static FailureCause CauseOf(ResponseFlag flag, int status)
    {
        var usual = CauseOf(flag);
        return FailureMap.Of(usual).HttpStatus == status
            ? usual
            : FailureMap.Causes.FirstOrDefault(cause => FailureMap.Of(cause) is var meaning && meaning.Flag == flag && meaning.HttpStatus == status, usual);
    }

    private static FailureCause CauseOf(ResponseFlag flag) => flag switch
    {
        ResponseFlag.NR => FailureCause.NoRoute,
        ResponseFlag.NC => FailureCause.InvalidBackend,
        ResponseFlag.AD => FailureCause.AuthorizationDenied,
        ResponseFlag.RL => FailureCause.RateLimited,
        ResponseFlag.UH => FailureCause.NoHealthyEndpoint,
        ResponseFlag.UO => FailureCause.CircuitBreakerOpen,
        ResponseFlag.UF => FailureCause.ConnectFailed,
        ResponseFlag.UC => FailureCause.UpstreamConnectionEnded,
        ResponseFlag.LR => FailureCause.LocalReset,
        ResponseFlag.URX => FailureCause.RetryExhausted,
        ResponseFlag.FI => FailureCause.FaultInjected,
        ResponseFlag.IE => FailureCause.Internal,
        ResponseFlag.UPE => FailureCause.UpstreamProtocolError,
        ResponseFlag.UT => FailureCause.UpstreamTimeout,
        ResponseFlag.DPE => FailureCause.DownstreamProtocolError,
        ResponseFlag.SI => FailureCause.StreamIdle,
        ResponseFlag.DT => FailureCause.MaxDuration,
        ResponseFlag.OM => FailureCause.Overloaded,
        _ => FailureCause.UpstreamReset,
    };
}
