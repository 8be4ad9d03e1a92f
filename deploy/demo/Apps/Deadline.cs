namespace MeshProxy.Demo.Apps;

internal static class Deadline
{
    /// <summary>An absolute deadline as the gRPC client wants it (UTC); it travels as grpc-timeout.</summary>
    public static DateTime In(TimeSpan duration) => TimeProvider.System.GetUtcNow().UtcDateTime + duration;
}
