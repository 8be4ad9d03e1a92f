using System.Buffers;

namespace MeshProxy.Http.Http2;

/// <summary>Takes frames during the moments in which the output must not be touched (see <see cref="ConnectionWriter"/>). Owned by the connection's lock.</summary>
internal sealed class SpillBuffer
{
    private byte[] _bytes = [];

    public int Length { get; private set; }

    public ReadOnlySpan<byte> Written => _bytes.AsSpan(0, Length);

    public Span<byte> GetSpan(int sizeHint)
    {
        var needed = Length + Math.Max(1, sizeHint);
        if (_bytes.Length < needed)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(needed, Math.Max(4096, _bytes.Length * 2)));
            Written.CopyTo(larger);
            Release();
            _bytes = larger;
        }

        return _bytes.AsSpan(Length);
    }

    public void Advance(int count) => Length += count;

    public void Clear()
    {
        Length = 0;
        Release();
    }

    private void Release()
    {
        if (_bytes.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_bytes);
            _bytes = [];
        }
    }
}
