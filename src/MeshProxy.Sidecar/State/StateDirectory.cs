namespace MeshProxy.Sidecar.State;

/// <summary>
/// Files that survive a restart: key, certificate, last good configuration. For their owner alone (directory 0700, files 0600); written beside,
/// flushed, renamed, so that a crash or a full disk leaves the old file whole.
/// </summary>
internal sealed class StateDirectory
{
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerDirectory = OwnerFile | UnixFileMode.UserExecute;

    private StateDirectory(string path) => Path = path;

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>Makes the directory, or takes the one that is there and tightens it.</summary>
    /// <exception cref="StartException">It can not be made or is not ours.</exception>
    public static StateDirectory Open(string path)
    {
        try
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(path);
            }
            else
            {
                Directory.CreateDirectory(path, OwnerDirectory);
                if (File.GetUnixFileMode(path) != OwnerDirectory)
                {
                    File.SetUnixFileMode(path, OwnerDirectory);
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new StartException($"The state directory '{path}' can not be used: {exception.Message} It must be a directory that this user owns (--state-dir).", exception);
        }

        return new StateDirectory(System.IO.Path.GetFullPath(path));
    }

    /// <summary>Reads a file; null when it is not there.</summary>
    /// <exception cref="IOException">It can not be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public byte[]? Read(string name)
    {
        try
        {
            return File.ReadAllBytes(System.IO.Path.Combine(Path, name));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Writes a file whole, or leaves the old one.</summary>
    /// <exception cref="IOException">The disk is full or failing.</exception>
    /// <exception cref="UnauthorizedAccessException">The directory may not be written.</exception>
    public void Write(string name, ReadOnlySpan<byte> bytes)
    {
        var target = System.IO.Path.Combine(Path, name);
        var temporary = target + ".new";
        try
        {
            File.Delete(temporary);
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0 };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = OwnerFile;
            }

            using (var file = new FileStream(temporary, options))
            {
                file.Write(bytes);
                file.Flush(flushToDisk: true);
            }

            File.Move(temporary, target, overwrite: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            TryDelete(temporary);
            throw;
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // The failure that is being reported is the one that matters.
        }
    }
}
