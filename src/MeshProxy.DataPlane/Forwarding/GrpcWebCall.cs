using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Makes a gRPC-Web call into a gRPC call, and the response back (gRPC-Web protocol, "PROTOCOL-WEB"). Messages are framed alike in both; what differs is the
/// content-type, the trailers, which travel as a last frame of the body with the flag 0x80, and in the text form base64 around the body.
/// A response without body (trailers-only) keeps its status among its fields. One that is no gRPC is passed on as it is.
/// Streams: each piece is encoded and sent as it comes, with padding of its own, which the protocol allows.
/// </summary>
internal sealed class GrpcWebCall
{
    private const byte TrailerFlag = 0x80;
    private const int PrefixBytes = 5;

    // Three bytes become four characters: pieces of this size need no padding.
    private const int PieceBytes = 3 * 1024;
    private const int TextBytes = PieceBytes / 3 * 4;

    private readonly Base64BodyReader _text = new();
    private byte[] _scratch = [];
    private GrpcKind _answer;

    /// <summary>Bytes that were written to the caller.</summary>
    public long Sent { get; private set; }

    /// <summary>Rewrites the head of a request. <see cref="Release"/> must follow when the exchange is over.</summary>
    /// <returns>What its body is to be read from.</returns>
    public HttpBodyReader Begin(RequestHead request, GrpcKind kind, HttpBodyReader body)
    {
        Sent = 0;
        _answer = AnswerTo(request.Fields, kind);
        SetContentType(request.Fields, "application/grpc"u8, kind);
        if (!request.Fields.Contains(KnownField.Te))
        {
            request.Fields.Add(KnownField.Te, "trailers"u8);
        }

        if (kind != GrpcKind.WebText || request.EndsStream)
        {
            return body;
        }

        request.Fields.Remove(KnownField.ContentLength);
        request.ContentLength = -1;
        _text.Begin(body);
        return _text;
    }

    /// <summary>Rewrites the head of a response.</summary>
    /// <returns>False when it is no gRPC: it is left alone, its body too.</returns>
    public bool BeginResponse(ResponseHead response)
    {
        if (GrpcKinds.Of(response.Fields) != GrpcKind.Grpc)
        {
            return false;
        }

        SetContentType(response.Fields, ContentType(_answer), GrpcKind.Grpc);
        response.Fields.Remove(KnownField.ContentLength);
        response.ContentLength = -1;
        return true;
    }

    /// <summary>Writes a piece of the body.</summary>
    public ValueTask<bool> WriteAsync(HttpServerExchange to, ReadOnlySequence<byte> data, bool endStream)
    {
        if (_answer == GrpcKind.WebText)
        {
            return WriteTextAsync(to, data, endStream);
        }

        Sent += data.Length;
        return data.IsEmpty && !endStream ? new ValueTask<bool>(true) : to.WriteBodyAsync(data, endStream);
    }

    /// <summary>Writes the trailers, which end the body.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    public async ValueTask<bool> WriteTrailersAsync(HttpServerExchange to, FieldMap trailers)
    {
        var frame = ArrayPool<byte>.Shared.Rent(PrefixBytes + trailers.ListSize);
        try
        {
            return await WriteAsync(to, new ReadOnlySequence<byte>(frame, 0, WriteFrame(frame, trailers)), endStream: true);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(frame);
        }
    }

    /// <summary>Gives its buffers back.</summary>
    public void Release()
    {
        _text.Release();
        if (_scratch.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_scratch);
            _scratch = [];
        }
    }

    /// <summary>The content-type of a response of that kind, without the message format.</summary>
    public static ReadOnlySpan<byte> ContentType(GrpcKind kind) => kind switch
    {
        GrpcKind.WebText => "application/grpc-web-text"u8,
        GrpcKind.Web => "application/grpc-web"u8,
        _ => "application/grpc"u8,
    };

    /// <summary>The kind of response that a caller wants: what Accept names, or what it sent itself.</summary>
    public static GrpcKind AnswerTo(FieldMap request, GrpcKind kind)
    {
        if (!request.TryGet(KnownField.Accept, out var accept))
        {
            return kind;
        }

        foreach (var range in accept.Split((byte)','))
        {
            if (GrpcKinds.OfMediaType(accept[range].Trim(" \t"u8)) is var wanted and (GrpcKind.Web or GrpcKind.WebText))
            {
                return wanted;
            }
        }

        return kind;
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> WriteTextAsync(HttpServerExchange to, ReadOnlySequence<byte> data, bool endStream)
    {
        if (_scratch.Length == 0)
        {
            _scratch = ArrayPool<byte>.Shared.Rent(PieceBytes + TextBytes);
        }

        while (!data.IsEmpty)
        {
            var length = (int)Math.Min(data.Length, PieceBytes);
            data.Slice(0, length).CopyTo(_scratch);
            data = data.Slice(length);
            Base64.EncodeToUtf8(_scratch.AsSpan(0, length), _scratch.AsSpan(PieceBytes), out _, out var written);
            Sent += written;
            if (!await to.WriteBodyAsync(new ReadOnlySequence<byte>(_scratch, PieceBytes, written), endStream && data.IsEmpty))
            {
                return false;
            }

            if (endStream && data.IsEmpty)
            {
                return true;
            }
        }

        return !endStream || await to.WriteBodyAsync(ReadOnlySequence<byte>.Empty, endStream: true);
    }

    // Lines of HTTP/1.1 without the empty one at the end.
    private static int WriteFrame(Span<byte> frame, FieldMap trailers)
    {
        var length = PrefixBytes;
        for (var i = 0; i < trailers.Count; i++)
        {
            var line = trailers[i];
            Append(frame, line.Name);
            Append(frame, ": "u8);
            Append(frame, line.Value);
            Append(frame, "\r\n"u8);
        }

        frame[0] = TrailerFlag;
        BinaryPrimitives.WriteInt32BigEndian(frame[1..], length - PrefixBytes);
        return length;

        void Append(Span<byte> to, ReadOnlySpan<byte> bytes)
        {
            bytes.CopyTo(to[length..]);
            length += bytes.Length;
        }
    }

    // "+proto" and its like go along; parameters belong to the type that is replaced.
    private static void SetContentType(FieldMap fields, ReadOnlySpan<byte> type, GrpcKind from)
    {
        fields.TryGet(KnownField.ContentType, out var old);
        var format = old[ContentType(from).Length..];
        format = format.IndexOfAny("; \t"u8) is >= 0 and var end ? format[..end] : format;
        Span<byte> made = stackalloc byte[64];
        if (type.Length + format.Length > made.Length)
        {
            format = default;
        }

        type.CopyTo(made);
        format.CopyTo(made[type.Length..]);
        fields.Set(KnownField.ContentType, made[..(type.Length + format.Length)]);
    }
}
