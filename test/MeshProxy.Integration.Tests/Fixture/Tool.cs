namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Foreign programs: used when they are there, otherwise the test is reported as ignored with the reason.</summary>
internal static class Tool
{
    public static bool IsRoot => OperatingSystem.IsLinux() && Environment.UserName == "root";

    public static string? Find(string program) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Concat(["/usr/sbin", "/sbin"])
        .Select(directory => Path.Combine(directory, program)).FirstOrDefault(File.Exists);

    public static string Need(string program)
    {
        if (Find(program) is { } path)
        {
            return path;
        }

        Assert.Ignore($"{program} is not installed");
        return "";
    }

    public static void NeedRoot(string why)
    {
        if (!IsRoot)
        {
            Assert.Ignore($"needs root: {why}");
        }
    }
}
