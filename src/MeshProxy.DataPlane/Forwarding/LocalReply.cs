using System.Buffers;
using System.Globalization;
using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// A reply that the proxy makes itself: never without a flag and a reason. Inside the mesh it names the endpoint or the policy, in the field
/// <c>x-meshproxy-failure: FLAG; retry=always|if-idempotent|never; detail</c>; outside it tells the flag and what it means, not the mesh's inside.
/// gRPC callers, those of gRPC-Web too, get a trailers-only response (gRPC over HTTP/2, "Responses").
/// </summary>
internal static class LocalReply
{
    /// <summary>Writes the reply into a response that has not started.</summary>
    /// <returns>The HTTP status that was written.</returns>
    public static async ValueTask<int> WriteAsync(HttpServerExchange downstream, Failure failure, bool tellsDetail, GrpcKind caller, CorsPolicy? cors = null, ReadOnlyMemory<byte> origin = default)
    {
        var meaning = FailureMap.Of(failure.Cause);
        var detail = tellsDetail ? failure.Detail : meaning.Text;
        var head = downstream.Response;
        head.Clear();

        // A script may see why its request failed.
        cors?.Apply(origin.Span, head.Fields);
        if (tellsDetail)
        {
            head.Fields.Add(KnownField.MeshFailure, Encoding.UTF8.GetBytes(FailureField.Format(failure)));
        }

        if (failure.Cause is FailureCause.BodyTooLarge or FailureCause.StreamIdle && downstream.Request.Version != HttpProtocolVersion.Http2)
        {
            // The rest of the body is not read: a client that is not told would send its next request behind it (RFC 9110 sections 15.5.9 and 15.5.14).
            head.Fields.Add(KnownField.Connection, "close"u8);
        }

        if (caller != GrpcKind.None)
        {
            head.Status = 200;
            head.EndsStream = true;
            head.Fields.Add(KnownField.ContentType, GrpcWebCall.ContentType(caller));
            head.Fields.Add(KnownField.GrpcStatus, Encoding.ASCII.GetBytes(meaning.GrpcStatus.ToString(CultureInfo.InvariantCulture)));
            head.Fields.Add(KnownField.GrpcMessage, PercentEncode($"{meaning.Flag}: {detail}"));
            downstream.WriteHead(head);
            await downstream.FlushAsync();
            return head.Status;
        }

        var body = Encoding.UTF8.GetBytes($"{meaning.HttpStatus} {meaning.Flag}: {detail}\n");
        var withBody = downstream.Request.Method != RequestMethod.Head;
        head.Status = meaning.HttpStatus;
        head.EndsStream = !withBody;
        head.ContentLength = body.Length;
        head.Fields.Add(KnownField.ContentType, "text/plain; charset=utf-8"u8);
        head.Fields.Add(KnownField.ContentLength, Encoding.ASCII.GetBytes(body.Length.ToString(CultureInfo.InvariantCulture)));
        downstream.WriteHead(head);
        if (withBody)
        {
            await downstream.WriteBodyAsync(new ReadOnlySequence<byte>(body), endStream: true);
        }

        await downstream.FlushAsync();
        return head.Status;
    }

    // gRPC over HTTP/2: Status-Message is percent-encoded UTF-8; printable ASCII but '%' stands for itself.
    private static byte[] PercentEncode(string message)
    {
        var encoded = new List<byte>(message.Length);
        foreach (var b in Encoding.UTF8.GetBytes(message))
        {
            if (b is >= 0x20 and < 0x7f and not (byte)'%')
            {
                encoded.Add(b);
            }
            else
            {
                encoded.AddRange(Encoding.ASCII.GetBytes($"%{b:X2}"));
            }
        }

        return [.. encoded];
    }
}
