namespace MeshProxy.Sidecar;

/// <summary>The proxy can not start, or can not go on starting. The message is for the operator: what is wrong and what to check next.</summary>
internal sealed class StartException(string message, Exception? inner = null) : Exception(message, inner);
