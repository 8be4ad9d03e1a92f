using System.Globalization;

namespace MeshProxy.Sidecar;

/// <summary>How a probe asks the application.</summary>
internal enum AppProbeKind
{
    /// <summary>HTTP GET; 2xx and 3xx are good.</summary>
    Http,

    /// <summary>The gRPC health protocol, grpc.health.v1.Health/Check.</summary>
    Grpc,

    /// <summary>A TCP connection that succeeds.</summary>
    Tcp,
}

/// <summary>One <c>--app-probe NAME=PORT/path | NAME=grpc:PORT | NAME=tcp:PORT</c>.</summary>
internal sealed record AppProbe(string Name, AppProbeKind Kind, int Port, string Path)
{
    /// <summary>Reads the flag's value.</summary>
    public static bool TryParse(string text, out AppProbe? probe)
    {
        probe = null;
        var equals = text.IndexOf('=');
        if (equals <= 0)
        {
            return false;
        }

        var name = text[..equals];
        var rest = text[(equals + 1)..];
        var kind = AppProbeKind.Http;
        if (rest.StartsWith("grpc:", StringComparison.Ordinal))
        {
            kind = AppProbeKind.Grpc;
            rest = rest[5..];
        }
        else if (rest.StartsWith("tcp:", StringComparison.Ordinal))
        {
            kind = AppProbeKind.Tcp;
            rest = rest[4..];
        }

        var path = "/";
        var slash = rest.IndexOf('/');
        if (slash >= 0 && kind == AppProbeKind.Http)
        {
            path = rest[slash..];
            rest = rest[..slash];
        }

        if (!ushort.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out var port) || port == 0
            || path.AsSpan().ContainsAnyExceptInRange('!', '~') || name.Contains('/'))
        {
            return false;
        }

        probe = new AppProbe(name, kind, port, path);
        return true;
    }
}
