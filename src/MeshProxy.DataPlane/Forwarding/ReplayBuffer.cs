using System.Buffers;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Keeps the beginning of a request body that is being streamed, so that an attempt which was provably not processed can be made again.
/// Past its bound it lets go of everything: larger bodies are not retried.</summary>
internal sealed class ReplayBuffer
{
    /// <summary>Linkerd's number. What it means for a caller: a larger body that meets a dying endpoint gets 503.</summary>
    public const int MaxBytes = 64 * 1024;

    private byte[] _bytes = [];
    private int _length;

    /// <summary>False once the body was too large.</summary>
    public bool IsWhole { get; private set; } = true;

    public ReadOnlySequence<byte> Content => new(_bytes, 0, _length);

    public void Append(ReadOnlySequence<byte> data)
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

        var needed = _length + (int)data.Length;
        if (_bytes.Length < needed)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(4096, needed));
            _bytes.AsSpan(0, _length).CopyTo(larger);
            var length = _length;
            Release();
            _bytes = larger;
            _length = length;
        }

        data.CopyTo(_bytes.AsSpan(_length));
        _length = needed;
    }

    /// <summary>Gives the memory back and begins anew.</summary>
    public void Reset()
    {
        Release();
        IsWhole = true;
    }

    private void Release()
    {
        if (_bytes.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_bytes);
        }

        _bytes = [];
        _length = 0;
    }
}
