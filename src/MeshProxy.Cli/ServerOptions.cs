using System.CommandLine;

namespace MeshProxy.Cli;

/// <summary>How to reach the control plane; the same for every command. Flag beats environment beats default.</summary>
internal static class ServerOptions
{
    public static readonly Option<string> Server = new("--server")
    {
        Description = "HOST:PORT of the control plane (MESHCTL_SERVER).",
        HelpName = "HOST:PORT",
        Recursive = true,
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("MESHCTL_SERVER") is { Length: > 0 } value ? value : "127.0.0.1:15012",
    };

    public static readonly Option<string?> Credential = new("--credential")
    {
        Description = "Operator's certificate and key, one PEM file (MESHCTL_CREDENTIAL).",
        HelpName = "FILE",
        Recursive = true,
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("MESHCTL_CREDENTIAL") is { Length: > 0 } value ? value : null,
    };

    public static readonly Option<string?> TrustBundle = new("--trust-bundle")
    {
        Description = "Roots of the mesh, PEM (MESHCTL_TRUST_BUNDLE); default: trust-bundle.pem beside the credential.",
        HelpName = "FILE",
        Recursive = true,
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("MESHCTL_TRUST_BUNDLE") is { Length: > 0 } value ? value : null,
    };
}
