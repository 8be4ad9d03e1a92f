namespace MeshProxy.ControlPlane;

/// <summary>The control plane cannot start; the message says what to check, in one line.</summary>
internal sealed class StartException : Exception
{
    public StartException(string message)
        : base(message)
    {
    }

    public StartException(string message, Exception cause)
        : base(message, cause)
    {
    }
}
