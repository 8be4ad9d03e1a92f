using System.Buffers;
using System.Buffers.Text;
using System.Text;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// Writes one JSON object into a span that its caller owns. Values come from peers: bytes that are no UTF-8 become U+FFFD, so that every line is
/// valid JSON. What does not fit is left out and told by <see cref="IsTruncated"/>; callers bound each value, so that this means a bug.
/// </summary>
internal ref struct JsonLine
{
    private static readonly SearchValues<byte> Plain = SearchValues.Create(
        " !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"u8);

    private readonly Span<byte> _buffer;
    private int _used;

    /// <summary>Writes into <paramref name="buffer"/> from its start.</summary>
    public JsonLine(Span<byte> buffer) => _buffer = buffer;

    /// <summary>What was written.</summary>
    public readonly ReadOnlySpan<byte> Written => _buffer[.._used];

    /// <summary>True when something did not fit.</summary>
    public bool IsTruncated { get; private set; }

    /// <summary>Writes JSON as it is.</summary>
    public void Raw(scoped ReadOnlySpan<byte> json)
    {
        if (json.TryCopyTo(_buffer[_used..]))
        {
            _used += json.Length;
        }
        else
        {
            IsTruncated = true;
        }
    }

    /// <summary>Writes a whole number.</summary>
    public void Number(long value)
    {
        if (Utf8Formatter.TryFormat(value, _buffer[_used..], out var written))
        {
            _used += written;
        }
        else
        {
            IsTruncated = true;
        }
    }

    /// <summary>Writes a time as RFC 3339 with microseconds, UTC, quoted.</summary>
    public void Time(DateTimeOffset time)
    {
        var target = _buffer[_used..];
        if (target.Length < 32 || !time.UtcDateTime.TryFormat(target[1..], out var written, "yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", System.Globalization.CultureInfo.InvariantCulture))
        {
            IsTruncated = true;
            return;
        }

        target[0] = (byte)'"';
        target[written + 1] = (byte)'"';
        _used += written + 2;
    }

    /// <summary>Writes a quoted string of at most <paramref name="maxBytes"/> bytes of the value, UTF-8 or what the peer takes for it.</summary>
    public void Text(scoped ReadOnlySpan<byte> value, int maxBytes)
    {
        if (value.Length > maxBytes)
        {
            value = value[..maxBytes];
        }

        if (_buffer.Length - _used < (value.Length * 6) + 2)
        {
            IsTruncated = true;
            value = default;
            if (_buffer.Length - _used < 2)
            {
                return;
            }
        }

        _buffer[_used++] = (byte)'"';
        while (!value.IsEmpty)
        {
            var plain = value.IndexOfAnyExcept(Plain);
            if (plain < 0)
            {
                plain = value.Length;
            }

            value[..plain].CopyTo(_buffer[_used..]);
            _used += plain;
            value = value[plain..];
            if (!value.IsEmpty)
            {
                value = value[Escape(value)..];
            }
        }

        _buffer[_used++] = (byte)'"';
    }

    /// <summary>Writes a quoted string of at most <paramref name="maxCharacters"/> characters of the value.</summary>
    public void Text(scoped ReadOnlySpan<char> value, int maxCharacters)
    {
        if (value.Length > maxCharacters)
        {
            value = value[..maxCharacters];
        }

        const int OnStack = 1024;
        byte[]? rented = null;
        var size = Encoding.UTF8.GetMaxByteCount(value.Length);
        var utf8 = size <= OnStack ? stackalloc byte[OnStack] : (rented = ArrayPool<byte>.Shared.Rent(size));
        var length = Encoding.UTF8.GetBytes(value, utf8);
        Text(utf8[..length], int.MaxValue);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private int Escape(scoped ReadOnlySpan<byte> value)
    {
        var target = _buffer[_used..];
        var b = value[0];
        switch (b)
        {
            case (byte)'"' or (byte)'\\':
                target[0] = (byte)'\\';
                target[1] = b;
                _used += 2;
                return 1;
            case < 0x20 or 0x7F:
                "\\u00"u8.CopyTo(target);
                target[4] = Hex(b >> 4);
                target[5] = Hex(b & 15);
                _used += 6;
                return 1;
        }

        if (Rune.DecodeFromUtf8(value, out _, out var consumed) == OperationStatus.Done)
        {
            value[..consumed].CopyTo(target);
            _used += consumed;
            return consumed;
        }

        "\\ufffd"u8.CopyTo(target);
        _used += 6;
        return Math.Max(1, consumed);
    }

    private static byte Hex(int value) => (byte)(value < 10 ? '0' + value : 'a' + value - 10);
}
