using Microsoft.Extensions.Logging.Abstractions;

namespace MeshProxy.ControlPlane.Telemetry;

/// <summary>Puts what the web server and gRPC log, from warnings up, into the own log. Failed handshakes and cancelled calls are not their warnings.</summary>
internal sealed class FrameworkLog(EventLog log) : ILoggerProvider
{
    /// <inheritdoc/>
    public ILogger CreateLogger(string categoryName) => categoryName == "Microsoft.Extensions.Hosting.Internal.Host"
        ? NullLogger.Instance // it repeats what a failed start throws, which is told in one line of our own
        : new CategoryLogger(log, categoryName);

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private sealed class CategoryLogger(EventLog log, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning && log.IsEnabled(logLevel);

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                log.Write(logLevel, "framework", formatter(state, exception), ("log.logger", category), ("error.type", exception?.GetType().FullName), ("error.message", exception?.Message));
            }
        }
    }
}
