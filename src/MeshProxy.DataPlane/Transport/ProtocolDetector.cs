using System.Buffers;
using System.IO.Pipelines;

namespace MeshProxy.DataPlane.Transport;

/// <summary>What a connection speaks, judged by its first bytes.</summary>
internal enum DetectedProtocol
{
    /// <summary>Nothing we know, or nothing came in time: raw bytes. (Protocols where the server speaks first must be declared.)</summary>
    Opaque,

    /// <summary>A TLS handshake record.</summary>
    Tls,

    /// <summary>An HTTP/1 request line.</summary>
    Http1,

    /// <summary>The preface of HTTP/2 with prior knowledge (RFC 9113 section 3.4).</summary>
    Http2,
}

/// <summary>Looks at the first bytes of a connection without consuming them.</summary>
internal static class ProtocolDetector
{
    /// <summary>Longer than any method that is registered (the longest has 17 letters); more without a space is no HTTP.</summary>
    private const int LongestMethod = 24;

    private static readonly SearchValues<byte> MethodBytes = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZ-"u8);

    private static ReadOnlySpan<byte> Preface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    /// <summary>Waits until the bytes tell, but no longer than <paramref name="timeout"/>. The bytes stay in the reader, as not examined.</summary>
    public static async ValueTask<DetectedProtocol> DetectAsync(PipeReader input, TimeSpan timeout, TimeProvider time)
    {
        ITimer? timer = null;
        try
        {
            while (true)
            {
                var pending = input.ReadAsync();
                if (!pending.IsCompleted)
                {
                    timer ??= time.CreateTimer(static state => ((PipeReader)state!).CancelPendingRead(), input, timeout, Timeout.InfiniteTimeSpan);
                }

                var read = await pending;
                var detected = Judge(read.Buffer);
                if (detected is not null || read.IsCompleted || read.IsCanceled)
                {
                    input.AdvanceTo(read.Buffer.Start);
                    return detected ?? DetectedProtocol.Opaque;
                }

                input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
            }
        }
        finally
        {
            if (timer is not null)
            {
                await timer.DisposeAsync();
            }
        }
    }

    /// <summary>Judges the first bytes; null: more are needed.</summary>
    public static DetectedProtocol? Judge(in ReadOnlySequence<byte> buffer)
    {
        Span<byte> copied = stackalloc byte[LongestMethod + 1];
        var length = (int)Math.Min(buffer.Length, copied.Length);
        buffer.Slice(0, length).CopyTo(copied);
        ReadOnlySpan<byte> start = copied[..length];
        if (start.IsEmpty)
        {
            return null;
        }

        if (start[0] == 0x16)
        {
            // Record header: handshake, version 3.0 to 3.4, then a length; then the handshake type ClientHello.
            return (length > 1 && start[1] != 3) || (length > 2 && start[2] > 4) || (length > 5 && start[5] != 1)
                ? DetectedProtocol.Opaque
                : length > 5 ? DetectedProtocol.Tls : null;
        }

        if (Preface.StartsWith(start[..Math.Min(length, Preface.Length)]))
        {
            return length >= Preface.Length ? DetectedProtocol.Http2 : null;
        }

        // One empty line before a request line is legal (RFC 9112 section 2.2).
        if (start[0] == '\r')
        {
            if (length < 2)
            {
                return null;
            }

            if (start[1] != '\n')
            {
                return DetectedProtocol.Opaque;
            }

            start = start[2..];
            if (start.IsEmpty)
            {
                return null;
            }
        }

        var method = start.IndexOfAnyExcept(MethodBytes);
        return method switch
        {
            < 0 => start.Length < LongestMethod ? null : DetectedProtocol.Opaque,
            0 => DetectedProtocol.Opaque,
            _ when start[method] != ' ' => DetectedProtocol.Opaque,
            _ when start.Length == method + 1 => null,
            _ => start[method + 1] is (byte)'/' or (byte)'*' or (>= (byte)'a' and <= (byte)'z') or (>= (byte)'A' and <= (byte)'Z')
                or (>= (byte)'0' and <= (byte)'9') or (byte)'[' ? DetectedProtocol.Http1 : DetectedProtocol.Opaque,
        };
    }
}
