using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// Turns records into lines: one JSON object with Elastic Common Schema fields (dotted names, as ECS logging writes them). Allocates nothing.
/// Never logged: the query, any field but user-agent, x-request-id and traceparent, and bodies.
/// </summary>
internal static class AccessLogFormat
{
    /// <summary>Room for every value at its bound, each byte escaped.</summary>
    public const int MaxLineBytes = 24 * 1024;

    private const int MaxText = 256;

    public static int Write(Span<byte> buffer, RequestRecord record, DateTimeOffset start, TimeSpan duration)
    {
        var line = new JsonLine(buffer);
        Open(ref line, start, duration, IsSuccess(record));
        if (record.Head is { } head)
        {
            line.Raw(",\"http.request.method\":"u8);
            line.Text(head.MethodToken, 32);
            line.Raw(head.Version switch
            {
                HttpProtocolVersion.Http2 => ",\"http.version\":\"2\""u8,
                HttpProtocolVersion.Http11 => ",\"http.version\":\"1.1\""u8,
                _ => ",\"http.version\":\"1.0\""u8,
            });
            line.Raw(",\"url.path\":"u8);
            line.Text(record.Path, RequestRecord.MaxPathBytes);
            if (!record.Authority.IsEmpty)
            {
                line.Raw(",\"url.domain\":"u8);
                line.Text(record.Authority, RequestRecord.MaxAuthorityBytes);
            }
        }

        if (record.Status != 0)
        {
            line.Raw(",\"http.response.status_code\":"u8);
            line.Number(record.Status);
        }

        line.Raw(",\"http.request.body.bytes\":"u8);
        line.Number(record.BytesReceived);
        line.Raw(",\"http.response.body.bytes\":"u8);
        line.Number(record.BytesSent);
        if (record.Connection is { } connection)
        {
            line.Raw(connection.LogFragment);
        }

        if (!record.Client.IsEmpty)
        {
            line.Raw(",\"client.ip\":"u8);
            line.Text(record.Client, 64);
        }

        if (record.Head is { Fields: var fields })
        {
            WriteField(ref line, fields, KnownField.UserAgent, ",\"user_agent.original\":"u8);
            WriteField(ref line, fields, KnownField.XRequestId, ",\"http.request.id\":"u8);
            if (fields.TryGet(KnownField.TraceParent, out var traceParent) && TryTraceId(traceParent, out var traceId, out var parentId))
            {
                line.Raw(",\"trace.id\":"u8);
                line.Text(traceId, 32);
                line.Raw(",\"parent.id\":"u8);
                line.Text(parentId, 16);
            }
        }

        WriteMesh(ref line, record.Direction, record.Service, record.Cluster, record.Endpoint, record.Attempts, record.Flag, record.Failure);
        WriteText(ref line, ",\"meshproxy.route\":"u8, record.Route);
        if (record.GrpcStatus >= 0)
        {
            line.Raw(",\"meshproxy.grpc_status\":"u8);
            line.Number(record.GrpcStatus);
        }

        if (record.GrpcMessagesReceived + record.GrpcMessagesSent > 0)
        {
            line.Raw(",\"meshproxy.grpc_messages_received\":"u8);
            line.Number(record.GrpcMessagesReceived);
            line.Raw(",\"meshproxy.grpc_messages_sent\":"u8);
            line.Number(record.GrpcMessagesSent);
        }

        return Close(ref line);
    }

    public static int Write(Span<byte> buffer, TcpRecord record, DateTimeOffset start, TimeSpan duration)
    {
        var line = new JsonLine(buffer);
        Open(ref line, start, duration, !record.Failure.IsFailure);
        line.Raw(",\"network.transport\":\"tcp\",\"source.bytes\":"u8);
        line.Number(record.BytesReceived);
        line.Raw(",\"destination.bytes\":"u8);
        line.Number(record.BytesSent);
        line.Raw(record.Connection.LogFragment);
        WriteMesh(ref line, record.Direction, record.Service, record.Cluster, record.Endpoint, record.Attempts, record.Flag, record.Failure);
        return Close(ref line);
    }

    /// <summary>Reads a W3C traceparent: "vv-32 hex-16 hex-2 hex" (Trace Context section 3.2).</summary>
    internal static bool TryTraceId(ReadOnlySpan<byte> value, out ReadOnlySpan<byte> traceId, out ReadOnlySpan<byte> parentId)
    {
        traceId = parentId = default;
        if (value.Length < 55 || value[2] != '-' || value[35] != '-' || value[52] != '-' || !IsLowerHex(value[3..35]) || !IsLowerHex(value[36..52]))
        {
            return false;
        }

        traceId = value[3..35];
        parentId = value[36..52];
        return traceId.ContainsAnyExcept((byte)'0');
    }

    private static bool IsLowerHex(ReadOnlySpan<byte> text)
    {
        foreach (var b in text)
        {
            if (!((uint)(b - '0') <= 9 || (uint)(b - 'a') <= 5))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsSuccess(RequestRecord record) =>
        !record.Failure.IsFailure && record.Status is > 0 and < 500 && record.GrpcStatus <= 0;

    private static void Open(ref JsonLine line, DateTimeOffset start, TimeSpan duration, bool success)
    {
        line.Raw("{\"@timestamp\":"u8);
        line.Time(start);
        line.Raw(",\"ecs.version\":\"8.11\",\"event.kind\":\"event\",\"event.dataset\":\"meshproxy.access\",\"event.duration\":"u8);
        line.Number(duration.Ticks * TimeSpan.NanosecondsPerTick);
        line.Raw(success ? ",\"event.outcome\":\"success\""u8 : ",\"event.outcome\":\"failure\""u8);
    }

    private static void WriteMesh(
        ref JsonLine line, Direction direction, string service, string cluster, string? endpoint, int attempts, ResponseFlag flag, in Failure failure)
    {
        line.Raw(direction switch
        {
            Direction.Inbound => ",\"meshproxy.direction\":\"inbound\""u8,
            Direction.Outbound => ",\"meshproxy.direction\":\"outbound\""u8,
            _ => ",\"meshproxy.direction\":\"gateway\""u8,
        });
        WriteText(ref line, ",\"meshproxy.service\":"u8, service);
        WriteText(ref line, ",\"meshproxy.cluster\":"u8, cluster);
        WriteText(ref line, ",\"meshproxy.endpoint\":"u8, endpoint);
        line.Raw(",\"meshproxy.attempts\":"u8);
        line.Number(attempts);
        if (flag != ResponseFlag.None)
        {
            line.Raw(",\"meshproxy.flags\":"u8);
            line.Text(FlagNames.Of(flag), 8);
        }

        if (failure.IsFailure)
        {
            WriteText(ref line, ",\"meshproxy.failure\":"u8, failure.Detail);
        }
    }

    private static void WriteText(ref JsonLine line, ReadOnlySpan<byte> name, string? value)
    {
        if (value is { Length: > 0 })
        {
            line.Raw(name);
            line.Text(value, MaxText);
        }
    }

    private static void WriteField(ref JsonLine line, FieldMap fields, KnownField field, ReadOnlySpan<byte> name)
    {
        if (fields.TryGet(field, out var value))
        {
            line.Raw(name);
            line.Text(value, MaxText);
        }
    }

    private static int Close(ref JsonLine line)
    {
        line.Raw("}\n"u8);
        return line.IsTruncated ? 0 : line.Written.Length;
    }
}
