using MeshProxy.Model.Identity;

namespace MeshProxy.ControlPlane.Callers;

/// <summary>Who calls, as far as the certificate of the connection proves it.</summary>
internal abstract record Caller
{
    private Caller()
    {
    }

    /// <summary>Nobody: no certificate, or one that proves nothing.</summary>
    /// <param name="Reason">Why, for the refusal's text.</param>
    internal sealed record Anonymous(string Reason) : Caller;

    /// <summary>An operator, by an operator certificate of our own authority.</summary>
    internal sealed record Operator(string Name, DateTimeOffset NotAfter) : Caller;

    /// <summary>A workload, by its X.509-SVID.</summary>
    internal sealed record Workload(SpiffeId Identity, DateTimeOffset NotAfter) : Caller;
}
