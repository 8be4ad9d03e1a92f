using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>What a message's content-type makes of it.</summary>
internal enum GrpcKind : byte
{
    /// <summary>No gRPC.</summary>
    None,

    /// <summary><c>application/grpc</c>: gRPC over HTTP/2.</summary>
    Grpc,

    /// <summary><c>application/grpc-web</c>: gRPC-Web, binary.</summary>
    Web,

    /// <summary><c>application/grpc-web-text</c>: gRPC-Web, base64.</summary>
    WebText,
}

/// <summary>Reads <see cref="GrpcKind"/>.</summary>
internal static class GrpcKinds
{
    /// <summary>The kind that content-type names: the type alone, or with "+proto" and the like, or with parameters. "application/grpcx" is none.</summary>
    public static GrpcKind Of(FieldMap fields) => fields.TryGet(KnownField.ContentType, out var type) ? OfMediaType(type) : GrpcKind.None;

    /// <summary>The kind that a media type names.</summary>
    public static GrpcKind OfMediaType(ReadOnlySpan<byte> type)
    {
        if (!Begins(ref type, "application/grpc"u8))
        {
            return GrpcKind.None;
        }

        var kind = GrpcKind.Grpc;
        if (Begins(ref type, "-web"u8))
        {
            kind = Begins(ref type, "-text"u8) ? GrpcKind.WebText : GrpcKind.Web;
        }

        return type.IsEmpty || type[0] is (byte)'+' or (byte)';' or (byte)' ' or (byte)'\t' ? kind : GrpcKind.None;
    }

    private static bool Begins(ref ReadOnlySpan<byte> text, ReadOnlySpan<byte> lowerCase)
    {
        var begins = text.Length >= lowerCase.Length && Ascii.EqualsIgnoreCase(text[..lowerCase.Length], lowerCase);
        text = begins ? text[lowerCase.Length..] : text;
        return begins;
    }
}
