using System.Buffers;
using System.Buffers.Binary;

namespace MeshProxy.Http.Http2.Frames;

/// <summary>The nine octets in front of every frame (RFC 9113 section 4.1).</summary>
internal readonly struct FrameHeader(int length, FrameType type, byte flags, int streamId)
{
    /// <summary>Size of a frame header, in bytes.</summary>
    public const int Size = 9;

    /// <summary>Length of the payload, in bytes.</summary>
    public int Length { get; } = length;

    public FrameType Type { get; } = type;

    public byte Flags { get; } = flags;

    /// <summary>The stream, without the reserved bit, which is ignored.</summary>
    public int StreamId { get; } = streamId;

    public bool Has(byte flag) => (Flags & flag) != 0;

    /// <summary>Reads the header at the front of <paramref name="buffer"/>.</summary>
    /// <returns>False when fewer than nine bytes are there.</returns>
    public static bool TryRead(in ReadOnlySequence<byte> buffer, out FrameHeader header)
    {
        var first = buffer.FirstSpan;
        if (first.Length >= Size)
        {
            header = Parse(first);
            return true;
        }

        if (buffer.Length < Size)
        {
            header = default;
            return false;
        }

        Span<byte> copy = stackalloc byte[Size];
        buffer.Slice(0, Size).CopyTo(copy);
        header = Parse(copy);
        return true;
    }

    /// <summary>Reads a header from at least nine bytes.</summary>
    public static FrameHeader Parse(ReadOnlySpan<byte> bytes)
    {
        var lengthAndType = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        return new FrameHeader(
            (int)(lengthAndType >> 8),
            (FrameType)(byte)lengthAndType,
            bytes[4],
            (int)(BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]) & 0x7fffffff));
    }

    /// <summary>Writes the header to at least nine bytes.</summary>
    public static void Write(Span<byte> target, int length, FrameType type, byte flags, int streamId)
    {
        BinaryPrimitives.WriteUInt32BigEndian(target, ((uint)length << 8) | (byte)type);
        target[4] = flags;
        BinaryPrimitives.WriteUInt32BigEndian(target[5..], (uint)streamId);
    }
}
