using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>A response's status and fields, the same for every HTTP version. Reused; valid until <see cref="Clear"/>.</summary>
public sealed class ResponseHead
{
    /// <summary>The status code, 100 to 599.</summary>
    public int Status { get; set; }

    /// <summary>The version it arrived in.</summary>
    public HttpProtocolVersion Version { get; set; }

    /// <summary>True when no body and no trailers follow (also for a response to HEAD, 204 and 304).</summary>
    public bool EndsStream { get; set; }

    /// <summary>The declared length of the body in bytes, or -1. Content-Length stands in <see cref="Fields"/> too.</summary>
    public long ContentLength { get; set; } = -1;

    /// <summary>The fields, in order of arrival.</summary>
    public FieldMap Fields { get; } = new();

    /// <summary>
    /// True when this head accepts a tunnel (RFC 9110 sections 7.8 and 9.3.6, RFC 8441 section 5): it is final, and from here on the bodies of both directions are the
    /// bytes of the tunnel. The status is what the peer's version uses, 101 in HTTP/1.1 and 200 in HTTP/2; whoever writes the head sends its own version's.
    /// </summary>
    public bool IsTunnel { get; set; }

    /// <summary>True for 1xx (RFC 9110 section 15.2) but for a 101 that accepts a tunnel: another head follows.</summary>
    public bool IsInformational => Status is >= 100 and < 200 && !IsTunnel;

    /// <summary>Makes this a copy of <paramref name="other"/>.</summary>
    public void CopyFrom(ResponseHead other)
    {
        Clear();
        Status = other.Status;
        Version = other.Version;
        EndsStream = other.EndsStream;
        IsTunnel = other.IsTunnel;
        ContentLength = other.ContentLength;
        Fields.AddAll(other.Fields);
    }

    /// <summary>Empties the head for the next response; buffers are kept.</summary>
    public void Clear()
    {
        Fields.Clear();
        Status = 0;
        Version = HttpProtocolVersion.Http11;
        EndsStream = false;
        IsTunnel = false;
        ContentLength = -1;
    }
}
