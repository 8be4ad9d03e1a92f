using System.Buffers;

namespace MeshProxy.Http.Http2.FlowControl;

/// <summary>
/// The received and unread bytes of one stream, in rented blocks. Bounded by the stream's window. Sequences given out stay valid until consumed:
/// appending only writes behind them. Owned by the connection's lock.
/// </summary>
internal sealed class ReceiveBuffer(SegmentPool pool)
{
    private const int SmallestBlock = 1024;
    private const int LargestBlock = 32 * 1024;

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
            pool.Return(head);
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
                var next = pool.Rent(Math.Clamp(data.Length, SmallestBlock, LargestBlock));
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

/// <summary>One rented block of a <see cref="ReceiveBuffer"/>.</summary>
internal sealed class Segment : ReadOnlySequenceSegment<byte>
{
    private byte[] _block = [];

    /// <summary>Bytes written to the block.</summary>
    public int Written { get; private set; }

    public int Room => _block.Length - Written;

    public Segment? Following => (Segment?)Next;

    public void Attach(byte[] block)
    {
        _block = block;
        Memory = block;
        Written = 0;
        RunningIndex = 0;
        Next = null;
    }

    public byte[] Detach()
    {
        var block = _block;
        _block = [];
        Memory = default;
        Next = null;
        return block;
    }

    public void Write(ReadOnlySpan<byte> data)
    {
        data.CopyTo(_block.AsSpan(Written));
        Written += data.Length;
    }

    /// <summary>Only a full block is followed by another, so its memory needs no trimming.</summary>
    public void LinkTo(Segment next)
    {
        next.RunningIndex = RunningIndex + Written;
        Next = next;
    }
}

/// <summary>The segments of one connection; blocks come from the shared array pool. Owned by the connection's lock.</summary>
internal sealed class SegmentPool
{
    private const int Kept = 64;

    private readonly Stack<Segment> _segments = new();

    public Segment Rent(int size)
    {
        var segment = _segments.TryPop(out var kept) ? kept : new Segment();
        segment.Attach(ArrayPool<byte>.Shared.Rent(size));
        return segment;
    }

    public void Return(Segment segment)
    {
        ArrayPool<byte>.Shared.Return(segment.Detach());
        if (_segments.Count < Kept)
        {
            _segments.Push(segment);
        }
    }
}
