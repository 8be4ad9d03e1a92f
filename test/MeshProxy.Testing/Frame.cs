using System.Buffers.Binary;

namespace MeshProxy.Testing;

/// <summary>A frame of HTTP/2 as its bytes say it, without the codec under test.</summary>
public sealed record Frame(int Type, int Flags, int Stream, byte[] Payload)
{
#pragma warning disable CS1591 // RFC 9113 section 6
    public const int Data = 0, Headers = 1, Priority = 2, Reset = 3, Settings = 4, Push = 5, Ping = 6, GoAway = 7, WindowUpdate = 8, Continuation = 9;
    public const int EndStream = 1, EndHeaders = 4;
#pragma warning restore CS1591

    /// <summary>Bytes of a frame's header.</summary>
    public const int HeaderSize = 9;

    /// <summary>Whether it ends its stream.</summary>
    public bool EndsStream => Type is Data or Headers && (Flags & EndStream) != 0;

    /// <summary>The error code of RST_STREAM and GOAWAY, the increment of WINDOW_UPDATE.</summary>
    public uint Code => BinaryPrimitives.ReadUInt32BigEndian(Payload.AsSpan(Type == GoAway ? 4 : 0));

    /// <summary>How many bytes of payload a header announces.</summary>
    public static int PayloadSize(ReadOnlySpan<byte> header) => (header[0] << 16) | (header[1] << 8) | header[2];

    /// <summary>A header and the payload behind it.</summary>
    public static Frame Read(ReadOnlySpan<byte> header, byte[] payload) =>
        new(header[3], header[4], BinaryPrimitives.ReadInt32BigEndian(header[5..]) & int.MaxValue, payload);

    /// <summary>The whole frames that bytes begin with; what is left over is ignored.</summary>
    public static List<Frame> Split(ReadOnlySpan<byte> bytes)
    {
        var frames = new List<Frame>();
        while (bytes.Length >= HeaderSize && bytes.Length >= HeaderSize + PayloadSize(bytes))
        {
            var size = HeaderSize + PayloadSize(bytes);
            frames.Add(Read(bytes, bytes[HeaderSize..size].ToArray()));
            bytes = bytes[size..];
        }

        return frames;
    }

    /// <summary>Its bytes.</summary>
    public byte[] Write()
    {
        var bytes = new byte[HeaderSize + Payload.Length];
        BinaryPrimitives.WriteInt32BigEndian(bytes, Payload.Length << 8);
        (bytes[3], bytes[4]) = ((byte)Type, (byte)Flags);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(5), Stream);
        Payload.CopyTo(bytes, HeaderSize);
        return bytes;
    }

    /// <inheritdoc/>
    public override string ToString() => $"type {Type} flags {Flags:x} stream {Stream} [{Convert.ToHexString(Payload)}]";
}
