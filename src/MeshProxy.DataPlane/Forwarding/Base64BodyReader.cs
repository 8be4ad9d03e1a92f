using System.Buffers;
using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Reads the body of a <c>application/grpc-web-text</c> request: base64, which may be padded anywhere and not only at its end, because clients encode and send
/// piece by piece. Strict: nothing but the alphabet of RFC 4648 section 4, no white space, padding wherever four characters are not full, and no bits left over.
/// Decodes at most one buffer ahead of its reader; what is not decoded stays in the codec, and holds the sender up.
/// </summary>
internal sealed class Base64BodyReader : HttpBodyReader
{
    private const int BufferBytes = 8 * 1024;
    private const byte Invalid = 0xff;

    private static readonly byte[] Values = MakeValues();

    private HttpBodyReader _inner = null!;
    private byte[] _buffer = [];
    private int _start;
    private int _end;
    private uint _bits;
    private int _digits;
    private int _padding;
    private bool _isEnded;
    private StreamEnd _broken;

    public override FieldMap Trailers => _inner.Trailers;

    /// <summary>Begins one body. <see cref="Release"/> gives the buffer back.</summary>
    public void Begin(HttpBodyReader inner)
    {
        _inner = inner;
        _buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        _start = _end = _digits = _padding = 0;
        _bits = 0;
        _isEnded = false;
        _broken = default;
    }

    public void Release()
    {
        if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = [];
        }
    }

    public override bool TryRead(out BodyChunk chunk)
    {
        while (!HasChunk(out chunk))
        {
            if (!_inner.TryRead(out var text))
            {
                return false;
            }

            Decode(text);
        }

        return true;
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    public override async ValueTask<BodyChunk> ReadAsync()
    {
        BodyChunk chunk;
        while (!TryRead(out chunk))
        {
            Decode(await _inner.ReadAsync());
        }

        return chunk;
    }

    public override void Advance(long count) => _start += (int)count;

    private bool HasChunk(out BodyChunk chunk)
    {
        chunk = default;
        if (_start < _end || _isEnded)
        {
            chunk = new BodyChunk(new ReadOnlySequence<byte>(_buffer, _start, _end - _start), _isEnded, default);
            return true;
        }

        chunk = chunk with { End = _broken };
        return chunk.IsBroken;
    }

    private void Decode(in BodyChunk text)
    {
        if (text.IsBroken)
        {
            _broken = text.End;
            return;
        }

        _start = _end = 0;
        var taken = 0L;
        foreach (var segment in text.Data)
        {
            var count = Decode(segment.Span);
            taken += count;
            if (count < segment.Length)
            {
                break;
            }
        }

        _inner.Advance(taken);
        if (text.IsEnd && taken == text.Data.Length)
        {
            _isEnded = _digits == 0;
            if (!_isEnded)
            {
                Break();
            }
        }
    }

    // How much was taken: less than there is when the buffer is full, or when it is no base64.
    private int Decode(ReadOnlySpan<byte> text)
    {
        for (var i = 0; i < text.Length; i++)
        {
            if (_buffer.Length - _end < 3)
            {
                return i;
            }

            if (!Take(text[i]))
            {
                Break();
                return i;
            }
        }

        return text.Length;
    }

    private bool Take(byte character)
    {
        if (character == '=')
        {
            if (_digits < 2)
            {
                return false;
            }

            _padding++;
        }
        else
        {
            var value = Values[character];
            if (value == Invalid || _padding > 0)
            {
                return false;
            }

            _bits = (_bits << 6) | value;
            _digits++;
        }

        return _digits + _padding < 4 || Emit();
    }

    // Four characters are full: three bytes, or two or one with padding.
    private bool Emit()
    {
        var bytes = 3 - _padding;
        var spare = _padding * 2;
        if ((_bits & ((1u << spare) - 1)) != 0)
        {
            return false;
        }

        var value = _bits >> spare;
        for (var shift = (bytes - 1) * 8; shift >= 0; shift -= 8)
        {
            _buffer[_end++] = (byte)(value >> shift);
        }

        _bits = 0;
        _digits = _padding = 0;
        return true;
    }

    private void Break() => _broken = new StreamEnd(StreamResetReason.ProtocolError, Initiator.Peer, 0, "malformed_base64");

    private static byte[] MakeValues()
    {
        var values = new byte[256];
        Array.Fill(values, Invalid);
        var alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"u8;
        for (var i = 0; i < alphabet.Length; i++)
        {
            values[alphabet[i]] = (byte)i;
        }

        return values;
    }
}
