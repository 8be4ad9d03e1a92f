using MeshProxy.Fuzz.Targets;

namespace MeshProxy.Fuzz;

/// <summary>Everything that is fuzzed. A target belongs to one thread.</summary>
public static class FuzzTargets
{
    /// <summary>New ones.</summary>
    public static IReadOnlyList<FuzzTarget> All =>
    [
        new Http1RequestTarget(), new Http1ResponseTarget(), new ChunkedTarget(), new Http1GeneratedTarget(), new Http1ConnectionTarget(), new HpackDecodeTarget(), new HpackEncodeTarget(), new HuffmanTarget(),
        new Http2ServerTarget(), new Http2ClientTarget(), new Http2HeldTarget(), new ClientHelloTarget(), new GrpcWebTextTarget(), new PathTarget(),
    ];
}
