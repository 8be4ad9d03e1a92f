using MeshProxy.Testing;

namespace MeshProxy.Fuzz.Oracles;

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
