namespace MeshProxy.Demo.Processes;

/// <summary>Why the demonstration cannot go on, and whose log says more.</summary>
internal sealed class DemoFailure(string message, ChildProcess? culprit = null) : Exception(message)
{
    public ChildProcess? Culprit { get; } = culprit;
}
