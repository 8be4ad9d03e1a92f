namespace MeshProxy.Cli;

/// <summary>What scripts see.</summary>
internal static class ExitStatus
{
    public const int Done = 0;
    public const int Refused = 1;
    public const int Usage = 2;
    public const int Unreachable = 3;

    /// <summary>128 + SIGINT, as shells have it.</summary>
    public const int Interrupted = 130;
}

/// <summary>Ends a command with a message for the operator.</summary>
internal sealed class CommandException(int status, string message) : Exception(message)
{
    public int Status { get; } = status;
}
