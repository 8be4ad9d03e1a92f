using System.Buffers;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Keeps the beginning of a request body that is being streamed, so that an attempt which was provably not processed can be made again.
/// Past its bound it lets go of everything: larger bodies are not retried. A mirror's copy of a body lies in one too.</summary>
internal sealed class ReplayBuffer
{
    /// <summary>Linkerd's number. What it means for a caller: a larger body that meets a dying endpoint gets 503.</summary>
    public const int MaxBytes = 64 * 1024;

    private Block? _head;
    private Block? _tail;
    private long _length;

    /// <summary>False once the body was too large.</summary>
    public bool IsWhole { get; private set; } = true;

    public ReadOnlySequence<byte> Content => _head is { } head ? new ReadOnlySequence<byte>(head, 0, _tail!, _tail!.End) : ReadOnlySequence<byte>.Empty;

    public void Append(in ReadOnlySequence<byte> data)
    {
        if (!IsWhole)
        {
            return;
        }

        if (_length + data.Length > MaxBytes)
        {
            Release();
            IsWhole = false;
            return;
        }

        _length += data.Length;
        foreach (var memory in data)
        {
            Append(memory.Span);
        }
    }

    /// <summary>Gives the memory back and begins anew.</summary>
    public void Reset()
    {
        Release();
        IsWhole = true;
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            if (_tail is not { Free: > 0 } tail)
            {
                // Most bodies fit into the first, small one.
                tail = BlockPool.Shared.Rent(large: _tail is not null);
                _tail?.Append(tail);
                _head ??= tail;
                _tail = tail;
            }

            var count = Math.Min(bytes.Length, tail.Free);
            bytes[..count].CopyTo(tail.FreeMemory.Span);
            tail.End += count;
            bytes = bytes[count..];
        }
    }

    private void Release()
    {
        while (_head is { } head)
        {
            _head = head.Release();
        }

        _tail = null;
        _length = 0;
    }
}
