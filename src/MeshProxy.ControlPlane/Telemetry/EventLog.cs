using System.Buffers;
using System.Globalization;
using System.Text.Json;

namespace MeshProxy.ControlPlane.Telemetry;

/// <summary>The own log: one JSON object a line in Elastic Common Schema fields, each event named by <c>event.action</c>.</summary>
/// <remarks>Thread-safe: a line is written whole under the lock.</remarks>
internal sealed class EventLog(Stream output, TimeProvider time, LogLevel minimum = LogLevel.Information)
{
    private readonly Lock _gate = new();
    private readonly ArrayBufferWriter<byte> _line = new(512);

    /// <summary>True when a line of this level is written.</summary>
    public bool IsEnabled(LogLevel level) => level >= minimum && level != LogLevel.None;

    /// <summary>Something happened that an operator wants to find again.</summary>
    public void Info(string action, string message, params ReadOnlySpan<(string Name, object? Value)> fields) => Write(LogLevel.Information, action, message, fields);

    /// <summary>Something is off but the mesh goes on.</summary>
    public void Warn(string action, string message, params ReadOnlySpan<(string Name, object? Value)> fields) => Write(LogLevel.Warning, action, message, fields);

    /// <summary>Something failed.</summary>
    public void Error(string action, string message, params ReadOnlySpan<(string Name, object? Value)> fields) => Write(LogLevel.Error, action, message, fields);

    /// <summary>Writes one line.</summary>
    public void Write(LogLevel level, string action, string message, params ReadOnlySpan<(string Name, object? Value)> fields)
    {
        if (!IsEnabled(level))
        {
            return;
        }

        lock (_gate)
        {
            _line.ResetWrittenCount();
            using (var json = new Utf8JsonWriter(_line))
            {
                json.WriteStartObject();
                json.WriteString("@timestamp", time.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
                json.WriteString("log.level", Name(level));
                json.WriteString("service.name", "meshproxy-control");
                json.WriteString("event.action", action);
                json.WriteString("message", message);
                foreach (var (name, value) in fields)
                {
                    Write(json, name, value);
                }

                json.WriteEndObject();
            }

            _line.Write("\n"u8);
            try
            {
                output.Write(_line.WrittenSpan);
                output.Flush();
            }
            catch (IOException)
            {
                // Whoever read the log is gone; the mesh goes on.
            }
        }
    }

    private static void Write(Utf8JsonWriter json, string name, object? value)
    {
        switch (value)
        {
            case null:
                break;
            case bool flag:
                json.WriteBoolean(name, flag);
                break;
            case int number:
                json.WriteNumber(name, number);
                break;
            case long number:
                json.WriteNumber(name, number);
                break;
            case double number:
                json.WriteNumber(name, number);
                break;
            case DateTimeOffset moment:
                json.WriteString(name, moment.UtcDateTime);
                break;
            default:
                json.WriteString(name, value.ToString());
                break;
        }
    }

    private static string Name(LogLevel level) => level switch
    {
        LogLevel.Trace => "trace",
        LogLevel.Debug => "debug",
        LogLevel.Information => "info",
        LogLevel.Warning => "warn",
        _ => "error",
    };
}
