using System.Diagnostics;
using MeshProxy.Sidecar.State;

namespace MeshProxy.Sidecar.Tests;

internal sealed class StateDirectoryTests
{
    private string _path = "";

    [SetUp]
    public void MakePath() => _path = Path.Combine(TestContext.CurrentContext.WorkDirectory, $"state-{Guid.NewGuid():N}");

    [Test]
    public void FilesAreWholeAndForTheirOwnerAlone()
    {
        var state = StateDirectory.Open(_path);
        Assert.That(state.Read("identity.pem"), Is.Null);
        state.Write("identity.pem", "one"u8);
        state.Write("identity.pem", "two"u8);
        Assert.That(state.Read("identity.pem"), Is.EqualTo("two"u8.ToArray()));
        Assert.That(File.GetUnixFileMode(Path.Combine(_path, "identity.pem")), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
        Assert.That(File.GetUnixFileMode(_path), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute));
        Assert.That(Directory.GetFiles(_path), Has.Length.EqualTo(1), "nothing temporary is left");
    }

    [Test]
    public void ADirectoryThatWasOpenToOthersIsTightened()
    {
        Directory.CreateDirectory(_path, (UnixFileMode)0b111_101_101);
        StateDirectory.Open(_path);
        Assert.That((int)File.GetUnixFileMode(_path), Is.EqualTo(0b111_000_000));
    }

    [Test]
    public void AFileInItsPlaceIsRefusedWithTheFlagToCheck()
    {
        File.WriteAllText(_path, "");
        Assert.That(() => StateDirectory.Open(_path), Throws.TypeOf<StartException>().With.Message.Contains("--state-dir"));
    }

    [Test]
    public void AFullDiskLeavesTheOldFileWhole()
    {
        Directory.CreateDirectory(_path);
        if (Run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", _path) != 0)
        {
            Assert.Ignore("Mounting a small tmpfs needs root; not run here.");
        }

        try
        {
            var state = StateDirectory.Open(_path);
            state.Write("config.bin", "good"u8);
            Assert.That(() => state.Write("config.bin", new byte[1024 * 1024]), Throws.InstanceOf<IOException>());
            Assert.That(state.Read("config.bin"), Is.EqualTo("good"u8.ToArray()));
            Assert.That(Directory.GetFiles(_path), Has.Length.EqualTo(1), "the half-written file is gone and its room free again");
        }
        finally
        {
            Assert.That(Run("umount", _path), Is.Zero);
        }
    }

    private static int Run(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return -1;
        }
    }
}
