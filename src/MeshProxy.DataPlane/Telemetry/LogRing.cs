namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// Bytes from one thread to the writer thread. One producer and one consumer, no lock: each writes its own position and reads the other's.
/// Positions only grow; the place in the buffer is the position modulo its size (a power of two).
/// </summary>
internal sealed class LogRing
{
    private readonly byte[] _buffer;
    private long _written;
    private long _read;

    public LogRing(int sizeBytes) => _buffer = new byte[sizeBytes];

    /// <summary>Bytes that wait for the consumer.</summary>
    public long Pending => Volatile.Read(ref _written) - Volatile.Read(ref _read);

    /// <summary>Producer: copies all of <paramref name="bytes"/> in, or nothing.</summary>
    public bool TryWrite(ReadOnlySpan<byte> bytes)
    {
        var written = _written;
        if (_buffer.Length - (written - Volatile.Read(ref _read)) < bytes.Length)
        {
            return false;
        }

        var at = (int)(written & (_buffer.Length - 1));
        var first = Math.Min(bytes.Length, _buffer.Length - at);
        bytes[..first].CopyTo(_buffer.AsSpan(at));
        bytes[first..].CopyTo(_buffer);
        Volatile.Write(ref _written, written + bytes.Length);
        return true;
    }

    /// <summary>Consumer: what can be read in one piece.</summary>
    public ReadOnlySpan<byte> Peek()
    {
        var read = _read;
        var pending = Volatile.Read(ref _written) - read;
        var at = (int)(read & (_buffer.Length - 1));
        return _buffer.AsSpan(at, (int)Math.Min(pending, _buffer.Length - at));
    }

    /// <summary>Consumer: gives room back.</summary>
    public void Advance(int count) => Volatile.Write(ref _read, _read + count);
}
