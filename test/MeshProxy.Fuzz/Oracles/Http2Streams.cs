using System.Buffers.Binary;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>A frame as its bytes say it.</summary>
internal sealed record Frame(int Type, int Flags, int Stream, byte[] Payload)
{
    public const int Data = 0, Headers = 1, Reset = 3, Settings = 4, Ping = 6, GoAway = 7, WindowUpdate = 8, Continuation = 9;

    public bool EndsStream => Type is Data or Headers && (Flags & 1) != 0;

    /// <summary>Whole frames, and how many bytes are left over.</summary>
    public static List<Frame> Split(ReadOnlySpan<byte> bytes)
    {
        var frames = new List<Frame>();
        while (bytes.Length >= 9)
        {
            var length = (bytes[0] << 16) | (bytes[1] << 8) | bytes[2];
            if (bytes.Length < 9 + length)
            {
                break;
            }

            frames.Add(new Frame(bytes[3], bytes[4], (int)(BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]) & 0x7fffffff), bytes.Slice(9, length).ToArray()));
            bytes = bytes[(9 + length)..];
        }

        return frames;
    }

    public byte[] Write()
    {
        var bytes = new byte[9 + Payload.Length];
        BinaryPrimitives.WriteInt32BigEndian(bytes, (Payload.Length << 8) | Type);
        bytes[4] = (byte)Flags;
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(5), Stream);
        Payload.CopyTo(bytes, 9);
        return bytes;
    }
}

/// <summary>What one direction of an HTTP/2 connection said about its streams: which were ended, and how many bytes of data each has. It judges nothing.</summary>
internal sealed class Http2Streams
{
    private readonly HashSet<int> _ended = [];
    private readonly Dictionary<int, long> _data = [];

    public Http2Streams(List<Frame> frames)
    {
        foreach (var frame in frames)
        {
            if (frame.Type == Frame.Data && !HasEnded(frame.Stream))
            {
                var padding = (frame.Flags & 8) != 0 && frame.Payload.Length > 0 ? 1 + frame.Payload[0] : 0;
                _data[frame.Stream] = DataOf(frame.Stream) + Math.Max(0, frame.Payload.Length - padding);
            }

            if (frame.EndsStream)
            {
                _ended.Add(frame.Stream);
            }
        }
    }

    public bool HasEnded(int stream) => _ended.Contains(stream);

    public long DataOf(int stream) => _data.GetValueOrDefault(stream);
}
