using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.Model.Config;

/// <summary>What an application speaks on a port: the values of <c>appProtocol</c> that MeshProxy knows.</summary>
public enum AppProtocol
{
    /// <summary>Not declared: sniffed for a short time, then opaque.</summary>
    Undeclared,

    /// <summary>"http": HTTP/1.1.</summary>
    Http,

    /// <summary>"http2" and "kubernetes.io/h2c": HTTP/2 with prior knowledge.</summary>
    Http2,

    /// <summary>"grpc": HTTP/2 with prior knowledge, failures told as gRPC status.</summary>
    Grpc,

    /// <summary>"kubernetes.io/ws": HTTP/1.1 that upgrades to WebSocket.</summary>
    WebSocket,

    /// <summary>"https": TLS that the application itself terminates; opaque, but where a policy says how we may speak HTTP over TLS to it.</summary>
    Https,

    /// <summary>"tls": TLS that the application itself terminates; opaque.</summary>
    Tls,

    /// <summary>"tcp": opaque bytes, the server may speak first.</summary>
    Tcp,
}

/// <summary>Facts about <see cref="AppProtocol"/>.</summary>
public static class AppProtocols
{
    /// <summary>Every accepted spelling, for error texts.</summary>
    public const string Accepted = "http, http2, kubernetes.io/h2c, grpc, kubernetes.io/ws, https, tls, tcp";

    /// <summary>Reads a declared appProtocol.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out AppProtocol protocol)
    {
        AppProtocol? parsed = text switch
        {
            "http" => AppProtocol.Http,
            "http2" or "kubernetes.io/h2c" => AppProtocol.Http2,
            "grpc" => AppProtocol.Grpc,
            "kubernetes.io/ws" => AppProtocol.WebSocket,
            "https" => AppProtocol.Https,
            "tls" => AppProtocol.Tls,
            "tcp" => AppProtocol.Tcp,
            _ => null,
        };
        protocol = parsed ?? AppProtocol.Undeclared;
        return parsed is not null;
    }

    /// <summary>True when the proxy reads requests on it.</summary>
    public static bool IsHttp(this AppProtocol protocol) =>
        protocol is AppProtocol.Http or AppProtocol.Http2 or AppProtocol.Grpc or AppProtocol.WebSocket;

    /// <summary>True when the proxy passes bytes without reading them.</summary>
    public static bool IsOpaque(this AppProtocol protocol) => protocol is AppProtocol.Tcp or AppProtocol.Tls or AppProtocol.Https;

    /// <summary>True when the application is spoken to in HTTP/2, wherever it is not left to choose.</summary>
    public static bool IsHttp2(this AppProtocol protocol) => protocol is AppProtocol.Http2 or AppProtocol.Grpc;
}
