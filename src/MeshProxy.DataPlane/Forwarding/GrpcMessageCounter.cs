using System.Buffers;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Counts the messages in one direction of a gRPC call as its bytes go by, in whatever pieces: a prefix of one flag and four bytes of length, then
/// the message (gRPC over HTTP/2, "Length-Prefixed-Message"). Keeps nothing but where it stands. What is no gRPC is not counted on.</summary>
internal struct GrpcMessageCounter
{
    private const int PrefixBytes = 5;

    private int _prefix;
    private uint _length;
    private uint _left;
    private bool _isLost;

    /// <summary>Takes the next bytes.</summary>
    /// <returns>How many messages they complete.</returns>
    public int Take(in ReadOnlySequence<byte> data)
    {
        if (data.IsSingleSegment)
        {
            return Take(data.FirstSpan);
        }

        var complete = 0;
        foreach (var segment in data)
        {
            complete += Take(segment.Span);
        }

        return complete;
    }

    private int Take(ReadOnlySpan<byte> data)
    {
        var complete = 0;
        while (!data.IsEmpty && !_isLost)
        {
            if (_left > 0)
            {
                var taken = (int)Math.Min(_left, (uint)data.Length);
                data = data[taken..];
                _left -= (uint)taken;
                complete += _left == 0 ? 1 : 0;
                continue;
            }

            if (_prefix == 0)
            {
                // The flag says whether the message is compressed; other values are no message of gRPC.
                _isLost = data[0] > 1;
                _length = 0;
            }
            else
            {
                _length = (_length << 8) | data[0];
            }

            data = data[1..];
            if (++_prefix == PrefixBytes)
            {
                _prefix = 0;
                _left = _length;
                complete += _length == 0 ? 1 : 0;
            }
        }

        return complete;
    }
}
