using System.Buffers.Text;
using System.Security.Cryptography;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>The two fields by which WebSocket over HTTP/1.1 proves that both ends mean it (RFC 6455 sections 4.1 and 4.2.2). HTTP/2 has neither (RFC 8441).</summary>
internal static class WebSocketHandshake
{
    /// <summary>A Sec-WebSocket-Key: 16 bytes in base64.</summary>
    public const int KeyBytes = 24;

    /// <summary>A Sec-WebSocket-Accept: a SHA-1 in base64.</summary>
    public const int AcceptBytes = 28;

    private static ReadOnlySpan<byte> Guid => "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"u8;

    /// <summary>Whether <paramref name="protocol"/> is "websocket", in any case.</summary>
    public static bool IsAskedFor(ReadOnlySpan<byte> protocol) => System.Text.Ascii.EqualsIgnoreCase(protocol, "websocket"u8);

    /// <summary>The one well-formed key of a request.</summary>
    public static bool TryGetKey(FieldMap fields, out ReadOnlySpan<byte> key) =>
        fields.TryGet(KnownField.SecWebSocketKey, out key) && fields.CountOf(KnownField.SecWebSocketKey) == 1
        && key.Length == KeyBytes && Base64.IsValid(key, out var decoded) && decoded == 16;

    /// <summary>Makes a key of our own.</summary>
    public static void MakeKey(Span<byte> key)
    {
        Span<byte> nonce = stackalloc byte[16];
        RandomNumberGenerator.Fill(nonce);
        _ = Base64.EncodeToUtf8(nonce, key, out _, out _);
    }

    /// <summary>The answer that <paramref name="key"/> asks for.</summary>
    public static void MakeAccept(ReadOnlySpan<byte> key, Span<byte> accept)
    {
        Span<byte> text = stackalloc byte[KeyBytes + 36];
        key.CopyTo(text);
        Guid.CopyTo(text[KeyBytes..]);
        Span<byte> hash = stackalloc byte[SHA1.HashSizeInBytes];
#pragma warning disable CA5350 // the protocol's own choice; it guards against mistakes, not against attackers
        _ = SHA1.HashData(text, hash);
#pragma warning restore CA5350
        _ = Base64.EncodeToUtf8(hash, accept, out _, out _);
    }

    /// <summary>Whether a 101 answers <paramref name="key"/>.</summary>
    public static bool IsAccepted(FieldMap fields, ReadOnlySpan<byte> key)
    {
        Span<byte> expected = stackalloc byte[AcceptBytes];
        MakeAccept(key, expected);
        return fields.TryGet(KnownField.SecWebSocketAccept, out var accept) && fields.CountOf(KnownField.SecWebSocketAccept) == 1
            && accept.SequenceEqual(expected);
    }
}
