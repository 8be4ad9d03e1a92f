using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Logging;

/// <summary>
/// The own log: one JSON object a line in Elastic Common Schema fields. Callers format and queue; one background thread writes. When the sink is slow
/// and the queue is full, lines are dropped and counted, and nobody waits. The level can be changed while it runs.
/// </summary>
internal sealed class JsonLog : ILoggerFactory
{
    /// <summary>Lines that may wait for the sink.</summary>
    private const int MaxQueued = 4096;

    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    private readonly TimeProvider _time;
    private readonly Stream _sink;
    private readonly Lock _sync = new();
    private readonly Queue<byte[]> _queue = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _writer;
    private long _dropped;
    private volatile bool _stopping;
    private volatile int _level;

    /// <summary>Writes to <paramref name="sink"/>, which stays open.</summary>
    public JsonLog(Stream sink, LogLevel level, TimeProvider time)
    {
        _sink = sink;
        _time = time;
        _level = (int)level;
        _writer = new Thread(Run, 256 * 1024) { IsBackground = true, Name = "log" };
        _writer.Start();
    }

    /// <summary>From which level on lines are written.</summary>
    public LogLevel Level
    {
        get => (LogLevel)_level;
        set => _level = (int)value;
    }

    /// <summary>Lines lost to a slow or failing sink.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>The word for a level, as flags and the admin endpoint take it.</summary>
    public static string Name(LogLevel level) => level switch
    {
        LogLevel.Trace => "trace",
        LogLevel.Debug => "debug",
        LogLevel.Information => "info",
        LogLevel.Warning => "warn",
        LogLevel.Error => "error",
        _ => "fatal",
    };

    /// <summary>Reads a level's word.</summary>
    public static bool TryParse(string? text, out LogLevel level)
    {
        LogLevel? parsed = text switch
        {
            "trace" => LogLevel.Trace,
            "debug" => LogLevel.Debug,
            "info" => LogLevel.Information,
            "warn" => LogLevel.Warning,
            "error" => LogLevel.Error,
            _ => null,
        };
        level = parsed ?? default;
        return parsed is not null;
    }

    /// <inheritdoc/>
    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    /// <summary>There is one sink; providers are not taken.</summary>
    /// <exception cref="NotSupportedException">Always.</exception>
    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException("The log has one sink.");

    /// <summary>Writes what waits, for at most two seconds.</summary>
    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _writer.Join(TimeSpan.FromSeconds(2));
    }

    private void Enqueue(byte[] line)
    {
        bool wasEmpty;
        lock (_sync)
        {
            if (_queue.Count >= MaxQueued)
            {
                _dropped++;
                return;
            }

            wasEmpty = _queue.Count == 0;
            _queue.Enqueue(line);
        }

        if (wasEmpty)
        {
            _wake.Set();
        }
    }

    private void Run()
    {
        while (true)
        {
            var stopping = _stopping;
            byte[]? line;
            lock (_sync)
            {
                _queue.TryDequeue(out line);
            }

            if (line is not null)
            {
                Write(line);
            }
            else if (stopping)
            {
                return;
            }
            else
            {
                _wake.WaitOne();
            }
        }
    }

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "There is nowhere to log that the log failed; it is counted.")]
    private void Write(byte[] line)
    {
        try
        {
            _sink.Write(line);
        }
        catch (Exception)
        {
            Interlocked.Increment(ref _dropped);
        }
    }

    private byte[] Format<TState>(string category, LogLevel level, EventId eventId, TState state, Exception? exception, string message)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var json = new Utf8JsonWriter(buffer, Options))
        {
            json.WriteStartObject();
            json.WriteString("@timestamp"u8, _time.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture));
            json.WriteString("log.level"u8, Name(level));
            json.WriteString("message"u8, message);
            json.WriteString("ecs.version"u8, "8.11"u8);
            json.WriteString("service.name"u8, "meshproxy"u8);
            json.WriteString("log.logger"u8, category);
            if (eventId.Name is not null)
            {
                json.WriteString("event.action"u8, eventId.Name);
            }

            if (state is IReadOnlyList<KeyValuePair<string, object?>> values)
            {
                foreach (var (name, value) in values)
                {
                    if (name != "{OriginalFormat}")
                    {
                        WriteValue(json, "meshproxy." + ToSnakeCase(name), value);
                    }
                }
            }

            if (exception is not null)
            {
                json.WriteString("error.type"u8, exception.GetType().FullName);
                json.WriteString("error.message"u8, exception.Message);
                json.WriteString("error.stack_trace"u8, exception.ToString());
            }

            json.WriteEndObject();
        }

        buffer.Write("\n"u8);
        return buffer.WrittenSpan.ToArray();
    }

    private static void WriteValue(Utf8JsonWriter json, string name, object? value)
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
            case TimeSpan span:
                json.WriteNumber(name, span.TotalSeconds);
                break;
            default:
                json.WriteString(name, Convert.ToString(value, CultureInfo.InvariantCulture));
                break;
        }
    }

    private static string ToSnakeCase(string name)
    {
        var text = new System.Text.StringBuilder(name.Length + 4);
        for (var i = 0; i < name.Length; i++)
        {
            if (char.IsAsciiLetterUpper(name[i]) && i > 0)
            {
                text.Append('_');
            }

            text.Append(char.ToLowerInvariant(name[i]));
        }

        return text.ToString();
    }

    private sealed class Logger(JsonLog owner, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => (int)logLevel >= owner._level && logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                owner.Enqueue(owner.Format(category, logLevel, eventId, state, exception, formatter(state, exception)));
            }
        }
    }
}
