using System.Buffers;

namespace MeshProxy.Fuzz.Targets;

/// <summary>Pieces as one sequence of that many segments.</summary>
internal sealed class Segment : ReadOnlySequenceSegment<byte>
{
    public static ReadOnlySequence<byte> Join(IEnumerable<byte[]> pieces)
    {
        Segment? first = null;
        Segment? last = null;
        foreach (var piece in pieces)
        {
            var segment = new Segment { Memory = piece };
            if (last is not null)
            {
                segment.RunningIndex = last.RunningIndex + last.Memory.Length;
                last.Next = segment;
            }

            first ??= segment;
            last = segment;
        }

        return first is null ? default : new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
    }
}
