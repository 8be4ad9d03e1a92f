using System.Net;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Http2;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane;

/// <summary>The data plane's own log lines, apart from the access log.</summary>
internal static partial class ProxyLog
{
    [LoggerMessage(1, LogLevel.Warning, "refused a connection: direction {Direction}, from {Source}, reason {Reason}: {Detail}")]
    public static partial void ConnectionRefused(ILogger logger, Direction direction, EndPoint? source, string reason, string detail);

    [LoggerMessage(4, LogLevel.Error, "the tick that judges timeouts failed: a bug")]
    public static partial void TickFailed(ILogger logger, Exception bug);

    [LoggerMessage(5, LogLevel.Warning, "buffers hold {Held} bytes, more than the memory budget of {Budget}: new requests and opaque connections are refused (OM) until slow peers take theirs; --memory-budget sets it")]
    public static partial void MemoryBudgetExceeded(ILogger logger, long held, long budget);

    [LoggerMessage(6, LogLevel.Information, "buffers hold {Held} bytes of the memory budget of {Budget}: new requests and opaque connections are taken again")]
    public static partial void MemoryBudgetRestored(ILogger logger, long held, long budget);

    [LoggerMessage(3, LogLevel.Information, "ended an HTTP/2 connection: {Reason}, GOAWAY {Code}: {Detail}")]
    public static partial void BrokenConnection(ILogger logger, ConnectionCloseReason reason, Http2ErrorCode code, string detail);
}
