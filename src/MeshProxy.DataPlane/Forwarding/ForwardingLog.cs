using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>What a forwarder logs besides the access log.</summary>
internal static partial class ForwardingLog
{
    [LoggerMessage(20, LogLevel.Error, "a bug ended an exchange; the caller got 500 or a reset")]
    public static partial void Bug(ILogger logger, Exception bug);
}
