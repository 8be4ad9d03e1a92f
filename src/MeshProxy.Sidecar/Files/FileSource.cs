using MeshProxy.Api.Compilation;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Config;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Files;

/// <summary>
/// File mode: compiles the documents and puts them in force, again whenever the files change. A state that is not good as a whole changes nothing: the
/// last good one stays in force, and the log says why.
/// </summary>
/// <remarks>
/// Reads the files every second and compares a hash: notifications of the file system miss symbolic links that are swapped (Kubernetes), network mounts
/// and some editors' renames, and reading a few small files costs microseconds. A state is taken once two looks in a row agree, so that a file
/// that is being written is not read half-way.
/// </remarks>
internal sealed class FileSource(
    IReadOnlyList<string> paths,
    Func<ProxyConfig, IReadOnlyList<DataPlane.Snapshots.UnitRejection>> apply,
    Meters meters,
    ILogger log,
    TimeProvider time)
{
    /// <summary>How often the files are looked at.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private string? _judged;
    private string? _seen;
    private string? _unreadable;

    /// <summary>True once a configuration is in force.</summary>
    public bool IsApplied { get; private set; }

    /// <summary>Takes the files as they are at start.</summary>
    /// <exception cref="StartException">They are no good and there is no earlier state to serve.</exception>
    public void Load()
    {
        ConfigFiles files;
        try
        {
            files = ConfigFiles.Read(paths);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new StartException($"The configuration can not be read: {exception.Message}", exception);
        }

        if (!Judge(files))
        {
            throw new StartException("The configuration is not valid; the log lines above name file, line and field. Check it with: meshproxy validate");
        }
    }

    /// <summary>Watches until cancelled.</summary>
    public async Task WatchAsync(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await Task.Delay(Interval, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
            if (!cancellation.IsCancellationRequested)
            {
                Look();
            }
        }
    }

    /// <summary>One look at the files.</summary>
    internal void Look()
    {
        ConfigFiles files;
        try
        {
            files = ConfigFiles.Read(paths);
            _unreadable = null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            if (_unreadable != exception.Message)
            {
                _unreadable = exception.Message;
                log.LogWarning(LogEvents.ConfigUnreadable, "The configuration can not be read, the last good state stays in force: {Reason}", exception.Message);
            }

            return;
        }

        var settled = files.Revision == _seen;
        _seen = files.Revision;
        if (settled && files.Revision != _judged)
        {
            Judge(files);
        }
    }

    private bool Judge(ConfigFiles files)
    {
        _judged = _seen = files.Revision;
        var (config, errors) = FileConfiguration.Compile(files.Sources, files.Revision, out var warnings);
        foreach (var error in errors)
        {
            log.LogError(LogEvents.ConfigRejected, "{Problem}", error.ToString());
        }

        if (config is null || errors.Length > 0)
        {
            meters.OnConfigRejected("file");
            if (IsApplied)
            {
                log.LogError(LogEvents.ConfigRejected, "The changed configuration is refused as a whole ({Count} errors); the last good state stays in force.", errors.Length);
            }

            return false;
        }

        var rejections = apply(config);
        if (!IsApplied && rejections.FirstOrDefault(rejection => rejection.Unit == "gateway") is { } unserved)
        {
            // At start a listener that can not be served is an error to end with; later the proxy serves on without it.
            throw new StartException($"{unserved.Field}: {unserved.Reason}");
        }

        foreach (var rejection in rejections)
        {
            meters.OnConfigRejected(rejection.Unit.Split('/')[0]);
            log.LogError(LogEvents.ConfigRejected, "{Unit} is refused and keeps its last good state: {Field} {Reason}", rejection.Unit, rejection.Field, rejection.Reason);
        }

        foreach (var warning in warnings)
        {
            log.LogWarning(LogEvents.ConfigIncomplete, "{Problem}", warning.ToString());
        }

        IsApplied = true;
        meters.OnConfigApplied(config.Revision);
        log.LogInformation(LogEvents.ConfigApplied, "Configuration {Revision} is in force: {Listeners} listeners, {Services} services, {Rejected} units refused.",
            config.Revision, config.Listeners.Length, config.Destinations.Count, rejections.Count);
        return true;
    }
}
