using System.Buffers;

namespace MeshProxy.Http.Http2.FlowControl;

/// <summary>
/// The received and unread bytes of one stream, in rented blocks. Bounded by the stream's window. Sequences given out stay valid until consumed:
/// appending only writes behind them. Owned by the connection's lock.
/// </summary>
internal sealed class ReceiveBuffer
{
    private Segment? _head;
    private Segment? _tail;
    private int _headStart;

    /// <summary>Unread bytes.</summary>
    public long Length { get; private set; }

    public void Append(in ReadOnlySequence<byte> data)
    {
        if (data.IsSingleSegment)
        {
            Append(data.FirstSpan);
            return;
        }

        foreach (var memory in data)
        {
            Append(memory.Span);
        }
    }

    public ReadOnlySequence<byte> Peek() =>
        _head is null ? ReadOnlySequence<byte>.Empty : new ReadOnlySequence<byte>(_head, _headStart, _tail!, _tail!.Written);

    public void Consume(long count)
    {
        if (count > Length)
        {
            throw new ArgumentOutOfRangeException(nameof(count), "more than was received");
        }

        Length -= count;
        while (_head is { } head)
        {
            var inHead = head.Written - _headStart;
            if (count < inHead)
            {
                _headStart += (int)count;
                return;
            }

            count -= inHead;
            _headStart = 0;
            _head = head.Following;
            SegmentPool.Return(head);
            if (_head is null)
            {
                _tail = null;
            }
        }
    }

    /// <summary>Drops everything.</summary>
    public void Clear() => Consume(Length);

    private void Append(ReadOnlySpan<byte> data)
    {
        Length += data.Length;
        while (!data.IsEmpty)
        {
            var tail = _tail;
            if (tail is null || tail.Room == 0)
            {
                var next = SegmentPool.Rent(data.Length);
                if (tail is null)
                {
                    _head = next;
                    _headStart = 0;
                }
                else
                {
                    tail.LinkTo(next);
                }

                _tail = tail = next;
            }

            var count = Math.Min(tail.Room, data.Length);
            tail.Write(data[..count]);
            data = data[count..];
        }
    }
}
